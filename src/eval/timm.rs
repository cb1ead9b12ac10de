//! timm folders: `model.safetensors` under timm's names and `config.json` as timm's hub models have it.

use std::path::Path;

use serde_json::{Value, json};

use super::encoder::{Encoder, Hints};
use crate::bail;
use crate::error::{Error, Result};
use crate::models::vit::VitConfig;
use crate::store::{create_dir, write_atomic};
use crate::weights::{NamedTensor, write_safetensors};

/// Writes `encoder` as a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads bit for bit.
/// `config.json` comes last: a folder with one is whole.
///
/// # Errors
/// `Io` when the folder cannot be written.
pub fn export(encoder: &Encoder, folder: &Path) -> Result<()> {
    create_dir(folder)?;
    let tensors: Vec<NamedTensor> = encoder
        .vit()
        .tensors()
        .map(|(name, shape, param)| (name.to_string(), shape.to_vec(), param.of(encoder.params())))
        .collect();
    write_safetensors(folder.join("model.safetensors"), &tensors, &[("format", "pt".into())])?;
    let text = serde_json::to_string_pretty(&config_json(encoder)).map_err(|e| Error::Failed(e.to_string()))?;
    write_atomic(folder.join("config.json"), (text + "\n").as_bytes())
}

/// timm's description of the model. Sizes that are not those of a named ViT are spelled out as `model_args`.
fn config_json(encoder: &Encoder) -> Value {
    let model = encoder.vit().config();
    let standard = model.timm_name().filter(|name| VitConfig::named(name).as_ref() == Some(model));
    let side = model.image_size;
    let pretrained = json!({
        "tag": "stablerep",
        "custom_load": false,
        "input_size": [3, side, side],
        "fixed_input_size": true,
        "interpolation": "bilinear",
        "crop_pct": if side >= 128 { 0.875 } else { 1.0 },
        "crop_mode": "center",
        "mean": encoder.mean().map(shortest),
        "std": encoder.std().map(shortest),
        "num_classes": 0,
        "pool_size": null,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    });
    let mut config = json!({
        "architecture": standard.as_deref().unwrap_or("vit_tiny_patch16_224"),
        "num_classes": 0,
        "num_features": model.width,
        "global_pool": "token",
        "pretrained_cfg": pretrained,
    });
    if standard.is_none() {
        config["model_args"] = json!({
            "img_size": side,
            "patch_size": model.patch_size,
            "embed_dim": model.width,
            "depth": model.depth,
            "num_heads": model.heads,
            "mlp_ratio": model.mlp_ratio,
        });
    }
    config
}

/// The f64 that prints as short as the f32 does (0.485, not 0.48500001430511475), and rounds back to it.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Reads a timm `config.json`.
///
/// # Errors
/// `Data` when the file is no JSON, describes no ViT that pools its class token, or a value is of the wrong kind.
pub(super) fn read_config(path: &Path) -> Result<Hints> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let config: Value = serde_json::from_slice(&bytes).map_err(|e| Error::Data(format!("{shown}: not JSON ({e})")))?;
    let Some(architecture) = config.get("architecture").and_then(Value::as_str) else {
        bail!(Data, "{shown}: no `architecture`; expected timm's config.json, e.g. \"vit_base_patch16_224\"");
    };
    match config.get("global_pool").and_then(Value::as_str) {
        None | Some("token" | "") => {}
        Some(pool) => bail!(
            Data,
            "{shown}: global_pool is {pool:?}; only the class token (\"token\") is read as the feature here"
        ),
    }
    let args = config.get("model_args").unwrap_or(&Value::Null);
    let heads = match args.get("num_heads") {
        Some(heads) => match heads.as_u64() {
            Some(heads) => Some(heads as usize),
            None => bail!(Data, "{shown}: model_args.num_heads is {heads}, expected a number"),
        },
        None => VitConfig::named(base_name(architecture)).map(|model| model.heads),
    };
    // Older files have the fields of `pretrained_cfg` at their top.
    let pretrained = config.get("pretrained_cfg").unwrap_or(&config);
    let triple = |key: &str| -> Result<Option<[f32; 3]>> {
        let Some(value) = pretrained.get(key) else { return Ok(None) };
        match serde_json::from_value::<[f32; 3]>(value.clone()) {
            Ok(three) if three.iter().all(|v| v.is_finite()) => Ok(Some(three)),
            _ => bail!(Data, "{shown}: {key} is {value}, expected three numbers"),
        }
    };
    Ok(Hints { heads, mean: triple("mean")?, std: triple("std")? })
}

/// `vit_base_patch16_224.augreg_in21k` → `vit_base`: the part that tells width, depth and heads.
fn base_name(architecture: &str) -> &str {
    architecture.split_once("_patch").map_or(architecture, |(base, _)| base)
}
