//! Events: moments in a stream's work, for the host, for other streams and for time.

use std::ffi::c_uint;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use super::capture::{self, Tail};
use super::context::{Context, current};
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::Out;
use super::handles::{Handle, Table};
use super::stream::{CUstream, Point, resolve};
use super::work::Op;

pub type CUevent = Handle<Event>;

static EVENTS: Table<Event> = Table::new("event");

const BLOCKING_SYNC: c_uint = 1;
const DISABLE_TIMING: c_uint = 2;
const INTERPROCESS: c_uint = 4;
/// `CU_EVENT_RECORD_EXTERNAL` and `CU_EVENT_WAIT_EXTERNAL`: a node of the graph instead of a dependency in it.
const EXTERNAL: c_uint = 1;

pub struct Event {
    context: Weak<Context>,
    flags: c_uint,
    /// The latest record.
    state: Mutex<State>,
}

#[derive(Clone)]
enum State {
    Never,
    Recorded(Arc<Recording>, Point),
    /// Recorded in a capture: a set of its nodes, and no moment at all.
    Captured(Tail),
    /// Recorded by a node of a graph that was launched or not.
    InGraph(Arc<Recording>),
}

/// When a record was reached.
#[derive(Default)]
pub struct Recording {
    at: OnceLock<Instant>,
    /// Graphs record again at each launch.
    again: Mutex<Option<Instant>>,
}

impl Recording {
    pub fn stamp(&self) {
        let now = Instant::now();
        if self.at.set(now).is_err() {
            *self.again.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
    }

    fn time(&self) -> Option<Instant> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner).or(self.at.get().copied())
    }
}

impl Event {
    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn context(&self) -> Outcome<Arc<Context>> {
        let Some(context) = self.context.upgrade() else {
            return fail(CUresult::CONTEXT_IS_DESTROYED, "the event's context was destroyed");
        };
        context.healthy()?;
        Ok(context)
    }

    /// Whether the record was reached; also for events that were never recorded.
    fn is_reached(&self) -> Outcome<bool> {
        match self.state() {
            State::Never => Ok(true),
            State::Recorded(_, point) => {
                point.hurry();
                Ok(point.is_reached())
            }
            State::Captured(_) => fail(CUresult::CAPTURED_EVENT, "the event was last recorded in a capturing stream"),
            State::InGraph(recording) => Ok(recording.time().is_some()),
        }
    }
}

pub fn forget(context: &Context) {
    EVENTS.remove_where(|event| std::ptr::eq(event.context.as_ptr(), context));
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(event: Out<CUevent>, flags: c_uint) -> CUresult {
    call("cuEventCreate", || {
        let context = current()?;
        if flags & !(BLOCKING_SYNC | DISABLE_TIMING | INTERPROCESS) != 0 {
            return fail(CUresult::INVALID_VALUE, format!("unknown event flags {flags:#x}"));
        }
        if flags & INTERPROCESS != 0 {
            return not_modelled("events between processes");
        }
        let state = Mutex::new(State::Never);
        event.put(EVENTS.insert(Arc::new(Event { context: Arc::downgrade(&context), flags, state })))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    call("cuEventDestroy", || EVENTS.remove(event).and_then(|event| event.context().map(drop)))
}

fn record(event: CUevent, stream: CUstream, flags: c_uint) -> Outcome {
    let event = EVENTS.get(event)?;
    let stream = resolve(stream)?;
    let context = stream.context()?;
    if !std::ptr::eq(event.context.as_ptr(), &*context) {
        return fail(CUresult::INVALID_HANDLE, "event and stream are of different contexts");
    }
    if flags & !EXTERNAL != 0 {
        return fail(CUresult::INVALID_VALUE, format!("unknown record flags {flags:#x}"));
    }
    if stream.is_capturing() {
        if flags & EXTERNAL != 0 {
            let recording = Arc::new(Recording::default());
            capture::add(&stream, Op::Record(recording.clone()))?;
            event.set(State::InGraph(recording));
        } else {
            event.set(State::Captured(capture::tail(&stream)?));
        }
        return Ok(());
    }
    if flags & EXTERNAL != 0 {
        return fail(CUresult::INVALID_VALUE, "CU_EVENT_RECORD_EXTERNAL outside a capture");
    }
    capture::refuse_legacy(&context, &stream)?;
    let recording = Arc::new(Recording::default());
    let point = stream.enqueue(&context, Op::Record(recording.clone()));
    event.set(State::Recorded(recording, point));
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult {
    call("cuEventRecord", || record(event, stream, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecordWithFlags(event: CUevent, stream: CUstream, flags: c_uint) -> CUresult {
    call("cuEventRecordWithFlags", || record(event, stream, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) -> CUresult {
    call("cuStreamWaitEvent", || {
        let event = EVENTS.get(event)?;
        let stream = resolve(stream)?;
        if flags & !EXTERNAL != 0 {
            return fail(CUresult::INVALID_VALUE, format!("unknown wait flags {flags:#x}"));
        }
        if flags & EXTERNAL != 0 {
            return not_modelled("CU_EVENT_WAIT_EXTERNAL");
        }
        match event.state() {
            State::Captured(tail) => capture::join(&stream, &tail),
            _ if stream.is_capturing() => {
                capture::invalidate(&stream);
                let text = "a capturing stream cannot wait for an event recorded outside the capture";
                fail(CUresult::STREAM_CAPTURE_ISOLATION, text)
            }
            State::Recorded(_, point) => stream.submit(Op::Wait(point)),
            State::Never | State::InGraph(_) => stream.context().map(drop),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: CUevent) -> CUresult {
    call("cuEventQuery", || {
        let event = EVENTS.get(event)?;
        let context = event.context()?;
        capture::refuse_unsafe(&context)?;
        if event.is_reached()? { context.healthy() } else { Err(CUresult::NOT_READY.into()) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: CUevent) -> CUresult {
    call("cuEventSynchronize", || {
        let event = EVENTS.get(event)?;
        let context = event.context()?;
        capture::refuse_unsafe(&context)?;
        match event.state() {
            State::Recorded(_, point) => {
                point.hurry();
                point.wait();
            }
            State::Captured(_) => {
                return fail(CUresult::CAPTURED_EVENT, "the event was last recorded in a capturing stream");
            }
            State::Never | State::InGraph(_) => {}
        }
        context.healthy()
    })
}

fn elapsed(milliseconds: Out<f32>, start: CUevent, end: CUevent) -> Outcome {
    let (start, end) = (EVENTS.get(start)?, EVENTS.get(end)?);
    start.context()?;
    if (start.flags | end.flags) & DISABLE_TIMING != 0 {
        return fail(CUresult::INVALID_HANDLE, "an event was created with CU_EVENT_DISABLE_TIMING");
    }
    let mut times = [None; 2];
    for (event, time) in [&start, &end].into_iter().zip(&mut times) {
        *time = match event.state() {
            State::Never => return fail(CUresult::INVALID_HANDLE, "an event was never recorded"),
            State::Captured(_) => return fail(CUresult::CAPTURED_EVENT, "an event was last recorded in a capture"),
            State::Recorded(recording, _) | State::InGraph(recording) => recording.time(),
        };
    }
    let [Some(from), Some(to)] = times else { return Err(CUresult::NOT_READY.into()) };
    let forward = to.saturating_duration_since(from).as_secs_f64();
    let backward = from.saturating_duration_since(to).as_secs_f64();
    milliseconds.put(((forward - backward) * 1e3) as f32)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(milliseconds: Out<f32>, start: CUevent, end: CUevent) -> CUresult {
    call("cuEventElapsedTime", || elapsed(milliseconds, start, end))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: CUevent, end: CUevent) -> CUresult {
    call("cuEventElapsedTime_v2", || elapsed(milliseconds, start, end))
}
