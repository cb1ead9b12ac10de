//! `train` with settings and data that cannot be used: exit code, what is wrong and where, how to go on.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use stablerep::image::{Rgb8, encode_jpeg};
use stablerep::shards::{ShardWriter, image_key};
use tempfile::TempDir;

use crate::common::{command, fails, fixture, succeeds, text};

pub struct Case {
    folder: TempDir,
}

impl Case {
    pub fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run that works, with `more` at its end (a repeated flag replaces the first).
    pub fn words(&self, more: &[&str]) -> Vec<String> {
        let (data, output) = (text(&fixture("train_run/stablerep")), text(&self.path("run")));
        let mut flags: Vec<(String, Vec<String>)> = Vec::new();
        let base = format!(
            "--data {data} --output {output} --model custom --image-size 32 --patch-size 8 --width 24 --depth 1 --heads 3 \
             --head-dims 32,16 --batch 4 --images-per-caption 3 --steps 4 --warmup-steps 1 --blr 1e-3 --augmentation none"
        );
        for word in
            base.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).chain(more.iter().map(|w| (*w).to_owned()))
        {
            if word.starts_with("--") {
                flags.retain(|(flag, _)| *flag != word);
                flags.push((word, Vec::new()));
            } else if let Some((_, values)) = flags.last_mut() {
                values.push(word);
            }
        }
        let flags = flags.into_iter().filter(|(_, values)| values.first().is_none_or(|v| v != "UNSET"));
        std::iter::once("train".to_owned())
            .chain(flags.flat_map(|(flag, values)| std::iter::once(flag).chain(values)))
            .collect()
    }

    pub fn refuses(&self, more: &[&str], exit_code: i32, needles: &[&str]) -> String {
        let words = self.words(more);
        fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), exit_code, needles)
    }

    pub fn succeeds(&self, more: &[&str]) {
        let words = self.words(more);
        succeeds(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// With the views that small crops go beside.
const DINO: &[&str] = &["--method", "dino", "--images-per-caption", "UNSET", "--augmentation", "byol"];

#[test]
fn settings_that_cannot_be_run() {
    let case = Case::new();
    for (flags, needles) in [
        (&["--batch", "0"][..], &["--batch 0", "expected 2 to"][..]),
        (&["--images-per-caption", "1"], &["--images-per-caption 1", "--method simclr"]),
        (&["--images-per-caption", "0"], &["--images-per-caption 0"]),
        (&["--steps", "0"], &["--steps 0", "expected 1"]),
        (&["--steps", "UNSET"], &["--epochs or --steps", "--preset"]),
        (&["--steps", "UNSET", "--epochs", "0"], &["--epochs 0", "more than 0"]),
        (&["--steps", "UNSET", "--epochs", "NaN"], &["--epochs NaN"]),
        (&["--warmup-steps", "4"], &["warm-up of 4 iterations", "--warmup-steps"]),
        (&["--blr", "inf"], &["--blr inf"]),
        (&["--drop-path", "-0.1"], &["--drop-path -0.1: expected 0 to 0.99"]),
        (&["--blr", "-1"], &["--blr -1: expected 0 to 1000"]),
        (&["--batch", "-1"], &["'-1' for '--batch <N>'"]),
        (&["--chunk", "-2"], &["expected a number of images above 0, or all; got `-2`"]),
        (&["--temperature", "0"], &["--temperature 0"]),
        (&["--beta2", "1"], &["--beta2 1"]),
        (&["--patch-size", "7"], &["--image-size 32 is not a multiple of --patch-size 7"]),
        (&["--heads", "5"], &["--width 24 is not a multiple of --heads 5"]),
        (&["--width", "0"], &["--width 0", "expected 1"]),
        (&["--depth", "1000000000"], &["--depth 1000000000"]),
        (&["--width", "UNSET"], &["--model custom needs --width"]),
        (&["--model", "vit_small"], &["--width 24 does not go with --model vit_small"]),
        (&["--model", "resnet50"], &["--model resnet50", "vit_base"]),
        (&["--head-dims", "32"], &["--head-dims", "4096,256"]),
        (&["--head-dims", "0,4"], &["--head-dims 0,4"]),
        (&["--augmentation", "weak", "--crop-scale", "0.5,0.2"], &["--crop-scale 0.5,0.2", "low ≤ high"]),
        (&["--augmentation", "weak", "--crop-scale", "-0.1,1"], &["--crop-scale -0.1,1", "low ≤ high"]),
        (&["--crop-scale", "0.5,1"], &["--crop-scale 0.5,1 does not go with --augmentation none"]),
        (&["--method", "simclr"], &["--images-per-caption 3 does not go with --method simclr", "leave it out"]),
        (&["--mask-ratio", "0.5"], &["--mask-ratio does not go with --method stablerep", "no decoder"]),
        (&["--decoder-depth", "2"], &["--decoder-depth does not go with --method stablerep"]),
        (&["--method", "mae", "--images-per-caption", "UNSET"], &["--head-dims does not go with --method mae"]),
        (&["--method", "mae", "--head-dims", "UNSET"], &["--images-per-caption 3 does not go with --method mae"]),
        (&["--tokenizer", "bundled"], &["--tokenizer does not go with a --method that reads no texts", "clip"]),
        (
            &["--method", "clip", "--head-dims", "UNSET", "--images-per-caption", "UNSET"],
            &["this method reads texts", "--tokenizer bundled"],
        ),
        (
            &["--method", "clip", "--head-dims", "UNSET", "--images-per-caption", "UNSET", "--tokenizer", "absent"],
            &["--tokenizer absent: "],
        ),
        (&["--method", "clip", "--images-per-caption", "UNSET"], &["--head-dims does not go with --method clip"]),
        (
            &["--method", "simclr", "--images-per-caption", "UNSET", "--positives", "class"],
            &["--positives class goes with"],
        ),
        (
            &["--method", "mae", "--head-dims", "UNSET", "--images-per-caption", "UNSET", "--mask-ratio", "0.99"],
            &["--mask-ratio 0.99 leaves 0 of the 16 patches", "smaller patches"],
        ),
        (&["--crop-filter", "bicubic"], &["--crop-filter does not go with --augmentation none"]),
        (&["--method", "mocov3"], &["--images-per-caption 3 does not go with --method mocov3", "leave it out"]),
        (
            &["--momentum", "0.9"],
            &["--momentum 0.9 does not go with --method stablerep, which has no momentum copy without --queue"],
        ),
        (&["--queue", "5"], &["--queue 5: expected", "the images of a step", "--batch"]),
        (
            &["--method", "mocov3", "--images-per-caption", "UNSET", "--queue", "4096"],
            &["--queue 4096 does not go with --method mocov3", "stablerep or simclr"],
        ),
        (
            &["--method", "byol", "--images-per-caption", "UNSET", "--temperature", "0.2"],
            &["--temperature 0.2 does not go with --method byol", "leave it out"],
        ),
        (&["--method", "byol", "--images-per-caption", "UNSET", "--momentum", "1.5"], &["--momentum 1.5", "0 to 1"]),
        (
            &["--method", "mocov3", "--images-per-caption", "UNSET", "--width", "6"],
            &["--width 6", "--method mocov3", "multiple of 4"],
        ),
        (
            &["--method", "dino", "--images-per-caption", "UNSET", "--bn", "global"],
            &["--bn does not go with --method dino", "leave it out"],
        ),
        (
            &["--method", "dino", "--images-per-caption", "UNSET", "--head-dims", "32,1"],
            &["--head-dims 32,1", "2048,65536"],
        ),
        (
            &["--optimizer", "lars", "--beta2", "0.9"],
            &["--beta2 0.9 does not go with --optimizer lars", "leave it out"],
        ),
        (&[DINO, &["--optimizer", "lars"]].concat(), &["--optimizer lars does not go with --method dino"]),
        (&["--local-crops", "8"], &["--local-crops does not go with --method stablerep", "leave it out"]),
        (
            &["--method", "dino", "--images-per-caption", "UNSET", "--local-size", "16"],
            &["--local-size is of small crops", "--local-crops"],
        ),
        (
            &["--method", "dino", "--images-per-caption", "UNSET", "--local-crops", "2", "--local-size", "16"],
            &["--local-crops 2 does not go with --augmentation none"],
        ),
        (
            &[DINO, &["--local-crops", "2"]].concat(),
            &["--local-size 96", "multiple of --patch-size 8", "--image-size 32"],
        ),
        (&[DINO, &["--local-crops", "2", "--local-size", "20"]].concat(), &["--local-size 20", "of --patch-size 8"]),
        (&[DINO, &["--local-crops", "99", "--local-size", "16"]].concat(), &["--local-crops 99", "1 to 64"]),
        (
            &[DINO, &["--local-crops", "2", "--local-size", "16", "--local-scale", "0.4,0.05"]].concat(),
            &["--local-scale 0.4,0.05", "low ≤ high"],
        ),
        (&["--drop-path", "1"], &["--drop-path 1", "0 to 0.99"]),
        (&["--drop-path", "0.1"], &["--drop-path 0.1", "--depth 1", "leave it out"]),
        (
            &["--method", "mae", "--head-dims", "UNSET", "--images-per-caption", "UNSET", "--drop-path", "0.1"],
            &["--drop-path does not go with --method mae"],
        ),
        (&["--layer-decay", "0.5"], &["--layer-decay does not go with --method stablerep", "take finetune"]),
        (&["--augmentation", "finetune"], &["--augmentation finetune goes with --method finetune alone"]),
        (&["--test", "tests"], &["--test goes with --method finetune alone", "probe"]),
        (
            &["--method", "finetune", "--head-dims", "UNSET", "--images-per-caption", "UNSET", "--mixup", "0.5"],
            &["--mixup does not go with --augmentation none"],
        ),
        (
            &["--method", "finetune", "--head-dims", "UNSET", "--images-per-caption", "UNSET", "--rand-augment", "m11"],
            &["--rand-augment", "m9-n2-mstd0.5"],
        ),
        (
            &["--method", "finetune", "--images-per-caption", "UNSET"],
            &["--head-dims does not go with --method finetune"],
        ),
        (&["--clip-gradient", "0"], &["--clip-gradient 0"]),
        (&["--min-lr", "2000"], &["--min-lr 2000", "0 to 1000"]),
        (&["--min-lr", "1"], &["--min-lr 1", "no more than the peak rate"]),
        (&["--weight-decay-end", "1e9"], &["--weight-decay-end 1000000000", "0 to 100"]),
        (&["--preset", "nope"], &["--preset nope", "stablerep-cc12m-1x"]),
        (&["--save-every", "5"], &["--save-every", "500steps"]),
        (&["--save-every", "0s"], &["--save-every"]),
        (&["--device", "tpu"], &["--device tpu", "cpu"]),
        (&["--precision", "f16"], &["'f16' for '--precision", "auto, f32, bf16"]),
        (&["--precision", "f8"], &["f8", "bf16"]),
    ] {
        case.refuses(flags, 2, needles);
    }
    case.refuses(
        &["--method", "finetune", "--head-dims", "UNSET", "--images-per-caption", "UNSET", "--depth", "2"],
        3,
        &["no .cls beside the image", "key.jpg and key.cls"],
    );
    // No kernels, no driver, no GPU, or not so many: which of them depends on the machine.
    case.refuses(&["--device", "cuda:99"], 4, &["--device"]);
    assert!(!case.path("run").exists(), "a refused run leaves nothing behind");
}

#[test]
fn configuration_files() {
    let case = Case::new();
    let file = case.path("mine.toml");
    let refuses = |toml: &str, needles: &[&str]| {
        fs::write(&file, toml).unwrap();
        case.refuses(&["--config", &text(&file)], 2, needles);
    };
    refuses("batch = 4\nbatchsize = 5\n", &["mine.toml", "line 2", "batchsize"]);
    refuses("batch = \"four\"\n", &["mine.toml", "line 1", "four"]);
    refuses("batch = = 4\n", &["mine.toml", "line 1"]);
    let absent = text(&case.path("absent/x.toml"));
    case.refuses(&["--config", &absent], 2, &[&format!("--config {absent}"), "does not exist"]);

    // Flags win over the file, the file over the preset; what is left of the preset stays.
    fs::write(&file, "batch = 3\nimages-per-caption = 2\nweight-decay = 0.05\n").unwrap();
    let flags =
        ["--preset", "stablerep-cc12m-1x", "--config", &text(&file), "--batch", "4", "--images-per-caption", "UNSET"];
    case.succeeds(&flags);
    let config: serde_json::Value = serde_json::from_slice(&fs::read(case.path("run/config.json")).unwrap()).unwrap();
    assert_eq!(config["batch"], 4);
    assert_eq!(config["images_per_caption"], 2);
    assert_eq!(config["weight_decay"], 0.05);
    assert_eq!(config["beta2"], 0.98);
    assert_eq!(config["length"], serde_json::json!({"steps": 4}));
}

#[test]
fn another_configuration_in_the_same_folder() {
    let case = Case::new();
    case.succeeds(&[]);
    let before = fs::read(case.path("run/checkpoint.safetensors")).unwrap();
    case.succeeds(&[]);
    case.refuses(&["--beta1", "0.8", "--seed", "3"], 2, &["beta1: was 0.9, now 0.8", "seed: was 0, now 3"]);
    case.succeeds(&["--precision", "f32"]);
    case.refuses(&["--precision", "bf16"], 2, &["--precision: was \"f32\", now \"bf16\""]);
    assert_eq!(before, fs::read(case.path("run/checkpoint.safetensors")).unwrap());
    fs::write(case.path("run/config.json"), "{").unwrap();
    case.refuses(&[], 3, &["config.json"]);
}

#[test]
fn data_that_cannot_be_used() {
    let case = Case::new();
    let absent = text(&case.path("absent"));
    case.refuses(&["--data", &absent], 2, &[&format!("--data {absent}"), "does not exist"]);
    let empty = case.path("empty");
    fs::create_dir(&empty).unwrap();
    case.refuses(&["--data", &text(&empty)], 3, &["empty"]);
    case.refuses(&["--images-per-caption", "5"], 3, &["00000.tar", "5", "4"]);
    case.refuses(&["--batch", "17"], 3, &["--batch", "17", "16"]);

    // A truncated shard and a damaged picture are counted, and named.
    let shard = fs::read(fixture("train_run/stablerep/00000.tar")).unwrap();
    let broken = case.path("broken");
    fs::create_dir(&broken).unwrap();
    let write = |bytes: &[u8]| fs::write(broken.join("00000.tar"), bytes).unwrap();
    write(&shard[..shard.len() / 2 + 100]);
    let data = ["--data", &text(&broken), "--batch", "2"];
    case.refuses(&data, 3, &["00000.tar", "--max-bad"]);
    // One that is allowed is no less said than one that is not.
    let words = case.words(&[&data[..], &["--max-bad", "9"]].concat());
    let output = command(&[]).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let needles = ["bad sample 1 of 9 allowed", "broken/00000.tar at byte", "cut short", "are not used"];
    assert!(output.status.success() && needles.iter().all(|part| said.contains(part)), "{said}");
    fs::remove_dir_all(case.path("run")).unwrap();

    let mut damaged = shard.clone();
    let png = damaged.windows(8).position(|bytes| bytes == b"\x89PNG\r\n\x1a\n").unwrap();
    damaged[png + 40..png + 80].fill(0);
    write(&damaged);
    let all = ["--data", &text(&broken), "--images-per-caption", "4", "--batch", "16"];
    case.refuses(&all, 3, &["00000_000" /* the sample's key */]);
}

#[test]
fn a_jpeg_cut_short_is_counted_and_replaced_by_another_image_of_its_caption() {
    let case = Case::new();
    let folder = case.path("jpegs");
    fs::create_dir(&folder).unwrap();
    let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
    for caption in 0..6u8 {
        for image in 0..3u8 {
            let picture = Rgb8::filled(32, 32, [40 * caption, 90 * image, 7]);
            let mut jpeg = encode_jpeg(&picture, 90).unwrap();
            if (caption, image) == (2, 1) {
                jpeg.truncate(jpeg.len() / 2);
            }
            let text = format!("caption {caption}");
            let members: [(&str, &[u8]); 2] = [("jpg", &jpeg), ("txt", text.as_bytes())];
            shard.add(&image_key(u64::from(caption), usize::from(image)), &members).unwrap();
        }
    }
    shard.finish().unwrap();
    let data = ["--data", &text(&folder), "--images-per-caption", "2", "--batch", "6", "--steps", "6"];
    case.refuses(&data, 3, &["00000002_001", "JPEG cut short", "--max-bad"]);
    fs::remove_dir_all(case.path("run")).unwrap();
    case.succeeds(&[&data[..], &["--max-bad", "1"]].concat());
}

#[test]
fn initial_weights_that_do_not_fit() {
    let case = Case::new();
    let init = text(&fixture("train_run/init.safetensors"));
    let absent = text(&case.path("absent.safetensors"));
    case.refuses(&["--init-from", &absent], 2, &[&absent, "does not exist"]);
    // The golden weights are of depth 2, width 24.
    case.refuses(&["--init-from", &init, "--depth", "3"], 3, &["init.safetensors", "`blocks.2.norm1.weight`"]);
    case.refuses(
        &["--init-from", &init, "--depth", "2", "--width", "48"],
        3,
        &["--width 24", "`cls_token`", "--width 48"],
    );
    case.refuses(
        &["--init-from", &init, "--depth", "2", "--head-dims", "32,8"],
        3,
        &["image_mlp.layer3.weight", "[16, 32]", "[8, 32]"],
    );
    let bytes = fs::read(&init).unwrap();
    let file = case.path("cut.safetensors");
    fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
    case.refuses(&["--init-from", &text(&file)], 3, &["cut.safetensors"]);
    let pickle = case.path("weights.pth");
    fs::File::create(&pickle).unwrap().write_all(b"\x80\x02}").unwrap();
    case.refuses(&["--init-from", &text(&pickle)], 3, &["weights.pth", "safetensors"]);
    case.refuses(&["--init-from", &init], 3, &["2 blocks", "`blocks.1.norm1.weight`", "--depth 2"]);
    case.succeeds(&["--init-from", &init, "--depth", "2"]);
}

#[test]
fn a_damaged_checkpoint_is_refused_and_left_alone() {
    let case = Case::new();
    case.succeeds(&[]);
    fs::remove_file(case.path("run/done.json")).unwrap();
    let path = case.path("run/checkpoint.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    case.refuses(&[], 3, &["checkpoint.safetensors"]);
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len() - 100);
}

#[test]
fn an_output_that_cannot_be_written() {
    let case = Case::new();
    fs::write(case.path("file"), "").unwrap();
    case.refuses(&["--output", &text(&case.path("file/run"))], 2, &["--output", "file is no folder"]);
    let odd = case.path("").join(OsStr::from_bytes(b"odd\xff"));
    let mut words: Vec<OsString> = case.words(&[]).into_iter().map(OsString::from).collect();
    let output = words.iter().position(|word| word == "--output").unwrap() + 1;
    words[output] = odd.clone().into();
    let output = command(&[]).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("its name is not UTF-8"), "{said}");
    assert!(!odd.exists());
}

/// Writes fail from 64 KiB on (`ulimit -f`), as on a full disk: the run says so, and the checkpoint before it stays.
#[cfg(unix)]
#[test]
fn full_disk() {
    let case = Case::new();
    let words = case.words(&["--save-every", "1steps"]);
    let script = format!("ulimit -f 64; exec \"$0\" {}", words.iter().map(|w| format!("'{w}' ")).collect::<String>());
    let binary = command(&[]).get_program().to_owned();
    let output = std::process::Command::new("bash").arg("-c").arg(script).arg(binary).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("checkpoint.safetensors"), "{message}");
    assert!(!case.path("run/checkpoint.safetensors").exists() && !case.path("run/done.json").exists());
    case.succeeds(&["--save-every", "1steps"]);
}
