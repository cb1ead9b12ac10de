//! `stablerep bench`: how fast this machine does the work.

use std::path::PathBuf;

use crate::device::Device;
use crate::error::Result;

/// Measure how fast this machine does the work.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Kernels(Kernels),
}

/// Every CUDA kernel over the models' real shapes: microseconds, TFLOP/s, GB/s, share of its roofline, and cuBLASLt beside it.
///
/// Kernels run with a cold L2 on random data; ceilings (a product, a copy) are measured in the same run. cuBLASLt is compared with
/// where the library is found; nothing else needs it. On the simulated driver, which has no times, instructions, bytes and bank
/// conflicts are counted at reduced shapes; it is told where to by CUDA_SIM_STATS=FILE.
#[derive(Debug, clap::Args)]
#[cfg_attr(not(cuda_kernels), allow(dead_code))]
struct Kernels {
    /// Only kernels whose op, name or shape contains this, e.g. `attention` or `layernorm backward`
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// One shape per kernel, fewer repetitions
    #[arg(long)]
    quick: bool,
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
    match args.what {
        What::Kernels(args) => match Device::parse(&args.device)? {
            Device::Cpu => Err(crate::error::Error::Usage(
                "--device cpu: bench kernels measures a GPU; give cuda or cuda:N (cargo bench measures the CPU's ops)"
                    .into(),
            )),
            #[cfg(cuda_kernels)]
            Device::Cuda(ordinal) => kernels(&args, ordinal),
        },
    }
}

#[cfg(cuda_kernels)]
fn kernels(args: &Kernels, ordinal: usize) -> Result<()> {
    use crate::bench::{Options, Report, kernels};
    use crate::device::cuda::Gpu;
    use crate::store;

    let gpu = Gpu::open(ordinal)?;
    let counts = std::env::var_os("CUDA_SIM_STATS").map(PathBuf::from);
    let options = Options { filter: args.filter.clone(), quick: args.quick, counts };
    let mut report = Report::new(|line| println!("{line}"));
    let result = kernels(&gpu, &options, &mut report);
    if let Some(path) = &args.json {
        // What was measured before a failure is kept.
        let text =
            serde_json::to_string_pretty(&report.json()).map_err(|e| crate::error::Error::Failed(e.to_string()))?;
        store::write_atomic(path, (text + "\n").as_bytes())?;
    }
    result
}
