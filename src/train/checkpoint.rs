//! One safetensors file that holds all a run needs to go on in the same bits, and that other tools can read.
//!
//! | tensors | |
//! |---|---|
//! | `visual.NAME` | backbone, timm's names (as in the official checkpoints) |
//! | `image_mlp.{layer1,bn1,layer2,bn2,layer3}.…` | head, with the running statistics that it keeps |
//! | `projector.…`, `predictor.…`; `head.…`, `centre` | heads of MoCo v3 and BYOL; of DINO, with its centre |
//! | `fc_norm.…`, `head.{weight,bias}` | classifier of fine-tuning, and the norm before it where the mean is pooled |
//! | `momentum.NAME` | the momentum copy of each tensor that has one |
//! | `queue.keys`, `queue.labels` | keys of earlier steps, and the bits of their labels (an empty slot: the largest f32) |
//! | `adam.m.NAME`, `adam.v.NAME` | AdamW's moments of each parameter; LARS has its momentum as the first alone |
//!
//! Free text of the header: `format`, `step` (updates done), `epoch` and `position` (of the next step, and within that
//! epoch), `bad_updates` (how many were left out; absent where none was), `data` (hash of the shards), `bad` (numbers
//! of the pictures that did not decode so far, JSON), `config` (the recipe, JSON), `model` (sizes of the ViT, JSON),
//! `mean` and `std` (of the normalised pixels, JSON).

use std::path::Path;

use super::data::DataRecord;
use super::flags::FLAGS;
use super::method::Network;
use super::recipe::{Recipe, settled};
use super::state::{State, diverged};
use crate::bail;
use crate::config::differences;
use crate::error::{Error, Result};
use crate::ops::augment::Normalize;
use crate::weights::{NamedTensor, ParamTable, SafeTensors, write_safetensors};

/// How many updates were left out so far, where any was.
const BAD_UPDATES: &str = "bad_updates";

/// What `format` says.
const FORMAT: &str = "stablerep checkpoint 1";

/// How to go on without a checkpoint that is not whole.
const DAMAGED: &str = "the file is damaged: put a good copy in its place, or remove it to train from the start";

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Failed(format!("cannot describe the checkpoint: {e}")))
}

/// Writes `state` atomically; a crash leaves the checkpoint before it. `data` and the pictures of it that did not
/// decode so far are noted.
///
/// # Errors
/// Diverged, with the file left as it is, if a value is not finite; if the file cannot be written.
pub fn save(
    path: &Path,
    network: &dyn Network,
    state: &State,
    recipe: &Recipe,
    steps_per_epoch: u64,
    (data, bad): (&DataRecord, &[u32]),
) -> Result<()> {
    let mut tensors: Vec<NamedTensor> = Vec::new();
    let mut add = |prefix: &str, table: &ParamTable, values| {
        for info in table.iter() {
            tensors.push((format!("{prefix}{}", info.name), info.shape.clone(), info.param.of(values)));
        }
    };
    add("", network.parameters(), &state.params);
    add("", network.kept(), &state.kept);
    add("adam.m.", network.parameters(), &state.m);
    if !state.v.is_empty() {
        add("adam.v.", network.parameters(), &state.v);
    }
    for (name, _, values) in &tensors {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(diverged(state.step.saturating_sub(1), "a value after the update", f64::from(*value), name));
        }
    }
    let mut metadata = vec![
        ("format", FORMAT.to_owned()),
        ("step", state.step.to_string()),
        ("epoch", (state.step / steps_per_epoch).to_string()),
        ("position", (state.step % steps_per_epoch).to_string()),
        ("data", data.sha256()),
        ("bad", json(&bad)?),
        ("config", json(recipe)?),
        ("model", json(&recipe.model)?),
        ("mean", json(&Normalize::IMAGENET_MEAN)?),
        ("std", json(&Normalize::IMAGENET_STD)?),
    ];
    if state.bad_updates > 0 {
        metadata.push((BAD_UPDATES, state.bad_updates.to_string()));
    }
    write_safetensors(path, &tensors, &metadata)
}

/// Updates that the checkpoint has done, once its header fits a run of `recipe` with so many steps. Values are read by
/// [`load`].
///
/// # Errors
/// Usage error for settings that differ, by their flags; bad data if the file is damaged, of another kind, or not of
/// this run.
pub fn check(path: &Path, recipe: &Recipe, steps: u64, steps_per_epoch: u64) -> Result<u64> {
    let shown = path.display();
    let file = SafeTensors::open(path).map_err(or_start_over)?;
    let step = step(&file, recipe)?;
    if step > steps {
        bail!(Data, "{shown}: has done {step} steps (`step` in its header), but the run has {steps}; {DAMAGED}");
    }
    for (key, expected) in [("epoch", step / steps_per_epoch), ("position", step % steps_per_epoch)] {
        let found = number(&file, key)?;
        if found != expected {
            bail!(
                Data,
                "{shown}: `{key}` in its header is {found}, but step {step} has {key} {expected} at the {steps_per_epoch} steps per epoch \
                 that --data gives now; is it the data of the run? Else {DAMAGED}"
            );
        }
    }
    Ok(step)
}

/// The pictures that the run had found unreadable, for [`super::loader::Loader::restore_bad`]; none in files of
/// versions that did not note them. `pictures` is how many there are.
///
/// # Errors
/// Bad data if the file was written over other data than `data`, or its note cannot be of such pictures.
pub fn bad_pictures(path: &Path, data: &DataRecord, pictures: u32) -> Result<Vec<u32>> {
    let file = SafeTensors::open(path)?;
    if file.metadata("data").is_some_and(|hash| hash != data.sha256()) {
        bail!(Data, "{}: was written by a run over other data; use that, or another --output", path.display());
    }
    let Some(text) = file.metadata("bad") else { return Ok(Vec::new()) };
    let bad: Option<Vec<u32>> = serde_json::from_str(text).ok();
    // As `save` writes them: each once, in order.
    match bad.filter(|bad| bad.is_sorted_by(|a, b| a < b) && bad.last().is_none_or(|&last| last < pictures)) {
        Some(bad) => Ok(bad),
        None => bail!(
            Data,
            "{}: `bad` in its header is {text}, expected the numbers of pictures that could not be read, ascending \
             and below {pictures}, such as [3,17]; {DAMAGED}",
            path.display()
        ),
    }
}

/// Fills `state` from the file.
///
/// # Errors
/// Bad data if the file is damaged, of another kind, of other sizes, or holds values that no training can have; usage
/// error for settings that differ.
pub fn load(path: &Path, network: &dyn Network, state: &mut State, recipe: &Recipe) -> Result<()> {
    let file = SafeTensors::open(path).map_err(or_start_over)?;
    let step = step(&file, recipe)?;
    let read = |prefix: &str, table: &ParamTable, values: &mut [f32]| -> Result<()> {
        for info in table.iter() {
            let name = format!("{prefix}{}", info.name);
            let tensor = file.f32(&name, &info.shape).map_err(or_start_over)?;
            let squares = prefix == "adam.v." || name.ends_with("running_var");
            if let Some(value) = tensor.iter().find(|value| squares && **value < 0.0) {
                bail!(Data, "{}: tensor `{name}` holds {value}, a mean of squares below 0; {DAMAGED}", path.display());
            }
            info.param.of_mut(values).copy_from_slice(&tensor);
        }
        Ok(())
    };
    read("", network.parameters(), &mut state.params)?;
    read("", network.kept(), &mut state.kept)?;
    read("adam.m.", network.parameters(), &mut state.m)?;
    // Those that earlier versions kept for LARS, all zeros, are left unread.
    if !state.v.is_empty() {
        read("adam.v.", network.parameters(), &mut state.v)?;
    }
    state.step = step;
    state.bad_updates = match file.metadata(BAD_UPDATES) {
        Some(_) => number(&file, BAD_UPDATES)?,
        None => 0,
    };
    Ok(())
}

/// `step` of a checkpoint of this program that was written by a run of `recipe`.
fn step(file: &SafeTensors, recipe: &Recipe) -> Result<u64> {
    let shown = file.path().display();
    if file.metadata("format") != Some(FORMAT) {
        bail!(
            Data,
            "{shown}: not a checkpoint of this program (expected `format` = `{FORMAT}` in its header); use another --output, or \
             --init-from to start from its weights"
        );
    }
    let Some(config) = file.metadata("config") else {
        bail!(Data, "{shown}: no `config` in its header; {DAMAGED}");
    };
    let config = serde_json::from_str(config)
        .map_err(|e| Error::Data(format!("{shown}: `config` in its header is not JSON ({e}); {DAMAGED}")))?;
    let differ = differences(&settled(config), recipe, FLAGS).map_err(|e| Error::Failed(format!("{shown}: {e}")))?;
    if !differ.is_empty() {
        bail!(
            Usage,
            "{shown} was written by a run with other settings:\n{}\nuse the old settings to resume, or another --output",
            differ.join("\n")
        );
    }
    number(file, "step")
}

fn number(file: &SafeTensors, key: &str) -> Result<u64> {
    match file.metadata(key).map(str::parse) {
        Some(Ok(number)) => Ok(number),
        _ => bail!(
            Data,
            "{}: `{key}` in its header is {:?}, expected a whole number; {DAMAGED}",
            file.path().display(),
            file.metadata(key).unwrap_or("absent")
        ),
    }
}

/// Weights of a run cannot be downloaded again: what to do instead.
fn or_start_over(error: Error) -> Error {
    match error {
        Error::Data(text) => Error::Data(format!("{text}. If it is this run's own checkpoint, {DAMAGED}")),
        error => error,
    }
}
