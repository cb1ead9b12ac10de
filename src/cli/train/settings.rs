//! What preset, file and flags may set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(cuda_kernels)]
use crate::bail;
use crate::config::TRAIN_PRESETS;
use crate::device::Device;
use crate::error::Result;
use crate::models::classifier::Pool;
use crate::models::segmenter::HeadKind;
use crate::models::vit::Whose;
use crate::ops::gemm::Operands;
use crate::ops::rand_augment::RandAugment;
use crate::say;
use crate::train::loader::Positives;
use crate::train::method::Name;
use crate::train::{Augmentation, BatchNorm, Chunk, CropFilter, Decay, Optimizer, Projection};

/// What linear layers multiply in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Precision {
    /// On the CPU bf16 where it multiplies that faster than f32, else f32
    Auto,
    /// Full precision: the CPU's
    F32,
    /// 8 bits, the range of f32
    Bf16,
}

/// What preset, file and flags may set; keys of the files are the names of the flags.
#[derive(Clone, Debug, Default, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(in crate::cli) struct Settings {
    /// What makes two images belong together [default: stablerep]
    #[arg(long, value_enum, help_heading = "Method")]
    pub(super) method: Option<Name>,
    /// Captions per step, n. Images per step are n·m for stablerep and stablerep+, n for clip, mae and finetune, n·3
    /// for slip, n·2 for the others: for equal compute give simclr n·m/2
    #[arg(long, value_name = "N", help_heading = "Method")]
    pub(super) batch: Option<usize>,
    /// Images per caption and step of stablerep, m, drawn anew without replacement in every epoch [default: 6]
    #[arg(long, value_name = "M", help_heading = "Method")]
    pub(super) images_per_caption: Option<usize>,
    /// Crops of each of these images, all of them positives of each other, of stablerep, stablerep+ and simclr
    /// [default: 1; 2 for simclr]
    #[arg(long, value_name = "K", help_heading = "Method")]
    pub(super) crops: Option<usize>,
    /// Leave out captions with fewer images than this (it is said how many) [default: as many as are drawn of each]
    #[arg(long, value_name = "N", help_heading = "Method")]
    pub(super) min_images: Option<usize>,
    /// Share of an image's patches that mae removes and has drawn from the rest [default: 0.75]
    #[arg(long, value_name = "SHARE", help_heading = "Method")]
    pub(super) mask_ratio: Option<f64>,
    /// Which images are positives of each other, of stablerep and stablerep+ [default: text]
    #[arg(long, value_enum, help_heading = "Method")]
    pub(super) positives: Option<Positives>,
    /// What linear layers multiply on the CPU, each operand rounded; sums, weights that are updated, norms, attention
    /// and losses stay f32 [default: f32; a GPU multiplies bf16 always]
    #[arg(long, value_enum, help_heading = "Method")]
    pub(super) precision: Option<Precision>,
    /// Temperature of the contrastive loss [default: 0.1]
    #[arg(long, value_name = "T", help_heading = "Method")]
    pub(super) temperature: Option<f64>,
    /// Momentum of the momentum copy at the beginning of the run, on its way to 1 in half a cosine [default: 0.99 for
    /// mocov3, 0.996 for byol and dino, 0.994 with --queue]
    #[arg(long, value_name = "M", help_heading = "Method")]
    pub(super) momentum: Option<f64>,
    /// Keys of earlier images, those of a momentum copy, that stablerep and simclr compare each image with beside those
    /// of its step: as many as a step has images, or more [default: none]
    #[arg(long, value_name = "N", help_heading = "Method")]
    pub(super) queue: Option<usize>,

    /// What makes tokens of captions, for methods with texts: OpenAI's bpe_simple_vocab_16e6.txt.gz, a folder of
    /// vocab.json and merges.txt, or `bundled`, a small vocabulary that spells most words
    #[arg(long, value_name = "PATH", help_heading = "Language")]
    pub(super) tokenizer: Option<String>,
    /// Read any of a sample's texts, its caption and those listed as `captions` in its .json, with equal chances
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Language")]
    pub(super) any_caption: Option<bool>,
    /// Tokens of a text, start and end among them; longer ones are cut [default: 77]
    #[arg(long, value_name = "N", help_heading = "Language")]
    pub(super) context_length: Option<usize>,
    /// Width of the text tower [default: 512]
    #[arg(long, value_name = "D", help_heading = "Language")]
    pub(super) text_width: Option<usize>,
    /// Blocks of the text tower [default: 12]
    #[arg(long, value_name = "BLOCKS", help_heading = "Language")]
    pub(super) text_depth: Option<usize>,
    /// Attention heads of the text tower [default: 8]
    #[arg(long, value_name = "G", help_heading = "Language")]
    pub(super) text_heads: Option<usize>,
    /// Values in which pictures and texts are compared [default: 512]
    #[arg(long, value_name = "D", help_heading = "Language")]
    pub(super) embed_dim: Option<usize>,
    /// How features become those values [default: linear]
    #[arg(long, value_enum, help_heading = "Language")]
    pub(super) projection: Option<Projection>,
    /// What the loss of pictures against texts is multiplied by beside another one [default: 1]
    #[arg(long, value_name = "W", help_heading = "Language")]
    pub(super) text_weight: Option<f64>,

    /// Classes that finetune and segment tell apart; numbers in .cls are below this [default: as many as the data has
    /// for finetune]
    #[arg(long, value_name = "N", help_heading = "Fine-tuning")]
    pub(super) classes: Option<usize>,
    /// What the classifier reads [default: mean]
    #[arg(long, value_enum, help_heading = "Fine-tuning")]
    pub(super) pool: Option<Pool>,
    /// What the learning rate of a layer is multiplied by for each layer above it [default: 0.65]
    #[arg(long, value_name = "FACTOR", help_heading = "Fine-tuning")]
    pub(super) layer_decay: Option<f64>,
    /// What segment tells the classes of pixels by [default: uper]
    #[arg(long, value_enum, help_heading = "Segmentation")]
    pub(super) segmentation_head: Option<HeadKind>,
    /// Number that the first class has in the PNGs of segment's data; those below it are none [default: 1, as in
    /// ADE20k]
    #[arg(long, value_name = "N", help_heading = "Segmentation")]
    pub(super) first_label: Option<u8>,
    /// What of segment's loss is its auxiliary head's [default: 0.4]
    #[arg(long, value_name = "WEIGHT", help_heading = "Segmentation")]
    pub(super) auxiliary_weight: Option<f64>,
    /// Share of channels that an image leaves out in front of segment's classifiers [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Segmentation")]
    pub(super) drop_channels: Option<f64>,
    /// Share of a target that all classes have alike [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Fine-tuning")]
    pub(super) label_smoothing: Option<f64>,
    /// Keep a moving average of all weights with this decay, and score it too; a checkpoint has it as momentum.…
    /// [default: none is kept]
    #[arg(long, value_name = "DECAY", help_heading = "Fine-tuning")]
    pub(super) ema: Option<f64>,
    /// RandAugment by timm's magnitude, number of changes, and spread of the magnitude, or none [default:
    /// m9-n2-mstd0.5]
    #[arg(long, value_name = "SETTINGS", help_heading = "Fine-tuning")]
    pub(super) rand_augment: Option<RandAugment>,
    /// Odds that a rectangle of an image is replaced by noise [default: 0.25]
    #[arg(long, value_name = "ODDS", help_heading = "Fine-tuning")]
    pub(super) erase: Option<f64>,
    /// α of mixup's Beta distribution, 0 for no mixup [default: 0.8]
    #[arg(long, value_name = "ALPHA", help_heading = "Fine-tuning")]
    pub(super) mixup: Option<f64>,
    /// α of CutMix's Beta distribution, 0 for no CutMix [default: 1]
    #[arg(long, value_name = "ALPHA", help_heading = "Fine-tuning")]
    pub(super) cutmix: Option<f64>,
    /// Odds of CutMix in the place of mixup for a batch [default: 0.5]
    #[arg(long, value_name = "ODDS", help_heading = "Fine-tuning")]
    pub(super) mix_switch: Option<f64>,

    /// vit_tiny, vit_small, vit_base, vit_large, or custom with the five sizes below [default: vit_base]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub(super) model: Option<String>,
    /// Side of the square images, pixels [default: 224]
    #[arg(long, value_name = "PIXELS", help_heading = "Model")]
    pub(super) image_size: Option<usize>,
    /// Side of a patch, pixels [default: 16]
    #[arg(long, value_name = "PIXELS", help_heading = "Model")]
    pub(super) patch_size: Option<usize>,
    /// Values per token, of a custom model
    #[arg(long, value_name = "D", help_heading = "Model")]
    pub(super) width: Option<usize>,
    /// Blocks of a custom model
    #[arg(long, value_name = "BLOCKS", help_heading = "Model")]
    pub(super) depth: Option<usize>,
    /// Attention heads of a custom model, or in place of a standard one's (MoCo v3's vit_small has 12)
    #[arg(long, value_name = "G", help_heading = "Model")]
    pub(super) heads: Option<usize>,
    /// Normalise the queries and keys of every head before their products, as LaCLIP's ViTs do
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Model")]
    pub(super) qk_norm: Option<bool>,
    /// Hidden and output width of the projection head [default: 4096,256]
    #[arg(long, value_name = "HIDDEN,OUT", value_delimiter = ',', help_heading = "Model")]
    pub(super) head_dims: Option<Vec<usize>>,
    /// Rows over which the head's batch norm takes its statistics [default: per-slot]
    #[arg(long, value_enum, help_heading = "Model")]
    pub(super) bn: Option<BatchNorm>,
    /// Values per token of mae's decoder [default: 512]
    #[arg(long, value_name = "D", help_heading = "Model")]
    pub(super) decoder_width: Option<usize>,
    /// Blocks of mae's decoder [default: 8]
    #[arg(long, value_name = "BLOCKS", help_heading = "Model")]
    pub(super) decoder_depth: Option<usize>,
    /// Attention heads of mae's decoder [default: 16]
    #[arg(long, value_name = "G", help_heading = "Model")]
    pub(super) decoder_heads: Option<usize>,
    /// Weights to start from: a run or its checkpoint, a timm folder or file, or an official checkpoint as safetensors;
    /// with the projection head (image_mlp.…), mae's decoder or finetune's classifier if it is there. For another
    /// --image-size its positions are resampled, as timm does
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub(super) init_from: Option<PathBuf>,
    /// Whose weights, of a run with a momentum copy [default: teacher for dino and
    /// SynCLR, else student]
    #[arg(long, value_enum, value_name = "WHOSE", help_heading = "Model")]
    pub(super) init_weights: Option<Whose>,

    /// Random changes of the images [default: strong; weak for mae; finetune for finetune]
    #[arg(long, value_enum, help_heading = "Images")]
    pub(super) augmentation: Option<Augmentation>,
    /// Share of the area a random crop takes [default: 0.08,1 for strong and finetune, 0.5,1 for weak; 0.2,1 for mae;
    /// 0.4,1 beside small crops]
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', help_heading = "Images")]
    pub(super) crop_scale: Option<Vec<f64>>,
    /// Small crops of each image that dino's student sees beside the two of the model's size [default: none]
    #[arg(long, value_name = "N", help_heading = "Images")]
    pub(super) local_crops: Option<usize>,
    /// Side of a small crop, pixels [default: 96]
    #[arg(long, value_name = "PIXELS", help_heading = "Images")]
    pub(super) local_size: Option<usize>,
    /// Share of the area a small crop takes [default: 0.05,0.4]
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', help_heading = "Images")]
    pub(super) local_scale: Option<Vec<f64>>,
    /// What a random crop is resized by [default: bilinear; bicubic for mae and finetune]
    #[arg(long, value_enum, help_heading = "Images")]
    pub(super) crop_filter: Option<CropFilter>,
    /// Shrink 5 % of the images to 64 or 128 pixels and enlarge them again first (none that is over 64 times as long as
    /// wide)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Images")]
    pub(super) downsample: Option<bool>,
    /// Take captions and their images in the order of the shards
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Images")]
    pub(super) no_shuffle: Option<bool>,
    /// Bad samples (unreadable image, no caption, damage of a shard) to leave out, each named, before the run stops
    /// [default: 0]. As many photographs of --knn-train and --knn-test may be damaged
    #[arg(long, value_name = "N", help_heading = "Images")]
    pub(super) max_bad: Option<usize>,

    /// Passes over the captions; may be a fraction
    #[arg(long, value_name = "E", conflicts_with = "steps", help_heading = "Optimization")]
    pub(super) epochs: Option<f64>,
    /// Iterations, in place of --epochs
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    pub(super) steps: Option<u64>,
    /// Epochs of linear warm-up [default: 1/30 of the run]
    #[arg(long, value_name = "E", conflicts_with = "warmup_steps", help_heading = "Optimization")]
    pub(super) warmup_epochs: Option<f64>,
    /// Iterations of linear warm-up, in place of --warmup-epochs
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    pub(super) warmup_steps: Option<u64>,
    /// Learning rate per 512 images of a step: peak = blr · images / 512 [default: 2e-4; 3e-4 for mae,
    /// whose authors say 1.5e-4 per 256; 1e-3 for finetune]
    #[arg(long, value_name = "RATE", conflicts_with = "lr", help_heading = "Optimization")]
    pub(super) blr: Option<f64>,
    /// Peak learning rate itself, in place of --blr
    #[arg(long, value_name = "RATE", help_heading = "Optimization")]
    pub(super) lr: Option<f64>,
    /// Learning rate at the end of the run [default: 0; 1e-6 for finetune]
    #[arg(long, value_name = "RATE", help_heading = "Optimization")]
    pub(super) min_lr: Option<f64>,
    /// How the learning rate falls behind the warm-up [default: cosine; linear for segment]
    #[arg(long, value_enum, help_heading = "Optimization")]
    pub(super) lr_decay: Option<Decay>,
    /// Updates whose loss or gradient norm is not finite to leave out, each named, before the run stops [default: 0]
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    pub(super) max_bad_updates: Option<u64>,
    /// What updates are computed by [default: adamw]
    #[arg(long, value_enum, help_heading = "Optimization")]
    pub(super) optimizer: Option<Optimizer>,
    /// AdamW's decay of weight matrices and embeddings [default: 0.1; 0.05 for mae and finetune]
    #[arg(long, value_name = "WD", help_heading = "Optimization")]
    pub(super) weight_decay: Option<f64>,
    /// What the decay becomes by the end of the run, in half a cosine [default: it stays]
    #[arg(long, value_name = "WD", help_heading = "Optimization")]
    pub(super) weight_decay_end: Option<f64>,
    /// Norm that the gradient of each tensor, by itself, is cut to [default: none is]
    #[arg(long, value_name = "NORM", help_heading = "Optimization")]
    pub(super) clip_gradient: Option<f64>,
    /// Share of images that leave out the attention of the last block, and likewise its MLP, in training; fewer in
    /// earlier blocks, none in the first (stochastic depth) [default: 0; 0.1 for finetune]
    #[arg(long, value_name = "SHARE", help_heading = "Optimization")]
    pub(super) drop_path: Option<f64>,
    /// Decay rate of AdamW's first moment, or momentum of LARS [default: 0.9]
    #[arg(long, value_name = "B", help_heading = "Optimization")]
    pub(super) beta1: Option<f64>,
    /// Decay rate of AdamW's second moment [default: 0.98; 0.95 for mae, 0.999 for finetune]
    #[arg(long, value_name = "B", help_heading = "Optimization")]
    pub(super) beta2: Option<f64>,
    /// Seed of initial weights, order, choice of images and augmentation [default: 0]
    #[arg(long, value_name = "S", help_heading = "Optimization")]
    pub(super) seed: Option<u64>,

    /// Images whose activations are held at once, or all of a step: the others run forward a second time (with mae and
    /// finetune they come before or after, once), for the same gradient but for rounding [default: as many as fit]
    #[arg(long, value_name = "N", help_heading = "Memory")]
    pub(super) chunk: Option<Chunk>,
    /// Compute layer norms and GELUs again in the backward rather than hold them: five eighths of the activations
    /// [default: where all do not fit]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Memory")]
    pub(super) recompute: Option<bool>,
}

impl Settings {
    /// What `--precision` asks of the CPU.
    ///
    /// # Errors
    /// Usage error for f32 on a GPU.
    pub(super) fn operands(&self, device: Device) -> Result<Operands> {
        match (device, self.precision) {
            (Device::Cpu, Some(Precision::Auto)) => {
                let operands = Operands::fastest();
                say!("--precision auto: {}, which this processor multiplies faster", operands.name());
                Ok(operands)
            }
            #[cfg(cuda_kernels)]
            (Device::Cuda(_), Some(Precision::F32)) => {
                bail!(Usage, "--precision f32: training on a GPU multiplies bf16; leave it out, or give --device cpu")
            }
            // Recorded where it is said, so that a run goes on elsewhere by the same flags.
            (_, Some(Precision::Bf16)) => Ok(Operands::Bf16),
            _ => Ok(Operands::F32),
        }
    }
}

/// What `--preset` says of itself, with every name there is.
pub(in crate::cli) fn preset_help() -> String {
    let names: Vec<&str> = TRAIN_PRESETS.iter().map(|preset| preset.name).collect();
    format!("A recipe that travels in the binary (configs/NAME.toml of the sources): {}", names.join(", "))
}
