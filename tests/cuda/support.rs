//! Runs the binary on the simulated driver.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The device that the simulated driver reports.
#[derive(Clone, Copy, Debug)]
pub enum Model {
    H200,
    /// An H200 whose wgmma reads an n-major operand in whole spans of its swizzle only.
    WholeSpans,
    /// 114 multiprocessors of an H200's 132.
    H100Pcie,
    A100,
    Rtx4090,
}

impl Model {
    pub fn name(self) -> &'static str {
        match self {
            Self::H200 | Self::WholeSpans => "h200",
            Self::H100Pcie => "h100-pcie",
            Self::A100 => "a100",
            Self::Rtx4090 => "rtx4090",
        }
    }
}

/// A folder with nothing but the simulated driver, under the names programs look for.
pub fn driver_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let binary = Path::new(env!("CARGO_BIN_EXE_stablerep"));
        let target = binary.parent().unwrap();
        let library = target.join("deps/libcuda_sim.so");
        assert!(library.exists(), "{} is missing: cargo builds it with the tests", library.display());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulated-driver");
        fs::create_dir_all(&folder).unwrap();
        for name in ["libcuda.so", "libcuda.so.1"] {
            // Tests of one run may race to make it: the rename is atomic.
            let new = folder.join(format!("{name}.{}", std::process::id()));
            symlink(&library, &new).unwrap();
            fs::rename(&new, folder.join(name)).unwrap();
        }
        folder
    })
}

/// `stablerep` with these arguments on the simulated driver.
pub fn stablerep(model: Model, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stablerep"));
    command.args(arguments).env("LD_LIBRARY_PATH", driver_folder()).env("CUDA_SIM_DEVICE", model.name());
    if matches!(model, Model::WholeSpans) {
        command.env("CUDA_SIM_WHOLE_SPANS", "1");
    }
    command
}

/// Whether this build has kernels to test; says once that it has not.
pub fn has_kernels() -> bool {
    if !cfg!(cuda_kernels) {
        eprintln!("left out: this build has no CUDA kernels (no NVRTC; dev/cuda-toolchain.sh fetches it)");
    }
    cfg!(cuda_kernels)
}

/// Standard output and error, joined.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// All checks at small shapes whose op or name contains `filter`; what was printed, nothing in a build without kernels.
pub fn selftest(filter: &str, model: Model) -> String {
    checks(filter, "--quick", model)
}

/// Layers of Stable Diffusion 1.5 with all their channels and pixels: those whose op or name contains `filter`.
pub fn full_size(filter: &str, model: Model) {
    checks(filter, "--full-size", model);
}

fn checks(filter: &str, extent: &str, model: Model) -> String {
    if !has_kernels() {
        return String::new();
    }
    let seed = match model {
        Model::H200 | Model::WholeSpans => "1",
        Model::A100 => "2",
        Model::Rtx4090 => "3",
        Model::H100Pcie => "4",
    };
    let mut command = stablerep(model, &["selftest", filter, extent, "--seed", seed]);
    if std::env::var_os("CUDA_SIM_SEED").is_none() {
        command.env("CUDA_SIM_SEED", seed);
    }
    let output = command.output().unwrap();
    let text = text(&output);
    println!("{text}");
    assert!(output.status.success() && text.contains("checks passed"), "{filter} on {model:?}:\n{text}");
    text
}
