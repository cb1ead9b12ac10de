//! `stablerep doctor`: what this machine has, and what that means for the work.

mod machine;
mod measure;

use std::io::Read;
use std::path::{Path, PathBuf};

use super::demo::assets::ASSETS;
use crate::answer;
use crate::device::{self, Available, human_bytes};
use crate::error::{Error, Result};
use crate::ops::gemm::Operands;
use crate::store;
use crate::weights::Cache;

/// Look at this machine and say what to expect of it.
///
/// Measures matrix products, memory and disk for a few seconds, and says what is missing and what to do next.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder that is to hold the output; its disk is measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

/// One thing that was looked at.
struct Finding {
    ok: bool,
    what: &'static str,
    text: String,
}

/// Prints one line per finding, then what to do next. Warnings do not fail the command.
pub fn run(args: Args) -> Result<()> {
    let mut warnings = 0;
    let mut say = |finding: Finding| {
        let mark = if finding.ok { "ok  " } else { "warn" };
        warnings += usize::from(!finding.ok);
        answer!("{mark}  {:<14} {}", finding.what, finding.text);
    };
    say(processor());
    say(vectors());
    say(threads());
    say(memory());
    say(arithmetic());
    say(bandwidth());
    for finding in disk(&args.output) {
        say(finding);
    }
    say(cache());
    say(assets());
    let (gpu, usable) = gpu();
    say(gpu);
    answer!();
    match warnings {
        0 if usable => answer!("Everything is in order."),
        0 => answer!("Everything is in order for work on the CPU; no GPU can be used."),
        1 => answer!("1 warning: the work can run; the line above says what to expect."),
        n => answer!("{n} warnings: the work can run; the lines above say what to expect."),
    }
    answer!(
        "Next: `stablerep demo` runs the whole line in miniature; `stablerep generate --help` begins with your captions."
    );
    Ok(())
}

fn processor() -> Finding {
    let name = machine::cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_string());
    Finding { ok: true, what: "processor", text: name }
}

fn vectors() -> Finding {
    let (sets, wide) = machine::vector_sets();
    let text = if wide {
        format!("{sets} (chosen at run time); --precision auto takes {}", Operands::fastest().name())
    } else {
        format!("{sets}: without AVX2 and FMA expect a quarter of the speed or less")
    };
    Finding { ok: wide, what: "vectors", text }
}

fn threads() -> Finding {
    let cores = machine::physical_cores();
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let used = rayon::current_num_threads();
    let cores = cores.map_or(String::new(), |cores| format!("{cores} cores, "));
    Finding {
        ok: true,
        what: "threads",
        text: format!("{cores}{logical} hardware threads; {used} are used (--threads)"),
    }
}

fn arithmetic() -> Finding {
    let flops = measure::gemm_flops();
    // The slowest processors of the last ten years manage this with one core.
    let ok = flops > 1e10;
    let advice = if ok { "" } else { ": slow; is something else running, or is this a debug build?" };
    Finding { ok, what: "arithmetic", text: format!("{:.1} GFLOP/s (f32 product of 1024³){advice}", flops / 1e9) }
}

fn bandwidth() -> Finding {
    let bytes = measure::copy_bytes();
    let ok = bytes > 2e9;
    let advice = if ok { "" } else { ": slow; is something else running?" };
    Finding { ok, what: "bandwidth", text: format!("{:.1} GB/s (copy, read + write){advice}", bytes / 1e9) }
}

fn memory() -> Finding {
    let Some(Available { bytes, limit }) = device::available() else {
        return Finding { ok: true, what: "memory", text: "unknown on this system".into() };
    };
    let ok = bytes >= 2 << 30;
    let advice = if ok { "" } else { ": enough for the demo, not for Stable Diffusion 1.5 (6 GiB in f32)" };
    let text = format!("{} available, limited by {limit}{advice}", human_bytes(bytes));
    Finding { ok, what: "memory", text }
}

fn disk(folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shown = folder.display();
    let folder = machine::nearest_existing(folder);
    match machine::free_bytes(&folder) {
        Some(free) => findings.push(Finding {
            ok: free >= 1 << 30,
            what: "disk space",
            text: format!("{} free for {shown} (a 256² PNG takes about 100 KiB)", human_bytes(free)),
        }),
        None => findings.push(Finding { ok: true, what: "disk space", text: "unknown on this system".into() }),
    }
    findings.push(match measure::write_speed(&folder) {
        Ok(speed) => Finding {
            ok: speed > 5e6,
            what: "disk speed",
            text: format!("{:.0} MB/s written and made durable in {}", speed / 1e6, folder.display()),
        },
        Err(e) => {
            Finding { ok: false, what: "disk speed", text: format!("cannot write: {e}; choose another --output") }
        }
    });
    findings
}

/// The bundled weights must parse and the photographs must unpack: a binary cut short by a copy fails here, not in the
/// demo.
fn assets() -> Finding {
    let broken: Vec<&str> = ASSETS.iter().filter(|(name, bytes)| !intact(name, bytes)).map(|(name, _)| *name).collect();
    let bytes: usize = ASSETS.iter().map(|(_, bytes)| bytes.len()).sum();
    let text = match broken.as_slice() {
        [] => format!("{} files of the demo, {}, intact", ASSETS.len(), human_bytes(bytes as u64)),
        names => format!("damaged in this binary: {}; build or copy it again", names.join(", ")),
    };
    Finding { ok: broken.is_empty(), what: "bundled files", text }
}

/// Where models' fingerprints are kept.
fn cache() -> Finding {
    let cache = Cache::open();
    let Some(folder) = cache.folder() else {
        let text = "none (STABLEREP_CACHE=off, or no HOME): every start reads a model's weights anew".into();
        return Finding { ok: true, what: "cache", text };
    };
    let shown = folder.display();
    match store::create_dir(folder).and_then(|()| tempfile::tempfile_in(folder).map_err(Error::io("write in", folder)))
    {
        Ok(_) => Finding { ok: true, what: "cache", text: format!("{shown} (STABLEREP_CACHE)") },
        Err(error) => {
            let advice =
                "every start reads a model's weights anew; set STABLEREP_CACHE to a folder that can be written";
            Finding { ok: false, what: "cache", text: format!("{error}: {advice}") }
        }
    }
}

fn intact(name: &str, bytes: &[u8]) -> bool {
    match name.rsplit('.').next() {
        Some("safetensors") => safetensors::SafeTensors::deserialize(bytes).is_ok(),
        Some("json") => serde_json::from_slice::<serde_json::Value>(bytes).is_ok(),
        Some("gz") => flate2::read::GzDecoder::new(bytes).read_to_end(&mut Vec::new()).is_ok(),
        _ => !bytes.is_empty(),
    }
}

/// Opens the first GPU, as `--device cuda` will; and whether it can be used.
#[cfg(cuda_kernels)]
fn gpu() -> (Finding, bool) {
    use crate::device::cuda::Gpu;
    let opened = || -> Result<String> {
        let count = Gpu::count()?;
        let gpu = Gpu::open(0)?;
        let ((major, minor), (free, total)) = (gpu.capability(), gpu.memory()?);
        let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
        Ok(format!(
            "{}{more}, compute capability {major}.{minor}, {} of {} free; `stablerep train --device cuda` uses it, `stablerep selftest` checks it",
            gpu.name(),
            human_bytes(free),
            human_bytes(total)
        ))
    };
    let (ok, text, usable) = match (opened(), machine::nvidia_driver()) {
        (Ok(text), _) => (true, text, true),
        // A driver that cannot be used is worth a warning; a machine without a GPU is in order.
        (Err(error), Some(driver)) => (false, format!("driver {driver}: {error}"), false),
        (Err(_), None) => {
            (true, format!("no NVIDIA driver; everything runs on the CPU ({})", device::kernels()), false)
        }
    };
    (Finding { ok, what: "gpu", text }, usable)
}

#[cfg(not(cuda_kernels))]
fn gpu() -> (Finding, bool) {
    let driver = machine::nvidia_driver();
    let found = driver.as_ref().map_or("no NVIDIA driver either".into(), |driver| format!("NVIDIA driver {driver}"));
    let text = format!(
        "this program was {}; {found}. --device cuda needs a build with NVRTC: run dev/cuda-toolchain.sh, then build again",
        device::kernels()
    );
    (Finding { ok: driver.is_none(), what: "gpu", text }, false)
}
