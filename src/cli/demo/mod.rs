//! `stablerep demo`: the paper in miniature, as the very commands a reader could type.
//!
//! The demo owns no maths: it unpacks its assets, runs a list of command lines through the same parser as the shell
//! would, reads the reports those commands wrote, and prints one table. What it shows is therefore what `commands.sh`
//! reproduces.

pub(super) mod assets;
mod report;
mod stages;

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::say;
use crate::store;
use stages::Stage;

/// The paper in miniature, with what travels in the binary: under three minutes.
///
/// A tiny Stable Diffusion that travels in the binary draws images for 320 captions such as "a photo of a dark
/// patterned slim dress". Two small ViTs learn from those images alone: one with SimCLR (two crops of one image
/// attract), one with StableRep (the images of one caption attract), same images, same number of crops. Each is then
/// scored, beside a ViT that learnt nothing, by a linear probe on real photographs none of them ever saw. The output
/// folder holds every intermediate file, pictures to look at, and commands.sh with the exact commands.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder to write; rerunning in the same folder resumes what is unfinished
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    output: PathBuf,
    /// Seed of everything random: the same seed gives the same table
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs the words of a command line, or says what is wrong with them.
type Shell<'a> = &'a dyn Fn(&[&str]) -> Result<Result<()>, clap::Error>;

/// Runs the demo, its stages by `shell`.
pub fn run(args: &Args, shell: Shell<'_>) -> Result<()> {
    let started = Instant::now();
    let folder = &args.output;
    store::claim_folder(
        folder,
        "demo.json",
        &serde_json::json!({ "seed": args.seed, "version": env!("CARGO_PKG_VERSION") }),
        &[],
    )?;
    assets::unpack(folder)?;
    let stages = stages::all(folder, args.seed);
    store::write_atomic(folder.join("commands.sh"), stages::script(&stages).as_bytes())?;
    let mut seconds = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        say!("\n[{}/{}] {}\n$ {}", index + 1, stages.len(), stage.title, stage.command_line());
        let begun = Instant::now();
        run_stage(stage, shell)?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    report::write(folder, &stages, &seconds, started.elapsed().as_secs_f64())
}

fn run_stage(stage: &Stage, shell: Shell<'_>) -> Result<()> {
    let words: Vec<&str> = std::iter::once("stablerep").chain(stage.words.iter().map(String::as_str)).collect();
    shell(&words).map_err(|e| Error::Failed(format!("demo stage {}: {e}", stage.name)))?
}
