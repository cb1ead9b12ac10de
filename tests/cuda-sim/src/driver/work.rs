//! What streams and graphs are made of: one operation on the device, ready to run whenever its turn comes.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::context::Context;
use super::copy::Copy;
use super::errors::{CUresult, panic_text};
use super::event::Recording;
use super::fill::Fill;
use super::graph_exec::Program;
use super::launch::Launch;
use super::stream::{self, Point};
use crate::check::{Finding, Kind};

/// `CUhostFn`.
pub type HostFunction = Option<unsafe extern "C" fn(*mut c_void)>;

/// A function of the program and the pointer it gets.
#[derive(Clone, Copy)]
pub struct HostCall {
    pub function: unsafe extern "C" fn(*mut c_void),
    pub data: usize,
}

/// A `cuStreamAddCallback`: it also gets the stream and a status.
#[derive(Clone, Copy)]
pub struct Callback {
    pub function: unsafe extern "C" fn(usize, CUresult, *mut c_void),
    pub stream: usize,
    pub data: usize,
}

#[derive(Clone)]
pub enum Op {
    Launch(Arc<Launch>),
    Copy(Arc<Copy>),
    Fill(Arc<Fill>),
    /// `cuMemFreeAsync`.
    Free(u64),
    Record(Arc<Recording>),
    Wait(Point),
    Host(HostCall),
    Callback(Callback),
    Graph(Arc<Program>),
    Nothing,
}

type Ran = Result<(), Box<Finding>>;

impl Op {
    /// Runs the operation unless the context is lost; what goes wrong is reported and loses it.
    pub fn run(&self, context: &Context) {
        if let Op::Callback(callback) = self {
            return callback.run(context.fault().unwrap_or(CUresult::SUCCESS));
        }
        if context.fault().is_some() {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| self.execute(context))) {
            Ok(Ok(())) => {}
            Ok(Err(finding)) => context.fail(&finding),
            Err(panic) => {
                let text = format!("internal error: {}", panic_text(&*panic));
                let mut finding = Finding::host(Kind::Unsupported, text);
                finding.kernel = self.name().to_owned();
                context.fail(&finding);
            }
        }
    }

    fn execute(&self, context: &Context) -> Ran {
        match self {
            Op::Launch(launch) => launch.run(context),
            Op::Copy(copy) => copy.run(&context.device.memory),
            Op::Fill(fill) => fill.run(&context.device.memory),
            Op::Free(address) => context.allocations.free(&context.device.memory, *address),
            Op::Record(recording) => {
                recording.stamp();
                Ok(())
            }
            Op::Wait(point) => {
                point.hurry();
                point.wait();
                Ok(())
            }
            Op::Host(host) => {
                host.run();
                Ok(())
            }
            Op::Graph(program) => {
                program.run(context);
                Ok(())
            }
            Op::Callback(_) | Op::Nothing => Ok(()),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Op::Launch(launch) => launch.name(),
            Op::Copy(copy) => copy.call,
            Op::Fill(fill) => fill.call,
            Op::Free(_) => "cuMemFreeAsync",
            Op::Record(_) => "cuEventRecord",
            Op::Wait(_) => "cuStreamWaitEvent",
            Op::Host(_) => "cuLaunchHostFunc",
            Op::Callback(_) => "cuStreamAddCallback",
            Op::Graph(_) => "cuGraphLaunch",
            Op::Nothing => "empty",
        }
    }
}

impl HostCall {
    fn run(self) {
        stream::as_host_function(|| {
            // SAFETY: the program gave this function for this pointer, to be called once its turn comes.
            unsafe { (self.function)(std::ptr::with_exposed_provenance_mut(self.data)) }
        });
    }
}

impl Callback {
    fn run(self, status: CUresult) {
        stream::as_host_function(|| {
            // SAFETY: as for host functions.
            unsafe { (self.function)(self.stream, status, std::ptr::with_exposed_provenance_mut(self.data)) }
        });
    }
}
