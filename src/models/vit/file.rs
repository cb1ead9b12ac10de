//! The one reader of backbones: a ViT's weights from any file that holds one, for training, probing and export alike.
//! Every tensor of the backbone is used or refused, every value is finite, and what the file says of itself agrees with
//! what it holds.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::names::BackboneNames;
use super::stated::Stated;
use super::{Vit, VitConfig, timm};
use crate::bail;
use crate::error::{Error, Result};
use crate::models::positions;
use crate::ops::augment::Normalize;
use crate::say;
use crate::weights::{COPY, SafeTensors};

/// The checkpoint in the folder of a training run.
const TRAINED: &str = "checkpoint.safetensors";

/// A timm folder's weights, without their ending.
const TIMM: &str = "model";

/// Endings of pickled weights.
const PICKLES: [&str; 6] = ["pth", "pt", "bin", "ckpt", "pkl", "tar"];

/// Whose weights a file of a run with a momentum copy is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The momentum copy, as DINO's authors evaluate theirs
    Teacher,
    /// What learns by gradients
    Student,
}

impl Whose {
    /// Whose weights of a run of `method` with a momentum copy are read where nothing else is asked for: of DINO the
    /// teacher's, as its authors do.
    pub fn of_method(method: &str) -> Self {
        if method == "dino" { Self::Teacher } else { Self::Student }
    }
}

/// A backbone in a file, its names found and its sizes read; values are read by [`VitFile::load`].
#[derive(Debug)]
pub struct VitFile {
    file: SafeTensors,
    names: BackboneNames,
    stated: Stated,
    /// As the tensors have it; `heads` is not known to them.
    sizes: VitConfig,
    shown: String,
}

impl VitFile {
    /// Opens a training run's folder or checkpoint, a timm folder or file, or an official checkpoint as safetensors; of
    /// a run with a momentum copy the teacher's weights of DINO, else the student's.
    ///
    /// # Errors
    /// `Data` naming file, tensor or key: when there is no plain ViT, or when it is not the one that its header or
    /// `config.json` tells of.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_of(path, None)
    }

    /// The same with the weights of `whose`, where it is said.
    ///
    /// # Errors
    /// As [`VitFile::open`]; `Data` when it is said of a file without a momentum copy.
    pub fn open_of(path: &Path, whose: Option<Whose>) -> Result<Self> {
        let path = &resolve(path)?;
        let file = if path.is_dir() { SafeTensors::open_folder(path, TIMM)? } else { SafeTensors::open(path)? };
        let (plain, all) = (path.display().to_string(), file.names().collect::<Vec<_>>());
        let has_copy = all.iter().any(|name| name.starts_with(COPY));
        let whose = match whose {
            // Without a copy it is refused there.
            Some(Whose::Student) if !has_copy => Some(Whose::Teacher),
            None if has_copy => Some(Whose::of_method(&method(&file))),
            asked => asked,
        };
        let names = match whose {
            Some(Whose::Teacher) => BackboneNames::find_copy(&all, &plain)?,
            Some(Whose::Student) | None => BackboneNames::find(&all, &plain)?,
        };
        let shown = match whose {
            Some(Whose::Teacher) => format!("{plain} (the teacher's weights)"),
            Some(Whose::Student) => format!("{plain} (the student's weights)"),
            None => plain,
        };
        let sizes = sizes(&file, &names, &shown)?;
        let this = Self { stated: stated(path, &file)?, file, names, sizes, shown };
        this.agree()?;
        Ok(this)
    }

    /// The path that was read, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What stands before the names of tensors beside the backbone (`module.` of `module.image_mlp.…`).
    pub fn beside(&self) -> &str {
        self.names.beside()
    }

    /// The file itself.
    pub fn tensors(&self) -> &SafeTensors {
        &self.file
    }

    /// What the file says of itself.
    pub fn stated(&self) -> &Stated {
        &self.stated
    }

    /// Mean and standard deviation of the pixels that its images are normalised with; ImageNet's if the file does not
    /// say.
    ///
    /// # Errors
    /// `Data` when a number cannot be one.
    pub fn mean_std(&self) -> Result<([f32; 3], [f32; 3])> {
        let mean = self.stated.mean.unwrap_or(Normalize::IMAGENET_MEAN);
        let std = self.stated.std.unwrap_or(Normalize::IMAGENET_STD);
        if std.iter().any(|&v| v <= 0.0) || mean.iter().chain(&std).any(|v| !v.is_finite()) {
            bail!(
                Data,
                "{}: mean {mean:?} and std {std:?} of its pixels: expected finite numbers, std above 0",
                self.shown
            );
        }
        Ok((mean, std))
    }

    /// Its sizes. The number of heads, which the tensors do not show, is what was `asked` for, what the file says, or
    /// that of the standard ViT of the same width and depth, which is then said aloud.
    ///
    /// # Errors
    /// `Usage` when the number of heads is not known, does not divide the width, or `heads` is not what the file says.
    pub fn config(&self, asked: Option<usize>) -> Result<VitConfig> {
        let Self { sizes, stated, shown, .. } = self;
        let heads = match (asked, stated.heads) {
            (Some(asked), Some(heads)) if asked != heads => {
                bail!(Usage, "{shown}: --heads {asked}, but {} says {heads} heads; leave --heads out", stated.by)
            }
            (Some(heads), _) | (None, Some(heads)) => heads,
            (None, None) => match timm::standard(sizes) {
                Some((name, heads)) if stated.by.is_empty() => {
                    say!(
                        "{shown} does not say its attention heads: taking {heads}, as {name} of this width and depth; else give --heads"
                    );
                    heads
                }
                _ if stated.by.is_empty() => bail!(
                    Usage,
                    "{shown}: does not say how many attention heads its width of {} is cut into; give --heads N",
                    sizes.width
                ),
                _ => bail!(
                    Usage,
                    "{shown}: {} does not say how many attention heads its width of {} is cut into (no model_args.num_heads, and no \
                     architecture whose heads are known); give --heads N",
                    stated.by,
                    sizes.width
                ),
            },
        };
        let config = VitConfig { heads, ..sizes.clone() };
        config.validate().map_err(|error| match error {
            // Heads that no flag gave are the file's.
            Error::Usage(text) if asked.is_none() => Error::Data(format!("{shown}: {text}")),
            Error::Usage(text) => Error::Usage(format!("{shown}: {text}")),
            other => other,
        })?;
        Ok(config)
    }

    /// Height and width of the images that its positions are of, pixels.
    pub fn image_size(&self) -> usize {
        self.sizes.image_size
    }

    /// Refuses weights of another network than `model`, whose sizes the flags of `train` gave, but for the size of its
    /// images.
    ///
    /// # Errors
    /// `Data` naming what differs by its flag.
    pub fn check_is(&self, model: &VitConfig) -> Result<()> {
        let Self { sizes, stated, shown, .. } = self;
        if sizes.depth > model.depth {
            bail!(
                Data,
                "{shown}: has {} blocks, the model {}: `{}` has no place in it; give --depth {} (or the --model of that depth)",
                sizes.depth,
                model.depth,
                self.names.in_file(&format!("blocks.{}.norm1.weight", model.depth)),
                sizes.depth
            );
        }
        if sizes.depth < model.depth {
            bail!(
                Data,
                "{shown}: has {} blocks, the model {}: no tensor `{}`; give --depth {} (or the --model of that depth)",
                sizes.depth,
                model.depth,
                self.names.in_file(&format!("blocks.{}.norm1.weight", sizes.depth)),
                sizes.depth
            );
        }
        for (flag, tensor, file, wanted) in [
            ("--width", "cls_token", sizes.width, model.width),
            ("--patch-size", "patch_embed.proj.weight", sizes.patch_size, model.patch_size),
            ("mlp_ratio", "blocks.0.mlp.fc1.weight", sizes.mlp_ratio, model.mlp_ratio),
            ("--heads", "", stated.heads.unwrap_or(model.heads), model.heads),
        ] {
            if file != wanted {
                let from = if tensor.is_empty() {
                    format!("as {} says", stated.by)
                } else {
                    let name = self.names.in_file(tensor);
                    format!("as the shape {:?} of `{name}` tells", self.file.shape(&name).unwrap_or_default())
                };
                bail!(Data, "{shown}: {flag} {file}, {from}, but the model has {flag} {wanted}; they must be the same");
            }
        }
        if sizes.qk_norm != model.qk_norm {
            let (has, give) = match sizes.qk_norm {
                true => ("norms of queries and keys (`attn.q_norm`, `attn.k_norm`), the model none", "give --qk-norm"),
                false => ("no norms of queries and keys, the model has them (--qk-norm)", "leave --qk-norm out"),
            };
            bail!(Data, "{shown}: has {has}; {give}, or take other weights");
        }
        Ok(())
    }

    /// Fills the parameters of `vit`, which must be of this file's sizes but for its images: to those of another size
    /// positions are resampled ([`positions::read`]).
    ///
    /// # Errors
    /// `Data` if a tensor has another shape or holds a value that is not finite.
    pub fn load(&self, vit: &Vit, params: &mut [f32]) -> Result<()> {
        for (name, shape, param) in vit.tensors() {
            let in_file = self.names.in_file(name);
            let values = match name {
                "pos_embed" => positions::read(&self.file, &in_file, shape)?,
                _ => self.file.f32(&in_file, shape)?,
            };
            param.of_mut(params).copy_from_slice(&values);
        }
        Ok(())
    }

    /// Refuses a header or `config.json` that tells of another network than the tensors.
    fn agree(&self) -> Result<()> {
        let Self { stated, sizes, shown, .. } = self;
        for (what, says, is) in [
            ("width", stated.width, sizes.width),
            ("depth", stated.depth, sizes.depth),
            ("patch size", stated.patch_size, sizes.patch_size),
            ("image size", stated.image_size, sizes.image_size),
        ] {
            if let Some(says) = says.filter(|says| *says != is) {
                bail!(
                    Data,
                    "{shown}: {} says {what} {says}, its tensors have {is}; do they belong together? (model_args in timm's config.json \
                     give sizes that are not the architecture's)",
                    stated.by
                );
            }
        }
        if stated.qk_norm.is_some_and(|says| says != sizes.qk_norm) {
            bail!(
                Data,
                "{shown}: {} says that queries and keys have {}norms, its tensors have {}; do they belong together?",
                stated.by,
                if sizes.qk_norm { "no " } else { "" },
                if sizes.qk_norm { "them" } else { "none" }
            );
        }
        Ok(())
    }
}

/// The file or folder that `path` stands for; what is no encoder is named as what it is.
fn resolve(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    if path.is_dir() {
        let has = |name: &str| path.join(name).exists();
        if has(TRAINED) {
            return Ok(path.join(TRAINED));
        }
        if ["", ".fp16"].iter().any(|v| has(&format!("{TIMM}{v}.safetensors"))) || has("model.safetensors.index.json") {
            return Ok(path.to_owned());
        }
        if has("metrics.jsonl") {
            bail!(Data, "{shown}: a training run that has no {TRAINED} yet; let it train until it saves one");
        }
        if has("model_index.json") {
            bail!(Data, "{shown}: a Stable Diffusion model, which draws images; expected an encoder");
        }
        let mut entries: Vec<PathBuf> =
            path.read_dir().map_err(Error::io("read folder", path))?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        if let Some(pickle) = entries.iter().find(|entry| is_pickle(entry)) {
            return Err(pickled(pickle));
        }
        bail!(
            Data,
            "{shown}: expected {TRAINED} (a training run) or model.safetensors (a timm folder); neither is there"
        );
    }
    if is_pickle(path) { Err(pickled(path)) } else { Ok(path.to_owned()) }
}

/// Whether `path` is a file that `torch.save` wrote, by its name or its first bytes.
fn is_pickle(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if ending == "safetensors" || !path.is_file() {
        return false;
    }
    let mut start = [0; 2];
    let pickle = File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && (start == *b"PK" || (start[0] == 0x80 && (2..=5).contains(&start[1])));
    pickle || (PICKLES.contains(&ending) && ending != "tar")
}

fn pickled(path: &Path) -> Error {
    let (from, to) = (path.display().to_string(), path.with_extension("safetensors").display().to_string());
    Error::Data(format!(
        "{from}: a PyTorch pickle, which can run code when it is opened; only safetensors are read. If you trust the file, convert it in \
         Python (pip install torch safetensors numpy):\n\
         import torch\n\
         from safetensors.torch import save_file\n\
         sd = torch.load({from:?}, map_location=\"cpu\", weights_only=False)\n\
         sd = sd.get(\"model\", sd.get(\"state_dict\", sd))\n\
         save_file({{k: v.clone().contiguous() for k, v in sd.items() if torch.is_tensor(v)}}, {to:?})"
    ))
}

/// What a file's header (of this program's checkpoints) or the `config.json` of its folder (timm) says beyond the
/// tensors.
fn stated(path: &Path, file: &SafeTensors) -> Result<Stated> {
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
            preprocessing: None,
        });
    }
    // A lone file may lie anywhere: only a config.json in a folder that was asked for, or beside timm's file name, is
    // its own.
    let own = path.is_dir() || path.file_name().is_some_and(|name| name == "model.safetensors");
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let config = folder.join("config.json");
    if own && config.is_file() { timm::read_config(&config) } else { Ok(Stated::default()) }
}

/// The method of the run that wrote the file; empty where it does not say.
fn method(file: &SafeTensors) -> String {
    let config = file.metadata("config").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    config.as_ref().and_then(|config| config["method"].as_str()).unwrap_or_default().to_owned()
}

fn from_header<T: DeserializeOwned>(path: &Path, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::Data(format!("{}: `{key}` in its header cannot be read: {e} in {text:?}", path.display())))
}

/// Sizes read from the tensors, with no heads.
fn sizes(file: &SafeTensors, names: &BackboneNames, shown: &str) -> Result<VitConfig> {
    let shape = |name: &str, rank: usize| -> Result<Vec<usize>> {
        match file.shape(&names.in_file(name)) {
            Some(shape) if shape.len() == rank && !shape.contains(&0) => Ok(shape.to_vec()),
            other => Err(Error::Data(format!(
                "{shown}: tensor `{}` has shape {other:?}, expected {rank} sizes above 0",
                names.in_file(name)
            ))),
        }
    };
    let patch = shape("patch_embed.proj.weight", 4)?;
    let tokens = shape("pos_embed", 3)?[1];
    let hidden = shape("blocks.0.mlp.fc1.weight", 2)?[0];
    let (width, channels, patch_size) = (patch[0], patch[1], patch[2]);
    let grid = (tokens - 1).isqrt();
    if patch[3] != patch_size || grid == 0 || grid * grid != tokens - 1 {
        bail!(
            Data,
            "{shown}: patches of {patch_size}×{} and {tokens} positions are no square image of square patches with one class token",
            patch[3]
        );
    }
    if !hidden.is_multiple_of(width) || channels != 3 {
        bail!(
            Data,
            "{shown}: {channels} channels and an MLP of {hidden} for width {width}; expected 3 and a multiple of the width \
             (the architectures vit_giant and vit_gigantic have another MLP and are not supported)"
        );
    }
    let (depth, mlp_ratio) = (names.depth(), hidden / width);
    let (image_size, qk_norm) = (grid * patch_size, names.qk_norm());
    Ok(VitConfig { image_size, patch_size, width, depth, heads: 0, mlp_ratio, channels, qk_norm })
}
