//! A training run from its first step, or from its checkpoint, to its last.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cadence::Cadence;
use super::cpu::Cpu;
#[cfg(cuda_kernels)]
use super::cuda;
use super::engine::Engine;
use super::job::{CHECKPOINT, Config, DONE, PICTURES};
use super::loader::{Loader, Pictures};
use super::log::{Found, Log};
use super::recipe::Recipe;
use super::state::Outcome;
use super::test::{Scores, Tester};
use super::watch::Watch;
use super::{checkpoint, chunk, claim};
use crate::device::{Device, Plan};
use crate::error::{Error, Result};
use crate::image::encode_png;
use crate::ops::gemm::Operands;
use crate::say;
use crate::store;

/// What a finished run says of itself (`done.json`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub steps: u64,
    pub images_per_step: usize,
    pub parameters: usize,
    /// Where the trained network is.
    pub checkpoint: PathBuf,
    /// What it scored in the end, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Scores>,
    /// Loss of the last step, if this process ran any.
    #[serde(skip)]
    pub loss: Option<f64>,
}

/// Trains until the schedule ends, resuming what is in the output folder. A finished run is left as it is.
///
/// # Errors
/// Usage (2) for settings that cannot be run or that differ from those of the folder; data (3) for shards, checkpoint
/// or initial weights that cannot be used; device (4) when the memory plan does not fit; diverged (5); interrupted (75)
/// with the state saved.
pub fn run(config: &Config) -> Result<Summary> {
    let mut config = config.clone();
    config.recipe.validate()?;
    claim::check_finished(&config.recipe.data, config.allow_partial)?;
    let mut loader = Loader::new(&config.recipe.loader(config.tokenizer.clone()))?;
    if let Some(finetune) = &mut config.recipe.finetune {
        finetune.classes.get_or_insert(loader.classes());
        finetune.validate()?;
    }
    for note in loader.notes() {
        say!("note: {note}");
    }
    let steps_per_epoch = loader.steps_per_epoch();
    let schedule = config.recipe.schedule(steps_per_epoch)?;

    let mut tester = Tester::open(&config, steps_per_epoch)?;

    let mut plan = Plan::new();
    plan.record("loader", "decoded images (at most)", loader.cache_bytes());
    if config.recipe.finetune.is_some() || config.recipe.segment.is_some() {
        let views = config.recipe.images_per_step() * config.recipe.model.image_len();
        plan.record("loader", "views, before and after they are made", 2 * views as u64);
    }
    plan.record_held("loader", "index of the shards", loader.index_bytes());
    // A run that goes on holds as much as it did: its bits depend on it.
    config.activations = config.activations.or(claim::recorded(&config)?);
    let watch = config.watch.as_ref();
    let mut watch = watch.map(|watch| Watch::open(watch, &config, steps_per_epoch, &mut plan)).transpose()?;
    let mut engine = engine(&mut config, loader.pictures(), plan)?;
    let Config { recipe, output, .. } = &config;
    let network = recipe.network()?;
    let (path, done) = (output.join(CHECKPOINT), output.join(DONE));
    let summary = Summary {
        steps: schedule.steps,
        images_per_step: recipe.images_per_step(),
        parameters: network.parameters().len(),
        checkpoint: path.clone(),
        test: None,
        loss: None,
    };
    if !path.exists() {
        engine.init(recipe)?;
    }
    // Only now that nothing is left to refuse: a folder remembers its first settings.
    let scored = tester.iter().flat_map(Tester::scored).chain(watch.iter().flat_map(Watch::scored)).collect();
    let claim = claim::claim(&config, &mut loader, schedule.steps, &scored)?;
    if claim.began.is_some() {
        // All of it is read before a run is called finished.
        engine.resume(&path, recipe)?;
    }
    if claim::finished(output, claim.began, schedule.steps)? {
        say!("{} is finished already ({} steps)", output.display(), schedule.steps);
        return Ok(summary);
    }
    describe(recipe, &loader, &summary, engine.step_count());

    let mut log = Log::open(output, engine.step_count(), (schedule, steps_per_epoch), recipe)?;
    let mut tested = None;
    if engine.step_count() > 0 {
        // What a signal kept from being scored.
        let (now, line) = (engine.step_count(), Log::last_line(output).unwrap_or_default());
        let last = now == schedule.steps;
        let lacks = |key: &str| line["step"] == now - 1 && line.get(key).is_none();
        let look = watch.as_mut().is_some_and(|watch| (watch.due(now) || last) && lacks("knn"));
        let test = tester.as_mut().is_some_and(|tester| (tester.due(now) || last) && lacks("test"));
        let found = Found {
            test: tester.as_ref().filter(|_| test).map_or(Ok(None), |tester| tester.score(&mut *engine))?,
            watch: watch.as_ref().filter(|_| look).map_or(Ok(None), |watch| watch.scores(&mut *engine, &*network))?,
        };
        log.make_up(now - 1, found)?;
        store::check_interrupt("what is scored is left for the next time: run the same command again")?;
        tested = found.test;
    }
    let mut cadence = Cadence::new(config.save_every, steps_per_epoch);
    while engine.step_count() < schedule.steps {
        let step = engine.step_count();
        let batch = loader.batch(step / steps_per_epoch, step % steps_per_epoch)?;
        let numbers = recipe.numbers(&*network, &batch, step)?;
        log.begins(step, network.floor(&numbers));
        let ended = engine.step(&batch, &numbers, schedule.position(step, steps_per_epoch))?;
        let now = engine.step_count();
        let last = now == schedule.steps;
        let look = watch.as_mut().and_then(|watch| (watch.due(now) || last).then_some(&*watch));
        let test = tester.as_mut().and_then(|tester| (tester.due(now) || last).then_some(&*tester));
        let mut missed = false;
        let mut record = |engine: &mut dyn Engine, outcome: Option<Outcome>| match outcome {
            Some(outcome) if outcome.step == step => log.step(outcome, || {
                tested = test.map_or(Ok(None), |test| test.score(engine))?;
                let watch = look.map_or(Ok(None), |watch| watch.scores(engine, &*network))?;
                missed = test.is_some() && tested.is_none() || look.is_some() && watch.is_none();
                Ok(Found { test: tested, watch })
            }),
            Some(outcome) => log.step(outcome, || Ok(Found::default())),
            None => Ok(()),
        };
        record(&mut *engine, ended)?;
        if look.is_some() || test.is_some() {
            let settled = engine.settle()?;
            record(&mut *engine, settled)?;
        }
        // A signal that comes later stops the next step.
        let stop = store::interrupted();
        if cadence.due(now) || last || stop {
            let settled = engine.settle()?;
            record(&mut *engine, settled)?;
            log.sync()?;
            if let Some(sheet) = network.pictures(&batch, &numbers, &mut |buffer| engine.read(buffer))? {
                store::write_atomic(output.join(PICTURES), &encode_png(&sheet)?)?;
            }
            checkpoint::save(
                &path,
                &*network,
                engine.state()?,
                recipe,
                steps_per_epoch,
                (&claim.data, &loader.bad_pictures()),
            )?;
        }
        if stop && (missed || !last) {
            store::check_interrupt("the state is saved; run the same command again to go on")?;
        }
    }
    let loss = log.finish()?;
    // Scored before, and stopped before it was said.
    if let (Some(tester), None) = (&tester, tested) {
        tested = tester.score(&mut *engine)?;
        store::check_interrupt("the state is saved; run the same command again to score it")?;
    }
    let summary = Summary { test: tested, loss, ..summary };
    write_summary(&done, &summary)?;
    Ok(summary)
}

/// The engine of a run for steps of `pictures`, which settles what of its recipe is held at once; `plan` already counts
/// what the host holds beside it.
#[cfg_attr(not(cuda_kernels), expect(unused_variables, reason = "a GPU alone makes room for pictures"))]
fn engine(config: &mut Config, pictures: Pictures, plan: Plan) -> Result<Box<dyn Engine>> {
    let Config { recipe, activations, watch, .. } = config;
    match config.device {
        Device::Cpu => Ok(Box::new(Cpu::new(recipe, *activations, plan)?)),
        #[cfg(cuda_kernels)]
        Device::Cuda(ordinal) => {
            Ok(Box::new(cuda::Cuda::new(ordinal, recipe, *activations, (pictures, watch.is_some()), plan)?))
        }
    }
}

fn describe(recipe: &Recipe, loader: &Loader, summary: &Summary, step: u64) {
    let views = recipe.views();
    say!(
        "training {} parameters on {} captions with {} images: {} steps of {} captions × {} images × {}{}{}",
        summary.parameters,
        loader.captions(),
        loader.images(),
        summary.steps,
        recipe.batch,
        views.images,
        recipe.crops_said(),
        if recipe.cpu_precision == Operands::Bf16 { ", multiplied in bf16" } else { "" },
        if step > 0 { format!(", going on after step {step}") } else { String::new() }
    );
    if let Some(said) = chunk::said(recipe) {
        say!("{said}");
    }
    say!("{}", recipe.method.method().expectation(recipe.batch, views, recipe.temperature));
    if let Some(slots) = recipe.queue {
        let others = slots + summary.images_per_step - 1;
        say!("a full queue makes that {others} others to tell from: ln {:.2}", (others as f64).ln());
    }
}

fn write_summary(path: &Path, summary: &Summary) -> Result<()> {
    let text = serde_json::to_string_pretty(summary).map_err(|e| Error::Failed(e.to_string()))?;
    store::write_atomic(path, (text + "\n").as_bytes())
}
