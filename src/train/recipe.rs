//! What determines a run's numbers: two runs of one recipe over the same shards end in the same bits.

mod check;
mod choices;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::finetune::FineTune;
use super::language::{Language, Projection};
use super::loader::{Batch, Labelled, LoaderConfig, LocalCrops, Positives};
use super::method::{Held, Name, Network, Sizes, Views};
use super::schedule::{Decay, Position, Schedule, cosine};
use super::segment::Segment;
use crate::bail;
use crate::error::Result;
use crate::image::Filter;
use crate::models::mae::MaeConfig;
use crate::models::segmenter::HeadKind;
use crate::models::tokenizer::Tokenizer;
use crate::models::vit::{VitConfig, Whose};
use crate::ops::gemm::Operands;
use crate::ops::lars::Lars;
use crate::ops::optimizer::AdamW;

pub use choices::{Augmentation, BatchNorm, CropFilter, Length, Optimizer, Rate};

/// AdamW's epsilon.
const ADAM_EPS: f64 = 1e-8;
/// The share of a tensor's norm that a step of LARS with a rate of 1 has.
const TRUST: f64 = 1e-3;

/// Everything that determines a run's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub data: Vec<PathBuf>,
    /// What linear layers multiply on the CPU; GPUs multiply bf16 always.
    #[serde(default)]
    pub cpu_precision: Operands,
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
    /// How the rate falls behind the warm-up; half a cosine where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_decay: Option<Decay>,
    /// AdamW where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
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
    /// Whose weights of it, where it has a momentum copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_weights: Option<Whose>,
    /// Texts, of a method that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// What `mae` has beside its encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae: Option<MaeConfig>,
    /// What `finetune` has beside its encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<FineTune>,
    /// What `segment` has beside its encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<Segment>,
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
            segment: self.segment.clone(),
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

    /// What updates are computed by.
    pub(super) fn optimizer(&self) -> Optimizer {
        self.optimizer.unwrap_or(Optimizer::AdamW)
    }

    /// LARS at `at`, where it is the optimizer.
    pub(super) fn lars(&self, at: Position) -> Option<Lars> {
        let (lr, momentum, weight_decay) = (at.lr, self.beta1, self.decay(at));
        (self.optimizer() == Optimizer::Lars).then_some(Lars { lr, momentum, weight_decay, trust: TRUST })
    }

    /// The weight decay at `at`.
    fn decay(&self, at: Position) -> f64 {
        self.weight_decay_end.map_or(self.weight_decay, |last| cosine(self.weight_decay, last, at.before))
    }

    /// AdamW at `at`, update `step` of the run counted from 1; of what is `late` none in the first epoch, behind which
    /// its updates are counted.
    pub(super) fn adamw(&self, at: Position, step: u64, late: bool) -> Option<AdamW> {
        let Self { beta1, beta2, .. } = *self;
        let step = step.checked_sub(if late { at.epoch } else { 0 }).filter(|step| *step > 0)?;
        Some(AdamW { lr: at.lr, beta1, beta2, eps: ADAM_EPS, weight_decay: self.decay(at), step })
    }

    /// What one caption contributes to a step.
    pub fn views(&self) -> Views {
        let views = self.method.method().views(self.images_per_caption);
        Views { crops: self.crops.unwrap_or(views.crops), ..views }
    }

    /// Whether the recorded setting `key` changes nothing under the others.
    pub(super) fn without(&self, key: &str) -> bool {
        match key {
            "segment.layer_decay" | "segment.auxiliary" => {
                self.segment.as_ref().is_some_and(|segment| segment.head == HeadKind::Linear)
            }
            "crop_scale" => self.augmentation == Augmentation::None,
            "crop_filter" => self.augmentation == Augmentation::None,
            "images_per_caption" => !matches!(self.method, Name::StableRep | Name::StableRepPlus),
            "head_dims" => !self.has_head(),
            "batch_norm" => !(self.has_head() && self.method.method().has_batch_norm()),
            "beta2" => self.optimizer == Some(Optimizer::Lars),
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
            scene: self.segment.as_ref().map(|segment| segment.scene(self.augmentation != Augmentation::None)),
        }
    }

    /// Classes of labelled pictures, where it is known how many.
    pub fn classes(&self) -> Option<usize> {
        let segment = self.segment.as_ref().map(|segment| segment.classes);
        self.finetune.as_ref().and_then(|finetune| finetune.classes).or(segment)
    }

    /// Groups of rows that the head's batch norm treats on their own.
    pub fn norm_slots(&self) -> usize {
        match self.batch_norm {
            BatchNorm::PerSlot => self.views().slots(),
            BatchNorm::Global => 1,
        }
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
        Ok(Schedule { peak, last, steps, length, warmup, decay: self.lr_decay.unwrap_or_default() })
    }
}
