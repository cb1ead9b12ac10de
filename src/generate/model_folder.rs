//! What a path given as `--model` is, before it is read as a diffusers folder.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bail;
use crate::error::{Error, Result};
use crate::models::settings::Settings;

/// Folders of the parts that are read here, with their library and classes in a `model_index.json`. Of schedulers only
/// the noise schedule is used, and their own config is asked for the class.
const PARTS: [(&str, &str, &[&str]); 5] = [
    ("scheduler", "diffusers", &[]),
    ("text_encoder", "transformers", &["CLIPTextModel", "CLIPTextModelWithProjection"]),
    (
        "tokenizer",
        "transformers",
        &["CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"],
    ),
    ("unet", "diffusers", &["UNet2DConditionModel"]),
    ("vae", "diffusers", &["AutoencoderKL"]),
];

/// Pipelines that draw with these parts as this program does, whatever else they do with them.
const PIPELINES: [&str; 5] = [
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPipelineSafe",
    "LatentConsistencyModelPipeline",
    "LatentConsistencyModelImg2ImgPipeline",
];

/// Parts that a pipeline may have without being another kind of model: they judge or prepare pictures, or are for
/// pictures as prompts.
const BESIDE: [&str; 3] = ["safety_checker", "feature_extractor", "image_encoder"];

/// Endings of models in one file.
const SINGLE: [&str; 2] = ["safetensors", "ckpt"];

/// Refuses what is no diffusers folder of a text-to-image model, and says what it is instead. Of its files only
/// `model_index.json` is read.
///
/// # Errors
/// `Usage` for another folder or a file; `Data` for a pipeline that is not computed here.
pub fn check(model: &Path) -> Result<()> {
    let shown = model.display();
    let wanted = "expected a diffusers folder of Stable Diffusion 1.x or 2.x (model_index.json, tokenizer/, text_encoder/, unet/, vae/, scheduler/)";
    if model.is_file() {
        if has_ending(model, &SINGLE) {
            bail!(Usage, "--model {shown}: is a single file; {wanted}; {}", recipe(model));
        }
        bail!(Usage, "--model {shown}: is a file; {wanted}");
    }
    if !model.is_dir() {
        bail!(
            Usage,
            "--model {shown}: no such folder; {wanted}; `--model bundled` is a tiny model of garments, to try things out"
        );
    }
    if let Some(index) = Settings::open_if_there(model.join("model_index.json"))? {
        return check_index(&index);
    }
    let (mut names, mut singles) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(model).map_err(Error::io("list", model))? {
        let path = entry.map_err(Error::io("list", model))?.path();
        if has_ending(&path, &SINGLE) && path.is_file() {
            singles.push(path.clone());
        }
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    // Without model_index.json, but with the parts: all that is needed is there, or named when it is not.
    if PARTS.iter().any(|(part, ..)| model.join(part).is_dir()) {
        return Ok(());
    }
    names.sort();
    singles.sort();
    let hint = if names.is_empty() {
        "the folder is empty".to_owned()
    } else if names.iter().any(|name| name == "snapshots") {
        format!("this is a cache's outer folder: the model lies in {}", snapshots(model))
    } else if PARTS.iter().any(|(part, ..)| model.file_name().is_some_and(|name| name == *part))
        && has_own_files(&names)
    {
        format!("this is one part of a model: give the folder that holds it, {}", parent(model).display())
    } else if let Some(file) = singles.first() {
        recipe(file)
    } else {
        let inside = names.iter().find(|name| model.join(name).join("model_index.json").exists());
        match inside {
            Some(name) => format!("there is one inside: {}", model.join(name).display()),
            None => "it holds none of these".to_owned(),
        }
    };
    bail!(Usage, "--model {shown}: {wanted}; {hint}")
}

/// Refuses pipelines that are not computed here, by their parts and by what they call themselves.
fn check_index(index: &Settings) -> Result<()> {
    for key in index.keys() {
        // A part is a pair of library and class; both are null where it is left out.
        let pair = index.get(key).and_then(Value::as_array).filter(|pair| pair.iter().any(|name| !name.is_null()));
        let Some(pair) = pair.filter(|_| !key.starts_with('_')) else { continue };
        if PARTS.iter().all(|(part, ..)| *part != key) && !BESIDE.contains(&key) {
            let class = pair.last().and_then(Value::as_str).unwrap_or_default();
            bail!(
                Data,
                "{}: `{key}` ({class}): {} has a part that Stable Diffusion 1.x and 2.x have not; expected text encoder, UNet and autoencoder only",
                index.path().display(),
                index.get("_class_name").and_then(Value::as_str).unwrap_or("this model")
            );
        }
    }
    for (part, library, classes) in PARTS {
        let Some(value) = index.get(part) else { continue };
        let expected = format!("{:?}", [library, classes.first().copied().unwrap_or("a scheduler")]);
        match value.as_array().map(Vec::as_slice) {
            Some([from, Value::String(class)])
                if from == library && (classes.is_empty() || classes.contains(&class.as_str())) => {}
            Some([Value::Null, Value::Null]) => {
                return Err(index.wrong(part, &format!("{expected} (the model was saved without this part)")));
            }
            _ => return Err(index.wrong(part, &expected)),
        }
    }
    match index.non_null("_class_name") {
        Some(class) if !class.as_str().is_some_and(|class| PIPELINES.contains(&class)) => Err(index.wrong(
            "_class_name",
            "StableDiffusionPipeline (another pipeline draws otherwise; if the parts are Stable Diffusion's, write that)",
        )),
        _ => Ok(()),
    }
}

/// How a single file becomes a folder.
fn recipe(file: &Path) -> String {
    let folder = file.with_extension("");
    format!(
        "diffusers makes a folder of it, in Python: from diffusers import StableDiffusionPipeline; \
         StableDiffusionPipeline.from_single_file({:?}).save_pretrained({:?}); then --model {}",
        file.display().to_string(),
        folder.display().to_string(),
        folder.display()
    )
}

/// The models of a Hugging Face cache folder.
fn snapshots(model: &Path) -> String {
    let folder = model.join("snapshots");
    let mut found: Vec<PathBuf> =
        fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    match found.is_empty() {
        true => format!("{}, which is empty: download it again", folder.display()),
        false => found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "),
    }
}

/// Whether a folder holds the files of one part of a model.
fn has_own_files(names: &[String]) -> bool {
    names.iter().any(|name| {
        ["config.json", "scheduler_config.json", "tokenizer_config.json", "vocab.json"].contains(&name.as_str())
    })
}

fn parent(path: &Path) -> PathBuf {
    match fs::canonicalize(path) {
        Ok(path) => path.parent().map_or_else(|| path.clone(), Path::to_path_buf),
        Err(_) => path.join(".."),
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending))
}
