//! Memory pools: their attributes and statistics. Memory freed in stream order goes straight back to the card, so that
//! its next use is seen; a pool keeps nothing.

use std::ffi::{c_int, c_uchar, c_ushort, c_void};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::context::CUdevice;
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{HostPtr, In, Out};
use super::handles::{Handle, Table};
use super::state::device;

pub type CUmemoryPool = Handle<Pool>;

static POOLS: Table<Pool> = Table::new("memory pool");
/// The pool that `cuMemAllocAsync` draws from, 0 for the default one.
static CURRENT: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
pub struct Pool {
    /// `CU_MEMPOOL_ATTR_REUSE_…`, attributes 1 to 3: hints.
    reuse: [AtomicI32; 3],
    release_threshold: AtomicU64,
    used: AtomicU64,
    used_high: AtomicU64,
    /// Most bytes that it may hold, 0 for no limit.
    max_bytes: usize,
}

/// `CUmemPoolProps`.
#[repr(C)]
pub struct CUmemPoolProps {
    pub alloc_type: c_int,
    pub handle_types: c_int,
    pub location_type: c_int,
    pub location_id: c_int,
    pub win32_security_attributes: *mut c_void,
    pub max_size: usize,
    pub usage: c_ushort,
    pub reserved: [c_uchar; 54],
}

fn default() -> CUmemoryPool {
    static DEFAULT: OnceLock<CUmemoryPool> = OnceLock::new();
    *DEFAULT.get_or_init(|| POOLS.insert(Arc::new(Pool::new(0))))
}

/// The device's current pool.
pub fn current() -> CUmemoryPool {
    match CURRENT.load(Ordering::Relaxed) {
        0 => default(),
        raw => Handle::from_raw(raw),
    }
}

/// An allocation of the pool was freed.
pub fn returned(pool: CUmemoryPool, bytes: usize) {
    if let Ok(pool) = POOLS.get(pool) {
        pool.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl Pool {
    fn new(max_bytes: usize) -> Self {
        Self { reuse: [1.into(), 1.into(), 1.into()], max_bytes, ..Self::default() }
    }

    pub fn of(handle: CUmemoryPool) -> Outcome<Arc<Pool>> {
        POOLS.get(handle)
    }

    pub fn admit(&self, bytes: usize) -> Outcome {
        let used = self.used.load(Ordering::Relaxed) as usize;
        if self.max_bytes != 0 && used.saturating_add(bytes) > self.max_bytes {
            let text = format!("the pool is limited to {} bytes and {used} are in use", self.max_bytes);
            return fail(CUresult::OUT_OF_MEMORY, text);
        }
        Ok(())
    }

    pub fn took(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.used_high.fetch_max(used, Ordering::Relaxed);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetDefaultMemPool(pool: Out<CUmemoryPool>, dev: CUdevice) -> CUresult {
    call("cuDeviceGetDefaultMemPool", || device(dev).and_then(|_| pool.put(default())))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetMemPool(pool: Out<CUmemoryPool>, dev: CUdevice) -> CUresult {
    call("cuDeviceGetMemPool", || device(dev).and_then(|_| pool.put(current())))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) -> CUresult {
    call("cuDeviceSetMemPool", || {
        device(dev)?;
        Pool::of(pool)?;
        CURRENT.store(pool.raw(), Ordering::Relaxed);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolCreate(pool: Out<CUmemoryPool>, props: In<CUmemPoolProps>) -> CUresult {
    call("cuMemPoolCreate", || {
        device(0)?;
        let props = props.get()?;
        if (props.alloc_type, props.location_type, props.location_id) != (1, 1, 0) {
            return fail(CUresult::INVALID_VALUE, "only pinned memory of device 0 can be pooled");
        }
        if props.handle_types != 0 {
            return not_modelled("exportable pools");
        }
        pool.put(POOLS.insert(Arc::new(Pool::new(props.max_size))))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolDestroy(pool: CUmemoryPool) -> CUresult {
    call("cuMemPoolDestroy", || {
        if pool == default() {
            return fail(CUresult::INVALID_VALUE, "the default pool cannot be destroyed");
        }
        POOLS.remove(pool)?;
        let _ = CURRENT.compare_exchange(pool.raw(), 0, Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolTrimTo(pool: CUmemoryPool, _keep: usize) -> CUresult {
    call("cuMemPoolTrimTo", || Pool::of(pool).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: c_int, value: HostPtr) -> CUresult {
    call("cuMemPoolGetAttribute", || {
        let pool = Pool::of(pool)?;
        let wide = match attribute {
            // SAFETY: the API asks for an int for the first three attributes.
            1..=3 => return unsafe { put(value, pool.reuse[attribute as usize - 1].load(Ordering::Relaxed)) },
            4 => pool.release_threshold.load(Ordering::Relaxed),
            5 | 7 => pool.used.load(Ordering::Relaxed),
            6 | 8 => pool.used_high.load(Ordering::Relaxed),
            _ => return fail(CUresult::INVALID_VALUE, format!("pool attribute {attribute}")),
        };
        // SAFETY: the API asks for a cuuint64_t for the others.
        unsafe { put(value, wide) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: c_int, value: HostPtr) -> CUresult {
    call("cuMemPoolSetAttribute", || {
        let pool = Pool::of(pool)?;
        match attribute {
            1..=3 => {
                // SAFETY: the API asks for an int for the first three attributes.
                pool.reuse[attribute as usize - 1].store(unsafe { get(value) }?, Ordering::Relaxed);
            }
            4 => {
                // SAFETY: the API asks for a cuuint64_t for this one.
                pool.release_threshold.store(unsafe { get(value) }?, Ordering::Relaxed);
            }
            6 | 8 => {
                // SAFETY: as above.
                if unsafe { get::<u64>(value) }? != 0 {
                    return fail(CUresult::INVALID_VALUE, "high watermarks can only be reset to 0");
                }
                pool.used_high.store(pool.used.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            _ => return fail(CUresult::INVALID_VALUE, format!("pool attribute {attribute} cannot be set")),
        }
        Ok(())
    })
}

/// # Safety
/// `place` is null or a `T`.
unsafe fn put<T>(place: HostPtr, value: T) -> Outcome {
    if place.is_null() {
        return fail(CUresult::INVALID_VALUE, "a pointer for a result is null");
    }
    // SAFETY: not null; the caller vouches for the type.
    unsafe { std::ptr::with_exposed_provenance_mut::<T>(place.0).write(value) };
    Ok(())
}

/// # Safety
/// `place` is null or an initialised `T`.
unsafe fn get<T: Copy>(place: HostPtr) -> Outcome<T> {
    if place.is_null() {
        return fail(CUresult::INVALID_VALUE, "a pointer to an argument is null");
    }
    // SAFETY: not null; the caller vouches for the type.
    Ok(unsafe { std::ptr::with_exposed_provenance::<T>(place.0).read() })
}
