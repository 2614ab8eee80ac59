//! Random bytes from the kernel's generator.

use super::LinuxKernel;
use kernel::bindings;
use litebox_core::platform::Entropy;

impl Entropy for LinuxKernel {
    fn fill_random(dst: &mut [u8]) {
        // SAFETY: `dst` is valid for writes of its length. The generator is seeded long before a module is loaded.
        unsafe { bindings::get_random_bytes(dst.as_mut_ptr().cast(), dst.len()) };
    }
}
