//! A place in the stream's order of work, to wait for without waiting for everything after it.

use cudarc::driver::sys;

use super::driver::check;
use super::gpu::Gpu;
use crate::error::Result;

/// Reached when everything queued before [`Gpu::mark`] has ended.
#[derive(Debug)]
pub struct Mark {
    gpu: Gpu,
    event: sys::CUevent,
}

// SAFETY: a driver handle, used with its context bound.
unsafe impl Send for Mark {}

impl Mark {
    /// Waits until it is reached.
    ///
    /// # Errors
    /// Device error if anything before it failed.
    pub fn wait(&self) -> Result<()> {
        self.gpu.bind()?;
        // SAFETY: made by `Gpu::mark`, destroyed in `drop`.
        check(unsafe { sys::cuEventSynchronize(self.event) }, "finish the work on the GPU")
    }

    /// Milliseconds of device time from `earlier` to this mark; both must have been made by [`Gpu::timed_mark`] and be
    /// reached.
    pub fn milliseconds_since(&self, earlier: &Self) -> Result<f32> {
        self.wait()?;
        let mut milliseconds = 0.0;
        // SAFETY: two recorded events; writes one float.
        check(
            unsafe { sys::cuEventElapsedTime(&mut milliseconds, earlier.event, self.event) },
            "read the GPU's clock",
        )?;
        Ok(milliseconds)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: the driver frees an unreached event once it is reached.
        let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
    }
}

impl Gpu {
    /// Marks the end of everything queued so far.
    pub fn mark(&self) -> Result<Mark> {
        self.record(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// As [`Gpu::mark`], with the time it is reached.
    pub fn timed_mark(&self) -> Result<Mark> {
        self.record(sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    fn record(&self, flags: sys::CUevent_flags) -> Result<Mark> {
        self.bind()?;
        let mut event = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check(unsafe { sys::cuEventCreate(&mut event, flags as u32) }, "make an event")?;
        let mark = Mark { gpu: self.clone(), event };
        // SAFETY: event and stream of one context.
        check(unsafe { sys::cuEventRecord(event, self.stream()) }, "record an event")?;
        Ok(mark)
    }
}
