//! timm folders: `model.safetensors` under timm's names and `config.json` as timm's hub models have it.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::encoder::Encoder;
use crate::bail;
use crate::config::hex;
use crate::error::{Error, Result};
use crate::models::vit::VitConfig;
use crate::store::{create_dir, write_atomic};
use crate::weights::{NamedTensor, SafeTensors, write_safetensors};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// What the header of exported weights says of them, so that an export knows its own again.
const WRITTEN_BY: (&str, &str) = ("written_by", "stablerep export");

/// Key of the header under which exported weights know the `config.json` beside them (SHA-256, hex).
const CONFIG_SHA256: &str = "config_sha256";

/// What `pretrained_cfg` calls the weights.
const TAG: &str = "stablerep";

/// Writes `encoder` as a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads bit for bit.
/// `config.json` comes last: a folder with one is whole.
///
/// # Errors
/// `Usage` for an encoder that is not timm's plain ViT, and when there is something in the folder
/// that no export wrote, or that was changed since; `Io` when it cannot be written.
pub fn export(encoder: &Encoder, folder: &Path) -> Result<()> {
    let variant = encoder.vit().config().variant;
    if !variant.is_plain() {
        bail!(
            Usage,
            "{}: has {}, which timm's plain ViT has not; only plain ones are exported (timm reads such weights as they are)",
            encoder.source(),
            variant.describe()
        );
    }
    let text = serde_json::to_string_pretty(&config_json(encoder)).map_err(|e| Error::Failed(e.to_string()))? + "\n";
    refuse_foreign(folder, &text)?;
    create_dir(folder)?;
    let config = folder.join(CONFIG);
    if fs::read(&config).is_ok_and(|old| old != text.as_bytes()) {
        // Old sizes beside new weights would read as a whole folder.
        fs::remove_file(&config).map_err(Error::io("remove", &config))?;
    }
    let tensors: Vec<NamedTensor> = encoder
        .vit()
        .tensors()
        .map(|(name, shape, param)| (name.to_string(), shape.to_vec(), param.of(encoder.params())))
        .collect();
    let (key, value) = WRITTEN_BY;
    let header = [("format", "pt".into()), (key, value.into()), (CONFIG_SHA256, sha256(text.as_bytes()))];
    write_safetensors(folder.join(WEIGHTS), &tensors, &header)?;
    write_atomic(config, text.as_bytes())
}

/// Refuses to write among files that no export wrote (a training run, shards, somebody else's model) and over a
/// `config.json` that is neither `text` nor as an export left it.
fn refuse_foreign(folder: &Path, text: &str) -> Result<()> {
    let shown = folder.display();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read folder", folder)(e)),
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let has = |name: &str| names.iter().any(|known| known == name);
    if has("checkpoint.safetensors") || has("metrics.jsonl") {
        bail!(Usage, "{shown}: is a training run, whose files an export would replace; choose another --output");
    }
    let weights = SafeTensors::open(folder.join(WEIGHTS)).ok();
    let written = weights.filter(|file| file.metadata(WRITTEN_BY.0) == Some(WRITTEN_BY.1));
    let foreign = |name: &&String| match name.as_str() {
        WEIGHTS => written.is_none(),
        CONFIG => written.is_none() && fs::read(folder.join(CONFIG)).is_ok_and(|config| config != text.as_bytes()),
        _ => true,
    };
    if let Some(first) = names.iter().find(foreign) {
        bail!(Usage, "{shown}: holds {first:?}, which no export wrote; choose another --output, or an empty folder");
    }
    let known = written.as_ref().and_then(|file| file.metadata(CONFIG_SHA256));
    let config = fs::read(folder.join(CONFIG)).ok().filter(|config| config != text.as_bytes());
    if config.is_some_and(|config| known != Some(&sha256(&config))) {
        bail!(
            Usage,
            "{shown}: {CONFIG} was changed since it was exported, and an export would replace it; move it away, or \
             choose another --output"
        );
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// timm's description of the model. Sizes that are not those of a named ViT are spelled out as `model_args`.
fn config_json(encoder: &Encoder) -> Value {
    let model = encoder.vit().config();
    let standard = model.timm_name().filter(|name| VitConfig::named(name).as_ref() == Some(model));
    let side = model.image_size;
    let pretrained = json!({
        "tag": TAG,
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
        if model.qk_norm {
            config["model_args"]["qk_norm"] = true.into();
        }
    }
    config
}

/// The f64 that prints as short as the f32 does (0.485, not 0.48500001430511475), and rounds back to it.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
