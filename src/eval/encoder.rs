//! A frozen encoder: its ViT, weights, and the mean and std its images are normalised with, from any file that holds
//! one.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

#[cfg(cuda_kernels)]
use super::card::Card;
#[cfg(cuda_kernels)]
use super::heads::CudaHeads;
use super::heads::{Classifiers, Heads, Kind};
use super::kept::{self, Kept};
use crate::bail;
use crate::device::{Device, Plan, in_pool};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::Layout;
use crate::layers::training::cpu::{Call, Memory};
use crate::models::vit::{Preprocessing, Vit, VitActs, VitConfig, VitFile, Whose};
use crate::ops::augment::Normalize;
#[cfg(cuda_kernels)]
use crate::ops::augment::Scales;
use crate::say;
use crate::weights::ParamTable;

/// Images that go through the ViT at once.
const AT_ONCE: usize = 32;

/// Where an encoder comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// A training run or checkpoint of this program, a folder or file of timm or open_clip, or an official checkpoint
    /// as safetensors.
    Checkpoint {
        path: PathBuf,
        /// Number of attention heads, for files that do not tell.
        heads: Option<usize>,
        /// Whose weights, of a run with a momentum copy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<Whose>,
        /// Height and width of its images where they are not the file's: positions are resampled for them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_size: Option<usize>,
    },
    /// Untrained weights.
    Random { model: VitConfig, seed: u64 },
}

/// Where an encoder computes, and where its features are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub device: Device,
    pub features: Option<PathBuf>,
}

impl Default for Placement {
    /// The CPU, and nowhere.
    fn default() -> Self {
        Self { device: Device::Cpu, features: None }
    }
}

/// A frozen ViT.
#[derive(Debug)]
pub struct Encoder {
    vit: Vit,
    params: Vec<f32>,
    mean: [f32; 3],
    std: [f32; 3],
    normalize: Normalize,
    preprocessing: Option<Preprocessing>,
    source: String,
    kept: Option<Kept>,
    #[cfg(cuda_kernels)]
    card: Option<Card>,
}

impl Encoder {
    /// Opens what `source` names.
    ///
    /// # Errors
    /// `Data` naming file, tensor or key; `Usage` when the number of heads is needed or does not fit.
    pub fn open(source: &ModelSource) -> Result<Self> {
        match source {
            ModelSource::Checkpoint { path, heads, weights, image_size } => {
                Self::load(path, *heads, *weights, *image_size)
            }
            ModelSource::Random { model, seed } => Self::random(model, *seed),
        }
    }

    /// Opens what `source` names where `placement` says.
    ///
    /// # Errors
    /// As [`Encoder::open`], [`Encoder::on`] and [`Encoder::keeping`].
    pub fn placed(source: &ModelSource, placement: &Placement) -> Result<Self> {
        Self::open(source)?.on(placement.device)?.keeping(placement.features.clone())
    }

    /// The same on `device`.
    ///
    /// # Errors
    /// Device error when there is no usable GPU or too little memory there; usage error for sizes without kernels.
    pub fn on(self, device: Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(self),
            #[cfg(cuda_kernels)]
            Device::Cuda(ordinal) => {
                let card = Card::new(ordinal, &self.vit, &self.params, Scales::new(self.mean, self.std))?;
                Ok(Self { card: Some(card), ..self })
            }
        }
    }

    /// The same, with its features of whole data sets kept in `folder`, and found there; `None` keeps none.
    ///
    /// # Errors
    /// `Io` when the folder cannot be made.
    pub fn keeping(self, folder: Option<PathBuf>) -> Result<Self> {
        let kept = folder.map(|folder| Kept::new(folder, self.identity()?)).transpose()?;
        Ok(Self { kept, ..self })
    }

    /// Where its features are kept.
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// What tells its features from those of other weights and devices.
    pub(super) fn identity(&self) -> Result<[u8; 32]> {
        #[cfg(cuda_kernels)]
        let device = self.card.as_ref().map_or("cpu", |card| card.gpu().name());
        #[cfg(not(cuda_kernels))]
        let device = "cpu";
        kept::identity(&self.params, &(self.vit.config(), self.mean, self.std), device)
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

    fn load(path: &Path, heads: Option<usize>, weights: Option<Whose>, image_size: Option<usize>) -> Result<Self> {
        let file = VitFile::open_of(path, weights)?;
        let held = file.config(heads)?;
        let model = VitConfig { image_size: image_size.unwrap_or(held.image_size), ..held };
        let (mean, std) = file.mean_std()?;
        let mut table = ParamTable::new();
        let vit = Vit::new(&model, "", &mut table)?;
        let mut params = room(&table)?;
        file.load(&vit, &mut params)?;
        if file.tensors().contains(&format!("{}fc_norm.weight", file.beside())) {
            say!(
                "note: {}: was fine-tuned on the mean of its patch tokens (fc_norm.…, head.…), which is not read; what \
                 is read is its class token",
                file.shown()
            );
        }
        let preprocessing = file.stated().preprocessing;
        Ok(Self { preprocessing, ..Self::new(vit, params, mean, std, file.shown().to_owned()) })
    }

    fn new(vit: Vit, params: Vec<f32>, mean: [f32; 3], std: [f32; 3], source: String) -> Self {
        Self {
            vit,
            params,
            mean,
            std,
            normalize: Normalize::new(mean, std),
            preprocessing: None,
            source,
            kept: None,
            #[cfg(cuda_kernels)]
            card: None,
        }
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

    /// How a config of timm or open_clip says that photographs are prepared, when there is one.
    pub fn preprocessing(&self) -> Option<Preprocessing> {
        self.preprocessing
    }

    /// Whether it computes on a GPU.
    pub fn is_on_gpu(&self) -> bool {
        #[cfg(cuda_kernels)]
        return self.card.is_some();
        #[cfg(not(cuda_kernels))]
        false
    }

    /// Linear heads on its device.
    ///
    /// # Errors
    /// Device error when they do not fit there.
    pub fn heads(&self, kind: &Kind) -> Result<Box<dyn Classifiers>> {
        #[cfg(cuda_kernels)]
        if let Some(card) = &self.card {
            return Ok(Box::new(CudaHeads::new(card.gpu(), kind)?));
        }
        Ok(Box::new(Heads::new(kind)))
    }

    /// Where the weights come from, for people.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Features `[N, D]` of images of its own size.
    ///
    /// # Panics
    /// When an image is not S×S.
    ///
    /// # Errors
    /// If the device fails.
    pub fn features(&self, images: &[Rgb8]) -> Result<Vec<f32>> {
        #[cfg(cuda_kernels)]
        if let Some(card) = &self.card {
            return card.features(&self.vit, images);
        }
        features(&self.vit, &self.params, &pixels(images, &self.normalize))
    }

    /// Features `[N, D]` of normalised images `[N, S, S, 3]`.
    pub fn features_of(&self, pixels: &[f32]) -> Result<Vec<f32>> {
        features(&self.vit, &self.params, pixels)
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

/// Pictures of one size as a ViT takes them.
pub fn pixels(images: &[Rgb8], normalize: &Normalize) -> Vec<f32> {
    let len = images.first().map_or(0, |image| image.data.len());
    let mut pixels = vec![0.0; images.len() * len];
    let rows = pixels.par_chunks_exact_mut(len.max(1)).zip(images);
    rows.for_each(|(out, image)| normalize.apply(out, &image.data));
    pixels
}

/// Features `[N, D]` of normalised images, without keeping activations.
pub fn features(vit: &Vit, params: &[f32], images: &[f32]) -> Result<Vec<f32>> {
    let (each, width) = (vit.config().image_len(), vit.config().width);
    assert!(images.len().is_multiple_of(each), "features: {} values are no images of {each}", images.len());
    let mut memory = feature_memory(&mut Plan::new(), vit, images.len() / each);
    let mut features = Vec::with_capacity(images.len() / each * width);
    for images in images.chunks(AT_ONCE * each) {
        // The last ones may be fewer, at the beginning of the same buffers.
        let acts = VitActs::in_passing(&mut Layout::default(), vit.config(), images.len() / each);
        let mut call = Call { images, ..Call::new(&mut memory, params) };
        in_pool(|| vit.forward(&mut call, &acts, 0))?;
        features.extend_from_slice(call.memory.read(acts.features()));
    }
    Ok(features)
}

/// What the features of so many images take.
pub(super) fn feature_memory(plan: &mut Plan, vit: &Vit, images: usize) -> Memory {
    let mut layout = Layout::default();
    VitActs::in_passing(&mut layout, vit.config(), images.min(AT_ONCE));
    Memory::take(plan, &layout)
}

fn describe(model: &VitConfig) -> String {
    let VitConfig { image_size, patch_size, width, depth, heads, variant, .. } = model;
    let name = model.timm_name().unwrap_or_else(|| "ViT".into());
    let norms = if model.qk_norm { ", norms of queries and keys" } else { "" };
    let more = if variant.is_plain() { String::new() } else { format!(", {}", variant.describe()) };
    format!(
        "{name}: {image_size}×{image_size} pixels, patch {patch_size}, width {width}, depth {depth}, {heads} heads{norms}{more}"
    )
}
