//! Streams: a queue and a thread each, behind the host until somebody waits.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::capture::{self, Tail};
use super::context::{CUcontext, Context, current};
use super::errors::{CUresult, Error, Outcome, call, fail};
use super::ffi::{HostPtr, Out};
use super::handles::{Handle, Table};
use super::state::driver;
use super::work::{Callback, HostCall, HostFunction, Op};

pub type CUstream = Handle<Stream>;

static STREAMS: Table<Stream> = Table::new("stream");

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
const LEGACY: usize = 1;
const PER_THREAD: usize = 2;
/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: c_uint = 1;
/// Least and greatest priority of such a card.
pub const PRIORITIES: (c_int, c_int) = (0, -5);
/// Operations queued before a submitting host has to wait, as with the real driver's ring of 1,024 launches.
const DEPTH: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Legacy,
    PerThread,
    Created,
}

pub struct Stream {
    pub id: u64,
    pub kind: Kind,
    flags: c_uint,
    priority: c_int,
    context: Weak<Context>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Where the capture stands, while this stream is being captured.
    pub capture: Mutex<Option<Tail>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Op)>,
    submitted: u64,
    completed: u64,
    /// Somebody waits for everything up to here.
    hurried: u64,
    /// When the head runs even if nobody waits.
    due: Option<Instant>,
    has_thread: bool,
    closing: bool,
}

/// A place in a stream's work: what was submitted up to a moment.
#[derive(Clone)]
pub struct Point {
    stream: Arc<Stream>,
    ticket: u64,
}

impl Point {
    pub fn is_reached(&self) -> bool {
        self.stream.lock().completed >= self.ticket
    }

    /// Ends the stream's dawdling.
    pub fn hurry(&self) {
        let mut queue = self.stream.lock();
        if queue.hurried < self.ticket && queue.completed < self.ticket {
            queue.hurried = self.ticket;
            self.stream.changed.notify_all();
        }
    }

    pub fn wait(&self) {
        let mut queue = self.stream.lock();
        while queue.completed < self.ticket {
            queue = self.stream.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits no longer than `until`; returns how many operations are left.
    pub fn wait_until(&self, until: Instant) -> usize {
        let mut queue = self.stream.lock();
        while queue.completed < self.ticket {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return usize::try_from(self.ticket - queue.completed).unwrap_or(usize::MAX);
            }
            queue = self.stream.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        0
    }
}

impl Stream {
    pub fn new(context: Weak<Context>, kind: Kind, flags: c_uint, priority: c_int) -> Arc<Stream> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Arc::new(Stream {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            kind,
            flags,
            priority,
            context,
            queue: Mutex::default(),
            changed: Condvar::new(),
            capture: Mutex::new(None),
        })
    }

    /// Synchronises with the null stream.
    pub fn is_blocking(&self) -> bool {
        self.kind != Kind::Created || self.flags & NON_BLOCKING == 0
    }

    /// # Errors
    /// The context is gone, or lost to an error.
    pub fn context(&self) -> Outcome<Arc<Context>> {
        let context = self.context.upgrade().ok_or_else(|| Error::from(CUresult::CONTEXT_IS_DESTROYED))?;
        context.healthy()?;
        Ok(context)
    }

    pub fn belongs_to(&self, context: &Context) -> bool {
        std::ptr::eq(self.context.as_ptr(), context)
    }

    pub fn is_capturing(&self) -> bool {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything submitted so far.
    pub fn point(self: &Arc<Self>) -> Point {
        Point { stream: self.clone(), ticket: self.lock().submitted }
    }

    /// Submits or, while the stream is captured, adds a node.
    ///
    /// # Errors
    /// The context is lost; the capture forbids the operation.
    pub fn submit(self: &Arc<Self>, op: Op) -> Outcome {
        let context = self.context()?;
        if self.is_capturing() {
            return capture::add(self, op);
        }
        capture::refuse_legacy(&context, self)?;
        self.enqueue(&context, op);
        Ok(())
    }

    /// Submits, and returns once the operation is done.
    pub fn submit_and_wait(self: &Arc<Self>, op: Op) -> Outcome {
        let context = self.context()?;
        if self.is_capturing() {
            return capture::add(self, op);
        }
        capture::refuse_legacy(&context, self)?;
        let point = self.enqueue(&context, op);
        point.hurry();
        point.wait();
        context.healthy()
    }

    /// Submits past any capture.
    pub fn enqueue(self: &Arc<Self>, context: &Context, op: Op) -> Point {
        // The null stream and the blocking ones wait for each other.
        if self.kind == Kind::Legacy {
            for other in context.streams() {
                if other.kind != Kind::Legacy && other.is_blocking() {
                    self.wait_for(other.point());
                }
            }
        } else if self.is_blocking() {
            self.wait_for(context.legacy.point());
        }
        self.push(op)
    }

    fn wait_for(self: &Arc<Self>, point: Point) {
        if !point.is_reached() {
            self.push(Op::Wait(point));
        }
    }

    fn push(self: &Arc<Self>, op: Op) -> Point {
        let mut queue = self.lock();
        while queue.waiting.len() >= DEPTH {
            queue.hurried = queue.submitted;
            self.changed.notify_all();
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.submitted += 1;
        let ticket = queue.submitted;
        if queue.completed + 1 == ticket {
            queue.due = Some(Instant::now() + self.lag(ticket));
        }
        queue.waiting.push_back((ticket, op));
        if !queue.has_thread {
            let stream = self.clone();
            let name = format!("cuda-sim stream {}", self.id);
            if std::thread::Builder::new().name(name).spawn(move || stream.work()).is_ok() {
                queue.has_thread = true;
            } else {
                // No thread to be had: behave like a stream that is never behind.
                drop(queue);
                self.run_queue();
                return Point { stream: self.clone(), ticket };
            }
        }
        self.changed.notify_all();
        Point { stream: self.clone(), ticket }
    }

    /// How long this operation dawdles: half to all of the setting, drawn from the seed.
    fn lag(&self, ticket: u64) -> Duration {
        let Ok(driver) = driver() else { return Duration::ZERO };
        let mut x = driver.settings.options.seed ^ (self.id << 32) ^ ticket;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = (x >> 40) as f64 / (1u64 << 24) as f64;
        driver.settings.lag.mul_f64(0.5 + 0.5 * fraction)
    }

    /// The stream's thread.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let wait = match queue.waiting.front() {
                None if queue.closing => {
                    queue.has_thread = false;
                    return;
                }
                None => None,
                Some((ticket, _)) => match queue.due {
                    Some(due) if due > now && queue.hurried < *ticket => Some(due - now),
                    _ => Some(Duration::ZERO),
                },
            };
            queue = match wait {
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let (ticket, op) = queue.waiting.pop_front().unwrap_or((0, Op::Nothing));
                    drop(queue);
                    self.run(ticket, op)
                }
                Some(time) => self.changed.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn run_queue(&self) {
        let mut queue = self.lock();
        while let Some((ticket, op)) = queue.waiting.pop_front() {
            drop(queue);
            queue = self.run(ticket, op);
        }
    }

    fn run(&self, ticket: u64, op: Op) -> MutexGuard<'_, Queue> {
        if let Some(context) = self.context.upgrade() {
            op.run(&context);
        }
        drop(op); // before anybody learns that it is done: it may hold the last reference to a module
        let mut queue = self.lock();
        queue.completed = ticket;
        queue.due = None;
        self.changed.notify_all();
        queue
    }

    /// Lets the thread end once the queue is empty.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closing = true;
        queue.hurried = queue.submitted;
        self.changed.notify_all();
    }

    /// Closed, with nothing left to do.
    pub fn is_over(&self) -> bool {
        let queue = self.lock();
        queue.closing && queue.completed == queue.submitted
    }
}

thread_local! {
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// The thread runs a host function, from which no call of the driver is allowed.
pub fn in_host_function() -> bool {
    IN_HOST_FUNCTION.get()
}

pub fn as_host_function(run: impl FnOnce()) {
    IN_HOST_FUNCTION.set(true);
    run();
    IN_HOST_FUNCTION.set(false);
}

/// Forgets the streams of a context that is destroyed.
pub fn forget(context: &Context) {
    STREAMS.remove_where(|stream| stream.belongs_to(context));
}

/// The stream of a handle, special ones included.
///
/// # Errors
/// No such stream; its context is lost.
pub fn resolve(handle: CUstream) -> Outcome<Arc<Stream>> {
    match handle.raw() {
        0 | LEGACY => Ok(current()?.legacy.clone()),
        PER_THREAD => Ok(current()?.per_thread_stream()),
        _ => {
            let stream = STREAMS.get(handle)?;
            stream.context()?;
            Ok(stream)
        }
    }
}

// --- The C functions ------------------------------------------------------------------------------------------------

fn create(stream: Out<CUstream>, flags: c_uint, priority: c_int) -> Outcome {
    if flags & !NON_BLOCKING != 0 {
        return fail(CUresult::INVALID_VALUE, format!("unknown stream flags {flags:#x}"));
    }
    let context = current()?;
    let priority = priority.clamp(PRIORITIES.1, PRIORITIES.0);
    let made = Stream::new(Arc::downgrade(&context), Kind::Created, flags, priority);
    context.add_stream(made.clone());
    stream.put(STREAMS.insert(made))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(stream: Out<CUstream>, flags: c_uint) -> CUresult {
    call("cuStreamCreate", || create(stream, flags, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreateWithPriority(stream: Out<CUstream>, flags: c_uint, priority: c_int) -> CUresult {
    call("cuStreamCreateWithPriority", || create(stream, flags, priority))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: CUstream) -> CUresult {
    call("cuStreamDestroy", || {
        if matches!(stream.raw(), 0 | LEGACY | PER_THREAD) {
            return fail(CUresult::INVALID_HANDLE, "a default stream cannot be destroyed");
        }
        let removed = STREAMS.remove(stream)?;
        capture::abandon(&removed);
        removed.close(); // what is queued still runs
        removed.context().map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: CUstream) -> CUresult {
    call("cuStreamSynchronize", || {
        let stream = resolve(stream)?;
        let context = stream.context()?;
        capture::refuse_wait(&context, &stream)?;
        if stream.kind == Kind::Legacy {
            return context_of_legacy(&context);
        }
        let point = stream.point();
        point.hurry();
        point.wait();
        context.healthy()
    })
}

/// The null stream is done when all blocking streams are.
fn context_of_legacy(context: &Context) -> Outcome {
    for stream in context.streams().iter().filter(|stream| stream.is_blocking()) {
        let point = stream.point();
        point.hurry();
        point.wait();
    }
    context.healthy()
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: CUstream) -> CUresult {
    call("cuStreamQuery", || {
        let stream = resolve(stream)?;
        let context = stream.context()?;
        capture::refuse_wait(&context, &stream)?;
        let point = stream.point();
        point.hurry();
        if point.is_reached() { context.healthy() } else { Err(CUresult::NOT_READY.into()) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc(stream: CUstream, function: HostFunction, data: *mut c_void) -> CUresult {
    call("cuLaunchHostFunc", || {
        let Some(function) = function else { return fail(CUresult::INVALID_VALUE, "the function is null") };
        resolve(stream)?.submit(Op::Host(HostCall { function, data: HostPtr::from(data).0 }))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamAddCallback(
    stream: CUstream,
    function: Option<unsafe extern "C" fn(usize, CUresult, *mut c_void)>,
    data: *mut c_void,
    flags: c_uint,
) -> CUresult {
    call("cuStreamAddCallback", || {
        let Some(function) = function else { return fail(CUresult::INVALID_VALUE, "the function is null") };
        if flags != 0 {
            return fail(CUresult::INVALID_VALUE, "flags must be 0");
        }
        let found = resolve(stream)?;
        if found.is_capturing() {
            capture::invalidate(&found);
            return fail(CUresult::STREAM_CAPTURE_UNSUPPORTED, "callbacks cannot be captured");
        }
        found.submit(Op::Callback(Callback { function, stream: stream.raw(), data: HostPtr::from(data).0 }))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetPriority(stream: CUstream, priority: Out<c_int>) -> CUresult {
    call("cuStreamGetPriority", || priority.put(resolve(stream)?.priority))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetFlags(stream: CUstream, flags: Out<c_uint>) -> CUresult {
    call("cuStreamGetFlags", || flags.put(resolve(stream)?.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetId(stream: CUstream, id: Out<c_ulonglong>) -> CUresult {
    call("cuStreamGetId", || id.put(resolve(stream)?.id))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetDevice(stream: CUstream, device: Out<c_int>) -> CUresult {
    call("cuStreamGetDevice", || resolve(stream).and_then(|_| device.put(0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCtx(stream: CUstream, context: Out<CUcontext>) -> CUresult {
    call("cuStreamGetCtx", || context.put(resolve(stream)?.context()?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCopyAttributes(to: CUstream, from: CUstream) -> CUresult {
    // Attributes are hints (access policy, synchronisation policy, priority) that change nothing here.
    call("cuStreamCopyAttributes", || resolve(to).and_then(|_| resolve(from)).map(drop))
}

/// Stream attributes are hints here as on launches: access policy, synchronisation policy, priority, memory domains.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSetAttribute(stream: CUstream, attribute: c_int, value: HostPtr) -> CUresult {
    call("cuStreamSetAttribute", || {
        resolve(stream)?;
        match attribute {
            1 | 3 | 8 | 9 | 10 if !value.is_null() => Ok(()),
            _ => fail(CUresult::INVALID_VALUE, format!("stream attribute {attribute}")),
        }
    })
}
