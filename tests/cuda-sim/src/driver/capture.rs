//! Stream capture: calls become nodes of a graph; what the real driver forbids meanwhile is forbidden.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use super::context::{Context, current_any};
use super::errors::{CUresult, Outcome, call, fail};
use super::ffi::{In, Out};
use super::graph::{CUgraph, CUgraphNode, GRAPHS, Graph};
use super::stream::{CUstream, Kind, Stream, resolve};
use super::work::Op;

/// `CUstreamCaptureMode`.
pub const GLOBAL: c_int = 0;
pub const THREAD_LOCAL: c_int = 1;
pub const RELAXED: c_int = 2;

/// `CUstreamCaptureStatus`.
const STATUS_NONE: c_int = 0;
const STATUS_ACTIVE: c_int = 1;
const STATUS_INVALIDATED: c_int = 2;

pub struct Capture {
    id: u64,
    mode: c_int,
    thread: ThreadId,
    origin: Weak<Stream>,
    graph: CUgraph,
    invalid: AtomicBool,
    /// Streams that take part, the origin included.
    streams: Mutex<Vec<Weak<Stream>>>,
    /// Nodes that this capture added.
    added: Mutex<BTreeSet<usize>>,
}

/// A stream's place in a capture: the nodes that its next one depends on.
#[derive(Clone)]
pub struct Tail {
    pub capture: Arc<Capture>,
    pub nodes: BTreeSet<usize>,
}

thread_local! {
    /// `cuThreadExchangeStreamCaptureMode`.
    static MODE: Cell<c_int> = const { Cell::new(GLOBAL) };
}

impl Capture {
    fn is_invalid(&self) -> bool {
        self.invalid.load(Ordering::Acquire)
    }

    fn invalidate(&self) {
        self.invalid.store(true, Ordering::Release);
    }

    fn healthy(&self) -> Outcome {
        if self.is_invalid() {
            return fail(CUresult::STREAM_CAPTURE_INVALIDATED, "an earlier error ended the capture");
        }
        Ok(())
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().filter_map(Weak::upgrade).collect()
    }

    /// All of its streams leave it.
    fn end(self: &Arc<Self>, context: &Context) {
        for stream in self.streams() {
            let mut tail = lock(&stream);
            if tail.as_ref().is_some_and(|tail| Arc::ptr_eq(&tail.capture, self)) {
                *tail = None;
            }
        }
        ongoing(context).retain(|capture| !Arc::ptr_eq(capture, self));
    }
}

fn lock(stream: &Stream) -> MutexGuard<'_, Option<Tail>> {
    stream.capture.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ongoing(context: &Context) -> MutexGuard<'_, Vec<Arc<Capture>>> {
    context.captures.lock().unwrap_or_else(PoisonError::into_inner)
}

// --- What a capture forbids -----------------------------------------------------------------------------------------

/// For calls that may wait or synchronise behind the program's back (`cuMemAlloc`, `cuEventQuery`, …): forbidden by a
/// capture of this thread unless it is relaxed, and by any thread's global one; a forbidden call ends those captures.
pub fn refuse_unsafe(context: &Context) -> Outcome {
    let mode = MODE.get();
    if mode == RELAXED {
        return Ok(());
    }
    let here = std::thread::current().id();
    let captures = ongoing(context);
    let hit: Vec<_> = captures
        .iter()
        .filter(|c| match c.mode {
            RELAXED => false,
            _ if c.thread == here => true,
            other => other == GLOBAL && mode == GLOBAL,
        })
        .collect();
    if hit.is_empty() {
        return Ok(());
    }
    hit.iter().for_each(|capture| capture.invalidate());
    fail(CUresult::STREAM_CAPTURE_UNSUPPORTED, "a stream is being captured")
}

/// For waits for the whole context.
pub fn refuse_synchronization(context: &Context) -> Outcome {
    let captures = ongoing(context);
    if captures.is_empty() {
        return Ok(());
    }
    captures.iter().for_each(|capture| capture.invalidate());
    fail(CUresult::STREAM_CAPTURE_UNSUPPORTED, "a stream is being captured")
}

/// For waits and queries of one stream.
pub fn refuse_wait(context: &Context, stream: &Arc<Stream>) -> Outcome {
    if stream.is_capturing() {
        invalidate(stream);
        return fail(CUresult::STREAM_CAPTURE_UNSUPPORTED, "the stream is being captured");
    }
    refuse_legacy(context, stream)?;
    refuse_unsafe(context)
}

/// For work in the null stream: it would wait for blocking streams, which a capture cannot express.
pub fn refuse_legacy(context: &Context, stream: &Stream) -> Outcome {
    if stream.kind != Kind::Legacy {
        return Ok(());
    }
    let blocking = |capture: &&Arc<Capture>| capture.streams().iter().any(|s| s.is_blocking() && s.is_capturing());
    let captures = ongoing(context);
    let Some(capture) = captures.iter().find(blocking) else { return Ok(()) };
    capture.invalidate();
    fail(CUresult::STREAM_CAPTURE_IMPLICIT, "the null stream waits for a blocking stream that is being captured")
}

/// The stream's capture can only be ended, with an error.
pub fn invalidate(stream: &Stream) {
    if let Some(tail) = &*lock(stream) {
        tail.capture.invalidate();
    }
}

/// The stream is destroyed.
pub fn abandon(stream: &Arc<Stream>) {
    let tail = lock(stream).take();
    if let Some(tail) = tail {
        tail.capture.invalidate();
        if let Ok(context) = stream.context()
            && tail.capture.origin.upgrade().is_none_or(|origin| Arc::ptr_eq(&origin, stream))
        {
            tail.capture.end(&context);
        }
    }
}

// --- What a capture records -----------------------------------------------------------------------------------------

/// Adds a node to the stream's capture.
pub fn add(stream: &Stream, op: Op) -> Outcome {
    let mut place = lock(stream);
    let Some(tail) = &mut *place else { return fail(CUresult::ILLEGAL_STATE, "the stream is not being captured") };
    tail.capture.healthy()?;
    let graph = GRAPHS.get(tail.capture.graph)?;
    let node = graph.add(op, tail.nodes.iter().copied())?;
    tail.capture.added.lock().unwrap_or_else(PoisonError::into_inner).insert(node.raw());
    tail.nodes = BTreeSet::from([node.raw()]);
    Ok(())
}

/// Where the stream's capture stands: what an event recorded in it means.
pub fn tail(stream: &Stream) -> Outcome<Tail> {
    let place = lock(stream);
    let Some(tail) = &*place else { return fail(CUresult::ILLEGAL_STATE, "the stream is not being captured") };
    tail.capture.healthy()?;
    Ok(tail.clone())
}

/// The stream waits for an event of a capture, and so joins it.
pub fn join(stream: &Arc<Stream>, event: &Tail) -> Outcome {
    let context = stream.context()?;
    if !ongoing(&context).iter().any(|capture| Arc::ptr_eq(capture, &event.capture)) {
        return fail(CUresult::CAPTURED_EVENT, "the event was recorded in a capture that has ended");
    }
    event.capture.healthy()?;
    if stream.kind == Kind::Legacy {
        event.capture.invalidate();
        return fail(CUresult::STREAM_CAPTURE_IMPLICIT, "the null stream cannot take part in a capture");
    }
    let mut place = lock(stream);
    match &mut *place {
        Some(tail) if Arc::ptr_eq(&tail.capture, &event.capture) => tail.nodes.extend(&event.nodes),
        Some(tail) => {
            tail.capture.invalidate();
            event.capture.invalidate();
            return fail(CUresult::STREAM_CAPTURE_MERGE, "stream and event belong to different captures");
        }
        None => {
            *place = Some(event.clone());
            event.capture.streams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(stream));
        }
    }
    Ok(())
}

fn begin(stream: CUstream, mode: c_int, graph: Option<(CUgraph, BTreeSet<usize>)>) -> Outcome {
    static IDS: AtomicU64 = AtomicU64::new(1);
    let stream = resolve(stream)?;
    let context = stream.context()?;
    if !(GLOBAL..=RELAXED).contains(&mode) {
        return fail(CUresult::INVALID_VALUE, format!("capture mode {mode}"));
    }
    if stream.kind == Kind::Legacy {
        return fail(CUresult::STREAM_CAPTURE_UNSUPPORTED, "the null stream cannot be captured");
    }
    if stream.is_capturing() {
        return fail(CUresult::ILLEGAL_STATE, "the stream is being captured already");
    }
    let (graph, nodes) = graph.unwrap_or_else(|| (Graph::create(&context), BTreeSet::new()));
    let capture = Arc::new(Capture {
        id: IDS.fetch_add(1, Ordering::Relaxed),
        mode,
        thread: std::thread::current().id(),
        origin: Arc::downgrade(&stream),
        graph,
        invalid: AtomicBool::new(false),
        streams: Mutex::new(vec![Arc::downgrade(&stream)]),
        added: Mutex::default(),
    });
    ongoing(&context).push(capture.clone());
    *lock(&stream) = Some(Tail { capture, nodes });
    Ok(())
}

/// # Errors
/// The capture must not end here, was not joined, or failed before: then there is no graph.
fn end(stream: CUstream) -> Outcome<CUgraph> {
    let stream = resolve(stream)?;
    let context = stream.context()?;
    let Some(tail) = lock(&stream).clone() else {
        return fail(CUresult::ILLEGAL_STATE, "the stream is not being captured");
    };
    let capture = &tail.capture;
    if capture.origin.upgrade().is_none_or(|origin| !Arc::ptr_eq(&origin, &stream)) {
        capture.invalidate();
        return fail(CUresult::STREAM_CAPTURE_UNMATCHED, "the capture began in another stream");
    }
    if capture.mode != RELAXED && capture.thread != std::thread::current().id() {
        return fail(CUresult::STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread");
    }
    capture.end(&context);
    let unjoined = || -> Outcome<usize> {
        let reached = GRAPHS.get(capture.graph)?.ancestors(&tail.nodes);
        let added = capture.added.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(added.difference(&reached).count())
    };
    let failed = match capture.healthy() {
        Err(error) => Some(error),
        Ok(()) => match unjoined()? {
            0 => None,
            n => {
                let text = format!("{n} nodes of other streams were not joined to the one that began the capture");
                fail::<()>(CUresult::STREAM_CAPTURE_UNJOINED, text).err()
            }
        },
    };
    match failed {
        None => Ok(capture.graph),
        Some(error) => {
            Graph::destroy(capture.graph)?;
            Err(error)
        }
    }
}

// --- The C functions ------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: CUstream, mode: c_int) -> CUresult {
    call("cuStreamBeginCapture", || begin(stream, mode, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCaptureToGraph(
    stream: CUstream,
    graph: CUgraph,
    dependencies: In<CUgraphNode>,
    _edges: In<[u8; 8]>,
    count: usize,
    mode: c_int,
) -> CUresult {
    call("cuStreamBeginCaptureToGraph", || {
        GRAPHS.get(graph)?;
        // SAFETY: the API asks for an array of `count` nodes.
        let nodes = unsafe { dependencies.slice(count)? }.iter().map(|node| node.raw()).collect();
        begin(stream, mode, Some((graph, nodes)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(stream: CUstream, graph: Out<CUgraph>) -> CUresult {
    call("cuStreamEndCapture", || match end(stream) {
        Ok(captured) => graph.put(captured),
        Err(error) => {
            graph.put_if_wanted(CUgraph::NULL);
            Err(error)
        }
    })
}

fn status(tail: Option<&Tail>) -> c_int {
    match tail {
        None => STATUS_NONE,
        Some(tail) if tail.capture.is_invalid() => STATUS_INVALIDATED,
        Some(_) => STATUS_ACTIVE,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(stream: CUstream, state: Out<c_int>) -> CUresult {
    call("cuStreamIsCapturing", || {
        let stream = resolve(stream)?;
        refuse_legacy(&*stream.context()?, &stream)?;
        let tail = lock(&stream).clone();
        state.put(status(tail.as_ref()))
    })
}

thread_local! {
    /// What `cuStreamGetCaptureInfo` points to, until the thread asks again.
    static DEPENDENCIES: Cell<Vec<CUgraphNode>> = const { Cell::new(Vec::new()) };
}

fn info(
    stream: CUstream,
    state: Out<c_int>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    dependencies: Out<*const CUgraphNode>,
    count: Out<usize>,
) -> Outcome {
    let stream = resolve(stream)?;
    let tail = lock(&stream).clone();
    state.put(status(tail.as_ref()))?;
    let Some(tail) = tail.filter(|tail| !tail.capture.is_invalid()) else { return Ok(()) };
    id.put_if_wanted(tail.capture.id);
    graph.put_if_wanted(tail.capture.graph);
    let nodes: Vec<_> = tail.nodes.iter().map(|&node| CUgraphNode::from_raw(node)).collect();
    count.put_if_wanted(nodes.len());
    dependencies.put_if_wanted(nodes.as_ptr());
    DEPENDENCIES.set(nodes);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo_v2(
    stream: CUstream,
    state: Out<c_int>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    dependencies: Out<*const CUgraphNode>,
    count: Out<usize>,
) -> CUresult {
    call("cuStreamGetCaptureInfo_v2", || info(stream, state, id, graph, dependencies, count))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    state: Out<c_int>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    dependencies: Out<*const CUgraphNode>,
    edges: Out<*const u8>,
    count: Out<usize>,
) -> CUresult {
    call("cuStreamGetCaptureInfo_v3", || {
        edges.put_if_wanted(std::ptr::null()); // no edge carries data
        info(stream, state, id, graph, dependencies, count)
    })
}

fn update(stream: CUstream, nodes: In<CUgraphNode>, count: usize, flags: c_uint) -> Outcome {
    const SET: c_uint = 1;
    let stream = resolve(stream)?;
    // SAFETY: the API asks for an array of `count` nodes.
    let nodes = unsafe { nodes.slice(count)? };
    let mut place = lock(&stream);
    let Some(tail) = &mut *place else { return fail(CUresult::ILLEGAL_STATE, "the stream is not being captured") };
    tail.capture.healthy()?;
    let graph = GRAPHS.get(tail.capture.graph)?;
    for &node in nodes {
        graph.check_node(node)?;
    }
    if flags & SET != 0 {
        tail.nodes.clear();
    }
    tail.nodes.extend(nodes.iter().map(|node| node.raw()));
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamUpdateCaptureDependencies(
    stream: CUstream,
    nodes: In<CUgraphNode>,
    count: usize,
    flags: c_uint,
) -> CUresult {
    call("cuStreamUpdateCaptureDependencies", || update(stream, nodes, count, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamUpdateCaptureDependencies_v2(
    stream: CUstream,
    nodes: In<CUgraphNode>,
    _edges: In<[u8; 8]>,
    count: usize,
    flags: c_uint,
) -> CUresult {
    call("cuStreamUpdateCaptureDependencies_v2", || update(stream, nodes, count, flags))
}

/// # Safety
/// `mode` is null or an initialised `CUstreamCaptureMode`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuThreadExchangeStreamCaptureMode(mode: *mut c_int) -> CUresult {
    call("cuThreadExchangeStreamCaptureMode", || {
        current_any()
            .map(drop)
            .or_else(|error| if error.code == CUresult::INVALID_CONTEXT { Ok(()) } else { Err(error) })?;
        if mode.is_null() {
            return fail(CUresult::INVALID_VALUE, "mode is null");
        }
        // SAFETY: the caller vouches for it.
        let wanted = unsafe { mode.read() };
        if !(GLOBAL..=RELAXED).contains(&wanted) {
            return fail(CUresult::INVALID_VALUE, format!("capture mode {wanted}"));
        }
        // SAFETY: as above.
        unsafe { mode.write(MODE.replace(wanted)) };
        Ok(())
    })
}
