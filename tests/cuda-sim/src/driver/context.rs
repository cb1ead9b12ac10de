//! Contexts: the primary one and others, which is current on a thread, what belongs to them, and the error that sticks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::capture::{self, Capture};
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::event;
use super::ffi::{In, Out};
use super::handles::{Handle, Table};
use super::memory::Allocations;
use super::module;
use super::state::{self, Device, device, driver};
use super::stream::{self, Kind, Stream};
use crate::check::Finding;

pub type CUdevice = c_int;
pub type CUcontext = Handle<Context>;

static CONTEXTS: Table<Context> = Table::new("context");

/// Settable limits, by `CUlimit`, with the values a fresh context of such a card has.
const LIMITS: [(c_int, usize); 7] = [
    (0, 1 << 10),     // STACK_SIZE
    (1, 0x0068_0000), // PRINTF_FIFO_SIZE
    (2, 8 << 20),     // MALLOC_HEAP_SIZE
    (3, 2),           // DEV_RUNTIME_SYNC_DEPTH
    (4, 2048),        // DEV_RUNTIME_PENDING_LAUNCH_COUNT
    (5, 64),          // MAX_L2_FETCH_GRANULARITY
    (6, 0),           // PERSISTING_L2_CACHE_SIZE
];

pub struct Context {
    pub handle: CUcontext,
    pub id: u64,
    pub device: &'static Device,
    flags: AtomicU32,
    /// The first finding's status: from then on every call returns it.
    fault: OnceLock<CUresult>,
    /// The null stream.
    pub legacy: Arc<Stream>,
    per_thread: Mutex<HashMap<ThreadId, Arc<Stream>>>,
    /// Every stream that may have work, the null stream included.
    streams: Mutex<Vec<Arc<Stream>>>,
    pub captures: Mutex<Vec<Arc<Capture>>>,
    pub allocations: Allocations,
    limits: Mutex<[(c_int, usize); 7]>,
    cache_config: AtomicU32,
}

/// The device's primary context and how often it is retained.
#[derive(Default)]
pub struct Primary {
    retained: u32,
    flags: u32,
    context: Option<Arc<Context>>,
}

impl Context {
    fn create(device: &'static Device, flags: u32) -> Arc<Context> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let mut made = None;
        CONTEXTS.insert_with(|handle| {
            let context = Arc::new_cyclic(|weak| {
                let legacy = Stream::new(weak.clone(), Kind::Legacy, 0, 0);
                Context {
                    handle,
                    id: IDS.fetch_add(1, Ordering::Relaxed),
                    device,
                    flags: AtomicU32::new(flags),
                    fault: OnceLock::new(),
                    streams: Mutex::new(vec![legacy.clone()]),
                    legacy,
                    per_thread: Mutex::default(),
                    captures: Mutex::default(),
                    allocations: Allocations::default(),
                    limits: Mutex::new(LIMITS),
                    cache_config: AtomicU32::new(0),
                }
            });
            made = Some(context.clone());
            context
        });
        made.unwrap_or_else(|| unreachable!("the table calls the constructor"))
    }

    /// # Errors
    /// The sticky error, once there is one.
    pub fn healthy(&self) -> Outcome {
        match self.fault.get() {
            Some(&code) => Err(code.into()),
            None => Ok(()),
        }
    }

    pub fn fault(&self) -> Option<CUresult> {
        self.fault.get().copied()
    }

    /// Reports a finding; the context is lost.
    pub fn fail(&self, finding: &Finding) {
        if let Ok(driver) = driver() {
            driver.report(finding);
        }
        self.break_with(CUresult(finding.kind.cuda_error()));
    }

    pub fn break_with(&self, code: CUresult) {
        let _ = self.fault.set(code); // the first error stays
    }

    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn add_stream(&self, stream: Arc<Stream>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| !stream.is_over());
        streams.push(stream);
    }

    /// This thread's default stream (`CU_STREAM_PER_THREAD`).
    pub fn per_thread_stream(self: &Arc<Self>) -> Arc<Stream> {
        let mut streams = self.per_thread.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.entry(std::thread::current().id()).or_insert_with(|| {
            let stream = Stream::new(Arc::downgrade(self), Kind::PerThread, 0, 0);
            self.add_stream(stream.clone());
            stream
        });
        stream.clone()
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// The sticky error.
    pub fn synchronize(&self) -> Outcome {
        let points: Vec<_> = self.streams().iter().map(|stream| stream.point()).collect();
        points.iter().for_each(|point| point.hurry());
        points.iter().for_each(|point| point.wait());
        self.healthy()
    }

    /// Ends the streams and gives everything back.
    fn destroy(&self) {
        let _ = self.synchronize(); // an error must not keep the rest alive
        self.streams().iter().for_each(|stream| stream.close());
        stream::forget(self);
        event::forget(self);
        module::forget(self);
        self.allocations.release(&self.device.memory);
        CURRENT.with_borrow_mut(|stack| stack.retain(|&context| context != self.handle));
        let _ = CONTEXTS.remove(self.handle);
    }
}

/// Runs down all queues of all contexts for at most `limit`; returns how many operations are left.
pub fn drain_all(limit: Duration) -> usize {
    let until = Instant::now() + limit;
    let mut contexts = Vec::new();
    CONTEXTS.for_each(|context| contexts.push(context.clone()));
    let points: Vec<_> = contexts.iter().flat_map(|c| c.streams()).map(|stream| stream.point()).collect();
    points.iter().for_each(|point| point.hurry());
    points.iter().map(|point| point.wait_until(until)).sum()
}

thread_local! {
    /// Contexts pushed on this thread; the last is current.
    static CURRENT: RefCell<Vec<CUcontext>> = const { RefCell::new(Vec::new()) };
}

/// The thread's current context, in whatever state it is.
pub fn current_any() -> Outcome<Arc<Context>> {
    driver()?;
    let handle = CURRENT.with_borrow(|stack| stack.last().copied());
    match handle {
        Some(handle) if !handle.is_null() => {
            CONTEXTS.get(handle).or_else(|_| fail(CUresult::CONTEXT_IS_DESTROYED, "the current context was destroyed"))
        }
        _ => fail(CUresult::INVALID_CONTEXT, "no context is current on this thread"),
    }
}

/// The thread's current context, without the error that sticks.
pub fn current() -> Outcome<Arc<Context>> {
    let context = current_any()?;
    context.healthy()?;
    Ok(context)
}

/// The context of the handle, or the current one for null.
pub fn of_handle(handle: CUcontext) -> Outcome<Arc<Context>> {
    if handle.is_null() { current() } else { known(handle) }
}

fn known(handle: CUcontext) -> Outcome<Arc<Context>> {
    CONTEXTS.get(handle).or_else(|_| fail(CUresult::INVALID_CONTEXT, format!("{handle:?} is no live context")))
}

fn set_current(handle: CUcontext) {
    CURRENT.with_borrow_mut(|stack| {
        stack.pop();
        if !handle.is_null() {
            stack.push(handle);
        }
    });
}

// --- Initialisation -------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> CUresult {
    call("cuInit", || {
        if flags != 0 {
            return fail(CUresult::INVALID_VALUE, "flags must be 0");
        }
        state::initialize()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> CUresult {
    call("cuDriverGetVersion", || {
        let known = state::version().or_else(|text| fail(CUresult::INVALID_VALUE, text))?;
        version.put(known)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> CUresult {
    call("cuProfilerStart", || current().map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> CUresult {
    call("cuProfilerStop", || current().map(drop))
}

// --- The primary context --------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(context: Out<CUcontext>, dev: CUdevice) -> CUresult {
    call("cuDevicePrimaryCtxRetain", || {
        let device = device(dev)?;
        let mut primary = device.primary.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = primary.flags;
        let handle = primary.context.get_or_insert_with(|| Context::create(device, flags)).handle;
        context.put(handle)?;
        primary.retained += 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) -> CUresult {
    call("cuDevicePrimaryCtxRelease", || {
        let mut primary = device(dev)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        if primary.retained == 0 {
            return fail(CUresult::INVALID_CONTEXT, "the primary context is not retained");
        }
        primary.retained -= 1;
        let last = if primary.retained == 0 { primary.context.take() } else { None };
        drop(primary);
        if let Some(context) = last {
            context.destroy();
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) -> CUresult {
    call("cuDevicePrimaryCtxReset", || {
        let mut primary = device(dev)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        primary.retained = 0;
        let last = primary.context.take();
        drop(primary);
        if let Some(context) = last {
            context.destroy();
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: c_uint) -> CUresult {
    call("cuDevicePrimaryCtxSetFlags", || {
        let mut primary = device(dev)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: Out<c_uint>, active: Out<c_int>) -> CUresult {
    call("cuDevicePrimaryCtxGetState", || {
        let primary = device(dev)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        flags.put_if_wanted(primary.flags);
        active.put_if_wanted(primary.context.is_some().into());
        Ok(())
    })
}

// --- Other contexts -------------------------------------------------------------------------------------------------

fn create(context: Out<CUcontext>, flags: c_uint, dev: CUdevice) -> Outcome {
    let made = Context::create(device(dev)?, flags);
    context.put(made.handle)?;
    CURRENT.with_borrow_mut(|stack| stack.push(made.handle));
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v2(context: Out<CUcontext>, flags: c_uint, dev: CUdevice) -> CUresult {
    call("cuCtxCreate_v2", || create(context, flags, dev))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v4(
    context: Out<CUcontext>,
    params: In<c_void>,
    flags: c_uint,
    dev: CUdevice,
) -> CUresult {
    call("cuCtxCreate_v4", || {
        if !params.is_null() {
            return not_modelled("creation parameters (execution affinity, graphics)");
        }
        create(context, flags, dev)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(context: CUcontext) -> CUresult {
    call("cuCtxDestroy", || {
        known(context)?.destroy();
        Ok(())
    })
}

// --- The current context --------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: CUcontext) -> CUresult {
    call("cuCtxSetCurrent", || {
        driver()?;
        if !context.is_null() {
            known(context)?;
        }
        set_current(context);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(context: Out<CUcontext>) -> CUresult {
    call("cuCtxGetCurrent", || {
        driver()?;
        context.put(CURRENT.with_borrow(|stack| stack.last().copied().unwrap_or(Handle::NULL)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: CUcontext) -> CUresult {
    call("cuCtxPushCurrent", || {
        known(context)?;
        CURRENT.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(context: Out<CUcontext>) -> CUresult {
    call("cuCtxPopCurrent", || {
        driver()?;
        match CURRENT.with_borrow_mut(Vec::pop) {
            Some(popped) => {
                context.put_if_wanted(popped);
                Ok(())
            }
            None => fail(CUresult::INVALID_CONTEXT, "no context is current on this thread"),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(dev: Out<CUdevice>) -> CUresult {
    call("cuCtxGetDevice", || current_any().and_then(|_| dev.put(0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice_v2(dev: Out<CUdevice>, context: CUcontext) -> CUresult {
    call("cuCtxGetDevice_v2", || of_handle(context).and_then(|_| dev.put(0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetFlags(flags: Out<c_uint>) -> CUresult {
    call("cuCtxGetFlags", || flags.put(current()?.flags.load(Ordering::Relaxed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetFlags(flags: c_uint) -> CUresult {
    call("cuCtxSetFlags", || {
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetId(context: CUcontext, id: Out<c_ulonglong>) -> CUresult {
    call("cuCtxGetId", || id.put(of_handle(context)?.id))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetApiVersion(context: CUcontext, version: Out<c_uint>) -> CUresult {
    call("cuCtxGetApiVersion", || of_handle(context).and_then(|_| version.put(3020)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> CUresult {
    call("cuCtxSynchronize", || {
        let context = current()?;
        capture::refuse_synchronization(&context)?;
        context.synchronize()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize_v2(context: CUcontext) -> CUresult {
    call("cuCtxSynchronize_v2", || {
        let context = of_handle(context)?;
        context.healthy()?;
        capture::refuse_synchronization(&context)?;
        context.synchronize()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetLimit(value: Out<usize>, limit: c_int) -> CUresult {
    call("cuCtxGetLimit", || {
        let context = current()?;
        let limits = context.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match limits.iter().find(|(id, _)| *id == limit) {
            Some(&(_, set)) => value.put(set),
            None => fail(CUresult::UNSUPPORTED_LIMIT, format!("CUlimit {limit}")),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(limit: c_int, value: usize) -> CUresult {
    call("cuCtxSetLimit", || {
        let context = current()?;
        let mut limits = context.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match limits.iter_mut().find(|(id, _)| *id == limit) {
            Some((_, set)) => {
                *set = value;
                Ok(())
            }
            None => fail(CUresult::UNSUPPORTED_LIMIT, format!("CUlimit {limit}")),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCacheConfig(config: Out<c_uint>) -> CUresult {
    call("cuCtxGetCacheConfig", || config.put(current()?.cache_config.load(Ordering::Relaxed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCacheConfig(config: c_uint) -> CUresult {
    call("cuCtxSetCacheConfig", || {
        current()?.cache_config.store(config, Ordering::Relaxed);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxResetPersistingL2Cache() -> CUresult {
    call("cuCtxResetPersistingL2Cache", || current().map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) -> CUresult {
    call("cuCtxGetStreamPriorityRange", || {
        current()?;
        least.put_if_wanted(stream::PRIORITIES.0);
        greatest.put_if_wanted(stream::PRIORITIES.1);
        Ok(())
    })
}
