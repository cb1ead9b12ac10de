//! One safetensors file that holds all a run needs to go on in the same bits, and that other tools can read.
//!
//! | tensors | |
//! |---|---|
//! | `visual.NAME` | backbone, timm's names (as in the official checkpoints) |
//! | `image_mlp.{layer1,bn1,layer2,bn2,layer3}.…` | head, with the running statistics of its batch norms |
//! | `adam.m.NAME`, `adam.v.NAME` | AdamW's moments of each parameter |
//!
//! Free text of the header: `format`, `step` (updates done), `epoch` and `position` (of the next step, and within that epoch),
//! `config` (the recipe, JSON), `model` (sizes of the ViT, JSON), `mean` and `std` (of the normalised pixels, JSON).

use std::path::Path;

use super::network::{Network, State};
use super::recipe::Recipe;
use crate::bail;
use crate::error::{Error, Result};
use crate::ops::augment::Normalize;
use crate::weights::{NamedTensor, ParamTable, SafeTensors, write_safetensors};

/// What `format` says.
const FORMAT: &str = "stablerep checkpoint 1";

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Failed(format!("cannot describe the checkpoint: {e}")))
}

/// Writes `state` atomically; a crash leaves the checkpoint before it.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, network: &Network, state: &State, recipe: &Recipe, steps_per_epoch: u64) -> Result<()> {
    let mut tensors: Vec<NamedTensor> = Vec::new();
    let mut add = |prefix: &str, table: &ParamTable, values| {
        for info in table.iter() {
            tensors.push((format!("{prefix}{}", info.name), info.shape.clone(), info.param.of(values)));
        }
    };
    add("", &network.table, &state.params);
    add("", &network.statistics, &state.statistics);
    add("adam.m.", &network.table, &state.m);
    add("adam.v.", &network.table, &state.v);
    let metadata = [
        ("format", FORMAT.to_owned()),
        ("step", state.step.to_string()),
        ("epoch", (state.step / steps_per_epoch).to_string()),
        ("position", (state.step % steps_per_epoch).to_string()),
        ("config", json(recipe)?),
        ("model", json(&recipe.model)?),
        ("mean", json(&Normalize::IMAGENET_MEAN)?),
        ("std", json(&Normalize::IMAGENET_STD)?),
    ];
    write_safetensors(path, &tensors, &metadata)
}

/// Fills `state` from the file.
///
/// # Errors
/// Bad data if the file is damaged, of another kind, or of another recipe.
pub fn load(path: &Path, network: &Network, state: &mut State, recipe: &Recipe) -> Result<()> {
    let file = SafeTensors::open(path)?;
    let shown = path.display();
    if file.metadata("format") != Some(FORMAT) {
        bail!(
            Data,
            "{shown}: not a checkpoint of this program (expected `format` = `{FORMAT}` in its header); use another --output"
        );
    }
    if file.metadata("config") != Some(json(recipe)?.as_str()) {
        bail!(Data, "{shown}: written by a run of other settings; use another --output");
    }
    let Some(step) = file.metadata("step").and_then(|text| text.parse().ok()) else {
        bail!(Data, "{shown}: no number `step` in its header; the file is damaged, remove it to start over");
    };
    let read = |prefix: &str, table: &ParamTable, values: &mut [f32]| -> Result<()> {
        for info in table.iter() {
            let tensor = file.f32(&format!("{prefix}{}", info.name), &info.shape)?;
            info.param.of_mut(values).copy_from_slice(&tensor);
        }
        Ok(())
    };
    read("", &network.table, &mut state.params)?;
    read("", &network.statistics, &mut state.statistics)?;
    read("adam.m.", &network.table, &mut state.m)?;
    read("adam.v.", &network.table, &mut state.v)?;
    state.step = step;
    Ok(())
}
