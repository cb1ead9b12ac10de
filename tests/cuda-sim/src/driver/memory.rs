//! Device memory as the program asks for it: allocation in program or stream order, and what a pointer is.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::attributes::pointer_attribute;
use super::capture;
use super::context::{Context, current};
use super::errors::{CUresult, Error, Outcome, call, fail, not_modelled};
use super::ffi::{DevicePtr, HostPtr, In, Out};
use super::pool::{self, CUmemoryPool, Pool};
use super::stream::{CUstream, resolve};
use super::work::Op;
use crate::check::Finding;
use crate::memory::DeviceMemory;

/// Alignment of every allocation, as the real driver gives.
const ALIGN: usize = 256;
/// Row pitch granularity of `cuMemAllocPitch`.
const PITCH: usize = 512;

/// What a context has allocated, by address.
#[derive(Default)]
pub struct Allocations {
    live: Mutex<BTreeMap<DevicePtr, Allocation>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Allocation {
    pub bytes: usize,
    /// Where it came from, for allocations in stream order.
    pub pool: Option<CUmemoryPool>,
    /// `cuMemFreeAsync` was called and its turn has not come.
    freeing: bool,
    /// Belongs to a module (its variables) and is not the program's to free.
    pub module: bool,
}

impl Allocations {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DevicePtr, Allocation>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The allocation that holds `address`, and its start.
    pub fn find(&self, address: DevicePtr) -> Option<(DevicePtr, Allocation)> {
        let live = self.lock();
        let (&start, &allocation) = live.range(..=address).next_back()?;
        (address - start < allocation.bytes.max(1) as u64).then_some((start, allocation))
    }

    pub fn add(&self, address: DevicePtr, bytes: usize, pool: Option<CUmemoryPool>, module: bool) {
        self.lock().insert(address, Allocation { bytes, pool, freeing: false, module });
    }

    /// A free was queued.
    fn begin_free(&self, address: DevicePtr, asynchronous: bool) -> Outcome<Allocation> {
        let mut live = self.lock();
        let Some(allocation) = live.get_mut(&address).filter(|a| !a.module) else {
            drop(live);
            return fail(CUresult::INVALID_VALUE, format!("{address:#x} is not the start of an allocation"));
        };
        if allocation.freeing {
            return fail(CUresult::INVALID_VALUE, format!("{address:#x} was freed already, by cuMemFreeAsync"));
        }
        allocation.freeing = asynchronous;
        Ok(*allocation)
    }

    /// Gives the memory back.
    pub fn free(&self, memory: &DeviceMemory, address: DevicePtr) -> Result<(), Box<Finding>> {
        let freed = self.lock().remove(&address);
        if let Some(Allocation { pool: Some(pool), bytes, .. }) = freed {
            pool::returned(pool, bytes);
        }
        memory.free(address).map_err(|mut finding| {
            finding.kernel = "cuMemFree".to_owned();
            finding
        })
    }

    /// Gives everything back, for a context that is destroyed.
    pub fn release(&self, memory: &DeviceMemory) {
        for address in std::mem::take(&mut *self.lock()).into_keys() {
            let _ = memory.free(address); // live by construction
        }
    }
}

/// Allocates; where memory is short but frees are queued, waits for them as the real driver does.
pub fn allocate(context: &Context, bytes: usize, pool: Option<CUmemoryPool>, module: bool) -> Outcome<DevicePtr> {
    let memory = &context.device.memory;
    let address = match memory.alloc(bytes, ALIGN) {
        Some(address) => address,
        None => {
            context.synchronize()?;
            memory.alloc(bytes, ALIGN).ok_or_else(|| Error {
                code: CUresult::OUT_OF_MEMORY,
                text: format!("{bytes} bytes asked, {} of {} in use", memory.used(), memory.total()),
            })?
        }
    };
    context.allocations.add(address, bytes, pool, module);
    Ok(address)
}

fn size(bytes: usize) -> Outcome<usize> {
    if bytes == 0 { fail(CUresult::INVALID_VALUE, "an allocation of 0 bytes") } else { Ok(bytes) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> CUresult {
    call("cuMemGetInfo", || {
        let memory = &current()?.device.memory;
        free.put_if_wanted(memory.total() - memory.used());
        total.put_if_wanted(memory.total());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(pointer: Out<DevicePtr>, bytes: usize) -> CUresult {
    call("cuMemAlloc", || {
        let context = current()?;
        capture::refuse_unsafe(&context)?;
        pointer.put(allocate(&context, size(bytes)?, None, false)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocPitch_v2(
    pointer: Out<DevicePtr>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element: c_uint,
) -> CUresult {
    call("cuMemAllocPitch", || {
        let context = current()?;
        capture::refuse_unsafe(&context)?;
        if !matches!(element, 4 | 8 | 16) {
            return fail(CUresult::INVALID_VALUE, format!("element size {element}: 4, 8 or 16 is needed"));
        }
        let row = size(width)?.next_multiple_of(PITCH);
        let bytes = row.checked_mul(size(height)?).ok_or(CUresult::OUT_OF_MEMORY)?;
        pointer.put(allocate(&context, bytes, None, false)?)?;
        pitch.put(row)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(pointer: DevicePtr) -> CUresult {
    call("cuMemFree", || {
        let context = current()?;
        if pointer == 0 {
            return Ok(());
        }
        capture::refuse_unsafe(&context)?;
        context.synchronize()?; // programs rely on the real one doing so
        context.allocations.begin_free(pointer, false)?;
        freed(&context, pointer)
    })
}

fn freed(context: &Context, pointer: DevicePtr) -> Outcome {
    let freed = context.allocations.free(&context.device.memory, pointer);
    freed.or_else(|finding| fail(CUresult::INVALID_VALUE, finding.text))
}

fn allocate_async(pointer: Out<DevicePtr>, bytes: usize, pool: Option<CUmemoryPool>, stream: CUstream) -> Outcome {
    let stream = resolve(stream)?;
    let context = stream.context()?;
    if stream.is_capturing() {
        capture::invalidate(&stream);
        return not_modelled("allocation while a stream is captured");
    }
    let handle = match pool {
        Some(pool) => pool,
        None => pool::current(),
    };
    let pool = Pool::of(handle)?;
    pool.admit(size(bytes)?)?;
    match allocate(&context, bytes, Some(handle), false) {
        Ok(address) => {
            pool.took(bytes);
            pointer.put(address)
        }
        Err(error) => Err(error),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocAsync(pointer: Out<DevicePtr>, bytes: usize, stream: CUstream) -> CUresult {
    call("cuMemAllocAsync", || allocate_async(pointer, bytes, None, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocFromPoolAsync(
    pointer: Out<DevicePtr>,
    bytes: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> CUresult {
    call("cuMemAllocFromPoolAsync", || allocate_async(pointer, bytes, Some(pool), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(pointer: DevicePtr, stream: CUstream) -> CUresult {
    call("cuMemFreeAsync", || {
        let stream = resolve(stream)?;
        let context = stream.context()?;
        if pointer == 0 {
            return Ok(());
        }
        if stream.is_capturing() {
            capture::invalidate(&stream);
            return not_modelled("freeing while a stream is captured");
        }
        context.allocations.begin_free(pointer, true)?;
        stream.submit(Op::Free(pointer))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAddressRange_v2(base: Out<DevicePtr>, bytes: Out<usize>, pointer: DevicePtr) -> CUresult {
    call("cuMemGetAddressRange", || match current()?.allocations.find(pointer) {
        Some((start, allocation)) => {
            base.put_if_wanted(start);
            bytes.put_if_wanted(allocation.bytes);
            Ok(())
        }
        None => fail(CUresult::NOT_FOUND, format!("{pointer:#x} is in no allocation")),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttribute(data: HostPtr, attribute: c_int, pointer: DevicePtr) -> CUresult {
    call("cuPointerGetAttribute", || {
        let context = current()?;
        // SAFETY: the API asks for `data` to be of the attribute's type.
        unsafe { pointer_attribute(&context, data, attribute, pointer, false) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttributes(
    count: c_uint,
    attributes: In<c_int>,
    data: In<HostPtr>,
    pointer: DevicePtr,
) -> CUresult {
    call("cuPointerGetAttributes", || {
        let context = current()?;
        // SAFETY: the API asks for arrays of `count` attributes and of places of their types.
        let (attributes, data) = unsafe { (attributes.slice(count as usize)?, data.slice(count as usize)?) };
        for (&attribute, &data) in attributes.iter().zip(data) {
            // SAFETY: as above. Unlike the single query this one answers null for unknown pointers.
            unsafe { pointer_attribute(&context, data, attribute, pointer, true)? };
        }
        Ok(())
    })
}
