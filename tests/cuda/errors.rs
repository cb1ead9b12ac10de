//! What the user reads when there is no usable GPU, or a GPU fails: one clear line, exit code 4, and the state that was
//! saved.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Model, has_kernels, stablerep, text};
use crate::train::{interrupt, words};

/// Fails unless the command ends with this exit code and one `error:` that holds every needle.
fn fails(command: &mut Command, exit_code: i32, needles: &[&str]) {
    let output = command.output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(exit_code), "{command:?}\n{text}");
    assert_eq!(text.matches("error:").count(), 1, "{text}");
    for needle in needles {
        assert!(text.contains(needle), "expected `{needle}` in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn selftest(model: Model) -> Command {
    stablerep(model, &["selftest", "--quick"])
}

#[test]
fn no_driver() {
    if !has_kernels() {
        return;
    }
    let empty = TempDir::new().unwrap();
    let mut command = selftest(Model::H200);
    command.env("LD_LIBRARY_PATH", empty.path());
    // A machine with a real driver finds it in the system's folders: nothing to see here then.
    if !Path::new("/proc/driver/nvidia/version").exists() {
        fails(&mut command, 4, &["no NVIDIA driver", "libcuda.so.1", "--device cpu"]);
    }
}

#[test]
fn driver_too_old() {
    if has_kernels() {
        let mut command = selftest(Model::H200);
        fails(
            command.env("CUDA_SIM_DRIVER_VERSION", "11080"),
            4,
            &["supports CUDA 11.8", "12.0", "driver 525", "cuda-compat-12"],
        );
        // Machine code loads on every driver of its major version, PTX on those that know it; the simulated device has
        // no machine code.
        let mut command = selftest(Model::H200);
        fails(command.env("CUDA_SIM_DRIVER_VERSION", "12020"), 4, &["supports 12.2", "for CUDA 12.9", "newer driver"]);
    }
}

#[test]
fn no_device() {
    if has_kernels() {
        let mut command = selftest(Model::H200);
        fails(command.env("CUDA_SIM_DEVICE", "none"), 4, &["sees no GPU", "--device cpu"]);
        let mut other = stablerep(Model::H200, &["selftest", "--device", "cuda:3"]);
        fails(&mut other, 4, &["cuda:3", "numbered from 0"]);
    }
}

#[test]
fn device_too_old() {
    if has_kernels() {
        let mut command = selftest(Model::A100);
        fails(command.env("CUDA_SIM_DEVICE", "t4"), 4, &["compute capability 7.5", "8.0 (Ampere)"]);
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for device in ["gpu", "cuda:", "cuda:x", "cuda0"] {
        let mut command = stablerep(Model::H200, &["selftest", "--device", device]);
        fails(&mut command, 2, &[&format!("--device {device}"), "cuda:N"]);
    }
    if has_kernels() {
        fails(&mut stablerep(Model::H200, &["selftest", "nosuchkernel"]), 2, &["no check has that name"]);
        fails(&mut stablerep(Model::H200, &["selftest", "--device", "cpu"]), 2, &["compares a GPU with the CPU"]);
    }
}

#[test]
fn out_of_memory_is_known_before_the_first_step() {
    if !has_kernels() {
        return;
    }
    let output = TempDir::new().unwrap();
    let words = words(output.path(), "cuda", "5", "1000steps");
    let mut command = stablerep(Model::A100, &words.iter().map(String::as_str).collect::<Vec<_>>());
    command.env("CUDA_SIM_MEMORY", (1 << 20).to_string());
    fails(&mut command, 4, &["out of memory before the first step", "--batch", "memory plan", "feed"]);
    assert!(!output.path().join("checkpoint.safetensors").exists());
}

/// The optimizer's kernels, writing to address 16 before anything else.
fn broken_kernels(folder: &Path) {
    // A build without kernels has no such folder, and this test is left out.
    let kernels = Path::new(option_env!("CUDA_KERNELS").unwrap_or_default());
    let ptx = fs::read_to_string(kernels.join("optimizer.sm_80.ptx")).unwrap();
    let (mut broken, mut entry) = (String::new(), false);
    for line in ptx.lines() {
        broken += &format!("{line}\n");
        entry |= line.contains(".entry optimizer_adamw");
        if entry && line == "{" {
            broken += ".reg .b64 %wrong; .reg .b32 %zero; mov.u64 %wrong, 16; mov.u32 %zero, 0; st.global.u32 [%wrong], %zero;\n";
            entry = false;
        }
    }
    assert!(broken.len() > ptx.len());
    fs::write(folder.join("optimizer.sm_80.ptx"), broken).unwrap();
}

/// A kernel fails in the middle of a run: the run stops, what was saved before is there, and goes on with kernels that
/// work.
#[test]
fn a_kernel_that_fails_leaves_the_last_checkpoint() {
    if !has_kernels() {
        return;
    }
    let (folder, kernels) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let output = folder.path().join("run");
    let words = words(&output, "cuda", "400", "1000steps");
    let done = interrupt(Model::A100, &words, &output, 2);
    let saved = fs::read(output.join("checkpoint.safetensors")).unwrap();
    broken_kernels(kernels.path());
    let mut command = stablerep(Model::A100, &words.iter().map(String::as_str).collect::<Vec<_>>());
    fails(command.env("STABLEREP_KERNELS", kernels.path()), 4, &["ILLEGAL_ADDRESS", "stablerep selftest"]);
    assert!(fs::read(output.join("checkpoint.safetensors")).unwrap() == saved && !output.join("done.json").exists());
    assert!(interrupt(Model::A100, &words, &output, done + 2) >= done + 2);
}

/// `STABLEREP_KERNELS`: sources are compiled as the program runs, and what is none, or is wrong, is said.
#[test]
fn kernels_that_are_worked_on() {
    if !has_kernels() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let with = |folder: &Path| {
        let mut command = stablerep(Model::A100, &["selftest", "embed", "--quick"]);
        command.env("STABLEREP_KERNELS", folder);
        command
    };
    let good = with(&root.join("kernels")).output().unwrap();
    assert!(good.status.success() && text(&good).contains("checks passed"), "{}", text(&good));

    let folder = TempDir::new().unwrap();
    fails(&mut with(folder.path()), 2, &["STABLEREP_KERNELS=", "a folder of .cu or .ptx files"]);
    fails(&mut with(&folder.path().join("absent")), 2, &["STABLEREP_KERNELS=", "absent"]);
    let source = fs::read_to_string(root.join("kernels/embed.cu")).unwrap();
    fs::create_dir(folder.path().join("common")).unwrap();
    for header in fs::read_dir(root.join("kernels/common")).unwrap() {
        let header = header.unwrap();
        fs::copy(header.path(), folder.path().join("common").join(header.file_name())).unwrap();
    }
    fs::write(folder.path().join("embed.cu"), format!("{source}\nint wrong = nothing;\n")).unwrap();
    let mut command = with(folder.path());
    command.env("CUDA_HOME", std::env::var_os("CUDA_HOME").unwrap_or_else(|| root.join(".cuda").into_os_string()));
    let output = command.output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("kernels/embed.cu") && said.contains("nothing") && !said.contains("panicked"), "{said}");
}
