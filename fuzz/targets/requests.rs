//! Requests of the device: what is accepted encodes to the very same bytes, so nothing in it was overlooked.
//!
//! The first byte chooses the request, the rest is its structure; of `RUN` what is left is its text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use litebox_ioctl_abi::{Bad, Configure, GiveFd, Kill, Mount, Request, Run, Terminal, Wait, guest_path, wire};
use zerocopy::{Immutable, IntoBytes};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let request = Request::ALL[usize::from(*first) % Request::ALL.len()];
    match request {
        Request::Version => {}
        Request::Configure => same(bytes, Configure::decode, Configure::encode),
        Request::Mount => {
            same(bytes, Mount::decode, Mount::encode);
            if let Ok(path) = guest_path(bytes) {
                assert!(path.starts_with(b"/") && !path.contains(&0));
                assert!(!path.split(|byte| *byte == b'/').any(|name| name == b".."));
            }
        }
        Request::GiveFd => same(bytes, GiveFd::decode, GiveFd::encode),
        Request::Run => run(bytes),
        Request::Wait => same(bytes, Wait::decode, Wait::encode),
        Request::Kill => same(bytes, Kill::decode, Kill::encode),
        Request::Terminal => same(bytes, Terminal::decode, Terminal::encode),
    }
});

fn same<T, W: IntoBytes + Immutable>(bytes: &[u8], decode: fn(&[u8]) -> Result<T, Bad>, encode: fn(T) -> W) {
    if let Ok(value) = decode(bytes) {
        assert_eq!(encode(value).as_bytes(), bytes);
    }
}

fn run(bytes: &[u8]) {
    let Some((structure, text)) = bytes.split_at_checked(size_of::<wire::Run>()) else { return };
    let Ok(run) = Run::decode(structure) else { return };
    if let Ok(strings) = run.strings(text) {
        assert!(!strings.program.is_empty() && strings.cwd.starts_with(b"/"));
        for list in [strings.args, strings.env] {
            let count = list.len();
            assert_eq!(list.into_iter().inspect(|string| assert!(!string.contains(&0))).count(), count);
        }
    }
}
