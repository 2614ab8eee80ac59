//! Reads, writes, truncations, holes and mapped pages of one file, against a vector of bytes.

use super::{ALL, Random, context, memory, over, root_user};
use litebox_core::fs::file::File;
use litebox_core::fs::inode::End;
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::path::FsContext;
use litebox_core::fs::types::{OFlags, SeekFrom};
use litebox_core::platform::Frame;
use litebox_platform_hosted::Hosted;

const LENGTH_MAX: usize = 200_000;
const OPERATIONS: usize = 4000;

fn run(fs: &FsContext<Hosted>, seed: u64) {
    let user = root_user();
    let open = |flags| fs.at_cwd(&user).open(b"/file", OFlags::READ | OFlags::WRITE | flags, ALL).expect("opened");
    let (file, other) = (open(OFlags::CREATE), open(OFlags::APPEND));
    let mut random = Random(seed);
    let mut model = vec![0; file.ops().size().expect("a size") as usize];
    assert_eq!(file.read_at(0, &mut IoDst::kernel(&mut model)).expect("read"), model.len());
    for step in 0..OPERATIONS {
        let offset = random.index(LENGTH_MAX);
        let len = match random.index(4) {
            0 => random.index(10),
            1 => random.index(5000),
            _ => random.index(20_000),
        };
        let what = random.index(10);
        operate(&file, &other, &mut model, (what, offset, len, step as u8), seed);
        assert_eq!(file.ops().size().expect("a size") as usize, model.len(), "step {step} of {seed}: {what} {offset} {len}");
    }
    let mut all = vec![1; model.len() + 1];
    assert_eq!(other.read_at(0, &mut IoDst::kernel(&mut all)).expect("read"), model.len());
    assert!(all[..model.len()] == model, "seed {seed}");
}

fn operate(
    file: &File<Hosted>,
    other: &File<Hosted>,
    model: &mut Vec<u8>,
    (what, offset, len, byte): (usize, usize, usize, u8),
    seed: u64,
) {
    match what {
        0..=2 => {
            let bytes: Vec<u8> = (0..len).map(|at| byte.wrapping_add(at as u8)).collect();
            let (count, at) = if what == 2 && model.len() < LENGTH_MAX {
                (other.write(&mut IoSrc::kernel(&bytes)), model.len())
            } else {
                (file.write_at(offset as u64, &mut IoSrc::kernel(&bytes)), offset)
            };
            assert_eq!(count.expect("written"), len);
            if len > 0 {
                let end = model.len().max(at + len);
                model.resize(end, 0);
                model[at..at + len].copy_from_slice(&bytes);
            }
        }
        3..=5 => {
            let mut bytes = vec![0; len];
            let count = file.read_at(offset as u64, &mut IoDst::kernel(&mut bytes)).expect("read");
            let expected = model.get(offset..).unwrap_or_default();
            assert!(bytes[..count] == expected[..len.min(expected.len())], "{len} bytes at {offset} of {seed}");
        }
        6 => {
            file.truncate(offset as u64).expect("cut");
            model.resize(offset, 0);
        }
        7 => {
            file.ops().punch(offset as u64, len as u64).expect("punched");
            let end = model.len().min(offset + len);
            if let Some(hole) = model.get_mut(offset..end) {
                hole.fill(0);
            }
        }
        8 if len > 0 => {
            let end = if byte % 2 == 0 { End::Moves } else { End::Stays };
            file.ops().allocate(offset as u64, len as u64, end).expect("allocated");
            if end == End::Moves && offset + len > model.len() {
                model.resize(offset + len, 0);
            }
        }
        _ => {
            let index = offset / 4096;
            let page = file.ops().page(index as u64, false);
            let Some(expected) = model.get(index * 4096..).filter(|rest| !rest.is_empty()) else {
                assert!(page.is_err(), "a page past the end");
                return;
            };
            let mut bytes = vec![1; 4096];
            page.expect("a page").read(0, &mut bytes);
            let len = expected.len().min(4096);
            assert!(bytes[..len] == expected[..len] && bytes[len..].iter().all(|byte| *byte == 0), "page {index} of {seed}");
            let data = file.seek(SeekFrom::Data(offset as u64)).unwrap_or(model.len() as u64) as usize;
            assert!(
                model[offset.min(model.len())..data.min(model.len()).max(offset.min(model.len()))].iter().all(|byte| *byte == 0)
            );
        }
    }
}

#[test]
fn a_file_in_memory_has_the_bytes_that_were_written() {
    for seed in 1..=4 {
        run(&context(memory(1)), seed);
    }
}

#[test]
fn a_file_over_another_has_the_bytes_that_were_written() {
    for seed in 11..=14 {
        let lower = memory(1);
        let below = context(std::sync::Arc::clone(&lower));
        let user = root_user();
        let file = below.at_cwd(&user).open(b"/file", OFlags::WRITE | OFlags::CREATE, ALL).expect("made");
        let old: Vec<u8> = (0..50_000).map(|at| (at / 100) as u8).collect();
        file.write(&mut IoSrc::kernel(&old)).expect("written");
        run(&over(lower), seed);
        let mut now = vec![0; old.len() + 1];
        let count = below.at_cwd(&user).open(b"/file", OFlags::READ, ALL).expect("there").read(&mut IoDst::kernel(&mut now));
        assert_eq!((count.expect("read"), now[..old.len()] == old[..]), (old.len(), true), "what lies below stays");
    }
}
