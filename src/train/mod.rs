//! Shards to a trained encoder: multi-positive contrastive training of a ViT.
//!
//! Files of a run: `config.json` (the recipe it belongs to), `config.toml` (the same as flags, for `--config`),
//! `data.json` (what its shards hold, [`DataRecord`]), `checkpoint.safetensors` ([`checkpoint`]), `metrics.jsonl` and
//! TensorBoard events (one entry per step), `done.json` written last. A rerun goes on from the checkpoint and ends in
//! the same bits.

mod cadence;
pub mod checkpoint;
#[cfg(cuda_kernels)]
mod cuda;
mod data;
mod engine;
mod flags;
mod groups;
pub mod loader;
mod log;
pub mod method;
mod network;
mod recipe;
pub mod rehearsal;
pub mod schedule;
pub mod views;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::bail;
use crate::device::{Device, Plan};
use crate::error::{Error, Result};
use crate::say;
use crate::shards::unfinished;
use crate::store;

pub use cadence::SaveEvery;
pub use data::DataRecord;
pub use groups::decay_groups;
pub use network::{Network, Outcome, State, Trainer};
pub use recipe::{Augmentation, BatchNorm, Length, Rate, Recipe};

use cadence::Cadence;
use engine::{Cpu, Engine};
use loader::Loader;
use log::{Entry, Log};

/// File names inside the folder of a run.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
pub const METRICS: &str = "metrics.jsonl";
/// What to change when a run does not fit into memory.
const SMALLER: &str = "lower --batch, --images-per-caption, --image-size or --head-dims, or take a smaller --model (of a custom one, \
    --width and --depth)";
const CONFIG: &str = "config.json";
const CONFIG_TOML: &str = "config.toml";
const DONE: &str = "done.json";

/// A training job.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub recipe: Recipe,
    /// Folder of the run.
    pub output: PathBuf,
    pub save_every: SaveEvery,
    pub device: Device,
    /// Whether a folder that `generate` has not finished may be trained on.
    pub allow_partial: bool,
}

/// What a finished run says of itself (`done.json`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub steps: u64,
    pub images_per_step: usize,
    pub parameters: usize,
    /// Where the trained network is.
    pub checkpoint: PathBuf,
    /// Loss of the last step, if this process ran any.
    #[serde(skip)]
    pub loss: Option<f64>,
}

/// Trains until the schedule ends, resuming what is in the output folder. A finished run is left as it is.
///
/// # Errors
/// Usage (2) for settings that cannot be run or that differ from those of the folder; data (3) for shards, checkpoint or initial weights
/// that cannot be used; device (4) when the memory plan does not fit; diverged (5); interrupted (75) with the state saved.
pub fn run(config: &Config) -> Result<Summary> {
    let Config { recipe, output, device, .. } = config;
    recipe.validate()?;
    check_finished(&recipe.data, config.allow_partial)?;
    let mut loader = Loader::new(&recipe.loader())?;
    for note in loader.notes() {
        say!("note: {note}");
    }
    let data = DataRecord::of(loader.shards());
    let steps_per_epoch = loader.steps_per_epoch();
    let schedule = recipe.schedule(steps_per_epoch)?;

    let network = Network::new(recipe)?;
    let (path, done) = (output.join(CHECKPOINT), output.join(DONE));
    let summary = Summary {
        steps: schedule.steps,
        images_per_step: recipe.images_per_step(),
        parameters: network.table.len(),
        checkpoint: path.clone(),
        loss: None,
    };
    let mut plan = Plan::new();
    plan.record("loader", "decoded images (at most)", loader.cache_bytes());
    plan.record_held("loader", "index of the shards", loader.index_bytes());
    let mut engine = engine(*device, recipe, plan)?;
    if !path.exists() {
        engine.init(recipe)?;
    }
    // Only now that nothing is left to refuse: a folder remembers its first settings.
    let _occupied = store::occupy_folder(output, 0, 1)?;
    let known = data.check(output).map_err(|error| or_begin_anew(error, output))?;
    let began =
        if path.exists() { Some(checkpoint::check(&path, recipe, schedule.steps, steps_per_epoch)) } else { None };
    let began = began.transpose().map_err(|error| or_begin_anew(error, output))?;
    if began.is_some() {
        loader.restore_bad(&checkpoint::bad_pictures(&path, &data)?)?;
    }
    store::claim_folder(output, CONFIG, recipe, flags::FLAGS).map_err(|error| or_begin_anew(error, output))?;
    if !known {
        data.record(output)?;
        if began.is_some() {
            say!("note: {} had not recorded its data; now it belongs to what --data holds", output.display());
        }
    }
    store::write_atomic(output.join(CONFIG_TOML), flags::toml(config)?.as_bytes())?;
    if finished(output, began, schedule.steps)? {
        say!("{} is finished already ({} steps)", output.display(), schedule.steps);
        return Ok(summary);
    }
    if began.is_some() {
        engine.resume(&path, recipe)?;
    }
    describe(recipe, &loader, &summary, engine.step_count());

    let mut log = Log::open(output, engine.step_count(), schedule.steps, recipe)?;
    let record = |log: &mut Log, outcome: Option<Outcome>| -> Result<()> {
        let Some(Outcome { step, loss, grad_norm }) = outcome else { return Ok(()) };
        let (epoch, lr) = (step / steps_per_epoch, schedule.lr(step));
        log.step(Entry { step, epoch, loss, lr, grad_norm, images_per_second: 0.0 })
    };
    let mut cadence = Cadence::new(config.save_every, steps_per_epoch);
    while engine.step_count() < schedule.steps {
        let step = engine.step_count();
        let batch = loader.batch(step / steps_per_epoch, step % steps_per_epoch)?;
        let mut labels = batch.labels();
        recipe.method.label(&mut labels, recipe.batch);
        record(&mut log, engine.step(&batch, &labels, schedule.lr(step))?)?;
        let last = engine.step_count() == schedule.steps;
        if last || store::interrupted() || cadence.due(engine.step_count()) {
            record(&mut log, engine.settle()?)?;
            log.sync()?;
            checkpoint::save(
                &path,
                &network,
                engine.state()?,
                recipe,
                steps_per_epoch,
                (&data, &loader.bad_pictures()),
            )?;
        }
        if !last {
            store::check_interrupt("the state is saved; run the same command again to go on")?;
        }
    }
    let loss = log.finish();
    write_summary(&done, &summary)?;
    Ok(Summary { loss, ..summary })
}

/// Whether the run in `folder` is at its end, given the updates that its checkpoint has done. A `done.json` beside
/// another state is not believed.
fn finished(folder: &Path, began: Option<u64>, steps: u64) -> Result<bool> {
    let done = folder.join(DONE);
    match began {
        _ if !done.exists() => Ok(false),
        Some(step) if step == steps => Ok(true),
        Some(step) => {
            say!("note: {} is there, but {CHECKPOINT} has done {step} of {steps} steps; going on", done.display());
            std::fs::remove_file(&done).map_err(Error::io("remove", &done))?;
            Ok(false)
        }
        None => bail!(
            Data,
            "{}: says that the run is finished, but {CHECKPOINT} is not beside it; put it back, or remove {DONE} to train from the start",
            done.display()
        ),
    }
}

/// A refusal of other settings also says how to go on from the weights of a folder that has some.
fn or_begin_anew(error: Error, folder: &Path) -> Error {
    let checkpoint = folder.join(CHECKPOINT);
    match error {
        Error::Usage(text) if checkpoint.exists() => Error::Usage(format!(
            "{text}; a new run from these weights (longer, or otherwise): --init-from {} with another --output",
            checkpoint.display()
        )),
        error => error,
    }
}

/// Refuses folders that `generate` has not finished, or says that they are not.
fn check_finished(data: &[PathBuf], allowed: bool) -> Result<()> {
    for path in data {
        match unfinished(path) {
            Some(what) if allowed => say!("note: {}: {what}; training on what is there", path.display()),
            Some(what) => bail!(
                Data,
                "{}: {what}; run the same generate command again to finish it, or train on what is there with --allow-partial",
                path.display()
            ),
            None => {}
        }
    }
    Ok(())
}

/// The engine of `device`; `plan` already counts what the host holds beside it.
fn engine(device: Device, recipe: &Recipe, plan: Plan) -> Result<Box<dyn Engine>> {
    match device {
        Device::Cpu => Ok(Box::new(Cpu::new(recipe, plan)?)),
        #[cfg(cuda_kernels)]
        Device::Cuda(ordinal) => Ok(Box::new(cuda::Cuda::new(ordinal, recipe, plan)?)),
    }
}

fn describe(recipe: &Recipe, loader: &Loader, summary: &Summary, step: u64) {
    let views = recipe.views();
    say!(
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
    // Cross-entropy is at least the entropy of its targets, which are equal on all other views of a caption.
    let (others, positives) = (summary.images_per_step - 1, views.slots() - 1);
    say!(
        "the loss begins near ln({others}) = {:.2}, where nothing is told apart, and stays above ln({positives}) = {:.2}, where all views of a \
         caption are alike",
        (others as f64).ln(),
        (positives as f64).ln()
    );
}

fn write_summary(path: &Path, summary: &Summary) -> Result<()> {
    let text = serde_json::to_string_pretty(summary).map_err(|e| Error::Failed(e.to_string()))?;
    store::write_atomic(path, (text + "\n").as_bytes())
}
