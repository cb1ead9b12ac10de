//! Who tells of a ViT beside its tensors: a header, timm's config or open_clip's, or names that only OpenAI's files
//! have.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::VitConfig;
use super::names::BackboneNames;
use super::resolve::Resolved;
use super::stated::Stated;
use super::{open_clip, timm};
use crate::bail;
use crate::error::{Error, Result};
use crate::weights::SafeTensors;

/// A number that OpenAI's checkpoints of CLIP hold beside the weights, and open_clip's do not.
const OPEN_AIS: &str = "input_resolution";

/// What a file's header (of this program's checkpoints) or the config of its folder says beyond the tensors.
///
/// # Errors
/// `Data` naming file and key for what cannot be read or is not supported, and where nothing tells which GELU CLIP's
/// towers have.
pub(super) fn stated(at: &Resolved, file: &SafeTensors, names: &BackboneNames) -> Result<Stated> {
    let path = &at.path;
    if let Some(model) = file.metadata("model") {
        let VitConfig { image_size, patch_size, width, depth, heads, qk_norm, .. } = from_header(path, "model", model)?;
        let triple = |key| file.metadata(key).map(|text| from_header::<[f32; 3]>(path, key, text)).transpose();
        return Ok(Stated {
            by: "its header".into(),
            image_size: Some(image_size),
            patch_size: Some(patch_size),
            width: Some(width),
            depth: Some(depth),
            heads: Some(heads),
            qk_norm: Some(qk_norm),
            mean: triple("mean")?,
            std: triple("std")?,
            ..Stated::default()
        });
    }
    let shown = path.display();
    if names.is_open_clip() {
        return match at.config(open_clip::CONFIG) {
            Some(config) => open_clip::read_config(&config),
            None if file.contains(&format!("{}{OPEN_AIS}", names.beside())) => {
                let width =
                    file.shape(&names.in_file("norm.weight")).and_then(|shape| shape.first().copied()).unwrap_or(0);
                Ok(open_clip::of_open_ai(format!("`{OPEN_AIS}`, which only OpenAI's files hold,"), width))
            }
            None => bail!(
                Data,
                "{shown}: a CLIP by open_clip's names, whose tensors do not tell its GELU (exact or OpenAI's quick one) nor its heads; put \
                 it in a folder as open_clip_model.safetensors, with its {} beside, and name the folder",
                open_clip::CONFIG
            ),
        };
    }
    match at.config(timm::CONFIG) {
        Some(config) => timm::read_config(&config),
        None if names.has().norm_pre => bail!(
            Data,
            "{shown}: a norm before the blocks (`{}`) as in CLIP's towers, whose tensors do not tell their GELU (exact or OpenAI's quick \
             one); put it in a folder as model.safetensors, with timm's {} beside, and name the folder",
            names.in_file("norm_pre.weight"),
            timm::CONFIG
        ),
        None => Ok(Stated::default()),
    }
}

/// The method of the run that wrote the file; empty where it does not say.
pub(super) fn method(file: &SafeTensors) -> String {
    let config = file.metadata("config").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    config.as_ref().and_then(|config| config["method"].as_str()).unwrap_or_default().to_owned()
}

fn from_header<T: DeserializeOwned>(path: &Path, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::Data(format!("{}: `{key}` in its header cannot be read: {e} in {text:?}", path.display())))
}
