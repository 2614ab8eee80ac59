//! Reading and writing: memory files, pipes, devices, descriptors.

use litebox_core::error::Errno;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::devices::Device;
use litebox_core::fs::fd_table::{Fd, FdFlags, FdTable};
use litebox_core::fs::file::File;
use litebox_core::fs::io::{GuestRange, IoDst, IoSrc};
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::pipe::{CAPACITY, PIPE_BUF, Pipe};
use litebox_core::fs::proc::{ProcFile, ProcId};
use litebox_core::fs::types::{DeviceId, Gid, InodeId, Mode, NewNode, OFlags, Ready, SeekFrom, Uid};
use litebox_core::mm::GuestAddr;
use litebox_core::quota::Quota;
use litebox_core::sync::WaitQueue;
use litebox_platform_hosted::Hosted;
use std::sync::Arc;

const NEW: NewNode = NewNode { mode: Mode::RWXU, uid: Uid(0), gid: Gid(0) };
const DEVICE: DeviceId = DeviceId { major: 0, minor: 9 };
const RW: OFlags = OFlags::READ.union(OFlags::WRITE);

fn file(quota: &Arc<Quota>, flags: OFlags) -> Arc<File<Hosted>> {
    let inode = MemoryFs::unnamed::<Hosted>(InodeId { device: DEVICE, number: 1 }, quota, NEW).expect("a file");
    let ops = Arc::clone(&inode).open(flags).expect("opened");
    File::new(Dentry::detached(inode, b"memory"), ops, flags)
}

fn write(file: &File<Hosted>, bytes: &[u8]) -> Result<usize, Errno> {
    file.write(&mut IoSrc::kernel(bytes)).map_err(|error| error.errno().expect("an errno"))
}

fn read(file: &File<Hosted>, len: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0xaa; len];
    let count = file.read(&mut IoDst::kernel(&mut buffer)).map_err(|error| error.errno().expect("an errno"))?;
    buffer.truncate(count);
    Ok(buffer)
}

fn pair(quota: &Arc<Quota>, flags: OFlags) -> (Arc<File<Hosted>>, Arc<File<Hosted>>) {
    Pipe::pair(quota, InodeId { device: DEVICE, number: 1 }, NEW, flags, usize::MAX).expect("a pipe")
}

#[test]
fn a_file_gives_back_what_was_written_across_pages() {
    let quota = Quota::new(16 << 20);
    let file = file(&quota, RW);
    let text: Vec<u8> = (0..20_000u32).map(|index| (index % 251) as u8).collect();
    assert_eq!(write(&file, &text), Ok(text.len()));
    assert_eq!(file.seek(SeekFrom::Start(0)).expect("sought"), 0);
    assert_eq!(read(&file, 30_000), Ok(text.clone()));
    assert_eq!(read(&file, 1), Ok(vec![]));
    let mut part = [0; 100];
    assert_eq!(file.read_at(4090, &mut IoDst::kernel(&mut part)).expect("read"), 100);
    assert_eq!(part[..], text[4090..4190]);
    assert_eq!(file.seek(SeekFrom::Current(0)).expect("sought"), 20_000);
}

#[test]
fn holes_read_as_zeros_cost_nothing_and_are_found() {
    let quota = Quota::new(16 << 20);
    let file = file(&quota, RW);
    let before = quota.used();
    file.seek(SeekFrom::Start(1 << 40)).expect("sought");
    write(&file, b"end").expect("written");
    assert!(quota.used() - before < 2 * 4096);
    file.seek(SeekFrom::Start((1 << 40) - 5)).expect("sought");
    assert_eq!(read(&file, 100), Ok(b"\0\0\0\0\0end".to_vec()));
    assert_eq!(file.seek(SeekFrom::Data(0)).expect("data"), 1 << 40);
    assert_eq!(file.seek(SeekFrom::Hole(1 << 40)).expect("the end"), (1 << 40) + 3);
    assert!(file.seek(SeekFrom::Data(1 << 41)).is_err_and(|error| error.is(Errno::NXIO)));
    assert!(file.seek(SeekFrom::Current(-(1 << 41))).is_err_and(|error| error.is(Errno::INVAL)));
}

#[test]
fn a_truncation_gives_pages_back_and_leaves_zeros() {
    let quota = Quota::new(16 << 20);
    let file = file(&quota, RW);
    let empty = quota.used();
    write(&file, &[7; 10_000]).expect("written");
    file.truncate(100).expect("cut");
    file.truncate(5000).expect("extended");
    let mut all = vec![1; 6000];
    assert_eq!(file.read_at(0, &mut IoDst::kernel(&mut all)).expect("read"), 5000);
    assert!(all[..100].iter().all(|byte| *byte == 7) && all[100..5000].iter().all(|byte| *byte == 0));
    file.truncate(0).expect("cut");
    assert_eq!(quota.used(), empty);
    assert!(file.truncate(u64::MAX).is_err_and(|error| error.is(Errno::INVAL)));
}

#[test]
fn the_quota_ends_a_write_with_a_count_then_an_error() {
    let quota = Quota::new(40_000);
    let file = file(&quota, RW);
    let count = write(&file, &[1; 100_000]).expect("a part");
    assert!(count > 4096 && count < 40_000);
    assert_eq!(write(&file, &[1; 8192]), Err(Errno::NOMEM));
    drop(file);
    assert_eq!(quota.used(), 0);
}

#[test]
fn appends_do_not_overwrite_each_other() {
    let quota = Quota::new(16 << 20);
    let one = file(&quota, RW | OFlags::APPEND);
    let ops = Arc::clone(one.place().inode()).open(RW).expect("opened");
    let two = File::new(Arc::clone(one.place()), ops, RW | OFlags::APPEND);
    std::thread::scope(|scope| {
        for file in [&one, &two] {
            scope.spawn(move || (0..500).for_each(|_| assert_eq!(write(file, &[b'x'; 1500]), Ok(1500))));
        }
    });
    assert_eq!(one.seek(SeekFrom::End(0)).expect("the end"), 2 * 500 * 1500);
}

#[test]
fn access_is_checked_before_anything_else() {
    let quota = Quota::new(1 << 20);
    assert_eq!(write(&file(&quota, OFlags::READ), b"x"), Err(Errno::BADF));
    assert_eq!(read(&file(&quota, OFlags::WRITE), 1), Err(Errno::BADF));
}

#[test]
fn a_bad_guest_buffer_is_a_fault_and_moves_no_offset() {
    let quota = Quota::new(1 << 20);
    let file = file(&quota, RW);
    let bad = [GuestRange { addr: GuestAddr::new(8), len: 10 }];
    write(&file, b"0123456789").expect("written");
    file.seek(SeekFrom::Start(2)).expect("sought");
    let error = file.read(&mut IoDst::guest(&bad).expect("a range")).expect_err("a fault");
    assert!(error.is(Errno::FAULT));
    assert!(file.write(&mut IoSrc::guest(&bad).expect("a range")).is_err_and(|error| error.is(Errno::FAULT)));
    assert_eq!(file.seek(SeekFrom::Current(0)).expect("sought"), 2);
    let (reader, writer) = pair(&quota, OFlags::NONBLOCK);
    write(&writer, b"kept").expect("written");
    assert!(reader.read(&mut IoDst::guest(&bad).expect("a range")).is_err_and(|error| error.is(Errno::FAULT)));
    assert_eq!(read(&reader, 10), Ok(b"kept".to_vec()));
    let huge = [GuestRange { addr: GuestAddr::new(8), len: usize::MAX }; 2];
    assert!(IoDst::<Hosted>::guest(&huge).is_err_and(|error| error.is(Errno::INVAL)));
}

#[test]
fn a_pipe_holds_64_kib_and_small_writes_go_in_whole() {
    let quota = Quota::new(1 << 20);
    let (reader, writer) = pair(&quota, OFlags::NONBLOCK);
    assert_eq!(read(&reader, 1), Err(Errno::AGAIN));
    assert_eq!(write(&writer, &[1; 100_000]), Ok(CAPACITY));
    assert_eq!(write(&writer, b"x"), Err(Errno::AGAIN));
    assert_eq!(writer.poll(None), Ready::empty());
    assert_eq!(read(&reader, 100).map(|bytes| bytes.len()), Ok(100));
    assert_eq!(write(&writer, &[2; PIPE_BUF]), Err(Errno::AGAIN));
    assert_eq!(write(&writer, &[2; PIPE_BUF + 1]), Ok(100));
    assert_eq!(read(&reader, CAPACITY).map(|bytes| bytes.len()), Ok(CAPACITY));
    assert_eq!(reader.poll(None), Ready::empty());
    drop(writer);
    assert_eq!(reader.poll(None), Ready::HUP);
    assert_eq!(read(&reader, 1), Ok(vec![]));
    drop(reader);
    assert_eq!(quota.used(), 0);
}

#[test]
fn a_pipe_without_readers_is_broken() {
    let quota = Quota::new(1 << 20);
    let (reader, writer) = pair(&quota, OFlags::empty());
    drop(reader);
    assert_eq!(write(&writer, b"x"), Err(Errno::PIPE));
    assert!(writer.poll(None).contains(Ready::ERR));
}

#[test]
fn a_pipe_is_opened_again_whoever_is_left() {
    let quota = Quota::new(1 << 20);
    let (reader, writer) = pair(&quota, OFlags::empty());
    write(&writer, b"x").expect("written");
    drop(writer);
    let place = Arc::clone(reader.place());
    let again = Arc::clone(place.inode()).open(OFlags::READ).expect("nobody is waited for");
    drop(reader);
    let again = File::<Hosted>::new(place, again, OFlags::READ);
    assert_eq!((read(&again, 10), read(&again, 10)), (Ok(b"x".to_vec()), Ok(vec![])));
}

#[test]
fn readers_and_writers_of_a_pipe_wait_for_each_other() {
    let quota = Quota::new(1 << 20);
    let (reader, writer) = pair(&quota, OFlags::empty());
    let total = 3_000_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = total;
            while left > 0 {
                let len = left.min(10_007);
                assert_eq!(write(&writer, &vec![(left % 256) as u8; len]), Ok(len));
                left -= len;
            }
        });
        let mut got = 0;
        loop {
            let part = read(&reader, 5003).expect("read");
            if part.is_empty() {
                break;
            }
            got += part.len();
        }
        assert_eq!(got, total);
    });
}

#[test]
fn a_watcher_is_woken_when_a_pipe_fills() {
    let quota = Quota::new(1 << 20);
    let (reader, writer) = pair(&quota, OFlags::empty());
    let watcher = Arc::new(WaitQueue::<Hosted>::new());
    assert_eq!(reader.poll(Some(&watcher)), Ready::empty());
    std::thread::scope(|scope| {
        scope.spawn(|| write(&writer, b"x"));
        let ready = watcher.wait_until(None, || Some(reader.poll(None)).filter(|ready| !ready.is_empty()));
        assert_eq!(ready.expect("not interrupted"), Some(Ready::IN));
    });
}

#[test]
fn devices_do_what_their_names_say() {
    let open = |device: Device| {
        let inode = device.inode::<Hosted>(InodeId { device: DEVICE, number: 3 }, DEVICE);
        let ops = Arc::clone(&inode).open(RW).expect("opened");
        File::new(Dentry::detached(inode, b"device"), ops, RW)
    };
    let (null, zero, full, random) = (open(Device::Null), open(Device::Zero), open(Device::Full), open(Device::Random));
    assert_eq!((write(&null, b"abc"), read(&null, 5)), (Ok(3), Ok(vec![])));
    assert_eq!((write(&zero, b"abc"), read(&zero, 5000)), (Ok(3), Ok(vec![0; 5000])));
    assert_eq!((write(&full, b"abc"), read(&full, 2)), (Err(Errno::NOSPC), Ok(vec![0; 2])));
    assert_ne!(read(&random, 2000), read(&random, 2000));
}

#[test]
fn descriptors_are_the_lowest_free_and_limited() {
    let quota = Quota::new(1 << 20);
    let table = FdTable::new(&quota);
    let any = file(&quota, RW);
    let add = |least, limit| table.insert(Arc::clone(&any), FdFlags::empty(), Fd(least), limit).map_err(|error| error.errno());
    assert_eq!((add(0, 10), add(0, 10), add(5, 10), add(0, 10)), (Ok(Fd(0)), Ok(Fd(1)), Ok(Fd(5)), Ok(Fd(2))));
    assert_eq!(add(0, 3), Err(Some(Errno::MFILE)));
    assert_eq!(add(10, 10), Err(Some(Errno::INVAL)));
    table.remove(Fd(1)).expect("open");
    assert_eq!(add(0, 10), Ok(Fd(1)));
    table.duplicate_to(Fd(0), Fd(9), FdFlags::CLOEXEC, 10).expect("duplicated");
    assert!(table.duplicate_to(Fd(0), Fd(10), FdFlags::empty(), 10).is_err_and(|error| error.is(Errno::BADF)));
    assert!(table.duplicate_to(Fd(7), Fd(8), FdFlags::empty(), 10).is_err_and(|error| error.is(Errno::BADF)));
    let copy = table.fork().expect("copied");
    copy.close_on_exec();
    assert!(copy.get(Fd(9)).is_err_and(|error| error.is(Errno::BADF)));
    assert!(table.get(Fd(9)).is_ok_and(|file| Arc::ptr_eq(&file, &any)));
    table.close_range(Fd(1), Fd(u32::MAX)).expect("closed");
    assert_eq!((table.next_open(Fd(0)), table.next_open(Fd(1))), (Some(Fd(0)), None));
    assert!(table.get(Fd(u32::MAX)).is_err());
    table.close_all();
    copy.close_all();
    assert_eq!(Arc::strong_count(&any), 1);
}

#[test]
fn a_made_up_file_is_made_once_per_reading() {
    let id = ProcId { id: InodeId { device: DEVICE, number: 4 }, mode: Mode::RUSR, uid: Uid(0), gid: Gid(0) };
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&count);
    let inode = ProcFile::readable::<Hosted>(id, &Quota::new(1 << 20), move || {
        let number = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(format!("made {number}\n").into_bytes())
    });
    let ops = Arc::clone(&inode).open(OFlags::READ).expect("opened");
    let file = File::new(Dentry::detached(inode, b"proc"), ops, OFlags::READ);
    assert_eq!((read(&file, 4), read(&file, 100)), (Ok(b"made".to_vec()), Ok(b" 0\n".to_vec())));
    file.seek(SeekFrom::Start(0)).expect("sought");
    assert_eq!(read(&file, 100), Ok(b"made 1\n".to_vec()));
}
