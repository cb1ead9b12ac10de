//! Instantiated graphs: launched as one operation, their nodes in a random order that respects the edges.

use std::ffi::{c_int, c_uint, c_ulonglong};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::capture;
use super::context::{CUcontext, Context};
use super::copy::{CUDA_MEMCPY3D, Place, Side};
use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{In, Out};
use super::graph::{CUgraph, CUgraphNode, GRAPHS};
use super::graph_node::{
    self, CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_MEMSET_NODE_PARAMS, launch_of, may_instantiate,
};
use super::handles::{Handle, Table};
use super::state::driver;
use super::stream::{CUstream, Point, resolve};
use super::work::Op;

pub type CUgraphExec = Handle<GraphExec>;

static EXECS: Table<GraphExec> = Table::new("executable graph");

/// A node with its place among the others.
#[derive(Clone)]
pub struct Step {
    pub node: CUgraphNode,
    pub op: Op,
    /// Steps that must be done before.
    pub after: Vec<usize>,
    pub enabled: bool,
}

#[derive(Clone)]
pub struct Program {
    steps: Vec<Step>,
}

pub struct GraphExec {
    flags: c_ulonglong,
    program: Mutex<Arc<Program>>,
    /// Its latest launch: the next one waits for it.
    last: Mutex<Option<Point>>,
}

impl Program {
    /// `None` where the edges form a cycle.
    pub fn new(steps: Vec<Step>) -> Option<Self> {
        let program = Self { steps };
        (program.order(0).len() == program.steps.len()).then_some(program)
    }

    /// An order of execution, drawn from the seed. Steps on a cycle are left out.
    fn order(&self, seed: u64) -> Vec<usize> {
        let mut left: Vec<usize> = self.steps.iter().map(|step| step.after.len()).collect();
        let mut then = vec![Vec::new(); self.steps.len()];
        for (i, step) in self.steps.iter().enumerate() {
            step.after.iter().for_each(|&before| then[before].push(i));
        }
        let mut ready: Vec<usize> = (0..self.steps.len()).filter(|&i| left[i] == 0).collect();
        let mut order = Vec::with_capacity(self.steps.len());
        let mut state = seed;
        while !ready.is_empty() {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let step = ready.swap_remove(((x ^ (x >> 31)) % ready.len() as u64) as usize);
            order.push(step);
            for &next in &then[step] {
                left[next] -= 1;
                if left[next] == 0 {
                    ready.push(next);
                }
            }
        }
        order
    }

    /// Runs all steps; what goes wrong is the context's to know.
    pub fn run(&self, context: &Context) {
        static LAUNCHES: AtomicU64 = AtomicU64::new(0);
        let seed = driver().map_or(0, |driver| driver.settings.options.seed);
        let launch = LAUNCHES.fetch_add(1, Ordering::Relaxed);
        for step in self.order(seed.rotate_left(32) ^ launch) {
            let step = &self.steps[step];
            if step.enabled {
                step.op.run(context);
            }
        }
    }

    fn step(&mut self, node: CUgraphNode) -> Outcome<&mut Step> {
        let step = self.steps.iter_mut().find(|step| step.node == node);
        step.map_or_else(|| fail(CUresult::INVALID_VALUE, format!("the graph had no node {node:?}")), Ok)
    }
}

impl GraphExec {
    fn program(&self) -> MutexGuard<'_, Arc<Program>> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the operation of one node; launches under way keep theirs.
    fn set(&self, node: CUgraphNode, change: impl FnOnce(&Op) -> Outcome<Op>) -> Outcome {
        let mut program = self.program();
        let step = Arc::make_mut(&mut program).step(node)?;
        let op = change(&step.op)?;
        if std::mem::discriminant(&op) != std::mem::discriminant(&step.op) {
            return fail(CUresult::INVALID_VALUE, "the node is of another kind");
        }
        if let (Op::Copy(old), Op::Copy(new)) = (&step.op, &op)
            && !same_ends(&old.from, &old.to, &new.from, &new.to)
        {
            return fail(CUresult::INVALID_VALUE, "the ends of a copy cannot change between host and device");
        }
        step.op = op;
        Ok(())
    }
}

fn same_ends(from: &Side, to: &Side, new_from: &Side, new_to: &Side) -> bool {
    let on_device = |side: &Side| matches!(side.place, Place::Device(_));
    on_device(from) == on_device(new_from) && on_device(to) == on_device(new_to)
}

// --- Instantiation and launch ---------------------------------------------------------------------------------------

const AUTO_FREE_ON_LAUNCH: c_ulonglong = 1;
const UPLOAD: c_ulonglong = 2;
const DEVICE_LAUNCH: c_ulonglong = 4;
const USE_NODE_PRIORITY: c_ulonglong = 8;

fn instantiate(exec: Out<CUgraphExec>, graph: CUgraph, flags: c_ulonglong) -> Outcome {
    may_instantiate()?;
    let graph = GRAPHS.get(graph)?;
    if flags & !(AUTO_FREE_ON_LAUNCH | UPLOAD | DEVICE_LAUNCH | USE_NODE_PRIORITY) != 0 {
        return fail(CUresult::INVALID_VALUE, format!("unknown instantiation flags {flags:#x}"));
    }
    if flags & DEVICE_LAUNCH != 0 {
        if flags & AUTO_FREE_ON_LAUNCH != 0 {
            return fail(CUresult::INVALID_VALUE, "DEVICE_LAUNCH and AUTO_FREE_ON_LAUNCH exclude each other");
        }
        return not_modelled("graphs launched from the device");
    }
    let program = Mutex::new(Arc::new(graph.program()?));
    exec.put(EXECS.insert(Arc::new(GraphExec { flags, program, last: Mutex::new(None) })))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(exec: Out<CUgraphExec>, graph: CUgraph, flags: c_ulonglong) -> CUresult {
    call("cuGraphInstantiateWithFlags", || instantiate(exec, graph, flags))
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
pub struct CUDA_GRAPH_INSTANTIATE_PARAMS {
    pub flags: c_ulonglong,
    pub upload_stream: CUstream,
    pub error_node: CUgraphNode,
    pub result: c_int,
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithParams(
    exec: Out<CUgraphExec>,
    graph: CUgraph,
    params: Option<&mut CUDA_GRAPH_INSTANTIATE_PARAMS>,
) -> CUresult {
    const ERROR: c_int = 1;
    call("cuGraphInstantiateWithParams", || {
        let Some(params) = params else { return fail(CUresult::INVALID_VALUE, "the parameters are null") };
        let made = instantiate(exec, graph, params.flags);
        params.error_node = Handle::NULL;
        params.result = if made.is_ok() { 0 } else { ERROR };
        made
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: CUgraphExec) -> CUresult {
    call("cuGraphExecDestroy", || EXECS.remove(exec).map(drop)) // a launch under way keeps its program
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecGetFlags(exec: CUgraphExec, flags: Out<c_ulonglong>) -> CUresult {
    call("cuGraphExecGetFlags", || flags.put(EXECS.get(exec)?.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(exec: CUgraphExec, stream: CUstream) -> CUresult {
    call("cuGraphUpload", || EXECS.get(exec).and_then(|_| resolve(stream)).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream) -> CUresult {
    call("cuGraphLaunch", || {
        let exec = EXECS.get(exec)?;
        let stream = resolve(stream)?;
        let context = stream.context()?;
        let op = Op::Graph(exec.program().clone());
        if stream.is_capturing() {
            return capture::add(&stream, op);
        }
        capture::refuse_legacy(&context, &stream)?;
        let mut last = exec.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(point) = last.take().filter(|point| !point.is_reached()) {
            stream.enqueue(&context, Op::Wait(point));
        }
        *last = Some(stream.enqueue(&context, op));
        Ok(())
    })
}

// --- Changes to what was instantiated -------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams_v2(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_KERNEL_NODE_PARAMS>,
) -> CUresult {
    call("cuGraphExecKernelNodeSetParams", || {
        let context = may_instantiate()?;
        let params = params.get()?;
        EXECS.get(exec)?.set(node, |op| graph_node::kernel(params, launch_of(op)?.shape.cluster, &context))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecMemcpyNodeSetParams(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_MEMCPY3D>,
    _context: CUcontext,
) -> CUresult {
    call("cuGraphExecMemcpyNodeSetParams", || {
        may_instantiate()?;
        let params = params.get()?;
        EXECS.get(exec)?.set(node, |_| graph_node::memcpy(params))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecMemsetNodeSetParams(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_MEMSET_NODE_PARAMS>,
    _context: CUcontext,
) -> CUresult {
    call("cuGraphExecMemsetNodeSetParams", || {
        let context = may_instantiate()?;
        let params = params.get()?;
        EXECS.get(exec)?.set(node, |_| graph_node::memset(params, &context))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecHostNodeSetParams(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_HOST_NODE_PARAMS>,
) -> CUresult {
    call("cuGraphExecHostNodeSetParams", || {
        let params = params.get()?;
        EXECS.get(exec)?.set(node, |_| graph_node::host(params))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: c_uint) -> CUresult {
    call("cuGraphNodeSetEnabled", || {
        let exec = EXECS.get(exec)?;
        let mut program = exec.program();
        let step = Arc::make_mut(&mut program).step(node)?;
        if !matches!(step.op, Op::Launch(_) | Op::Copy(_) | Op::Fill(_)) {
            return fail(CUresult::INVALID_VALUE, "only kernels, copies and fills can be disabled");
        }
        step.enabled = enabled != 0;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: Out<c_uint>) -> CUresult {
    call("cuGraphNodeGetEnabled", || {
        let exec = EXECS.get(exec)?;
        let on = Arc::make_mut(&mut exec.program()).step(node)?.enabled;
        enabled.put(on.into())
    })
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
pub struct CUgraphExecUpdateResultInfo {
    pub result: c_int,
    pub error_node: CUgraphNode,
    pub error_from_node: CUgraphNode,
}

/// Reasons of `CUgraphExecUpdateResult`.
const TOPOLOGY_CHANGED: c_int = 2;
const NODE_TYPE_CHANGED: c_int = 3;
const PARAMETERS_CHANGED: c_int = 5;

/// Why `new` cannot take the place of `old`.
fn difference(old: &Program, new: &Program) -> Option<(c_int, CUgraphNode)> {
    if old.steps.len() != new.steps.len() {
        return Some((TOPOLOGY_CHANGED, Handle::NULL));
    }
    for (was, is) in old.steps.iter().zip(&new.steps) {
        if was.after != is.after {
            return Some((TOPOLOGY_CHANGED, is.node));
        }
        match (&was.op, &is.op) {
            (Op::Copy(was), Op::Copy(copy)) if !same_ends(&was.from, &was.to, &copy.from, &copy.to) => {
                return Some((PARAMETERS_CHANGED, is.node));
            }
            (Op::Graph(was), Op::Graph(program)) => {
                if let Some(found) = difference(was, program) {
                    return Some(found);
                }
            }
            (was, op) if std::mem::discriminant(was) != std::mem::discriminant(op) => {
                return Some((NODE_TYPE_CHANGED, is.node));
            }
            _ => {}
        }
    }
    None
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecUpdate_v2(
    exec: CUgraphExec,
    graph: CUgraph,
    info: Out<CUgraphExecUpdateResultInfo>,
) -> CUresult {
    call("cuGraphExecUpdate", || {
        may_instantiate()?;
        let exec = EXECS.get(exec)?;
        let new = GRAPHS.get(graph)?.program()?;
        let mut program = exec.program();
        if let Some((result, error_node)) = difference(&program, &new) {
            info.put(CUgraphExecUpdateResultInfo { result, error_node, error_from_node: Handle::NULL })?;
            return fail(CUresult::GRAPH_EXEC_UPDATE_FAILURE, format!("CUgraphExecUpdateResult {result}"));
        }
        // The executable graph keeps the names of the nodes it was made from.
        for (step, new) in Arc::make_mut(&mut program).steps.iter_mut().zip(new.steps) {
            step.op = new.op;
        }
        info.put(CUgraphExecUpdateResultInfo { result: 0, error_node: Handle::NULL, error_from_node: Handle::NULL })
    })
}
