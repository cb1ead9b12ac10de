//! A fixed sequence of work, recorded once and replayed with one call.

use cudarc::driver::sys;

use super::driver::check;
use super::gpu::Gpu;
use crate::error::{Error, Result};

/// Recorded work. Arguments are those of the recording; what changes between replays lies in device memory.
#[derive(Debug)]
pub struct Graph {
    gpu: Gpu,
    executable: sys::CUgraphExec,
    /// How many it replays.
    kernels: u64,
}

// SAFETY: a driver handle, used with its context bound.
unsafe impl Send for Graph {}

impl Graph {
    /// Queues one replay.
    pub fn launch(&self) -> Result<()> {
        self.gpu.bind()?;
        self.gpu.tally(|queued| {
            queued.replays += 1;
            queued.replayed += self.kernels;
        });
        // SAFETY: instantiated below, destroyed in `drop`.
        check(unsafe { sys::cuGraphLaunch(self.executable, self.gpu.stream()) }, "replay the captured step")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = self.gpu.synchronize();
        // SAFETY: nothing queued uses it any more.
        let _ = unsafe { sys::cuGraphExecDestroy(self.executable) };
    }
}

impl Gpu {
    /// Records what `work` queues, which does not run now. Kernels must have been loaded before (run it once first):
    /// loading is refused while recording.
    ///
    /// # Errors
    /// That of `work`, or device error if something in it cannot be recorded.
    pub fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as self.
        check(unsafe { sys::cuStreamBeginCapture_v2(self.stream(), mode) }, "begin recording a step")?;
        let before = self.queued().kernels;
        let worked = work();
        let kernels = self.queued().kernels - before;
        // What is recorded does not run.
        self.tally(|queued| queued.kernels -= kernels);
        let mut graph = std::ptr::null_mut();
        // SAFETY: ends the recording begun above, whether or not the work succeeded.
        let ended = unsafe { sys::cuStreamEndCapture(self.stream(), &mut graph) };
        worked?;
        check(ended, "record a step")?;
        let mut executable = std::ptr::null_mut();
        // SAFETY: a graph just made; it is copied into the executable and destroyed.
        let made = unsafe {
            let made = sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0);
            let _ = sys::cuGraphDestroy(graph);
            made
        };
        check(made, "prepare the recorded step")?;
        if executable.is_null() {
            return Err(Error::Device("the driver prepared no step".into()));
        }
        Ok(Graph { gpu: self.clone(), executable, kernels })
    }
}
