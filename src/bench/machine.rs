//! What a benchmark of whole runs asks of the machine beside the run itself.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::counts::{Counter, Counts};
use crate::bail;
use crate::device::Device;
#[cfg(cuda_kernels)]
use crate::device::cuda::Gpu;
use crate::error::Result;

/// The device of a run: its name, memory and peak.
#[derive(Debug)]
pub struct Machine {
    name: String,
    #[cfg(cuda_kernels)]
    gpu: Option<Gpu>,
    /// Where the simulated driver appends its counts, if it is one.
    counts: Option<PathBuf>,
    /// FLOP/s of an 8192³ product, once measured.
    peak: Option<f64>,
}

impl Machine {
    /// # Errors
    /// Device error if there is no usable GPU, usage error for a simulated one that has nowhere to write its counts to.
    #[cfg_attr(not(cuda_kernels), expect(unused_variables, reason = "the CPU counts nothing"))]
    pub fn open(device: Device, counts: Option<PathBuf>) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self {
                name: format!("CPU, {} threads", rayon::current_num_threads()),
                #[cfg(cuda_kernels)]
                gpu: None,
                counts: None,
                peak: None,
            }),
            #[cfg(cuda_kernels)]
            Device::Cuda(ordinal) => {
                let gpu = Gpu::open(ordinal)?;
                let simulated = super::kernels::is_simulated(&gpu);
                if simulated && counts.is_none() {
                    bail!(
                        Usage,
                        "the simulated driver has no times, only counts, and writes them where CUDA_SIM_STATS says when it \
                         starts; run again with CUDA_SIM_STATS=FILE in the environment"
                    );
                }
                Ok(Self {
                    name: gpu.name().to_owned(),
                    gpu: Some(gpu),
                    counts: counts.filter(|_| simulated),
                    peak: None,
                })
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the simulated driver's counts are; `None` on what has times.
    pub fn counts(&self) -> Option<&Path> {
        self.counts.as_deref()
    }

    pub fn is_gpu(&self) -> bool {
        #[cfg(cuda_kernels)]
        return self.gpu.is_some();
        #[cfg(not(cuda_kernels))]
        false
    }

    /// Free bytes of a GPU.
    pub fn free(&self) -> Result<Option<u64>> {
        #[cfg(cuda_kernels)]
        if let Some(gpu) = &self.gpu {
            return Ok(Some(gpu.memory()?.0));
        }
        Ok(None)
    }

    /// FLOP/s of an 8192³ product on a card, as `bench kernels` measures it: on the first call, which takes a second.
    /// On the CPU, and on a card whose free memory does not hold it, `None`.
    pub fn peak(&mut self) -> Result<Option<f64>> {
        #[cfg(cuda_kernels)]
        if let (Some(gpu), None, None) = (&self.gpu, self.peak, &self.counts) {
            // Three matrices, what overwrites L2, and cuBLASLt's workspace.
            if gpu.memory()?.0 > 1 << 30 {
                self.peak = Some(super::kernels::product_rate(gpu)?);
            }
        }
        Ok(self.peak)
    }

    /// What the simulated driver counts of `work`, which waits for what it queues.
    pub fn count(&self, work: impl FnOnce() -> Result<()>) -> Result<Counts> {
        let Some(path) = &self.counts else { bail!(Failed, "{}: no counts", self.name) };
        let counter = Counter::start(path)?;
        work()?;
        counter.finish()
    }
}

/// A clock that began with the process where the system tells when that was, and else with [`Age::begin`].
#[derive(Clone, Copy, Debug)]
pub struct Age {
    begun: Instant,
    /// Seconds before `begun`.
    before: f64,
    /// `process start` or `main`.
    pub since: &'static str,
}

impl Age {
    /// Call it early.
    pub fn begin() -> Self {
        let begun = Instant::now();
        match before_now() {
            Some(before) => Self { begun, before, since: "process start" },
            None => Self { begun, before: 0.0, since: "main" },
        }
    }

    pub fn seconds(self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }
}

/// Seconds this process has lived, by Linux: its start in ticks of 10 ms after boot, and the time since boot.
fn before_now() -> Option<f64> {
    // Times are in USER_HZ, which is 100 on every architecture that CUDA knows.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    // The second field, the name in parentheses, may hold spaces; the start is field 22.
    let start: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some((up - start / TICKS).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_older_than_its_clock() {
        let age = Age::begin();
        let (first, second) = (age.seconds(), age.seconds());
        assert!(second >= first && first < 3600.0);
        #[cfg(target_os = "linux")]
        assert!(age.since == "process start" && before_now().is_some());
    }
}
