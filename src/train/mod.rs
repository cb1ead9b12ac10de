//! Shards to a trained encoder: multi-positive contrastive training of a ViT.
//!
//! Files of a run: `config.json` (the recipe it belongs to), `checkpoint.safetensors` ([`checkpoint`]), `metrics.jsonl` and TensorBoard
//! events (one entry per step), `done.json` written last. A rerun goes on from the checkpoint and ends in the same bits.

mod cadence;
pub mod checkpoint;
mod groups;
pub mod loader;
mod log;
pub mod method;
mod network;
mod recipe;
pub mod schedule;
pub mod views;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::device::{Device, Plan};
use crate::error::{Error, Result};
use crate::store;

pub use cadence::SaveEvery;
pub use groups::decay_groups;
pub use network::{Network, Outcome, State, Trainer};
pub use recipe::{Augmentation, BatchNorm, Length, Rate, Recipe};

use cadence::Cadence;
use loader::Loader;
use log::{Entry, Log};

/// File names inside the folder of a run.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
pub const METRICS: &str = "metrics.jsonl";
const CONFIG: &str = "config.json";
const DONE: &str = "done.json";

/// A training job.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub recipe: Recipe,
    /// Folder of the run.
    pub output: PathBuf,
    pub save_every: SaveEvery,
    pub device: Device,
}

/// What a finished run says of itself (`done.json`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub steps: u64,
    pub images_per_step: usize,
    pub parameters: usize,
    /// Where the trained network is.
    pub checkpoint: PathBuf,
}

/// Trains until the schedule ends, resuming what is in the output folder. A finished run is left as it is.
///
/// # Errors
/// Usage (2) for settings that cannot be run or that differ from those of the folder; data (3) for shards, checkpoint or initial weights
/// that cannot be used; device (4) when the memory plan does not fit; diverged (5); interrupted (75) with the state saved.
pub fn run(config: &Config) -> Result<Summary> {
    let Config { recipe, output, device, .. } = config;
    recipe.validate()?;
    let mut loader = Loader::new(&recipe.loader())?;
    let steps_per_epoch = loader.steps_per_epoch();
    let schedule = recipe.schedule(steps_per_epoch)?;

    let mut plan = Plan::new();
    let network = Network::new(recipe)?;
    let mut state = State::new(&mut plan, &network);
    let mut trainer = Trainer::new(&mut plan, network, recipe);
    let rows = recipe.images_per_step();
    let mut images = plan.f32("loader", "batch", rows * recipe.model.image_len());
    let mut labels = vec![0u32; rows];
    plan.record("loader", "decoded images (at most)", loader.cache_bytes());
    plan.check(*device, "lower --batch, --images-per-caption or --image-size, or take a smaller --model")?;

    let (path, done) = (output.join(CHECKPOINT), output.join(DONE));
    let parameters = trainer.network().table.len();
    let summary = Summary { steps: schedule.steps, images_per_step: rows, parameters, checkpoint: path.clone() };
    if !path.exists() {
        state.init(trainer.network(), recipe)?;
    }
    // Only now that nothing is left to refuse: a folder remembers its first settings.
    let _occupied = store::occupy_folder(output)?;
    store::claim_folder(output, CONFIG, recipe)?;
    if done.exists() {
        eprintln!("{} is finished already ({} steps)", output.display(), schedule.steps);
        return Ok(summary);
    }
    if path.exists() {
        checkpoint::load(&path, trainer.network(), &mut state, recipe)?;
    }
    describe(recipe, &loader, &summary, state.step);
    eprintln!("{plan}");

    let mut log = Log::open(output, state.step, schedule.steps)?;
    let mut cadence = Cadence::new(config.save_every, steps_per_epoch);
    while state.step < schedule.steps {
        let (step, lr) = (state.step, schedule.lr(state.step));
        let (epoch, position) = (step / steps_per_epoch, step % steps_per_epoch);
        loader.batch(epoch, position, &mut images, &mut labels)?;
        recipe.method.label(&mut labels, recipe.batch);
        let Outcome { loss, grad_norm } = trainer.step(&mut state, &images, &labels, lr)?;
        log.step(Entry { step, epoch, loss, lr, grad_norm, images_per_second: 0.0 }, rows)?;
        let last = state.step == schedule.steps;
        if last || store::interrupted() || cadence.due(state.step) {
            log.sync()?;
            checkpoint::save(&path, trainer.network(), &state, recipe, steps_per_epoch)?;
        }
        if !last {
            store::check_interrupt("run the same command again to go on")?;
        }
    }
    log.finish();
    write_summary(&done, &summary)?;
    Ok(summary)
}

fn describe(recipe: &Recipe, loader: &Loader, summary: &Summary, step: u64) {
    let views = recipe.views();
    eprintln!(
        "training {} parameters on {} captions with {} images: {} steps of {} captions × {} images × {} crops{}",
        summary.parameters,
        loader.captions(),
        loader.images(),
        summary.steps,
        recipe.batch,
        views.images,
        views.crops,
        if step > 0 { format!(", going on after step {step}") } else { String::new() }
    );
}

fn write_summary(path: &Path, summary: &Summary) -> Result<()> {
    let text = serde_json::to_string_pretty(summary).map_err(|e| Error::Failed(e.to_string()))?;
    store::write_atomic(path, (text + "\n").as_bytes())
}
