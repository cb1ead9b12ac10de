//! Host memory that the driver knows: page-locked allocations and registered ranges. Streams read and write it late,
//! when their turn comes; of other host memory they copy at the call.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ffi::c_uint;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::capture;
use super::context::current;
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{DevicePtr, HostPtr, Out};

const PAGE: usize = 4096;
/// `CU_MEMHOSTALLOC_PORTABLE | DEVICEMAP | WRITECOMBINED`.
const ALLOC_FLAGS: c_uint = 7;
/// `CU_MEMHOSTREGISTER_PORTABLE | DEVICEMAP | IOMEMORY | READ_ONLY`.
const REGISTER_FLAGS: c_uint = 15;
const REGISTER_IO_MEMORY: c_uint = 4;

#[derive(Debug, Clone, Copy)]
pub struct Pinned {
    pub bytes: usize,
    pub flags: c_uint,
    /// Of `cuMemHostRegister`: not ours to free.
    registered: bool,
}

static PINNED: Mutex<BTreeMap<usize, Pinned>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<usize, Pinned>> {
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The page-locked range that holds `address`.
pub fn find(address: HostPtr) -> Option<(HostPtr, Pinned)> {
    let pinned = lock();
    let (&start, &range) = pinned.range(..=address.0).next_back()?;
    (address.0 - start < range.bytes.max(1)).then_some((HostPtr(start), range))
}

/// All of `bytes` from `address` is page-locked.
pub fn is_pinned(address: HostPtr, bytes: usize) -> bool {
    find(address).is_some_and(|(start, range)| address.0 + bytes <= start.0 + range.bytes)
}

fn allocate(pointer: Out<HostPtr>, bytes: usize, flags: c_uint) -> Outcome {
    let context = current()?;
    capture::refuse_unsafe(&context)?;
    if bytes == 0 || flags & !ALLOC_FLAGS != 0 {
        return fail(CUresult::INVALID_VALUE, format!("{bytes} bytes, flags {flags:#x}"));
    }
    let layout = Layout::from_size_align(bytes, PAGE).or(Err(CUresult::OUT_OF_MEMORY))?;
    // SAFETY: the layout has a size.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        return fail(CUresult::OUT_OF_MEMORY, format!("{bytes} bytes of host memory"));
    }
    let address = HostPtr::from(memory);
    lock().insert(address.0, Pinned { bytes, flags, registered: false });
    pointer.put(address)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(pointer: Out<HostPtr>, bytes: usize, flags: c_uint) -> CUresult {
    call("cuMemHostAlloc", || allocate(pointer, bytes, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost_v2(pointer: Out<HostPtr>, bytes: usize) -> CUresult {
    call("cuMemAllocHost", || allocate(pointer, bytes, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(pointer: HostPtr) -> CUresult {
    call("cuMemFreeHost", || {
        let context = current()?;
        capture::refuse_unsafe(&context)?;
        if lock().get(&pointer.0).is_none_or(|range| range.registered) {
            return fail(CUresult::INVALID_VALUE, format!("{:#x} is no allocation of page-locked memory", pointer.0));
        }
        let waited = context.synchronize(); // queued copies may still use it
        if let Some(range) = lock().remove(&pointer.0) {
            let layout = Layout::from_size_align(range.bytes, PAGE).or(Err(CUresult::UNKNOWN))?;
            // SAFETY: allocated above with this layout, and removed from the table just now.
            unsafe { dealloc(std::ptr::with_exposed_provenance_mut(pointer.0), layout) };
        }
        waited
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(pointer: HostPtr, bytes: usize, flags: c_uint) -> CUresult {
    call("cuMemHostRegister", || {
        capture::refuse_unsafe(&*current()?)?;
        if pointer.is_null() || bytes == 0 || flags & !REGISTER_FLAGS != 0 {
            let text = format!("address {:#x}, {bytes} bytes, flags {flags:#x}", pointer.0);
            return fail(CUresult::INVALID_VALUE, text);
        }
        if flags & REGISTER_IO_MEMORY != 0 {
            return not_modelled("CU_MEMHOSTREGISTER_IOMEMORY");
        }
        let mut pinned = lock();
        let before = pinned.range(..pointer.0 + bytes).next_back();
        if before.is_some_and(|(&start, range)| start + range.bytes > pointer.0) {
            return fail(CUresult::HOST_MEMORY_ALREADY_REGISTERED, "the range overlaps one that is page-locked");
        }
        pinned.insert(pointer.0, Pinned { bytes, flags, registered: true });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(pointer: HostPtr) -> CUresult {
    call("cuMemHostUnregister", || {
        let context = current()?;
        capture::refuse_unsafe(&context)?;
        if lock().get(&pointer.0).is_none_or(|range| !range.registered) {
            let text = format!("{:#x} was not registered", pointer.0);
            return fail(CUresult::HOST_MEMORY_NOT_REGISTERED, text);
        }
        let waited = context.synchronize(); // queued copies may still use it
        lock().remove(&pointer.0);
        waited
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetFlags(flags: Out<c_uint>, pointer: HostPtr) -> CUresult {
    call("cuMemHostGetFlags", || {
        current()?;
        match find(pointer) {
            Some((_, range)) => flags.put(range.flags),
            None => fail(CUresult::INVALID_VALUE, format!("{:#x} is not page-locked", pointer.0)),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetDevicePointer_v2(_device: Out<DevicePtr>, _host: HostPtr, _flags: c_uint) -> CUresult {
    call("cuMemHostGetDevicePointer", || not_modelled("host memory accessed by kernels"))
}
