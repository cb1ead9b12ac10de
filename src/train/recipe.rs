//! What determines a run's numbers: two runs of one recipe over the same shards end in the same bits.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::finetune::FineTune;
use super::language::{Language, Projection};
use super::loader::{Batch, Labelled, LoaderConfig, LocalCrops, Positives};
use super::method::{Held, MOST_SLOTS, Name, Network, Sizes, Views};
use super::schedule::{Position, Schedule, cosine};
use crate::bail;
use crate::error::Result;
use crate::image::Filter;
use crate::models::mae::MaeConfig;
use crate::models::tokenizer::Tokenizer;
use crate::models::vit::VitConfig;
use crate::ops::augment::{Policy, Turn};
use crate::ops::optimizer::AdamW;

/// AdamW's epsilon.
const ADAM_EPS: f64 = 1e-8;

/// Over which rows the head's batch norm takes its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNorm {
    /// The k-th views of all captions on their own, as the official code
    PerSlot,
    /// The whole batch
    Global,
}

/// Random changes of the training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Crop (scale 0.08–1), colour jitter, grayscale, blur, flip: SimCLR's
    Strong,
    /// As strong, but two unlike views in turn, one always blurred, one sometimes solarised: BYOL's and MoCo v3's
    Byol,
    /// Crop (scale 0.5–1) and flip only
    Weak,
    /// Crop (scale 0.5–1) only: CLIP's
    Clip,
    /// One view as CLIP's, two strong: SLIP's
    Slip,
    /// Crop (scale 0.08–1, bicubic) and flip, RandAugment, random erasing, mixup or CutMix, made on the host: finetune's
    #[value(name = "finetune")]
    FineTune,
    /// None: images are resized to the model's size
    None,
}

impl Augmentation {
    fn policy(self) -> Policy {
        match self {
            Self::Strong => Policy::Strong,
            Self::Byol => Policy::Byol(Turn::First),
            Self::Weak | Self::FineTune => Policy::Weak,
            Self::Clip => Policy::Crop,
            Self::Slip => Policy::Slip,
            Self::None => Policy::None,
        }
    }
}

/// What a random crop is resized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CropFilter {
    /// The triangle, torchvision's default
    Bilinear,
    /// Keys' cubic
    Bicubic,
}

/// A length of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Passes over the captions, may be a fraction.
    Epochs(f64),
    /// Iterations.
    Steps(u64),
}

/// The height of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rate {
    /// Per 512 images of a step: peak = base · images / 512.
    Base(f64),
    /// The peak itself.
    Peak(f64),
}

/// Everything that determines a run's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub data: Vec<PathBuf>,
    /// How much of a batch each of `data` is given, in proportion; absent where all is one set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
    /// Which images belong together, where a method has positives.
    #[serde(default, skip_serializing_if = "is_text")]
    pub positives: Positives,
    pub method: Name,
    pub model: VitConfig,
    /// Hidden and output width of the projection head.
    pub head_dims: [usize; 2],
    pub batch_norm: BatchNorm,
    /// Captions per step, n.
    pub batch: usize,
    /// Images per caption and step, m.
    pub images_per_caption: usize,
    /// Crops of each image, where they are not the method's own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crops: Option<usize>,
    /// Captions with fewer images are left out; with fewer than are drawn of each where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_images: Option<usize>,
    /// Images whose activations are held at once; all of a step where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
    /// Whether layer norms and GELUs are computed again in the backward rather than held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    pub length: Length,
    pub warmup: Length,
    pub rate: Rate,
    /// The rate at the end of the run; 0 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_lr: Option<f64>,
    pub weight_decay: f64,
    /// What it becomes by the end of the run, in half a cosine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay_end: Option<f64>,
    /// Share of images that leave out a residual branch of the encoder's last block; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_path: Option<f64>,
    /// The norm that the gradient of each tensor is cut to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_gradient: Option<f64>,
    pub beta1: f64,
    pub beta2: f64,
    pub temperature: f64,
    /// Of a momentum copy, at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Slots of a queue of keys that the loss compares images with beside those of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<usize>,
    pub augmentation: Augmentation,
    /// Smallest and largest share of the image's area that a crop takes.
    pub crop_scale: [f64; 2],
    /// Small crops beside the others, of a method that takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalCrops>,
    /// Bilinear where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_filter: Option<CropFilter>,
    /// Whether some images are shrunk and enlarged again first.
    pub downsample: bool,
    pub shuffle: bool,
    pub seed: u64,
    /// Unreadable images after which the run stops.
    pub max_bad: usize,
    /// Updates whose loss or gradient norm is not finite after which the run stops; those before change nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_bad_updates: u64,
    pub init_from: Option<PathBuf>,
    /// Texts, of a method that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// What `mae` has beside its encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae: Option<MaeConfig>,
    /// What `finetune` has beside its encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<FineTune>,
}

fn is_text(positives: &Positives) -> bool {
    *positives == Positives::Text
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Recorded settings without those that say no more than is so anyway.
pub(super) fn settled(mut recorded: Value) -> Value {
    let recipe: Option<Recipe> = serde_json::from_value(recorded.clone()).ok();
    if recipe.is_some_and(|recipe| recipe.min_images == Some(recipe.views().images))
        && let Some(settings) = recorded.as_object_mut()
    {
        settings.remove("min_images");
    }
    recorded
}

impl Recipe {
    /// What the method trains.
    ///
    /// # Errors
    /// Usage error if sizes do not fit.
    pub fn network(&self) -> Result<Box<dyn Network>> {
        self.method.method().network(&Sizes {
            model: self.model.clone(),
            head_dims: self.head_dims,
            images: self.images_per_step(),
            captions: self.batch,
            local: self.loader(None).sections().into_iter().nth(1),
            norm_slots: self.norm_slots(),
            held: Held { images: self.chunk.unwrap_or(self.images_per_step()), again: self.recompute },
            drop_path: self.drop_path.unwrap_or(0.0),
            temperature: self.temperature as f32,
            seed: self.seed,
            mae: self.mae.clone(),
            finetune: self.finetune.clone(),
            language: self.language.clone(),
            queue: self.queue,
            momentum: self.momentum.or(self.method.method().momentum()).unwrap_or(0.0),
        })
    }

    /// What `network` is given beside the images of `batch`, update `step` of the run: labels first.
    ///
    /// # Errors
    /// Data error for a batch that it cannot be given.
    pub fn numbers(&self, network: &dyn Network, batch: &Batch, step: u64) -> Result<Vec<u32>> {
        let mut numbers = batch.labels();
        self.method.method().label(&mut numbers, self.batch);
        network.number(batch, step, &mut numbers)?;
        Ok(numbers)
    }

    /// AdamW at `at`, update `step` of the run counted from 1.
    pub(super) fn adamw(&self, at: Position, step: u64) -> AdamW {
        let Self { beta1, beta2, weight_decay: first, .. } = *self;
        let weight_decay = self.weight_decay_end.map_or(first, |last| cosine(first, last, at.before));
        AdamW { lr: at.lr, beta1, beta2, eps: ADAM_EPS, weight_decay, step }
    }

    /// The same for a tensor of which nothing is learned in the first epoch, whose updates are counted from there on;
    /// none before.
    pub(super) fn late_adamw(&self, at: Position, step: u64) -> Option<AdamW> {
        (step > at.epoch).then(|| AdamW { step: step - at.epoch, ..self.adamw(at, step) })
    }

    /// What one caption contributes to a step.
    pub fn views(&self) -> Views {
        let views = self.method.method().views(self.images_per_caption);
        Views { crops: self.crops.unwrap_or(views.crops), ..views }
    }

    /// Whether the recorded setting `key` changes nothing under the others.
    pub(super) fn without(&self, key: &str) -> bool {
        match key {
            "crop_scale" => self.augmentation == Augmentation::None,
            "crop_filter" => self.augmentation == Augmentation::None,
            "images_per_caption" => !matches!(self.method, Name::StableRep | Name::StableRepPlus),
            "head_dims" => !self.has_head(),
            "batch_norm" => !(self.has_head() && self.method.method().has_batch_norm()),
            "temperature" => !self.method.method().has_temperature(),
            _ => false,
        }
    }

    /// Whether there is a head, of pictures or in the place of a projection.
    fn has_head(&self) -> bool {
        let heads = self.language.as_ref().is_some_and(|language| language.projection == Projection::Mlp);
        heads || self.method.method().has_head()
    }

    /// Images of a step of the model's size: what a rate is given for, and what is held in chunks.
    pub fn images_per_step(&self) -> usize {
        self.batch * self.views().slots()
    }

    /// The crops of an image in words.
    pub fn crops_said(&self) -> String {
        let small = self.local.map(|local| format!(" and {} of {}²", local.crops, local.size));
        format!("{} crops{}", self.views().crops, small.unwrap_or_default())
    }

    /// These and the small crops beside them.
    pub fn rows_per_step(&self) -> usize {
        self.images_per_step() + self.batch * self.views().images * self.local.map_or(0, |local| local.crops)
    }

    /// What the batches of this recipe are drawn from; `tokenizer` makes tokens of texts where the method has them.
    pub fn loader(&self, tokenizer: Option<Arc<Tokenizer>>) -> LoaderConfig {
        let views = self.views();
        LoaderConfig {
            data: self.data.clone(),
            weights: self.weights.clone(),
            positives: self.positives,
            captions_per_batch: self.batch,
            images_per_caption: views.images,
            min_images: self.min_images,
            crops: views.crops,
            local: self.local,
            image_size: self.model.image_size,
            augmentation: self.augmentation.policy(),
            crop_scale: self.crop_scale,
            crop_filter: match self.crop_filter {
                Some(CropFilter::Bicubic) => Filter::Bicubic,
                Some(CropFilter::Bilinear) | None => Filter::Bilinear,
            },
            shuffle: self.shuffle,
            seed: self.seed,
            max_bad: self.max_bad,
            downsample: self.downsample,
            tokenizer,
            any_caption: self.language.as_ref().is_some_and(|language| language.any_caption),
            labelled: self.finetune.as_ref().map(|finetune| Labelled {
                classes: finetune.classes,
                rand_augment: finetune.rand_augment,
                erase: finetune.erase,
                mix: finetune.mix(),
            }),
        }
    }

    /// Classes of labelled pictures, where it is known how many.
    pub fn classes(&self) -> Option<usize> {
        self.finetune.as_ref().and_then(|finetune| finetune.classes)
    }

    /// Groups of rows that the head's batch norm treats on their own.
    pub fn norm_slots(&self) -> usize {
        match self.batch_norm {
            BatchNorm::PerSlot => self.views().slots(),
            BatchNorm::Global => 1,
        }
    }

    /// # Errors
    /// Usage error naming the flag, what it was, and what is expected.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        if let Some(weight) = self.weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
            bail!(Usage, "--data …={weight}: expected a weight above 0");
        }
        if self.data.is_empty() {
            bail!(Usage, "--data: expected at least one folder of shards or one shard (.tar)");
        }
        let (least, why) = match self.method.is_contrastive() {
            true => (2, " (a contrastive loss needs others to contrast with)"),
            false => (1, ""),
        };
        if self.batch < least || self.batch > 1 << 20 {
            bail!(Usage, "--batch {}: expected {least} to {} captions per step{why}", self.batch, 1 << 20);
        }
        if let Some(mae) = &self.mae {
            mae.validate(&self.model)?;
        }
        if let Some(finetune) = &self.finetune {
            finetune.validate()?;
        }
        let own = matches!(self.augmentation, Augmentation::FineTune | Augmentation::None);
        if self.finetune.is_some() && !own {
            bail!(Usage, "--method finetune makes its views on the host: give --augmentation finetune or none");
        }
        if self.finetune.is_none() && self.augmentation == Augmentation::FineTune {
            bail!(Usage, "--augmentation finetune goes with --method finetune alone; take weak or strong");
        }
        let m = self.images_per_caption;
        if m == 0 || m > 1000 {
            bail!(Usage, "--images-per-caption {m}: expected 1 to 1000");
        }
        let fewest = if self.method == Name::SimClr { 2 } else { 1 };
        if let Some(crops) = self.crops.filter(|crops| !(fewest..=100).contains(crops)) {
            bail!(Usage, "--crops {crops}: expected {fewest} to 100 for --method {}", self.method.name());
        }
        // The largest networks on the largest images then count their values below 2^62.
        if self.rows_per_step() > 1 << 20 {
            bail!(
                Usage,
                "--batch {} with --images-per-caption {m} are {} images per step: expected at most {}; lower --batch",
                self.batch,
                self.rows_per_step(),
                1 << 20
            );
        }
        if let Some(local) = self.local {
            self.check_local(local)?;
        }
        let several = matches!(self.method, Name::StableRep | Name::StableRepPlus);
        if several && self.views().slots() < 2 && self.positives != Positives::Class {
            bail!(
                Usage,
                "--images-per-caption 1 with --method {} leaves no positives and a loss of 0; use 2 or more, --crops 2, or --method {}",
                self.method.name(),
                if self.method == Name::StableRep { "simclr" } else { "clip" }
            );
        }
        let drawn = self.views().images;
        if let Some(least) = self.min_images.filter(|&least| least < drawn) {
            bail!(
                Usage,
                "--min-images {least}: {drawn} different images are drawn of each caption, so it must have {drawn} at least; \
                 give more, or leave it out"
            );
        }
        if let Some(chunk) = self.chunk.filter(|&chunk| chunk == 0 || chunk >= self.images_per_step()) {
            bail!(
                Usage,
                "--chunk {chunk}: expected fewer images than the {} of a step, or all",
                self.images_per_step()
            );
        }
        if let Some(slots) = self.queue {
            self.validate_queue(slots)?;
        }
        if matches!(self.method, Name::MocoV3 | Name::Byol) && !self.model.width.is_multiple_of(4) {
            bail!(
                Usage,
                "--width {}: the fixed positions of --method {} take a multiple of 4",
                self.model.width,
                self.method.name()
            );
        }
        let [low, high] = self.crop_scale;
        if !(low > 0.0 && low <= high && high <= 1.0) {
            bail!(Usage, "--crop-scale {low},{high}: expected two shares of the area, 0 < low ≤ high ≤ 1, e.g. 0.08,1");
        }
        let finite = |v: f64, low: f64, high: f64| v.is_finite() && v >= low && v <= high;
        let (Rate::Base(rate) | Rate::Peak(rate)) = self.rate;
        for (flag, value, low, high) in [
            (if matches!(self.rate, Rate::Base(_)) { "--blr" } else { "--lr" }, rate, 0.0, 1000.0),
            ("--min-lr", self.min_lr.unwrap_or(0.0), 0.0, 1000.0),
            ("--weight-decay", self.weight_decay, 0.0, 100.0),
            ("--weight-decay-end", self.weight_decay_end.unwrap_or(0.0), 0.0, 100.0),
            ("--clip-gradient", self.clip_gradient.unwrap_or(1.0), 1e-6, 1e6),
            ("--drop-path", self.drop_path.unwrap_or(0.0), 0.0, 0.99),
            ("--beta1", self.beta1, 0.0, 0.999_999),
            ("--beta2", self.beta2, 0.0, 0.999_999),
            ("--temperature", self.temperature, 0.001, 100.0),
            ("--momentum", self.momentum.unwrap_or(0.0), 0.0, 1.0),
        ] {
            if !finite(value, low, high) {
                bail!(Usage, "{flag} {value}: expected {low} to {high}");
            }
        }
        if let Some(share) = self.drop_path.filter(|_| self.model.depth == 1) {
            bail!(
                Usage,
                "--drop-path {share} with --depth 1: the share rises from 0 in the first block, so a single one leaves \
                 nothing out; give more blocks, or leave it out"
            );
        }
        for (name, length, least) in [("", self.length, f64::MIN_POSITIVE), ("warmup-", self.warmup, 0.0)] {
            match length {
                Length::Epochs(epochs) if !finite(epochs, least, 1e6) => {
                    bail!(
                        Usage,
                        "--{name}epochs {epochs}: expected {} to 1000000",
                        if least > 0.0 { "more than 0" } else { "0" }
                    )
                }
                Length::Steps(steps) if (steps == 0 && least > 0.0) || steps > 1 << 40 => {
                    bail!(
                        Usage,
                        "--{name}steps {steps}: expected {} to {}",
                        if least > 0.0 { 1 } else { 0 },
                        1u64 << 40
                    )
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn validate_queue(&self, slots: usize) -> Result<()> {
        let (rows, method) = (self.images_per_step(), self.method.name());
        if !self.method.takes_queue() {
            bail!(
                Usage,
                "--queue {slots} does not go with --method {method}; take stablerep or simclr, or leave it out"
            );
        }
        let most = MOST_SLOTS.min((((1 << 31) - 1) / self.head_dims[1].max(1)).saturating_sub(rows));
        if slots < rows || slots > most {
            bail!(
                Usage,
                "--queue {slots}: expected {rows}, the images of a step, to {most} keys (of {} values each); give as many, or \
                 change --batch",
                self.head_dims[1]
            );
        }
        Ok(())
    }

    /// Refuses small crops that the model or the method cannot be given.
    fn check_local(&self, LocalCrops { crops, size, scale: [low, high] }: LocalCrops) -> Result<()> {
        let VitConfig { image_size, patch_size, .. } = self.model;
        if !self.method.method().takes_local_crops() {
            bail!(Usage, "--local-crops {crops} does not go with --method {}; take dino", self.method.name());
        }
        if self.augmentation == Augmentation::None {
            bail!(Usage, "--local-crops {crops} does not go with --augmentation none, which takes no crops");
        }
        if crops == 0 || crops > 64 {
            bail!(Usage, "--local-crops {crops}: expected 1 to 64, or leave it out for none");
        }
        if size == 0 || size > image_size || !size.is_multiple_of(patch_size) {
            bail!(
                Usage,
                "--local-size {size}: expected a multiple of --patch-size {patch_size}, at most --image-size \
                 {image_size}"
            );
        }
        if !(low > 0.0 && low <= high && high <= 1.0) {
            bail!(
                Usage,
                "--local-scale {low},{high}: expected two shares of the area, 0 < low ≤ high ≤ 1, e.g. 0.05,0.4"
            );
        }
        Ok(())
    }

    /// The learning rates of the run when the data gives `steps_per_epoch` iterations per epoch.
    ///
    /// # Errors
    /// Usage error if the warm-up is not shorter than the run, the run has no iteration, or its last rate is above the
    /// peak.
    pub fn schedule(&self, steps_per_epoch: u64) -> Result<Schedule> {
        let iterations = |length| match length {
            Length::Epochs(epochs) => epochs * steps_per_epoch as f64,
            Length::Steps(steps) => steps as f64,
        };
        let (length, warmup) = (iterations(self.length), iterations(self.warmup));
        let steps = length.round() as u64;
        if steps == 0 {
            bail!(
                Usage,
                "--epochs, --steps: {length} iterations are none ({steps_per_epoch} are an epoch of this data); train longer"
            );
        }
        if warmup >= length {
            bail!(
                Usage,
                "the warm-up of {warmup} iterations is not shorter than the run of {length} ({steps_per_epoch} per epoch); \
                 lower --warmup-epochs or --warmup-steps, or train longer"
            );
        }
        let peak = match self.rate {
            Rate::Base(base) => base * self.images_per_step() as f64 / 512.0,
            Rate::Peak(peak) => peak,
        };
        let last = self.min_lr.unwrap_or(0.0);
        if last > peak {
            bail!(
                Usage,
                "--min-lr {last}: expected no more than the peak rate, {peak}; lower it or raise --lr or --blr"
            );
        }
        Ok(Schedule { peak, last, steps, length, warmup })
    }
}
