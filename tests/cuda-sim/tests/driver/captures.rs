//! Graphs by capture: what becomes a node, what is forbidden meanwhile, what can be changed later.

use std::ffi::c_void;
use std::sync::Mutex;

use cuda_sim::driver::capture::{
    GLOBAL, RELAXED, THREAD_LOCAL, cuStreamBeginCapture_v2, cuStreamEndCapture, cuStreamGetCaptureInfo_v2,
    cuStreamIsCapturing, cuThreadExchangeStreamCaptureMode,
};
use cuda_sim::driver::copy::cuMemcpyHtoDAsync_v2;
use cuda_sim::driver::errors::CUresult;
use cuda_sim::driver::event::{CUevent, cuEventCreate, cuEventQuery, cuEventRecord, cuStreamWaitEvent};
use cuda_sim::driver::ffi::{HostPtr, In, Out};
use cuda_sim::driver::fill::cuMemsetD32Async;
use cuda_sim::driver::graph::{
    CUgraph, CUgraphNode, cuGraphDestroy, cuGraphGetNodes, cuGraphGetRootNodes, cuGraphNodeGetType,
};
use cuda_sim::driver::graph_exec::{
    CUgraphExec, CUgraphExecUpdateResultInfo, cuGraphExecDestroy, cuGraphExecKernelNodeSetParams_v2,
    cuGraphExecMemsetNodeSetParams, cuGraphExecUpdate_v2, cuGraphInstantiateWithFlags, cuGraphLaunch,
};
use cuda_sim::driver::graph_node::{CUDA_MEMSET_NODE_PARAMS, cuGraphKernelNodeGetParams_v2};
use cuda_sim::driver::handles::Handle;
use cuda_sim::driver::memory::cuMemAlloc_v2;
use cuda_sim::driver::stream::{CUstream, cuLaunchHostFunc, cuStreamSynchronize};

use crate::support::{
    Arguments, Context, KERNELS, NULL_STREAM, OK, address, alloc, blocking_stream, download, function, launch, load,
    stream, synchronize, upload,
};

fn begin(stream: CUstream, mode: i32) {
    assert_eq!(cuStreamBeginCapture_v2(stream, mode), OK);
}

fn end(stream: CUstream) -> Result<CUgraph, CUresult> {
    let mut graph = Handle::from_raw(1);
    match cuStreamEndCapture(stream, Out::from(&mut graph)) {
        OK => Ok(graph),
        code => {
            assert!(graph.is_null());
            Err(code)
        }
    }
}

fn instantiate(graph: CUgraph) -> CUgraphExec {
    let mut exec = Handle::NULL;
    assert_eq!(cuGraphInstantiateWithFlags(Out::from(&mut exec), graph, 0), OK);
    exec
}

fn nodes(graph: CUgraph) -> Vec<CUgraphNode> {
    let mut count = 0;
    assert_eq!(cuGraphGetNodes(graph, Out::null(), Some(&mut count)), OK);
    let mut nodes = vec![Handle::NULL; count];
    if count > 0 {
        assert_eq!(cuGraphGetNodes(graph, Out::from(&mut nodes[0]), Some(&mut count)), OK);
    }
    nodes
}

fn event() -> CUevent {
    let mut event = Handle::NULL;
    assert_eq!(cuEventCreate(Out::from(&mut event), 2), OK);
    event
}

fn status(stream: CUstream) -> i32 {
    let mut status = 9;
    assert_eq!(cuStreamIsCapturing(stream, Out::from(&mut status)), OK);
    status
}

#[test]
fn captured_work_runs_at_each_launch_and_not_before() {
    let _context = Context::new();
    let (stream, pointer) = (stream(), upload(&[1, 2, 3, 4]));
    begin(stream, GLOBAL);
    assert_eq!(status(stream), 1);
    assert_eq!(cuMemsetD32Async(pointer, 7, 2, stream), OK);
    assert_eq!(cuMemsetD32Async(pointer + 4, 8, 1, stream), OK);
    let graph = end(stream).unwrap();
    assert_eq!(status(stream), 0);
    assert_eq!(nodes(graph).len(), 2);
    let mut roots = 0;
    assert_eq!(cuGraphGetRootNodes(graph, Out::null(), Some(&mut roots)), OK);
    assert_eq!(roots, 1); // the second follows the first
    assert_eq!(download(pointer, 4), [1, 2, 3, 4]);
    let exec = instantiate(graph);
    for _ in 0..3 {
        assert_eq!(cuMemsetD32Async(pointer, 0, 4, stream), OK);
        assert_eq!(cuGraphLaunch(exec, stream), OK);
        assert_eq!(cuStreamSynchronize(stream), OK);
        assert_eq!(download(pointer, 4), [7, 8, 0, 0]);
    }
    // The executable graph outlives the graph, and its own handle while it runs.
    assert_eq!(cuGraphDestroy(graph), OK);
    assert_eq!(cuMemsetD32Async(pointer, 0, 4, stream), OK);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    assert_eq!(cuGraphExecDestroy(exec), OK);
    assert_eq!(cuStreamSynchronize(stream), OK);
    assert_eq!(download(pointer, 4), [7, 8, 0, 0]);
    assert_eq!(cuGraphLaunch(exec, stream), CUresult::INVALID_HANDLE);
}

#[test]
fn copies_read_the_host_at_each_launch() {
    let _context = Context::new();
    let (stream, pointer) = (stream(), alloc(4));
    let mut source = [5u32];
    begin(stream, THREAD_LOCAL);
    assert_eq!(cuMemcpyHtoDAsync_v2(pointer, address(&source), 4, stream), OK);
    let exec = instantiate(end(stream).unwrap());
    for value in [6, 7] {
        source[0] = value;
        assert_eq!(cuGraphLaunch(exec, stream), OK);
        assert_eq!(cuStreamSynchronize(stream), OK);
        assert_eq!(download(pointer, 1), [value]);
    }
    assert_eq!(source, [7]);
}

#[test]
fn other_streams_join_by_events() {
    let _context = Context::new();
    let (a, b, pointer) = (stream(), stream(), upload(&[0, 0]));
    let (fork, join) = (event(), event());
    begin(a, GLOBAL);
    assert_eq!(cuEventRecord(fork, a), OK);
    assert_eq!(cuStreamWaitEvent(b, fork, 0), OK);
    assert_eq!(status(b), 1);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, a), OK);
    assert_eq!(cuMemsetD32Async(pointer + 4, 2, 1, b), OK);
    assert_eq!(cuEventRecord(join, b), OK);
    assert_eq!(cuStreamWaitEvent(a, join, 0), OK);
    assert_eq!(cuEventQuery(join), CUresult::STREAM_CAPTURE_UNSUPPORTED); // and that ends it
    assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    assert_eq!((status(a), status(b)), (0, 0));

    begin(a, GLOBAL);
    assert_eq!(cuEventRecord(fork, a), OK);
    assert_eq!(cuStreamWaitEvent(b, fork, 0), OK);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, a), OK);
    assert_eq!(cuMemsetD32Async(pointer + 4, 2, 1, b), OK);
    assert_eq!(cuEventRecord(join, b), OK);
    assert_eq!(cuStreamWaitEvent(a, join, 0), OK);
    let (mut state, mut id, mut graph, mut list, mut count) = (0, 0, Handle::NULL, std::ptr::null(), 0);
    let told = cuStreamGetCaptureInfo_v2(
        a,
        Out::from(&mut state),
        Out::from(&mut id),
        Out::from(&mut graph),
        Out::from(&mut list),
        Out::from(&mut count),
    );
    assert_eq!((told, state, count), (OK, 1, 2));
    let captured = end(a).unwrap();
    assert_eq!(captured, graph);
    let mut roots = 0;
    assert_eq!(cuGraphGetRootNodes(captured, Out::null(), Some(&mut roots)), OK);
    assert_eq!(roots, 2);
    assert_eq!(cuGraphLaunch(instantiate(captured), a), OK);
    assert_eq!(synchronize(), OK);
    assert_eq!(download(pointer, 2), [1, 2]);
}

#[test]
fn what_ends_a_capture() {
    let _context = Context::new();
    let (a, b, pointer) = (stream(), stream(), upload(&[0]));
    let outside = event();
    assert_eq!(cuEventRecord(outside, b), OK);
    let mut other = 0;
    // Waiting for the stream; allocating; an event from outside; the whole context; a fork that never joins.
    begin(a, GLOBAL);
    assert_eq!(cuStreamSynchronize(a), CUresult::STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(status(a), 2);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, a), CUresult::STREAM_CAPTURE_INVALIDATED);
    assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    begin(a, GLOBAL);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut other), 4), CUresult::STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    begin(a, RELAXED);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut other), 4), OK);
    assert_eq!(cuStreamWaitEvent(a, outside, 0), CUresult::STREAM_CAPTURE_ISOLATION);
    assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    begin(a, RELAXED);
    assert_eq!(synchronize(), CUresult::STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    begin(a, GLOBAL);
    let fork = event();
    assert_eq!(cuEventRecord(fork, a), OK);
    assert_eq!(cuStreamWaitEvent(b, fork, 0), OK);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, b), OK);
    assert_eq!(end(b), Err(CUresult::STREAM_CAPTURE_UNMATCHED));
    assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    begin(a, GLOBAL);
    assert_eq!(cuEventRecord(fork, a), OK);
    assert_eq!(cuStreamWaitEvent(b, fork, 0), OK);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, b), OK);
    assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_UNJOINED));
    assert_eq!(end(a), Err(CUresult::ILLEGAL_STATE));
    assert_eq!(cuStreamBeginCapture_v2(NULL_STREAM, GLOBAL), CUresult::STREAM_CAPTURE_UNSUPPORTED);
    // After all that the streams work.
    assert_eq!(cuMemsetD32Async(pointer, 3, 1, a), OK);
    assert_eq!(synchronize(), OK);
    assert_eq!(download(pointer, 1), [3]);
}

#[test]
fn null_stream_and_threads_during_a_capture() {
    let context = Context::new();
    let (a, blocking, pointer) = (stream(), blocking_stream(), upload(&[0]));
    begin(a, THREAD_LOCAL);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, NULL_STREAM), OK); // it does not wait for `a`
    let handle = context.0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use cuda_sim::driver::context::cuCtxSetCurrent;
            assert_eq!(cuCtxSetCurrent(handle), OK);
            let mut pointer = 0;
            assert_eq!(cuMemAlloc_v2(Out::from(&mut pointer), 4), OK); // another thread's business
            assert_eq!(end(a), Err(CUresult::STREAM_CAPTURE_WRONG_THREAD));
        });
    });
    assert!(end(a).is_ok());
    begin(blocking, THREAD_LOCAL);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, NULL_STREAM), CUresult::STREAM_CAPTURE_IMPLICIT);
    assert_eq!(end(blocking), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    // A thread may say that it knows what it does.
    begin(a, GLOBAL);
    let mut mode = RELAXED;
    // SAFETY: a mode.
    assert_eq!(unsafe { cuThreadExchangeStreamCaptureMode(&mut mode) }, OK);
    let mut other = 0;
    assert_eq!(cuMemAlloc_v2(Out::from(&mut other), 4), OK);
    // SAFETY: as above.
    assert_eq!(unsafe { cuThreadExchangeStreamCaptureMode(&mut mode) }, OK);
    assert_eq!(mode, RELAXED);
    assert!(end(a).is_ok());
}

unsafe extern "C" fn note(data: *mut c_void) {
    // SAFETY: the test passes its list and outlives the stream's work.
    let list = unsafe { &*data.cast::<Mutex<Vec<u32>>>() };
    let mut list = list.lock().unwrap();
    let next = list.len() as u32;
    list.push(next);
}

#[test]
fn host_functions_are_nodes() {
    let _context = Context::new();
    let (stream, list) = (stream(), Mutex::new(Vec::<u32>::new()));
    begin(stream, GLOBAL);
    assert_eq!(cuLaunchHostFunc(stream, Some(note), std::ptr::from_ref(&list).cast_mut().cast()), OK);
    let graph = end(stream).unwrap();
    let mut kind = 9;
    assert_eq!(cuGraphNodeGetType(nodes(graph)[0], Out::from(&mut kind)), OK);
    assert_eq!(kind, 3);
    assert!(list.lock().unwrap().is_empty());
    let exec = instantiate(graph);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    assert_eq!(synchronize(), OK);
    assert_eq!(*list.lock().unwrap(), [0, 1]);
}

/// Nodes without a path between them run in any order: a dependency that was forgotten shows within a few launches.
#[test]
fn unordered_nodes_run_in_every_order() {
    let _context = Context::new();
    let (a, b, pointer) = (stream(), stream(), upload(&[0]));
    let (fork, join) = (event(), event());
    begin(a, GLOBAL);
    assert_eq!(cuEventRecord(fork, a), OK);
    assert_eq!(cuStreamWaitEvent(b, fork, 0), OK);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, a), OK);
    assert_eq!(cuMemsetD32Async(pointer, 2, 1, b), OK);
    assert_eq!(cuEventRecord(join, b), OK);
    assert_eq!(cuStreamWaitEvent(a, join, 0), OK);
    let exec = instantiate(end(a).unwrap());
    let mut seen = [false; 3];
    for _ in 0..40 {
        assert_eq!(cuGraphLaunch(exec, a), OK);
        assert_eq!(cuStreamSynchronize(a), OK);
        seen[download(pointer, 1)[0] as usize] = true;
    }
    assert_eq!(seen, [false, true, true]);
}

#[test]
fn fills_of_an_executable_graph_change() {
    let _context = Context::new();
    let (stream, pointer) = (stream(), upload(&[0, 0]));
    begin(stream, GLOBAL);
    assert_eq!(cuMemsetD32Async(pointer, 1, 1, stream), OK);
    let graph = end(stream).unwrap();
    let exec = instantiate(graph);
    let params = CUDA_MEMSET_NODE_PARAMS { to: pointer + 4, pitch: 0, value: 9, element: 4, width: 1, height: 1 };
    let node = nodes(graph)[0];
    assert_eq!(cuGraphExecMemsetNodeSetParams(exec, node, In::from(&params), Handle::NULL), OK);
    assert_eq!(cuGraphLaunch(exec, stream), OK);
    assert_eq!(synchronize(), OK);
    assert_eq!(download(pointer, 2), [0, 9]);
}

/// Parameters are copied at the capture, and can be replaced: by node, or by a second capture of the same shape.
#[test]
fn kernel_nodes() {
    let _context = Context::new();
    let add = function(load(KERNELS), c"add");
    let (stream, pointer) = (stream(), upload(&[0; 8]));
    let capture = |count: u64, amounts: &[u64]| {
        begin(stream, GLOBAL);
        for &amount in amounts {
            assert_eq!(launch(add, 1, 32, 0, stream, &[pointer, count, amount]), OK);
        }
        end(stream).unwrap()
    };
    let graph = capture(8, &[5]);
    let exec = instantiate(graph);
    let run = || {
        assert_eq!(cuMemsetD32Async(pointer, 0, 8, stream), OK);
        assert_eq!(cuGraphLaunch(exec, stream), OK);
        assert_eq!(synchronize(), OK);
        download(pointer, 8)
    };
    assert_eq!(run(), [5; 8]);
    let node = nodes(graph)[0];
    let mut params = std::mem::MaybeUninit::uninit();
    // SAFETY: written whole by a successful call, and only read after one.
    let params = unsafe {
        assert_eq!(cuGraphKernelNodeGetParams_v2(node, Out::from(&mut *params.as_mut_ptr())), OK);
        params.assume_init()
    };
    assert_eq!((params.function, params.grid, params.block), (add, [1; 3], [32, 1, 1]));
    let arguments = Arguments::new(&[pointer, 4, 6]);
    let changed = cuda_sim::driver::graph_node::CUDA_KERNEL_NODE_PARAMS { each: arguments.pointer(), ..params };
    assert_eq!(cuGraphExecKernelNodeSetParams_v2(exec, node, In::from(&changed)), OK);
    assert_eq!(run(), [6, 6, 6, 6, 0, 0, 0, 0]);
    let mut info = CUgraphExecUpdateResultInfo { result: 9, error_node: Handle::NULL, error_from_node: Handle::NULL };
    assert_eq!(cuGraphExecUpdate_v2(exec, capture(2, &[7]), Out::from(&mut info)), OK);
    assert_eq!(info.result, 0);
    assert_eq!(run(), [7, 7, 0, 0, 0, 0, 0, 0]);
    let longer = cuGraphExecUpdate_v2(exec, capture(2, &[7, 8]), Out::from(&mut info));
    assert_eq!((longer, info.result), (CUresult::GRAPH_EXEC_UPDATE_FAILURE, 2));
    assert_eq!(run(), [7, 7, 0, 0, 0, 0, 0, 0]);
    assert_ne!(params.each, HostPtr::NULL);
}
