//! Graphs before they are instantiated: nodes, and which come after which.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_int, c_uint};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::context::{Context, current};
use super::errors::{CUresult, Outcome, call, fail};
use super::ffi::{In, Out, Text};
use super::graph_exec::{Program, Step};
use super::handles::{Handle, Table};
use super::work::Op;

pub type CUgraph = Handle<Graph>;
pub type CUgraphNode = Handle<Node>;

pub(super) static GRAPHS: Table<Graph> = Table::new("graph");
pub(super) static NODES: Table<Node> = Table::new("graph node");

pub struct Graph {
    pub context: Weak<Context>,
    /// In order of addition.
    nodes: Mutex<Vec<Arc<Node>>>,
}

pub struct Node {
    pub handle: CUgraphNode,
    /// The node this one was cloned from.
    original: Option<CUgraphNode>,
    op: Mutex<Op>,
    /// Handles of the nodes it comes after.
    after: Mutex<BTreeSet<usize>>,
    /// Pointers to its parameters, for `cuGraphKernelNodeGetParams`.
    pub pointers: Mutex<Vec<usize>>,
}

impl Node {
    pub fn op(&self) -> Op {
        self.op.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_op(&self, op: Op) {
        *self.op.lock().unwrap_or_else(PoisonError::into_inner) = op;
    }

    fn after(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `CUgraphNodeType`.
pub fn kind(op: &Op) -> c_int {
    match op {
        Op::Launch(_) => 0,
        Op::Copy(_) => 1,
        Op::Fill(_) => 2,
        Op::Host(_) | Op::Callback(_) => 3,
        Op::Graph(_) => 4,
        Op::Nothing => 5,
        Op::Wait(_) => 6,
        Op::Record(_) => 7,
        Op::Free(_) => 11,
    }
}

impl Graph {
    pub fn create(context: &Arc<Context>) -> CUgraph {
        GRAPHS.insert(Arc::new(Graph { context: Arc::downgrade(context), nodes: Mutex::default() }))
    }

    pub fn destroy(handle: CUgraph) -> Outcome {
        let graph = GRAPHS.remove(handle)?;
        for node in graph.nodes().iter() {
            let _ = NODES.remove(node.handle); // the table holds each exactly once
        }
        Ok(())
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(self: &Arc<Self>, op: Op, after: impl IntoIterator<Item = usize>) -> Outcome<CUgraphNode> {
        self.add_clone(op, after.into_iter().collect(), None)
    }

    fn add_clone(&self, op: Op, after: BTreeSet<usize>, original: Option<CUgraphNode>) -> Outcome<CUgraphNode> {
        for &node in &after {
            self.check_node(Handle::from_raw(node))?;
        }
        let mut nodes = self.nodes();
        let mut handle = Handle::NULL;
        NODES.insert_with(|new| {
            handle = new;
            let node = Arc::new(Node {
                handle,
                original,
                op: Mutex::new(op),
                after: Mutex::new(after),
                pointers: Mutex::default(),
            });
            nodes.push(node.clone());
            node
        });
        Ok(handle)
    }

    /// # Errors
    /// The node is not of this graph.
    pub fn check_node(&self, node: CUgraphNode) -> Outcome {
        if self.nodes().iter().any(|known| known.handle == node) {
            return Ok(());
        }
        fail(CUresult::INVALID_VALUE, format!("{node:?} is no node of this graph"))
    }

    /// The nodes and all that they come after.
    pub fn ancestors(&self, of: &BTreeSet<usize>) -> BTreeSet<usize> {
        let nodes: BTreeMap<usize, Arc<Node>> = self.nodes().iter().map(|n| (n.handle.raw(), n.clone())).collect();
        let mut reached = BTreeSet::new();
        let mut open: Vec<usize> = of.iter().copied().collect();
        while let Some(node) = open.pop() {
            if reached.insert(node)
                && let Some(node) = nodes.get(&node)
            {
                open.extend(node.after().iter());
            }
        }
        reached
    }

    /// The graph as steps in an order that respects its edges.
    ///
    /// # Errors
    /// A cycle.
    pub fn program(&self) -> Outcome<Program> {
        let nodes = self.nodes();
        let index: BTreeMap<usize, usize> = nodes.iter().enumerate().map(|(i, n)| (n.handle.raw(), i)).collect();
        let steps: Vec<Step> = nodes
            .iter()
            .map(|node| Step {
                node: node.handle,
                op: node.op(),
                after: node.after().iter().filter_map(|n| index.get(n).copied()).collect(),
                enabled: true,
            })
            .collect();
        let program = Program::new(steps);
        program.map_or_else(|| fail(CUresult::INVALID_VALUE, "the graph's edges form a cycle"), Ok)
    }
}

// --- The C functions ------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphCreate(graph: Out<CUgraph>, flags: c_uint) -> CUresult {
    call("cuGraphCreate", || {
        if flags != 0 {
            return fail(CUresult::INVALID_VALUE, "flags must be 0");
        }
        graph.put(Graph::create(&current()?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: CUgraph) -> CUresult {
    call("cuGraphDestroy", || Graph::destroy(graph))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphClone(clone: Out<CUgraph>, graph: CUgraph) -> CUresult {
    call("cuGraphClone", || {
        let from = GRAPHS.get(graph)?;
        let made = Graph::create(&current()?);
        let to = GRAPHS.get(made)?;
        let mut renamed = BTreeMap::new();
        let nodes = from.nodes().clone();
        // An edge may point to a node added later, so edges follow when all nodes have names.
        for node in &nodes {
            renamed.insert(node.handle.raw(), to.add_clone(node.op(), BTreeSet::new(), Some(node.handle))?);
        }
        for node in &nodes {
            let after = node.after().iter().filter_map(|n| renamed.get(n)).map(|n| n.raw()).collect();
            *NODES.get(renamed[&node.handle.raw()])?.after() = after;
        }
        clone.put(made)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeFindInClone(found: Out<CUgraphNode>, original: CUgraphNode, clone: CUgraph) -> CUresult {
    call("cuGraphNodeFindInClone", || {
        let graph = GRAPHS.get(clone)?;
        let node = graph.nodes().iter().find(|node| node.original == Some(original)).map(|node| node.handle);
        node.map_or_else(|| fail(CUresult::INVALID_VALUE, "the clone has no such node"), |node| found.put(node))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroyNode(node: CUgraphNode) -> CUresult {
    call("cuGraphDestroyNode", || {
        NODES.remove(node)?;
        GRAPHS.for_each(|graph| {
            let mut nodes = graph.nodes();
            if nodes.iter().any(|known| known.handle == node) {
                nodes.retain(|known| known.handle != node);
                for other in nodes.iter() {
                    other.after().remove(&node.raw());
                }
            }
        });
        Ok(())
    })
}

fn listed(nodes: Vec<CUgraphNode>, out: Out<CUgraphNode>, count: &mut usize) -> Outcome {
    if out.is_null() {
        *count = nodes.len();
        return Ok(());
    }
    let room = std::mem::replace(count, nodes.len().min(*count));
    // SAFETY: the API asks for an array of as many handles as `count` says.
    unsafe { out.put_all(nodes.into_iter().take(room)) }
}

/// A count that the caller sets to the array's size and gets back as the number there is.
type Count<'a> = Option<&'a mut usize>;

fn wanted<'a>(count: Count<'a>) -> Outcome<&'a mut usize> {
    count.map_or_else(|| fail(CUresult::INVALID_VALUE, "the count is null"), Ok)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Count) -> CUresult {
    call("cuGraphGetNodes", || {
        let all = GRAPHS.get(graph)?.nodes().iter().map(|node| node.handle).collect();
        listed(all, nodes, wanted(count)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetRootNodes(graph: CUgraph, nodes: Out<CUgraphNode>, count: Count) -> CUresult {
    call("cuGraphGetRootNodes", || {
        let graph = GRAPHS.get(graph)?;
        let roots = graph.nodes().iter().filter(|node| node.after().is_empty()).map(|node| node.handle).collect();
        listed(roots, nodes, wanted(count)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetEdges_v2(
    graph: CUgraph,
    from: Out<CUgraphNode>,
    to: Out<CUgraphNode>,
    edges: Out<[u8; 8]>,
    count: Count,
) -> CUresult {
    call("cuGraphGetEdges_v2", || {
        let graph = GRAPHS.get(graph)?;
        let mut pairs = Vec::new();
        for node in graph.nodes().iter() {
            pairs.extend(node.after().iter().map(|&before| (Handle::from_raw(before), node.handle)));
        }
        let count = wanted(count)?;
        let room = *count;
        if !edges.is_null() {
            // SAFETY: the API asks for an array of as many elements as `count` says; no edge carries data.
            unsafe { edges.put_all(pairs.iter().take(room).map(|_| [0; 8]))? };
        }
        let (mut first, mut second) = (room, room);
        listed(pairs.iter().map(|pair| pair.0).collect(), from, &mut first)?;
        listed(pairs.iter().map(|pair| pair.1).collect(), to, &mut second)?;
        *count = first;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddDependencies_v2(
    graph: CUgraph,
    from: In<CUgraphNode>,
    to: In<CUgraphNode>,
    _edges: In<[u8; 8]>,
    count: usize,
) -> CUresult {
    call("cuGraphAddDependencies_v2", || {
        let graph = GRAPHS.get(graph)?;
        // SAFETY: the API asks for arrays of `count` nodes.
        let (from, to) = unsafe { (from.slice(count)?, to.slice(count)?) };
        for (&before, &after) in from.iter().zip(to) {
            graph.check_node(before)?;
            graph.check_node(after)?;
            if !NODES.get(after)?.after().insert(before.raw()) {
                return fail(CUresult::INVALID_VALUE, "the dependency exists already");
            }
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphRemoveDependencies_v2(
    graph: CUgraph,
    from: In<CUgraphNode>,
    to: In<CUgraphNode>,
    _edges: In<[u8; 8]>,
    count: usize,
) -> CUresult {
    call("cuGraphRemoveDependencies_v2", || {
        GRAPHS.get(graph)?;
        // SAFETY: the API asks for arrays of `count` nodes.
        let (from, to) = unsafe { (from.slice(count)?, to.slice(count)?) };
        for (&before, &after) in from.iter().zip(to) {
            if !NODES.get(after)?.after().remove(&before.raw()) {
                return fail(CUresult::INVALID_VALUE, "there is no such dependency");
            }
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetDependencies_v2(
    node: CUgraphNode,
    nodes: Out<CUgraphNode>,
    edges: Out<[u8; 8]>,
    count: Count,
) -> CUresult {
    call("cuGraphNodeGetDependencies_v2", || {
        let before: Vec<_> = NODES.get(node)?.after().iter().map(|&n| Handle::from_raw(n)).collect();
        let count = wanted(count)?;
        if !edges.is_null() {
            // SAFETY: the API asks for an array of as many elements as `count` says.
            unsafe { edges.put_all(before.iter().take(*count).map(|_| [0; 8]))? };
        }
        listed(before, nodes, count)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetDependentNodes_v2(
    node: CUgraphNode,
    nodes: Out<CUgraphNode>,
    edges: Out<[u8; 8]>,
    count: Count,
) -> CUresult {
    call("cuGraphNodeGetDependentNodes_v2", || {
        NODES.get(node)?;
        let mut later = Vec::new();
        NODES.for_each(|other| {
            if other.after().contains(&node.raw()) {
                later.push(other.handle);
            }
        });
        let count = wanted(count)?;
        if !edges.is_null() {
            // SAFETY: the API asks for an array of as many elements as `count` says.
            unsafe { edges.put_all(later.iter().take(*count).map(|_| [0; 8]))? };
        }
        listed(later, nodes, count)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetType(node: CUgraphNode, what: Out<c_int>) -> CUresult {
    call("cuGraphNodeGetType", || what.put(kind(&NODES.get(node)?.op())))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDebugDotPrint(graph: CUgraph, path: Text, _flags: c_uint) -> CUresult {
    call("cuGraphDebugDotPrint", || {
        let graph = GRAPHS.get(graph)?;
        let mut text = String::from("digraph cuda_graph {\n");
        for node in graph.nodes().iter() {
            let name = node.handle.raw();
            let _ = match node.op() {
                Op::Launch(launch) => {
                    let shape = launch.shape;
                    let label = format!("{}\\n{:?} x {:?}", launch.name(), shape.grid, shape.block);
                    writeln!(text, "  n{name:x} [shape=octagon, label=\"{label}\"];")
                }
                op => writeln!(text, "  n{name:x} [shape=box, label=\"{}\"];", op.name()),
            };
            for before in node.after().iter() {
                let _ = writeln!(text, "  n{before:x} -> n{name:x};");
            }
        }
        text.push_str("}\n");
        let path = path.get()?;
        std::fs::write(path, text).or_else(|error| fail(CUresult::OPERATING_SYSTEM, format!("{path}: {error}")))
    })
}
