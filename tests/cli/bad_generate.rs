//! What `generate` refuses: each with its exit code, a message that names the file and the fix, and nothing written
//! over.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::{command, fails, files, fixture, root, succeeds, text};

/// A scratch copy of the tiny model, two captions, and an output folder that is not there yet.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for (name, bytes) in files(&root().join("assets/tiny-sd")) {
            let path = folder.path().join("model").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::write(folder.path().join("captions.txt"), "a photo of a bag\na photo of a coat\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn args(&self, extra: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = ["generate", "--steps", "1", "--model"].map(str::to_owned).into();
        args.push(text(&self.path("model")));
        for (flag, name) in [("--captions", "captions.txt"), ("--output", "out")] {
            if !extra.contains(&flag) {
                args.extend([flag.to_owned(), text(&self.path(name))]);
            }
        }
        args.extend(extra.iter().map(|&word| word.to_owned()));
        args
    }

    fn refuses(&self, extra: &[&str], exit_code: i32, needles: &[&str]) {
        let args = self.args(extra);
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), exit_code, needles);
        assert!(!self.path("out/00000.tar").exists(), "a refused run wrote a shard");
    }

    /// Replaces `from` by `to` in a model file.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path("model").join(name);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{name} lacks {from}");
        fs::write(path, before.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn absurd_numbers() {
    let case = Case::new();
    for (flags, needle) in [
        (&["-m", "0"][..], "--images-per-caption 0: expected 1"),
        (&["--batch", "0"], "--batch 0"),
        (&["--images-per-shard", "0"], "--images-per-shard 0"),
        (&["--format", "jpg", "--quality", "101"], "--quality 101: expected 1 to 100"),
        (&["--quality", "90"], "--quality 90: applies to --format jpg alone"),
        (&["--steps", "0"], "--steps 0"),
        (&["--steps", "1001"], "--steps 1001"),
        (&["--width", "0"], "--width 0"),
        (&["--width", "36"], "multiple of 8"),
        (&["--height", "99999999"], "--height 99999999"),
        (&["--store-size", "0"], "--store-size 0"),
        (&["-w", "NaN"], "--guidance-scale"),
        (&["--sweep-guidance", "0.5,1,2"], "--sweep-guidance: 0.5 and 1 draw the same pictures"),
        (&["--rank", "2", "--world-size", "2"], "rank 2 of 2"),
        (&["--rank", "0"], "--world-size"),
        (&["--seed", "-1"], "seed"),
        (&["--sampler", "magic"], "ddim"),
        (&["--device", "tpu"], "--device tpu"),
    ] {
        let needles = [needle];
        // `--steps` is given already by `args`: drop that one where the case has its own.
        let mut args = case.args(flags);
        if flags[0] == "--steps" {
            args.drain(1..3);
        }
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2, &needles);
    }
    case.refuses(&["--device", "cuda"], 4, &["--device cpu"]);
    assert!(!case.path("out/00000.tar").exists());
}

#[test]
fn captions() {
    let case = Case::new();
    let write = |bytes: &[u8]| fs::write(case.path("captions.txt"), bytes).unwrap();
    write(b"");
    case.refuses(&[], 3, &["captions.txt", "empty"]);
    write(b"\x7fELF\0\0");
    case.refuses(&[], 3, &["captions.txt", "binary"]);
    write(b"fine\n\xff\xfe broken\nfine too\n");
    case.refuses(&[], 3, &["captions.txt:2", "UTF-8", "--max-bad"]);
    let mut long = b"fine\n".to_vec();
    long.extend(vec![b'x'; 10 << 20]);
    write(&long);
    case.refuses(&[], 3, &["captions.txt:2", "10485760 bytes"]);
    fs::remove_file(case.path("captions.txt")).unwrap();
    case.refuses(&[], 2, &["--captions", "captions.txt", "does not exist"]);
    // Tolerated lines are named, and everything else is made.
    write(b"fine\n\xff\xfe broken\n\nfine too\n");
    let args = case.args(&["--max-bad", "1"]);
    let output = command(&args.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && message.contains("captions.txt:2") && message.contains("skipped 1 empty"),
        "{message}"
    );
}

/// Text of a model that no encoding explains is bad data that is named, whoever reads it.
#[test]
fn text_that_is_not_utf8() {
    for name in ["tokenizer/merges.txt", "tokenizer/vocab.json", "scheduler/scheduler_config.json", "unet/config.json"]
    {
        let case = Case::new();
        let path = case.path("model").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes.insert(at, 0xFF);
        fs::write(&path, bytes).unwrap();
        case.refuses(&[], 3, &[name]);
    }
}

#[test]
fn weights() {
    let unet = "unet/diffusion_pytorch_model.safetensors";
    let edit_header = |case: &Case, from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let path = case.path("model").join(unet);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(path, bytes).unwrap();
    };
    let case = Case::new();
    let path = case.path("model").join(unet);
    let bytes = fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        case.refuses(&[], 3, &[unet]);
    }
    fs::remove_file(&path).unwrap();
    case.refuses(&[], 3, &["unet", ".safetensors"]);
    fs::write(case.path("model/unet/diffusion_pytorch_model.bin"), "pickle").unwrap();
    case.refuses(&[], 3, &["diffusion_pytorch_model.bin", "safetensors"]);

    let case = Case::new();
    edit_header(&case, "\"conv_in.weight\"", "\"conv_xx.weight\"");
    case.refuses(&[], 3, &[unet, "conv_in.weight"]);
    let case = Case::new();
    edit_header(&case, "\"dtype\":\"F16\"", "\"dtype\":\"I16\"");
    case.refuses(&[], 3, &[unet, "I16"]);
    let case = Case::new();
    // A model whose config promises other widths than its weights have.
    case.edit("unet/config.json", "80,", "88,");
    case.refuses(&[], 3, &[unet, "expected"]);
    // A folder that is no model, and none at all.
    let case = Case::new();
    fs::remove_file(case.path("model/vae/config.json")).unwrap();
    case.refuses(&[], 3, &["vae", "config.json"]);
    fs::remove_dir_all(case.path("model")).unwrap();
    case.refuses(&[], 2, &["--model", "no such folder"]);
}

#[test]
fn configs() {
    for (file, from, to, needles) in [
        (
            "scheduler/scheduler_config.json",
            "PNDMScheduler",
            "MagicScheduler",
            &["scheduler_config.json", "MagicScheduler"],
        ),
        ("unet/config.json", "\"DownBlock2D\"", "\"MagicBlock2D\"", &["unet/config.json", "MagicBlock2D"]),
        ("unet/config.json", "\"silu\"", "\"tanh\"", &["unet/config.json", "tanh"]),
        ("vae/config.json", "UpDecoderBlock2D", "MagicDecoderBl2D", &["vae/config.json", "MagicDecoderBl2D"]),
        ("text_encoder/config.json", "quick_gelu", "slow_gelu", &["text_encoder/config.json", "slow_gelu"]),
        ("unet/config.json", "{", "", &["unet/config.json", "unet/config.json"]),
    ] {
        let case = Case::new();
        case.edit(file, from, to);
        case.refuses(&[], 3, needles);
    }
}

#[test]
fn noise_of_another_shape() {
    let case = Case::new();
    let given = text(&fixture("tiny_sd.safetensors"));
    case.refuses(&["--initial-noise", &given], 3, &["tiny_sd.safetensors", "noise"]);
}

#[test]
fn folders_that_cannot_be_written() {
    let case = Case::new();
    let inside_a_file = text(&case.path("captions.txt").join("out"));
    case.refuses(&["--output", &inside_a_file], 2, &["--output", "captions.txt is no folder"]);
    case.refuses(&["--output", "/proc/nowhere"], 1, &["/proc/nowhere"]);
}

/// Writes fail from 64 KiB on, as on a full disk: the run says so, no partial shard is left, and with room again it
/// goes on.
#[test]
fn full_disk() {
    let case = Case::new();
    fs::write(case.path("captions.txt"), "a photo of a bag\n".repeat(60)).unwrap();
    let args = case.args(&["--save-latents"]);
    let quoted: Vec<String> = args.iter().map(|word| format!("'{word}'")).collect();
    let script = format!("trap '' XFSZ; ulimit -f 64; exec '{}' {}", env!("CARGO_BIN_EXE_stablerep"), quoted.join(" "));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot write") && message.contains("00000.tar"), "{message}");
    let left: Vec<String> = files(&case.path("out")).into_keys().collect();
    assert!(!left.iter().any(|name| name.contains("00000.tar")), "{left:?}");
    succeeds(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(Path::new(&case.path("out/stats.json")).exists());
}
