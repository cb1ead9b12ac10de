//! `stablerep selftest`: every kernel on this machine's GPU against the CPU.

#[cfg(cuda_kernels)]
use crate::answer;
use crate::device::Device;
use crate::error::Result;

/// Check every CUDA kernel on this machine's GPU against the CPU.
///
/// Runs each kernel over real and awkward shapes, forward and backward, and compares with the same operation on the
/// CPU. Run it once on a new machine, after a driver update, or when a result looks wrong.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only checks whose name contains this, e.g. `attention`
    #[arg(value_name = "NAME")]
    filter: Option<String>,
    /// GPU to check: `cuda`, or `cuda:N`
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: String,
    /// Seed of the random inputs
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Small shapes only: seconds instead of minutes
    #[arg(long)]
    quick: bool,
    /// Only layers of Stable Diffusion 1.5 at 512² with all their channels and pixels, one of each kind, one image
    #[arg(long, conflicts_with = "quick")]
    full_size: bool,
    /// List the kernels with what the compiler gave them, and run nothing; needs no GPU
    #[arg(long)]
    kernels: bool,
}

/// # Errors
/// Usage error for a device that is no GPU or a name that no check has; device error if there is no usable GPU; failed
/// if a check is.
pub fn run(args: Args) -> Result<()> {
    #[cfg(cuda_kernels)]
    if args.kernels {
        return list();
    }
    match Device::parse(&args.device)? {
        Device::Cpu => Err(crate::error::Error::Usage(
            "--device cpu: selftest compares a GPU with the CPU; give cuda or cuda:N".into(),
        )),
        #[cfg(cuda_kernels)]
        Device::Cuda(ordinal) => check(&args, ordinal),
    }
}

/// Registers, shared memory and threads of every kernel, and how many blocks of it the registers of a multiprocessor
/// hold.
#[cfg(cuda_kernels)]
fn list() -> Result<()> {
    use super::table::Table;
    use crate::device::cuda::kernels::RESOURCES;

    let mut table =
        Table::new(&["file", "kernel", "target", ">threads", ">registers", ">static shared", ">blocks by registers"]);
    for kernel in RESOURCES {
        table.row([
            format!("kernels/{}.cu", kernel.stem),
            kernel.kernel.to_owned(),
            kernel.target.to_owned(),
            kernel.threads.to_string(),
            kernel.registers.to_string(),
            kernel.static_shared.to_string(),
            kernel.blocks_by_registers().to_string(),
        ]);
    }
    table.print();
    if RESOURCES.is_empty() {
        answer!("(a build without machine code: build with --release and without STABLEREP_PTX_ONLY)");
    }
    Ok(())
}

#[cfg(cuda_kernels)]
fn check(args: &Args, ordinal: usize) -> Result<()> {
    use crate::bail;
    use crate::device::cuda::Gpu;
    use crate::selftest::{Extent, Options, run};

    let gpu = Gpu::open(ordinal)?;
    let (major, minor) = gpu.capability();
    answer!("{}, compute capability {major}.{minor}, {} multiprocessors", gpu.name(), gpu.sms());
    let extent = match (args.quick, args.full_size) {
        (true, _) => Extent::Quick,
        (_, true) => Extent::FullSize,
        _ => Extent::Everything,
    };
    let options = Options { filter: args.filter.clone(), seed: args.seed, extent };
    let (mut failed, mut skipped) = (0, 0);
    let count = run(&gpu, &options, |outcome| match (&outcome.result, outcome.skipped) {
        (Ok(()), Some(why)) => {
            skipped += 1;
            answer!("-     {:<18} {:<48} {why}", outcome.op, outcome.check);
        }
        (Ok(()), None) => {
            let note = outcome.note.map_or(String::new(), |note| format!("   {note}"));
            answer!("ok    {:<18} {:<48} {:>7.2} s{note}", outcome.op, outcome.check, outcome.seconds);
        }
        (Err(e), _) => {
            failed += 1;
            answer!("FAIL  {:<18} {:<48} {:>7.2} s\n      {e}", outcome.op, outcome.check, outcome.seconds);
        }
    });
    match (count, failed) {
        (0, _) => bail!(Usage, "selftest {}: no check has that name", args.filter.as_deref().unwrap_or_default()),
        (_, 0) => {
            let rest = if skipped > 0 { format!(", {skipped} do not apply to this card") } else { String::new() };
            answer!("{} checks passed{rest} (seed {})", count - skipped, args.seed);
        }
        _ => bail!(
            Failed,
            "{failed} of {count} checks failed; run again with --seed {} and report the lines above",
            args.seed
        ),
    }
    Ok(())
}
