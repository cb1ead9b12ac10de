//! `stablerep bench train`: images per second, where the time of an update goes and how much of the device is used.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::counts::Counts;
use super::machine::Machine;
use super::table::{cells, flop, large, three};
use crate::device::{Device, human_bytes};
use crate::error::Result;
use crate::ops::gemm::Operands;
use crate::train::method::LOSS;
use crate::train::rehearsal::{Flops, Rehearsal, Stage};
use crate::train::{Activations, Recipe};

/// Which update to run, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    pub recipe: Recipe,
    pub activations: Activations,
    pub device: Device,
    /// Measured updates; when absent, as many as `seconds` hold.
    pub steps: Option<usize>,
    pub seconds: f64,
    /// Where the simulated driver appends its counts.
    pub counts: Option<PathBuf>,
}

/// Fewest and most updates of a measurement by time, and updates with marks between their parts.
const FEWEST: usize = 3;
const MOST: usize = 10_000;
const STAGED: usize = 5;

/// Measures, `print`ing as it goes; returns everything as JSON. On the simulated driver one update is counted.
///
/// # Errors
/// Those of [`Rehearsal::new`], and of an update that is not finite.
pub fn train(options: &Options, print: &mut dyn FnMut(String)) -> Result<Value> {
    let mut machine = Machine::open(options.device, options.counts.clone())?;
    // Before the run takes its memory.
    let peak = machine.peak()?;
    let free = machine.free()?;
    let mut recipe = options.recipe.clone();
    let mut rehearsal = Rehearsal::new(options.device, &mut recipe, options.activations)?;
    let used = free.zip(machine.free()?).map(|(before, now)| before.saturating_sub(now));
    let flops = Flops::of(&recipe)?;
    let mut all = head(&recipe, &machine, &rehearsal, flops, peak, print);
    all["planned_bytes"] = json!(rehearsal.planned_bytes());
    all["used_bytes"] = json!(used);
    if machine.counts().is_some() {
        count(&machine, &mut rehearsal, &mut all, print)?;
        return Ok(all);
    }

    // The first updates set clocks and caches; one of them says how many there is time for.
    let warm = rehearsal.updates(2)?;
    let count = |ms: &f64| ((1e3 * options.seconds / ms) as usize).clamp(FEWEST, MOST);
    let steps = options.steps.unwrap_or_else(|| warm.last().map_or(FEWEST, count));
    let mut times = rehearsal.updates(steps)?;
    let stages = mean((0..STAGED.min(steps)).map(|_| rehearsal.stages()).collect::<Result<_>>()?);
    let loss = rehearsal.loss()?;
    let mean_ms = times.iter().sum::<f64>() / steps as f64;
    times.sort_by(f64::total_cmp);
    let (median_ms, rate) = (times[steps / 2], 1e3 * flops.images as f64 / mean_ms);
    let done = flops.update() / (1e-3 * mean_ms);
    let mfu = peak.map(|peak| done / peak);
    print(cells([
        three(rate),
        three(mean_ms),
        three(median_ms),
        three(times[0]),
        three(done / 1e12),
        mfu.map_or("–".into(), |mfu| format!("{:.1} %", 100.0 * mfu)),
        human_bytes(rehearsal.planned_bytes()),
        used.map_or("–".into(), human_bytes),
    ]));
    print(String::new());
    let sum: f64 = stages.iter().map(|stage| stage.milliseconds).sum();
    print("| stage | ms | share | kernels |".into());
    print("|---|--:|--:|--:|".into());
    for stage in &stages {
        let share = format!("{:.1} %", 100.0 * stage.milliseconds / sum);
        print(cells([stage.name.into(), three(stage.milliseconds), share, stage.kernels.to_string()]));
    }
    print(cells(["sum of the parts, with marks between".into(), three(sum), String::new(), String::new()]));
    print(cells(["the update as measured above".into(), three(mean_ms), String::new(), String::new()]));
    let share = |stage: &Stage| stage.milliseconds / sum;
    all["updates"] = json!(steps);
    all["images_per_s"] = json!(rate);
    all["ms_per_update"] = json!(mean_ms);
    all["median_ms"] = json!(median_ms);
    all["min_ms"] = json!(times[0]);
    all["flops_per_s"] = json!(done);
    all["computed_flops_per_s"] = json!(flops.update_computed() / (1e-3 * mean_ms));
    all["mfu"] = json!(mfu);
    all["loss"] = json!(loss);
    all["loss_share"] = json!(stages.iter().find(|stage| stage.name == LOSS).map(share));
    all["staged_ms"] = json!(sum);
    all["stages"] = stages.iter().map(stage_json).collect();
    Ok(all)
}

fn stage_json(stage: &Stage) -> Value {
    json!({ "stage": stage.name, "ms": stage.milliseconds, "kernels": stage.kernels })
}

/// What is known before the first update, and the head of its table.
fn head(
    recipe: &Recipe,
    machine: &Machine,
    rehearsal: &Rehearsal,
    flops: Flops,
    peak: Option<f64>,
    print: &mut dyn FnMut(String),
) -> Value {
    let simulated = machine.counts().is_some();
    let name = recipe.model.timm_name().unwrap_or_else(|| "custom ViT".into());
    let views = recipe.views();
    print(format!("{}{}", machine.name(), if simulated { ": counts of one update, no times" } else { "" }));
    print(format!(
        "{name}, {} parameters with its head: {} captions × {} images × {} = {} images an update, {}{}",
        rehearsal.parameters(),
        recipe.batch,
        views.images,
        recipe.crops_said(),
        recipe.rows_per_step(),
        held(recipe),
        if recipe.cpu_precision == Operands::Bf16 { ", multiplied in bf16" } else { "" },
    ));
    print(format!(
        "An image's forward: {}, head {}; an update: {} (three times the forwards, loss {}), {} computed, as only the \
         class token leaves the last block{}.{}",
        flop(flops.encoder),
        flop(flops.head),
        flop(flops.update()),
        flop(flops.loss),
        flop(flops.update_computed()),
        if flops.again > 0.0 { format!(" and {} run forward twice", flop(flops.again)) } else { String::new() },
        peak.map_or(String::new(), |peak| format!(" MFU is of {:.0} TFLOP/s, a product 8192³ in bf16.", peak / 1e12)),
    ));
    print(String::new());
    if simulated {
        print("| stage | launches | warp instr. | read | written | bulk copies |".into());
        print("|---|--:|--:|--:|--:|--:|".into());
    } else {
        print("| images/s | ms per update | median | min | TFLOP/s | MFU | memory: plan | used |".into());
        print("|--:|--:|--:|--:|--:|--:|--:|--:|".into());
    }
    json!({
        "device": machine.name(),
        "simulated": simulated,
        "cpu_precision": recipe.cpu_precision,
        "model": name,
        "parameters": rehearsal.parameters(),
        "images_per_update": flops.images,
        "captions": recipe.batch,
        "images_per_caption": views.images,
        "crops": views.crops,
        "local_crops": recipe.local,
        "chunk": recipe.chunk,
        "recompute": recipe.recompute,
        "flops": {
            "encoder_forward_per_image": flops.encoder,
            "head_forward_per_image": flops.head,
            "texts_forward_per_update": flops.texts,
            "loss_per_update": flops.loss,
            "update": flops.update(),
            "update_computed": flops.update_computed(),
        },
        "peak_flops_per_s": peak,
    })
}

/// What of the activations is held at once, in words.
pub(super) fn held(recipe: &Recipe) -> String {
    let chunk = recipe.chunk.map_or("all at once".to_owned(), |chunk| format!("{chunk} at once"));
    if recipe.recompute { format!("{chunk}, norms and GELUs again") } else { chunk }
}

/// Of the same stages several times.
fn mean(all: Vec<Vec<Stage>>) -> Vec<Stage> {
    let times = all.len() as f64;
    let mut stages = all[0].clone();
    for (i, stage) in stages.iter_mut().enumerate() {
        stage.milliseconds = all.iter().map(|stages| stages[i].milliseconds).sum::<f64>() / times;
    }
    stages
}

/// One replay, and the stages of one update kernel by kernel: how many, not how long.
fn count(machine: &Machine, rehearsal: &mut Rehearsal, all: &mut Value, print: &mut dyn FnMut(String)) -> Result<()> {
    let before = rehearsal.queued();
    let counts: Counts = machine.count(|| rehearsal.updates(1).map(drop))?;
    let queued = rehearsal.queued().since(before);
    let stages = rehearsal.stages()?;
    for stage in &stages {
        let mut row = vec![stage.name.to_owned(), stage.kernels.to_string()];
        row.extend(vec![String::new(); 4]);
        print(cells(row));
    }
    let numbers = [counts.warp_instructions, counts.global_read_bytes, counts.global_write_bytes, counts.bulk_bytes];
    let mut row = vec!["an update, replayed".to_owned(), counts.launches.to_string()];
    row.extend(numbers.map(large));
    print(cells(row));
    all["replays"] = json!(queued.replays);
    all["kernels_per_update"] = json!(queued.replayed);
    all["loss"] = json!(rehearsal.loss()?);
    let kernels = |stage: &Stage| json!({ "stage": stage.name, "kernels": stage.kernels });
    all["stages"] = stages.iter().map(kernels).collect();
    all["counts"] = json!(counts);
    Ok(())
}
