//! A frozen encoder: its ViT, weights, and the mean and std its images are normalised with, from any file that holds one.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::timm;
use crate::bail;
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::models::vit::{Vit, VitConfig};
use crate::ops::augment::Normalize;
use crate::weights::{BackboneNames, ParamTable, SafeTensors};

/// The checkpoint in the folder of a training run.
const TRAINED: &str = "checkpoint.safetensors";

/// Head width of every standard ViT, for files that do not say how many heads they have.
const HEAD_DIM: usize = 64;

/// Where an encoder comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// A training run or checkpoint of this program, a timm folder or file, or an official checkpoint as safetensors.
    Checkpoint {
        path: PathBuf,
        /// Number of attention heads, for files that do not tell and whose heads are not 64 wide.
        heads: Option<usize>,
    },
    /// Untrained weights.
    Random { model: VitConfig, seed: u64 },
}

/// What a file says of its encoder that the tensors do not show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Hints {
    pub heads: Option<usize>,
    pub mean: Option<[f32; 3]>,
    pub std: Option<[f32; 3]>,
}

/// A frozen ViT.
#[derive(Debug)]
pub struct Encoder {
    vit: Vit,
    params: Vec<f32>,
    mean: [f32; 3],
    std: [f32; 3],
    normalize: Normalize,
    source: String,
}

impl Encoder {
    /// Opens what `source` names.
    ///
    /// # Errors
    /// `Data` naming file, tensor or key; `Usage` when the number of heads is needed or does not fit.
    pub fn open(source: &ModelSource) -> Result<Self> {
        match source {
            ModelSource::Checkpoint { path, heads } => Self::load(path, *heads),
            ModelSource::Random { model, seed } => Self::random(model, *seed),
        }
    }

    /// Fresh weights of `model` as training starts from, ImageNet mean and std.
    ///
    /// # Errors
    /// `Usage` when the sizes do not fit each other.
    pub fn random(model: &VitConfig, seed: u64) -> Result<Self> {
        let mut table = ParamTable::new();
        let vit = Vit::new(model, "", &mut table)?;
        let mut params = room(&table)?;
        vit.init(&mut params, seed);
        let source = format!("random weights (seed {seed})");
        Ok(Self::new(vit, params, Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD, source))
    }

    /// An encoder from weights in memory; `params` holds exactly the tensors of `model` in [`Vit`]'s order.
    ///
    /// # Errors
    /// `Usage` when the sizes do not fit each other or `params` has another length.
    pub fn from_params(
        model: &VitConfig,
        params: Vec<f32>,
        mean: [f32; 3],
        std: [f32; 3],
        source: &str,
    ) -> Result<Self> {
        let mut table = ParamTable::new();
        let vit = Vit::new(model, "", &mut table)?;
        if params.len() != table.len() {
            bail!(Usage, "{source}: {} parameters, {} expected for {}", params.len(), table.len(), describe(model));
        }
        Ok(Self::new(vit, params, mean, std, source.to_string()))
    }

    fn load(path: &Path, heads: Option<usize>) -> Result<Self> {
        let trained = path.join(TRAINED);
        let path = if trained.is_file() { &trained } else { path };
        let file = if path.is_dir() { SafeTensors::open_folder(path, "model")? } else { SafeTensors::open(path)? };
        let shown = path.display().to_string();
        let names = BackboneNames::find(&file.names().collect::<Vec<_>>(), &shown)?;
        let about = about(path, &file)?;
        let model = model_of(&file, &names, &about, heads, &shown)?;
        let mut table = ParamTable::new();
        let vit = Vit::new(&model, "", &mut table)?;
        let mut params = room(&table)?;
        for (name, shape, param) in vit.tensors() {
            param.of_mut(&mut params).copy_from_slice(&file.f32(&names.in_file(name), shape)?);
        }
        if let Some(info) = table.iter().find(|info| info.param.of(&params).iter().any(|v| !v.is_finite())) {
            bail!(Data, "{shown}: tensor `{}` holds values that are not finite", names.in_file(&info.name));
        }
        let (mean, std) =
            (about.mean.unwrap_or(Normalize::IMAGENET_MEAN), about.std.unwrap_or(Normalize::IMAGENET_STD));
        if std.iter().any(|&v| v <= 0.0) {
            bail!(Data, "{shown}: std {std:?} of its pixels: expected three numbers above 0");
        }
        Ok(Self::new(vit, params, mean, std, shown))
    }

    fn new(vit: Vit, params: Vec<f32>, mean: [f32; 3], std: [f32; 3], source: String) -> Self {
        Self { vit, params, mean, std, normalize: Normalize::new(mean, std), source }
    }

    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// All weights, in [`Vit`]'s order.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Mean per channel of the pixels (0 to 1) its images are normalised with.
    pub fn mean(&self) -> [f32; 3] {
        self.mean
    }

    /// Standard deviation, likewise.
    pub fn std(&self) -> [f32; 3] {
        self.std
    }

    /// Where the weights come from, for people.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Writes `image` to `out[S, S, 3]` as the ViT takes it: `(v/255 − mean) / std` per channel.
    ///
    /// # Panics
    /// When `image` is not S×S.
    pub fn normalise(&self, out: &mut [f32], image: &Rgb8) {
        self.normalize.apply(out, &image.data);
    }

    /// Features `[N, D]` of images of its own size.
    ///
    /// # Panics
    /// When an image is not S×S.
    pub fn features(&self, images: &[Rgb8]) -> Vec<f32> {
        let len = self.vit.config().image_len();
        let mut pixels = vec![0.0; images.len() * len];
        for (out, image) in pixels.chunks_exact_mut(len).zip(images) {
            self.normalise(out, image);
        }
        self.vit.features(&self.params, &pixels)
    }

    /// Its sizes in words.
    pub fn describe(&self) -> String {
        describe(self.vit.config())
    }
}

/// Memory for the weights.
///
/// # Errors
/// Device error when they do not fit.
fn room(table: &ParamTable) -> Result<Vec<f32>> {
    let smaller = "take a smaller encoder, or a machine with more memory";
    Ok(Plan::new().fit(smaller, |plan| Ok(plan.f32("encoder", "parameters", table.len())))?.0)
}

fn describe(model: &VitConfig) -> String {
    let VitConfig { image_size, patch_size, width, depth, heads, .. } = model;
    let name = model.timm_name().unwrap_or_else(|| "ViT".into());
    format!("{name}: {image_size}×{image_size} pixels, patch {patch_size}, width {width}, depth {depth}, {heads} heads")
}

/// What a file's header (of our training checkpoints) or the `config.json` of its folder (timm) says beyond the tensors.
fn about(path: &Path, file: &SafeTensors) -> Result<Hints> {
    if let Some(model) = file.metadata("model") {
        let model: VitConfig = from_header(path, "model", model)?;
        let triple = |key| file.metadata(key).map(|text| from_header::<[f32; 3]>(path, key, text)).transpose();
        return Ok(Hints { heads: Some(model.heads), mean: triple("mean")?, std: triple("std")? });
    }
    // A lone file may lie anywhere: only a config.json in a folder that was asked for, or beside timm's file name, is its own.
    let own = path.is_dir() || path.file_name().is_some_and(|name| name == "model.safetensors");
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let config = folder.join("config.json");
    if own && config.is_file() { timm::read_config(&config) } else { Ok(Hints::default()) }
}

fn from_header<T: DeserializeOwned>(path: &Path, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::Data(format!("{}: `{key}` in its header cannot be read: {e} in {text:?}", path.display())))
}

/// Sizes read from the tensors; `heads`, which they do not show, from the user or `about`.
fn model_of(
    file: &SafeTensors,
    names: &BackboneNames,
    about: &Hints,
    heads: Option<usize>,
    shown: &str,
) -> Result<VitConfig> {
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
            "{shown}: {channels} channels and an MLP of {hidden} for width {width}; expected 3 and a multiple of the width"
        );
    }
    let heads = match heads.or(about.heads) {
        Some(heads) => heads,
        None if width.is_multiple_of(HEAD_DIM) => width / HEAD_DIM,
        None => bail!(
            Usage,
            "{shown}: does not say how many attention heads its width of {width} is cut into; give --heads N"
        ),
    };
    let model = VitConfig {
        image_size: grid * patch_size,
        patch_size,
        width,
        depth: names.depth(),
        heads,
        mlp_ratio: hidden / width,
        channels,
    };
    model.validate()?;
    Ok(model)
}
