//! Numbers for core's errors. Source: errno(3); Linux include/uapi/asm-generic/errno.h.

use linux_raw_sys::errno as raw;
use litebox_core::error::Errno;

/// Linux's number for `errno`.
#[must_use]
#[rustfmt::skip]
pub const fn number(errno: Errno) -> u32 {
    macro_rules! numbers {
        ($($name:ident = $raw:ident),* $(,)?) => { match errno { $(Errno::$name => raw::$raw),* } };
    }
    numbers! {
        PERM = EPERM, NOENT = ENOENT, SRCH = ESRCH, IO = EIO, NXIO = ENXIO, TOOBIG = E2BIG, NOEXEC = ENOEXEC, BADF = EBADF,
        CHILD = ECHILD, AGAIN = EAGAIN, NOMEM = ENOMEM, ACCESS = EACCES, FAULT = EFAULT, NOTBLK = ENOTBLK, BUSY = EBUSY,
        EXIST = EEXIST, XDEV = EXDEV, NODEV = ENODEV, NOTDIR = ENOTDIR, ISDIR = EISDIR, INVAL = EINVAL, NFILE = ENFILE,
        MFILE = EMFILE, NOTTY = ENOTTY, TXTBSY = ETXTBSY, FBIG = EFBIG, NOSPC = ENOSPC, SPIPE = ESPIPE, ROFS = EROFS,
        MLINK = EMLINK, PIPE = EPIPE, DOM = EDOM, RANGE = ERANGE, DEADLK = EDEADLK, NAMETOOLONG = ENAMETOOLONG,
        NOLCK = ENOLCK, NOSYS = ENOSYS, NOTEMPTY = ENOTEMPTY, LOOP = ELOOP, NODATA = ENODATA, TIME = ETIME,
        OVERFLOW = EOVERFLOW, LIBBAD = ELIBBAD, NOTSOCK = ENOTSOCK, DESTADDRREQ = EDESTADDRREQ, OPNOTSUPP = EOPNOTSUPP,
        AFNOSUPPORT = EAFNOSUPPORT, TIMEDOUT = ETIMEDOUT, STALE = ESTALE, MSGSIZE = EMSGSIZE, PROTOTYPE = EPROTOTYPE,
        NOPROTOOPT = ENOPROTOOPT, PROTONOSUPPORT = EPROTONOSUPPORT, SOCKTNOSUPPORT = ESOCKTNOSUPPORT, ADDRINUSE = EADDRINUSE,
        CONNREFUSED = ECONNREFUSED, CONNRESET = ECONNRESET, ISCONN = EISCONN, NOTCONN = ENOTCONN, TOOMANYREFS = ETOOMANYREFS,
        IDRM = EIDRM, NOMSG = ENOMSG, UCLEAN = EUCLEAN,
    }
}

/// `errno`'s name as programs know it, `ENOENT`.
#[must_use]
#[rustfmt::skip]
pub const fn name(errno: Errno) -> &'static str {
    macro_rules! names {
        ($($name:ident)*) => { match errno { Errno::TOOBIG => "E2BIG", Errno::ACCESS => "EACCES", $(Errno::$name => concat!("E", stringify!($name))),* } };
    }
    names! {
        PERM NOENT SRCH IO NXIO NOEXEC BADF CHILD AGAIN NOMEM FAULT NOTBLK BUSY EXIST XDEV NODEV NOTDIR ISDIR INVAL NFILE MFILE
        NOTTY TXTBSY FBIG NOSPC SPIPE ROFS MLINK PIPE DOM RANGE DEADLK NAMETOOLONG NOLCK NOSYS NOTEMPTY LOOP NODATA TIME OVERFLOW
        LIBBAD NOTSOCK DESTADDRREQ OPNOTSUPP AFNOSUPPORT TIMEDOUT STALE MSGSIZE PROTOTYPE NOPROTOOPT PROTONOSUPPORT SOCKTNOSUPPORT
        ADDRINUSE CONNREFUSED CONNRESET ISCONN NOTCONN TOOMANYREFS IDRM NOMSG UCLEAN
    }
}

/// The value of `rax` for a failed call: minus the errno's number.
#[must_use]
pub fn to_rax(errno: Errno) -> u64 {
    0u64.wrapping_sub(u64::from(number(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_registers_agree_with_linux() {
        assert_eq!((number(Errno::NOSYS), name(Errno::NOSYS)), (38, "ENOSYS"));
        assert_eq!((number(Errno::TOOBIG), name(Errno::TOOBIG)), (7, "E2BIG"));
        assert_eq!((number(Errno::ACCESS), name(Errno::ACCESS)), (13, "EACCES"));
        assert_eq!(to_rax(Errno::NOENT), u64::MAX - 1);
    }
}
