//! Handles and references to the kernel's objects.

use super::Status;
use super::raw::{
    ClientId, KERNEL_HANDLE, ObReferenceObjectByHandle, ObfDereferenceObject, ObjectAttributes, Pointer, ZwClose,
    ZwDuplicateObject, ZwOpenProcess, ZwQueryObject,
};
use core::mem::MaybeUninit;
use core::time::Duration;

/// `PROCESS_DUP_HANDLE`.
const DUPLICATE: u32 = 0x40;
/// `DUPLICATE_SAME_ACCESS`.
const SAME_ACCESS: u32 = 2;
/// `ObjectBasicInformation` of `ZwQueryObject`.
const BASIC: u32 = 0;
/// The current process, as a handle: -1.
const THIS_PROCESS: Pointer = core::ptr::without_provenance_mut(usize::MAX);

/// A handle of the kernel's, closed when dropped.
#[derive(Debug)]
pub(crate) struct Handle(Pointer);

// SAFETY: A kernel handle belongs to no thread.
unsafe impl Send for Handle {}
// SAFETY: The kernel's functions take one from several threads at a time.
unsafe impl Sync for Handle {}

impl Handle {
    /// Takes a handle over.
    ///
    /// # Safety
    /// It is open, and the caller's to give.
    pub(super) unsafe fn from_raw(handle: Pointer) -> Self {
        Self(handle)
    }

    pub(super) fn raw(&self) -> Pointer {
        self.0
    }

    /// The handle `number` of the process `owner`, as one of the kernel's with the rights that the process's has. IRQL:
    /// `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for no handle of that process; those of opening a process.
    pub(crate) fn of_process(owner: usize, number: u64) -> Result<Self, Status> {
        let id = ClientId { process: owner, thread: 0 };
        let attributes = ObjectAttributes::kernel();
        let mut process = core::ptr::null_mut();
        // SAFETY: All are ours and live through the call.
        unsafe { ZwOpenProcess(&raw mut process, DUPLICATE, &raw const attributes, &raw const id) }.check()?;
        // SAFETY: Just opened.
        let process = unsafe { Self::from_raw(process) };
        // On x64 a handle is a word.
        let source = core::ptr::without_provenance_mut(usize::try_from(number).unwrap_or(0));
        let mut handle = core::ptr::null_mut();
        // SAFETY: A process that is open for it, and any number; the result is written to our word.
        unsafe { ZwDuplicateObject(process.raw(), source, THIS_PROCESS, &raw mut handle, 0, KERNEL_HANDLE, SAME_ACCESS) }
            .check()?;
        // SAFETY: Just made.
        Ok(unsafe { Self::from_raw(handle) })
    }

    /// The rights that it was opened with; none if that cannot be said. The kernel does not check them for itself, so we do.
    pub(crate) fn rights(&self) -> u32 {
        /// `PUBLIC_OBJECT_BASIC_INFORMATION`: attributes, granted access, counts.
        #[repr(C)]
        struct Information([u32; 14]);
        let mut information = MaybeUninit::<Information>::zeroed();
        // SAFETY: An open handle, and room of the size that is said.
        let status = unsafe {
            ZwQueryObject(self.0, BASIC, information.as_mut_ptr().cast(), size_of::<Information>() as u32, core::ptr::null_mut())
        };
        // SAFETY: Zeroed, and any numbers are values.
        let Information([_attributes, granted, ..]) = unsafe { information.assume_init() };
        if status.is_success() { granted } else { 0 }
    }

    /// A reference to the object behind it.
    pub(super) fn object(&self) -> Result<Object, Status> {
        let mut object = core::ptr::null_mut();
        // SAFETY: An open handle; of the kernel's, so no right is asked for. A reference is written to our word.
        unsafe { ObReferenceObjectByHandle(self.0, 0, core::ptr::null_mut(), 0, &raw mut object, core::ptr::null_mut()) }
            .check()?;
        Ok(Object(object))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: Open, and nobody else's.
        unsafe { ZwClose(self.0) };
    }
}

impl ObjectAttributes<'_> {
    /// Nothing but that the handle is the kernel's own.
    pub(super) const fn kernel() -> Self {
        Self {
            length: size_of::<Self>() as u32,
            root: core::ptr::null_mut(),
            name: core::ptr::null(),
            attributes: KERNEL_HANDLE,
            security_descriptor: core::ptr::null_mut(),
            security_quality: core::ptr::null_mut(),
        }
    }
}

/// A counted reference to an object that can be waited for.
#[derive(Debug)]
pub(super) struct Object(Pointer);

// SAFETY: References belong to no thread.
unsafe impl Send for Object {}

impl Object {
    /// Waits until it is signalled, or for `timeout`. IRQL: `PASSIVE_LEVEL`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> bool {
        // SAFETY: A reference that is ours.
        unsafe { super::event::wait_for(self.0, timeout) }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference that this owned.
        unsafe { ObfDereferenceObject(self.0) };
    }
}
