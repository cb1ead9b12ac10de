//! From what was set to the recipe of a run.

use std::path::PathBuf;

use clap::ValueEnum;

use super::settings::Settings;
use crate::bail;
use crate::config::{FINETUNE_DEFAULTS, Layers, MAE_DEFAULTS, Preset, SEGMENT_DEFAULTS, TRAIN_DEFAULTS, TRAIN_PRESETS};
use crate::device::Device;
use crate::error::Result;
use crate::models::mae::MaeConfig;
use crate::models::segmenter::HeadKind;
use crate::models::vit::{Variant, VitConfig};
use crate::train::loader::LocalCrops;
use crate::train::method::{Name, QUEUE_MOMENTUM};
use crate::train::{
    Activations, Augmentation, CropFilter, Decay, Language, Length, Optimizer, Projection, Rate, Recipe,
};

/// Classes of an update over synthetic pictures.
const IMAGENET: usize = 1000;

/// Keys that replace each other.
const EXCLUSIVE: &[[&str; 2]] = &[["epochs", "steps"], ["warmup-epochs", "warmup-steps"], ["blr", "lr"]];

impl Settings {
    /// These over `preset`, over the defaults.
    ///
    /// # Errors
    /// Usage error for what cannot be laid over each other, and for a flag of these that the result does not use.
    pub(super) fn over(&self, preset: Option<&str>) -> Result<Self> {
        let lay = |own: Option<Preset>| -> Result<Self> {
            let mut layers = Layers::new(EXCLUSIVE);
            for defaults in [TRAIN_DEFAULTS].into_iter().chain(own) {
                layers.text::<Self>(defaults.name, defaults.text)?;
            }
            if let Some(name) = preset {
                layers.preset::<Self>(TRAIN_PRESETS, name)?;
            }
            layers.flags(self)?;
            layers.finish()
        };
        let all = match lay(None)? {
            all if all.method == Some(Name::Mae) => lay(Some(MAE_DEFAULTS))?,
            all if all.method == Some(Name::FineTune) => lay(Some(FINETUNE_DEFAULTS))?,
            all if all.method == Some(Name::Segment) => lay(Some(SEGMENT_DEFAULTS))?,
            all => all,
        };
        self.applies_to(&all)?;
        Ok(all)
    }

    /// Refuses what is given here and would change nothing under the settings `all`.
    fn applies_to(&self, all: &Self) -> Result<()> {
        if let (Some(Augmentation::None), Some(scale)) = (all.augmentation, &self.crop_scale) {
            let scale: Vec<String> = scale.iter().map(f64::to_string).collect();
            bail!(
                Usage,
                "--crop-scale {} does not go with --augmentation none, which takes no crops; use --augmentation weak",
                scale.join(",")
            );
        }
        if let (Some(Augmentation::None), Some(_)) = (all.augmentation, self.crop_filter) {
            bail!(
                Usage,
                "--crop-filter does not go with --augmentation none, which takes no crops; use --augmentation weak"
            );
        }
        let Some(name) = all.method else { return Ok(()) };
        let head = name.method().has_head() || (name.method().reads_texts() && all.projection == Some(Projection::Mlp));
        let local = name.method().takes_local_crops();
        let supervised = matches!(name, Name::FineTune | Name::Segment);
        for (flag, given, goes, why) in [
            ("mask-ratio", self.mask_ratio.is_some(), name == Name::Mae, "has no decoder"),
            ("decoder-width", self.decoder_width.is_some(), name == Name::Mae, "has no decoder"),
            ("decoder-depth", self.decoder_depth.is_some(), name == Name::Mae, "has no decoder"),
            ("decoder-heads", self.decoder_heads.is_some(), name == Name::Mae, "has no decoder"),
            ("classes", self.classes.is_some(), supervised, "has no classifier; take finetune or segment"),
            (
                "layer-decay",
                self.layer_decay.is_some(),
                supervised,
                "trains all layers at one rate; take finetune or segment",
            ),
            ("drop-path", self.drop_path.is_some(), name != Name::Mae, "keeps all branches of its encoder"),
            ("local-crops", self.local_crops.is_some(), local, "sees no small crops"),
            ("local-size", self.local_size.is_some(), local, "sees no small crops"),
            ("local-scale", self.local_scale.is_some(), local, "sees no small crops"),
            ("head-dims", self.head_dims.is_some(), head, "has no projection head"),
            ("bn", self.bn.is_some(), head, "has no projection head"),
        ] {
            if given && !goes {
                bail!(Usage, "--{flag} does not go with --method {}, which {why}; leave it out", name.name());
            }
        }
        if let (Some(Optimizer::Lars), Some(beta2)) = (all.optimizer, self.beta2) {
            bail!(
                Usage,
                "--beta2 {beta2} does not go with --optimizer lars, which keeps no second moments; leave it out"
            );
        }
        if self.init_weights.is_some() && all.init_from.is_none() {
            bail!(Usage, "--init-weights is of --init-from: give that, or leave it out");
        }
        for (flag, given) in [("size", self.local_size.is_some()), ("scale", self.local_scale.is_some())] {
            if given && all.local_crops.is_none_or(|crops| crops == 0) {
                bail!(Usage, "--local-{flag} is of small crops: say how many with --local-crops, or leave it out");
            }
        }
        if let (true, Some(m @ 2..)) = (!matches!(name, Name::StableRep | Name::StableRepPlus), self.images_per_caption)
        {
            bail!(
                Usage,
                "--images-per-caption {m} does not go with --method {}, which takes one image of each caption; leave \
                 it out",
                name.name()
            );
        }
        if let (Some(crops), false) = (self.crops, name.method().takes_crops()) {
            bail!(
                Usage,
                "--crops {crops} does not go with --method {}, whose loss knows its crops one by one; leave it out",
                name.name()
            );
        }
        if self.bn.is_some() && !name.method().has_batch_norm() {
            bail!(Usage, "--bn does not go with --method {}, whose head has no batch norms; leave it out", name.name());
        }
        if let (None, None, Some(momentum)) = (name.method().momentum(), all.queue, self.momentum) {
            bail!(
                Usage,
                "--momentum {momentum} does not go with --method {}, which has no momentum copy{}; leave it out",
                name.name(),
                if name.takes_queue() { " without --queue" } else { "" }
            );
        }
        if let (false, Some(temperature)) = (name.method().has_temperature(), self.temperature) {
            bail!(
                Usage,
                "--temperature {temperature} does not go with --method {}, whose loss has none; leave it out",
                name.name()
            );
        }
        if let Some(positives) = self.positives.filter(|_| !matches!(name, Name::StableRep | Name::StableRepPlus)) {
            bail!(
                Usage,
                "--positives {} goes with --method stablerep and stablerep+ alone; leave it out",
                positives.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
            );
        }
        self.changes_nothing(all.augmentation)?;
        let of_finetune = self.of_finetune().into_iter().find(|(_, given)| *given && name != Name::FineTune);
        if let Some((flag, _)) = of_finetune {
            bail!(
                Usage,
                "{flag} does not go with --method {}, which has no classifier; take finetune, or leave it out",
                name.name()
            );
        }
        if name == Name::Segment && all.segmentation_head == Some(HeadKind::Linear) {
            for (flag, given) in [
                ("auxiliary-weight", self.auxiliary_weight.is_some()),
                ("layer-decay", self.layer_decay.is_some()),
                ("drop-path", self.drop_path.is_some()),
            ] {
                if given {
                    bail!(
                        Usage,
                        "--{flag} does not go with --segmentation-head linear, which has no auxiliary head and leaves the \
                         encoder as it is; leave it out, or take uper"
                    );
                }
            }
        }
        let of_segment = self.of_segment().into_iter().find(|(_, given)| *given && name != Name::Segment);
        if let Some((flag, _)) = of_segment {
            bail!(
                Usage,
                "{flag} does not go with --method {}, which tells no pixels apart; take segment, or leave it out",
                name.name()
            );
        }
        let of_texts = self.of_texts().into_iter().find(|(_, given)| *given && !name.method().reads_texts());
        if let Some((flag, _)) = of_texts {
            bail!(
                Usage,
                "{flag} does not go with a --method that reads no texts; take clip, slip or stablerep+, or leave it out"
            );
        }
        Ok(())
    }

    /// What is held at once, where it is given.
    pub(super) fn activations(&self) -> Activations {
        Activations { chunk: self.chunk, recompute: self.recompute }
    }

    /// A recipe for updates over synthetic pictures, what of it is held at once, and how many updates were asked for.
    pub(in crate::cli) fn rehearsed(
        &self,
        preset: Option<&str>,
        device: Device,
    ) -> Result<(Recipe, Activations, Option<u64>)> {
        let settings = self.over(preset)?;
        let (wanted, activations) = (settings.steps, settings.activations());
        let classes = settings.classes.or((settings.method == Some(Name::FineTune)).then_some(IMAGENET));
        let settings = Self {
            classes,
            steps: Some(1),
            epochs: None,
            warmup_steps: Some(0),
            warmup_epochs: None,
            init_from: None,
            init_weights: None,
            ..settings
        };
        let reads_texts = set(settings.method, "method")?.method().reads_texts();
        let language = reads_texts.then(|| settings.language(None)).transpose()?;
        let recipe = recipe((vec!["(synthetic)".into()], Vec::new()), settings, language, device)?;
        recipe.validate()?;
        Ok((recipe, activations, wanted))
    }
}

pub(super) fn recipe(
    (data, weights): (Vec<PathBuf>, Vec<f64>),
    settings: Settings,
    language: Option<Language>,
    device: Device,
) -> Result<Recipe> {
    let (model, precision) = (model(&settings)?, settings.operands(device)?);
    let Settings { epochs, steps, warmup_epochs, warmup_steps, blr, lr, .. } = settings;
    let Some(length) = epochs.map(Length::Epochs).or(steps.map(Length::Steps)) else {
        bail!(Usage, "how long to train? give --epochs or --steps, or a --preset");
    };
    let share = match length {
        Length::Epochs(epochs) => Length::Epochs(epochs / 30.0),
        Length::Steps(steps) => Length::Steps(steps / 30),
    };
    let warmup = warmup_epochs.map(Length::Epochs).or(warmup_steps.map(Length::Steps)).unwrap_or(share);
    let augmentation = set(settings.augmentation, "augmentation")?;
    let method = set(settings.method, "method")?;
    let images_per_caption = set(settings.images_per_caption, "images-per-caption")?;
    let mae = match method {
        Name::Mae => Some(MaeConfig {
            decoder_width: set(settings.decoder_width, "decoder-width")?,
            decoder_depth: set(settings.decoder_depth, "decoder-depth")?,
            decoder_heads: set(settings.decoder_heads, "decoder-heads")?,
            mask_ratio: set(settings.mask_ratio, "mask-ratio")?,
        }),
        _ => None,
    };
    let finetune = match method {
        Name::FineTune => Some(settings.finetune()?),
        _ => None,
    };
    let segment = match method {
        Name::Segment => Some(settings.segment()?),
        _ => None,
    };
    let frozen = segment.as_ref().is_some_and(|segment| segment.head == HeadKind::Linear);
    let local = match settings.local_crops.filter(|&crops| crops > 0) {
        Some(crops) => Some(LocalCrops {
            crops,
            size: settings.local_size.unwrap_or(96),
            scale: pair(settings.local_scale.unwrap_or_else(|| vec![0.05, 0.4]), "--local-scale", "0.05,0.4")?,
        }),
        None => None,
    };
    let smallest = match augmentation {
        _ if local.is_some() => 0.4,
        Augmentation::Weak | Augmentation::Clip => 0.5,
        _ => 0.08,
    };
    Ok(Recipe {
        data,
        cpu_precision: precision,
        weights,
        positives: settings.positives.unwrap_or_default(),
        method,
        model,
        head_dims: pair(set(settings.head_dims, "head-dims")?, "--head-dims", "4096,256")?,
        batch_norm: set(settings.bn, "bn")?,
        batch: set(settings.batch, "batch")?,
        images_per_caption,
        crops: settings.crops.filter(|&crops| crops != method.method().views(images_per_caption).crops),
        // Set when it is known what fits.
        chunk: None,
        recompute: false,
        // As many as are drawn of each are wanted anyway.
        min_images: settings.min_images.filter(|&least| least != method.method().views(images_per_caption).images),
        length,
        warmup,
        rate: set(lr.map(Rate::Peak).or(blr.map(Rate::Base)), "blr")?,
        weight_decay: set(settings.weight_decay, "weight-decay")?,
        min_lr: settings.min_lr.filter(|&rate| rate != 0.0),
        lr_decay: settings.lr_decay.filter(|&decay| decay != Decay::Cosine),
        weight_decay_end: settings.weight_decay_end,
        optimizer: settings.optimizer.filter(|&optimizer| optimizer != Optimizer::AdamW),
        drop_path: settings.drop_path.filter(|&share| share != 0.0 && !frozen),
        clip_gradient: settings.clip_gradient,
        beta1: set(settings.beta1, "beta1")?,
        beta2: set(settings.beta2, "beta2")?,
        temperature: set(settings.temperature, "temperature")?,
        momentum: settings.momentum.or(method.method().momentum()).or(settings.queue.map(|_| QUEUE_MOMENTUM)),
        queue: settings.queue,
        augmentation,
        crop_scale: pair(settings.crop_scale.unwrap_or_else(|| vec![smallest, 1.0]), "--crop-scale", "0.08,1")?,
        local,
        crop_filter: settings.crop_filter.filter(|&filter| filter != CropFilter::Bilinear),
        downsample: settings.downsample.unwrap_or(false),
        shuffle: !settings.no_shuffle.unwrap_or(false),
        seed: set(settings.seed, "seed")?,
        max_bad: set(settings.max_bad, "max-bad")?,
        max_bad_updates: settings.max_bad_updates.unwrap_or(0),
        init_from: settings.init_from,
        init_weights: settings.init_weights,
        language,
        mae,
        finetune,
        segment,
    })
}

fn model(settings: &Settings) -> Result<VitConfig> {
    let (name, qk_norm) = (settings.model.as_deref().unwrap_or("vit_base"), settings.qk_norm.unwrap_or(false));
    let sizes = [("--width", settings.width), ("--depth", settings.depth)];
    if let Some(standard) = VitConfig::named(name) {
        if let Some((flag, Some(value))) = sizes.iter().find(|(_, value)| value.is_some()) {
            bail!(Usage, "{flag} {value} does not go with --model {name}, whose size is fixed; use --model custom");
        }
        let image_size = settings.image_size.unwrap_or(standard.image_size);
        let patch_size = settings.patch_size.unwrap_or(standard.patch_size);
        let heads = settings.heads.unwrap_or(standard.heads);
        return Ok(VitConfig { image_size, patch_size, heads, qk_norm, ..standard });
    }
    if name != "custom" {
        bail!(Usage, "--model {name}: expected vit_tiny, vit_small, vit_base, vit_large or custom");
    }
    let need = |flag: &str, value: Option<usize>| match value {
        Some(value) => Ok(value),
        None => bail!(Usage, "--model custom needs {flag} (and --image-size, --patch-size, --width, --depth, --heads)"),
    };
    Ok(VitConfig {
        image_size: need("--image-size", settings.image_size)?,
        patch_size: need("--patch-size", settings.patch_size)?,
        width: need("--width", settings.width)?,
        depth: need("--depth", settings.depth)?,
        heads: need("--heads", settings.heads)?,
        mlp_ratio: 4,
        channels: 3,
        qk_norm,
        variant: Variant::default(),
    })
}

pub(super) fn set<T>(value: Option<T>, key: &str) -> Result<T> {
    match value {
        Some(value) => Ok(value),
        None => bail!(Usage, "--{key} is not set; give the flag, or a --preset or --config that sets it"),
    }
}

fn pair<T: Copy>(values: Vec<T>, flag: &str, example: &str) -> Result<[T; 2]> {
    match values[..] {
        [a, b] => Ok([a, b]),
        _ => bail!(
            Usage,
            "{flag}: expected two values with a comma between, e.g. {flag} {example}; got {}",
            values.len()
        ),
    }
}
