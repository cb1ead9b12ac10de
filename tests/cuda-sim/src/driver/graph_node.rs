//! What each kind of node does: added, read and changed by its parameters.

use std::ffi::c_uint;
use std::sync::{Arc, PoisonError};

use super::capture;
use super::context::{CUcontext, Context, current};
use super::copy::{CUDA_MEMCPY3D, Copy, check_range};
use super::errors::{CUresult, Outcome, call, fail};
use super::ffi::{DevicePtr, HostPtr, In, Out};
use super::fill::Fill;
use super::function::CUfunction;
use super::graph::{CUgraph, CUgraphNode, GRAPHS, NODES, Node};
use super::handles::Handle;
use super::launch::{Arguments, Launch, Shape};
use super::work::{HostCall, HostFunction, Op};

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUDA_KERNEL_NODE_PARAMS {
    pub function: CUfunction,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub dynamic_shared: c_uint,
    pub each: HostPtr,
    pub extra: HostPtr,
    /// Taken where `function` is null.
    pub kernel: CUfunction,
    pub context: CUcontext,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUDA_MEMSET_NODE_PARAMS {
    pub to: DevicePtr,
    pub pitch: usize,
    pub value: c_uint,
    pub element: c_uint,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUDA_HOST_NODE_PARAMS {
    pub function: HostFunction,
    pub data: HostPtr,
}

/// A kernel node; `cluster` is what the node had, for its parameters cannot say.
pub fn kernel(params: &CUDA_KERNEL_NODE_PARAMS, cluster: [u32; 3], context: &Context) -> Outcome<Op> {
    let handle = if params.function.is_null() { params.kernel } else { params.function };
    let shape = Shape { grid: params.grid, block: params.block, cluster, dynamic_shared: params.dynamic_shared };
    let arguments = Arguments { each: params.each, extra: params.extra };
    Ok(Op::Launch(Arc::new(Launch::new(handle, shape, arguments, &context.device.model)?)))
}

pub fn memcpy(params: &CUDA_MEMCPY3D) -> Outcome<Op> {
    let copy: Copy = params.copy("memcpy node")?;
    Ok(Op::Copy(Arc::new(copy)))
}

pub fn memset(params: &CUDA_MEMSET_NODE_PARAMS, context: &Context) -> Outcome<Op> {
    let &CUDA_MEMSET_NODE_PARAMS { to, pitch, value, element, width, height } = params;
    let element = element as usize;
    if !matches!(element, 1 | 2 | 4) || width == 0 || height == 0 {
        return fail(CUresult::INVALID_VALUE, format!("{height} rows of {width} elements of {element} bytes"));
    }
    check_range(context, to, width * element + pitch * (height - 1))?;
    let pattern = value.to_le_bytes();
    Ok(Op::Fill(Arc::new(Fill { call: "memset node", to, pattern, element, width, height, pitch })))
}

pub fn host(params: &CUDA_HOST_NODE_PARAMS) -> Outcome<Op> {
    match params.function {
        Some(function) => Ok(Op::Host(HostCall { function, data: params.data.0 })),
        None => fail(CUresult::INVALID_VALUE, "the function is null"),
    }
}

fn add(node: Out<CUgraphNode>, graph: CUgraph, after: In<CUgraphNode>, count: usize, op: Op) -> Outcome {
    // SAFETY: the API asks for an array of `count` nodes.
    let after = unsafe { after.slice(count)? };
    node.put(GRAPHS.get(graph)?.add(op, after.iter().map(|node| node.raw()))?)
}

// --- Adding ---------------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode_v2(
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    params: In<CUDA_KERNEL_NODE_PARAMS>,
) -> CUresult {
    call("cuGraphAddKernelNode", || {
        let op = kernel(params.get()?, [0; 3], &*current()?)?;
        add(node, graph, after, count, op)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemcpyNode(
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    params: In<CUDA_MEMCPY3D>,
    _context: CUcontext,
) -> CUresult {
    call("cuGraphAddMemcpyNode", || add(node, graph, after, count, memcpy(params.get()?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemsetNode(
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    params: In<CUDA_MEMSET_NODE_PARAMS>,
    _context: CUcontext,
) -> CUresult {
    call("cuGraphAddMemsetNode", || add(node, graph, after, count, memset(params.get()?, &*current()?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddHostNode(
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    params: In<CUDA_HOST_NODE_PARAMS>,
) -> CUresult {
    call("cuGraphAddHostNode", || add(node, graph, after, count, host(params.get()?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEmptyNode(
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
) -> CUresult {
    call("cuGraphAddEmptyNode", || add(node, graph, after, count, Op::Nothing))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddChildGraphNode(
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    child: CUgraph,
) -> CUresult {
    call("cuGraphAddChildGraphNode", || {
        let program = GRAPHS.get(child)?.program()?; // the child is copied as it is now
        add(node, graph, after, count, Op::Graph(Arc::new(program)))
    })
}

// --- Reading and changing kernel nodes ------------------------------------------------------------------------------

/// The launch of a kernel node.
pub fn launch_of(op: &Op) -> Outcome<Arc<Launch>> {
    match op {
        Op::Launch(launch) => Ok(launch.clone()),
        _ => fail(CUresult::INVALID_VALUE, "not a kernel node"),
    }
}

fn params_of(node: &Node) -> Outcome<CUDA_KERNEL_NODE_PARAMS> {
    let launch = launch_of(&node.op())?;
    let block = HostPtr::from(launch.params.as_ptr());
    let mut pointers = node.pointers.lock().unwrap_or_else(PoisonError::into_inner);
    *pointers = launch.function.kernel().params.iter().map(|param| block.offset(param.offset).0).collect();
    let Shape { grid, block, dynamic_shared, .. } = launch.shape;
    let each = if pointers.is_empty() { HostPtr::NULL } else { HostPtr::from(pointers.as_ptr()) };
    let context = Handle::NULL;
    let (function, kernel) = (launch.handle, Handle::NULL);
    Ok(CUDA_KERNEL_NODE_PARAMS { function, grid, block, dynamic_shared, each, extra: HostPtr::NULL, kernel, context })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeGetParams_v2(node: CUgraphNode, params: Out<CUDA_KERNEL_NODE_PARAMS>) -> CUresult {
    call("cuGraphKernelNodeGetParams", || params.put(params_of(&*NODES.get(node)?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeSetParams_v2(node: CUgraphNode, params: In<CUDA_KERNEL_NODE_PARAMS>) -> CUresult {
    call("cuGraphKernelNodeSetParams", || {
        let node = NODES.get(node)?;
        let before = launch_of(&node.op())?;
        node.set_op(kernel(params.get()?, before.shape.cluster, &*current()?)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemcpyNodeSetParams(node: CUgraphNode, params: In<CUDA_MEMCPY3D>) -> CUresult {
    call("cuGraphMemcpyNodeSetParams", || same_kind(node, memcpy(params.get()?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphMemsetNodeSetParams(node: CUgraphNode, params: In<CUDA_MEMSET_NODE_PARAMS>) -> CUresult {
    call("cuGraphMemsetNodeSetParams", || same_kind(node, memset(params.get()?, &*current()?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphHostNodeSetParams(node: CUgraphNode, params: In<CUDA_HOST_NODE_PARAMS>) -> CUresult {
    call("cuGraphHostNodeSetParams", || same_kind(node, host(params.get()?)?))
}

fn same_kind(node: CUgraphNode, op: Op) -> Outcome {
    let node = NODES.get(node)?;
    if std::mem::discriminant(&node.op()) != std::mem::discriminant(&op) {
        return fail(CUresult::INVALID_VALUE, "the node is of another kind");
    }
    node.set_op(op);
    Ok(())
}

/// Instantiation and updates count as unsafe calls while something is captured: they may allocate.
pub fn may_instantiate() -> Outcome<Arc<Context>> {
    let context = current()?;
    capture::refuse_unsafe(&context)?;
    Ok(context)
}
