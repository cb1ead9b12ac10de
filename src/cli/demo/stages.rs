//! The command lines of the demo.

use std::path::Path;

/// One command of the demo.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Short name; also the folder it writes below the output.
    pub name: &'static str,
    pub title: &'static str,
    /// Arguments after the program's name.
    pub words: Vec<String>,
}

impl Stage {
    /// As it would be typed, quoted for a shell.
    pub fn command_line(&self) -> String {
        let mut text = "stablerep".to_owned();
        for word in &self.words {
            text.push(' ');
            text.push_str(&quoted(word));
        }
        text
    }
}

/// `word` as a POSIX shell takes it for itself.
fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=,:".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Photographs the probes use.
const PHOTOS: &str = "fashion-mnist";

/// Every stage, in order. `folder` is the demo's output; paths are as the reader of `commands.sh` would type them.
pub fn all(folder: &Path, seed: u64) -> Vec<Stage> {
    let at = |name: &str| folder.join(name).display().to_string();
    let generate = words(&[
        "generate --model",
        &at("tiny-sd"),
        "--captions",
        &at("captions.txt"),
        "--output",
        &at("shards"),
        "--images-per-caption 5 --guidance-scale 2 --steps 12 --batch 128 --images-per-shard 400 --seed",
        &seed.to_string(),
    ]);
    let train = |preset: &str| {
        words(&[
            "train --preset",
            preset,
            "--data",
            &at("shards"),
            "--output",
            &at(preset.trim_start_matches("demo-")),
            "--seed",
            &seed.to_string(),
        ])
    };
    let probe = |encoder: &[&str], output: &str| {
        let mut all = words(&["probe"]);
        all.extend(words(encoder));
        all.extend(words(&[
            "--train",
            &at(&format!("{PHOTOS}/train-images-idx3-ubyte.gz")),
            "--test",
            &at(&format!("{PHOTOS}/t10k-images-idx3-ubyte.gz")),
            "--fit pad --augmentation none --epochs 300 --batch 256 --eval-every 300 --select val --knn 20 --seed",
            &seed.to_string(),
            "--output",
            &at(output),
        ]));
        all
    };
    let checkpoint = |name: &str| at(&format!("{name}/checkpoint.safetensors"));
    let random = "--random-init vit_tiny --image-size 32 --patch-size 8 --width 128 --depth 4 --heads 2";
    let stage = |name, title, words| Stage { name, title, words };
    vec![
        stage("shards", "Draw 5 images for each of 320 captions with the bundled tiny Stable Diffusion", generate),
        stage(
            "simclr",
            "Train a ViT on those images with SimCLR: two crops of one image attract",
            train("demo-simclr"),
        ),
        stage(
            "stablerep",
            "Train the same ViT with StableRep: the images of one caption attract",
            train("demo-stablerep"),
        ),
        stage("probe-random", "Score a ViT that learnt nothing, on real photographs", probe(&[random], "probe-random")),
        stage(
            "probe-simclr",
            "Score the SimCLR encoder on the same photographs",
            probe(&["--checkpoint", &checkpoint("simclr")], "probe-simclr"),
        ),
        stage(
            "probe-stablerep",
            "Score the StableRep encoder on the same photographs",
            probe(&["--checkpoint", &checkpoint("stablerep")], "probe-stablerep"),
        ),
    ]
}

/// Pieces that are flags and numbers are split at blanks; a piece that follows a flag on its own (a path) stays whole.
fn words(pieces: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for piece in pieces {
        let first = piece.split(' ').next().unwrap_or_default();
        let after_flag = out.last().is_some_and(|last| last.starts_with("--"));
        if after_flag && !first.starts_with("--") {
            out.push((*piece).to_owned());
        } else {
            out.extend(piece.split(' ').map(str::to_owned));
        }
    }
    out
}

/// A shell script of all stages.
pub fn script(stages: &[Stage]) -> String {
    let mut text =
        "#!/bin/sh\n# What `stablerep demo` ran, in order. Each line can be rerun, or changed, by itself.\nset -e\n"
            .to_owned();
    for stage in stages {
        text.push_str(&format!("\n# {}\n{}\n", stage.title, stage.command_line()));
    }
    text
}
