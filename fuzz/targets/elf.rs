//! ELF files: each is refused by an errno of Linux's, or gives a plan that keeps its promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use litebox_core::error::{Errno, Error};
use litebox_core::mm::{GUEST_END, PAGE_SIZE};
use litebox_shim_linux::elf::Plan;

fuzz_target!(|bytes: &[u8]| {
    for plan in [Plan::of_program(bytes), Plan::of_interpreter(bytes)] {
        match plan {
            Ok(plan) => check(&plan),
            Err(Error::Errno(Errno::NOEXEC | Errno::INVAL | Errno::IO | Errno::LIBBAD, _)) => {}
            Err(error) => panic!("not an errno of Linux here: {error:?}"),
        }
    }
});

/// What every accepted plan promises, whatever the file said.
fn check(plan: &Plan) {
    assert!(plan.align.is_power_of_two() && plan.align >= PAGE_SIZE);
    assert!(plan.interpreter.as_ref().is_none_or(|path| path.len() < 4096 && !path.contains(&0)));
    for segment in &plan.segments {
        assert_eq!((segment.start % PAGE_SIZE, segment.file_start % PAGE_SIZE), (0, 0));
        assert!(segment.start <= segment.zero_from && segment.zero_from <= segment.end && segment.end <= GUEST_END);
        assert!(segment.file_bytes == 0 || segment.start + segment.file_bytes == segment.zero_from);
    }
    for wanted in [0, PAGE_SIZE, 0x5555_5555_5000, GUEST_END - PAGE_SIZE] {
        if let (Some((low, high)), Ok(bias)) = (plan.span(), plan.bias_at(wanted)) {
            assert!(low.wrapping_add(bias) < GUEST_END && high.wrapping_add(bias) <= GUEST_END);
            assert_eq!(bias % PAGE_SIZE, 0);
        }
    }
}
