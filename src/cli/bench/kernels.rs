//! `stablerep bench kernels`.

use std::path::PathBuf;

#[cfg(cuda_kernels)]
use super::output;
#[cfg(cuda_kernels)]
use crate::answer;
#[cfg(cuda_kernels)]
use crate::bench::kernels::{Options, Report};
use crate::device::Device;
use crate::error::Result;

/// Every CUDA kernel over the models' real shapes: microseconds, TFLOP/s, GB/s, share of its roofline, and cuBLASLt
/// beside it.
///
/// Kernels run with a cold L2 on random data; ceilings (a product, a copy) are measured in the same run. cuBLASLt is
/// compared with where the library is found; nothing else needs it. On the simulated driver, which has no times,
/// instructions, bytes and bank conflicts are counted at reduced shapes; it is told where to by CUDA_SIM_STATS=FILE.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only kernels whose op, name or shape contains this, e.g. `attention` or `layernorm backward`
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// One shape per kernel, fewer repetitions
    #[arg(long)]
    quick: bool,
    /// Run nothing and need no GPU: what bounds every kernel on an H200 (790 TFLOP/s, 4.1 TB/s, 3.87 T exponentials per
    /// second), and the least time that leaves it
    #[arg(long)]
    predict: bool,
    /// GPU to measure: `cuda`, or `cuda:N`
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: String,
    /// Also write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// # Errors
/// Usage error for a device that is no GPU or a filter that matches nothing; device error if there is no usable GPU.
pub fn run(args: Args) -> Result<()> {
    #[cfg(cuda_kernels)]
    if args.predict {
        return report(&args, crate::bench::kernels::predict);
    }
    match Device::parse(&args.device)? {
        Device::Cpu => Err(crate::error::Error::Usage(
            "--device cpu: bench kernels measures a GPU; give cuda or cuda:N (cargo bench measures the CPU's ops)"
                .into(),
        )),
        #[cfg(cuda_kernels)]
        Device::Cuda(ordinal) => kernels(&args, ordinal),
    }
}

#[cfg(cuda_kernels)]
fn kernels(args: &Args, ordinal: usize) -> Result<()> {
    let gpu = crate::device::cuda::Gpu::open(ordinal)?;
    report(args, |options, report| crate::bench::kernels::kernels(&gpu, options, report))
}

/// Prints what `run` reports, and writes it where it was asked for.
#[cfg(cuda_kernels)]
fn report(args: &Args, run: impl FnOnce(&Options, &mut Report) -> Result<()>) -> Result<()> {
    let options = Options { filter: args.filter.clone(), quick: args.quick, counts: output::counts() };
    let mut report = Report::new(|line| answer!("{line}"));
    let result = run(&options, &mut report);
    // What was measured before a failure is kept.
    output::write_json(args.json.as_deref(), &report.json())?;
    result
}
