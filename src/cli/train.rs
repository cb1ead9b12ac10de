//! `stablerep train`.

mod data;
mod language;

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::answer;
use crate::bail;
use crate::cli::paths;
use crate::config::{Layers, MAE_DEFAULTS, Preset, TRAIN_DEFAULTS, TRAIN_PRESETS};
use crate::device::Device;
use crate::dist::Ranks;
use crate::error::Result;
use crate::models::mae::MaeConfig;
use crate::models::vit::VitConfig;
use crate::say;
use crate::train::loader::Positives;
use crate::train::method::Name;
use crate::train::{
    self, Activations, Augmentation, BatchNorm, Chunk, Config, CropFilter, Language, Length, Projection, Rate, Recipe,
    SaveEvery, Summary,
};

/// Train a vision transformer on generated images.
///
/// Reads webdataset shards (made by `stablerep generate`, or any with jpg/png and txt), and writes to --output a
/// checkpoint, metrics.jsonl, TensorBoard events and config.json. Rerunning the same command resumes an interrupted run
/// in the same bits; a finished one is left as it is.
///
/// Which images belong to one caption: samples with the same caption text (.txt, else "caption" in .json), wherever
/// they stand; where .json has a caption_id, with the same text and caption_id. In a sample, key.jpg (or .jpeg, .png)
/// is the picture, and key.0.jpg key.1.jpg … are several of one caption; pictures with other names (key.depth.png) are
/// not used. A key ends at the first dot of a name, and the members of a sample stand side by side. Captions with fewer
/// images than are drawn of each are left out, and counted; so are pictures that `generate` flagged not_finite, and
/// those it drew twice (of one caption, with one seed).
///
/// A run belongs to what its shards hold, not to where they lie: they may be moved or named otherwise.
///
/// A JPEG or PNG becomes what Pillow's convert("RGB") makes of it: the EXIF orientation is not followed, alpha is
/// dropped, palettes, gray and CMYK become RGB; samples of 16 bits keep their high byte. One that is cut or damaged, or
/// larger than 178,956,970 pixels or 65,535 on a side, is bad (--max-bad).
///
/// Settings come from, in this order: built-in defaults (configs/train-defaults.toml: the paper's recipe without its
/// size; for --method mae then configs/mae-defaults.toml), --preset, --config, flags. The run writes config.toml, with which `--config` gives the same run again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Folders of shards, single .tar files, or patterns such as dir/{00000..00012}.tar. With weights (real=0.3 drawn=0.7)
    /// every batch is mixed of them in these proportions, and captions of one text in two of them stay apart
    #[arg(long, required = true, num_args = 1.., value_name = "SHARDS")]
    data: Vec<PathBuf>,
    /// Train on a folder that `generate` has not finished, as far as it is
    #[arg(long)]
    allow_partial: bool,
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    #[arg(long, value_name = "NAME", help = preset_help())]
    preset: Option<String>,
    /// How often to save: 10000steps, 0.5epochs or 600s (and always at the end and on SIGINT/SIGTERM)
    #[arg(long, default_value = "600s", value_name = "INTERVAL")]
    save_every: SaveEvery,
    /// Where to compute: cpu, cuda (the first GPU, or that of LOCAL_RANK or SLURM_LOCALID) or cuda:N
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    settings: Settings,
}

/// What preset, file and flags may set; keys of the files are the names of the flags.
#[derive(Clone, Debug, Default, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Settings {
    /// What makes two images belong together [default: stablerep]
    #[arg(long, value_enum, help_heading = "Method")]
    method: Option<Name>,
    /// Captions per step, n. Images per step are n·m for stablerep and stablerep+, n for clip and mae, n·3 for slip, n·2 for
    /// the others: for equal compute give simclr n·m/2
    #[arg(long, value_name = "N", help_heading = "Method")]
    batch: Option<usize>,
    /// Images per caption and step of stablerep, m, drawn anew without replacement in every epoch [default: 6]
    #[arg(long, value_name = "M", help_heading = "Method")]
    images_per_caption: Option<usize>,
    /// Leave out captions with fewer images than this (it is said how many) [default: as many as are drawn of each]
    #[arg(long, value_name = "N", help_heading = "Method")]
    min_images: Option<usize>,
    /// Share of an image's patches that mae removes and has drawn from the rest [default: 0.75]
    #[arg(long, value_name = "SHARE", help_heading = "Method")]
    mask_ratio: Option<f64>,
    /// Which images are positives of each other, of stablerep and stablerep+ [default: text]
    #[arg(long, value_enum, help_heading = "Method")]
    positives: Option<Positives>,
    /// Temperature of the contrastive loss [default: 0.1]
    #[arg(long, value_name = "T", help_heading = "Method")]
    temperature: Option<f64>,
    /// Momentum of the momentum copy at the beginning of the run, on its way to 1 in half a cosine [default: 0.99 for
    /// mocov3, 0.996 for byol and dino]
    #[arg(long, value_name = "M", help_heading = "Method")]
    momentum: Option<f64>,

    /// What makes tokens of captions, for methods with texts: OpenAI's bpe_simple_vocab_16e6.txt.gz, a folder of vocab.json
    /// and merges.txt, or `bundled`, a small vocabulary that spells most words
    #[arg(long, value_name = "PATH", help_heading = "Language")]
    tokenizer: Option<String>,
    /// Tokens of a text, start and end among them; longer ones are cut [default: 77]
    #[arg(long, value_name = "N", help_heading = "Language")]
    context_length: Option<usize>,
    /// Width of the text tower [default: 512]
    #[arg(long, value_name = "D", help_heading = "Language")]
    text_width: Option<usize>,
    /// Blocks of the text tower [default: 12]
    #[arg(long, value_name = "BLOCKS", help_heading = "Language")]
    text_depth: Option<usize>,
    /// Attention heads of the text tower [default: 8]
    #[arg(long, value_name = "G", help_heading = "Language")]
    text_heads: Option<usize>,
    /// Values in which pictures and texts are compared [default: 512]
    #[arg(long, value_name = "D", help_heading = "Language")]
    embed_dim: Option<usize>,
    /// How features become those values [default: linear]
    #[arg(long, value_enum, help_heading = "Language")]
    projection: Option<Projection>,
    /// What the loss of pictures against texts is multiplied by beside another one [default: 1]
    #[arg(long, value_name = "W", help_heading = "Language")]
    text_weight: Option<f64>,

    /// vit_tiny, vit_small, vit_base, vit_large, or custom with the five sizes below [default: vit_base]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    model: Option<String>,
    /// Side of the square images, pixels [default: 224]
    #[arg(long, value_name = "PIXELS", help_heading = "Model")]
    image_size: Option<usize>,
    /// Side of a patch, pixels [default: 16]
    #[arg(long, value_name = "PIXELS", help_heading = "Model")]
    patch_size: Option<usize>,
    /// Values per token, of a custom model
    #[arg(long, value_name = "D", help_heading = "Model")]
    width: Option<usize>,
    /// Blocks of a custom model
    #[arg(long, value_name = "BLOCKS", help_heading = "Model")]
    depth: Option<usize>,
    /// Attention heads of a custom model, or in place of a standard one's (MoCo v3's vit_small has 12)
    #[arg(long, value_name = "G", help_heading = "Model")]
    heads: Option<usize>,
    /// Hidden and output width of the projection head [default: 4096,256]
    #[arg(long, value_name = "HIDDEN,OUT", value_delimiter = ',', help_heading = "Model")]
    head_dims: Option<Vec<usize>>,
    /// Rows over which the head's batch norm takes its statistics [default: per-slot]
    #[arg(long, value_enum, help_heading = "Model")]
    bn: Option<BatchNorm>,
    /// Values per token of mae's decoder [default: 512]
    #[arg(long, value_name = "D", help_heading = "Model")]
    decoder_width: Option<usize>,
    /// Blocks of mae's decoder [default: 8]
    #[arg(long, value_name = "BLOCKS", help_heading = "Model")]
    decoder_depth: Option<usize>,
    /// Attention heads of mae's decoder [default: 16]
    #[arg(long, value_name = "G", help_heading = "Model")]
    decoder_heads: Option<usize>,
    /// Weights to start from: a run or its checkpoint, a timm folder or file, or an official checkpoint as safetensors;
    /// with the projection head (image_mlp.…) or mae's decoder if it is there
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    init_from: Option<PathBuf>,

    /// Random changes of the images [default: strong; weak for mae]
    #[arg(long, value_enum, help_heading = "Images")]
    augmentation: Option<Augmentation>,
    /// Share of the area a random crop takes [default: 0.08,1 for strong, 0.5,1 for weak; 0.2,1 for mae]
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', help_heading = "Images")]
    crop_scale: Option<Vec<f64>>,
    /// What a random crop is resized by [default: bilinear; bicubic for mae]
    #[arg(long, value_enum, help_heading = "Images")]
    crop_filter: Option<CropFilter>,
    /// Shrink 5 % of the images to 64 or 128 pixels and enlarge them again first (none that is over 64 times as long as
    /// wide)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Images")]
    downsample: Option<bool>,
    /// Take captions and their images in the order of the shards
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Images")]
    no_shuffle: Option<bool>,
    /// Bad samples (unreadable image, no caption, damage of a shard) to leave out, each named, before the run stops
    /// [default: 0]
    #[arg(long, value_name = "N", help_heading = "Images")]
    max_bad: Option<usize>,

    /// Passes over the captions; may be a fraction
    #[arg(long, value_name = "E", conflicts_with = "steps", help_heading = "Optimization")]
    epochs: Option<f64>,
    /// Iterations, in place of --epochs
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    steps: Option<u64>,
    /// Epochs of linear warm-up [default: 1/30 of the run]
    #[arg(long, value_name = "E", conflicts_with = "warmup_steps", help_heading = "Optimization")]
    warmup_epochs: Option<f64>,
    /// Iterations of linear warm-up, in place of --warmup-epochs
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    warmup_steps: Option<u64>,
    /// Learning rate per 512 images of a step: peak = blr · images / 512 [default: 2e-4; 3e-4 for mae,
    /// whose authors say 1.5e-4 per 256]
    #[arg(long, value_name = "RATE", conflicts_with = "lr", help_heading = "Optimization")]
    blr: Option<f64>,
    /// Peak learning rate itself, in place of --blr
    #[arg(long, value_name = "RATE", help_heading = "Optimization")]
    lr: Option<f64>,
    /// Updates whose loss or gradient norm is not finite to leave out, each named, before the run stops [default: 0]
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    max_bad_updates: Option<u64>,
    /// AdamW's decay of weight matrices and embeddings [default: 0.1; 0.05 for mae]
    #[arg(long, value_name = "WD", help_heading = "Optimization")]
    weight_decay: Option<f64>,
    /// What the decay becomes by the end of the run, in half a cosine [default: it stays]
    #[arg(long, value_name = "WD", help_heading = "Optimization")]
    weight_decay_end: Option<f64>,
    /// Norm that the gradient of each tensor, by itself, is cut to [default: none is]
    #[arg(long, value_name = "NORM", help_heading = "Optimization")]
    clip_gradient: Option<f64>,
    /// Decay rate of AdamW's first moment [default: 0.9]
    #[arg(long, value_name = "B", help_heading = "Optimization")]
    beta1: Option<f64>,
    /// Decay rate of AdamW's second moment [default: 0.98; 0.95 for mae]
    #[arg(long, value_name = "B", help_heading = "Optimization")]
    beta2: Option<f64>,
    /// Seed of initial weights, order, choice of images and augmentation [default: 0]
    #[arg(long, value_name = "S", help_heading = "Optimization")]
    seed: Option<u64>,

    /// Images whose activations are held at once, or all of a step: the others run forward a second time (with mae they
    /// come before or after, once), for the same gradient but for rounding [default: as many as fit]
    #[arg(long, value_name = "N", help_heading = "Memory")]
    chunk: Option<Chunk>,
    /// Compute layer norms and GELUs again in the backward rather than hold them: five eighths of the activations
    /// [default: where all do not fit]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", help_heading = "Memory")]
    recompute: Option<bool>,
}

/// What `--preset` says of itself, with every name there is.
pub(super) fn preset_help() -> String {
    let names: Vec<&str> = TRAIN_PRESETS.iter().map(|preset| preset.name).collect();
    format!("A recipe that travels in the binary (configs/NAME.toml of the sources): {}", names.join(", "))
}

const EXAMPLES: &str = "\
Examples:
  A small model on 32×32 images, 200 steps of 64 captions × 4 images:
    stablerep train --data shards --output run --model custom --image-size 32 --patch-size 8 --width 128 --depth 4 \\
        --heads 4 --head-dims 512,128 --batch 64 --images-per-caption 4 --steps 200 --lr 1e-3

  The paper's schedule on CC12M:
    stablerep train --preset stablerep-cc12m-1x --data shards --output run

  SimCLR with the compute of the first example (64·4/2 captions, two crops each):
    … --method simclr --batch 128";

/// Keys that replace each other.
const EXCLUSIVE: &[[&str; 2]] = &[["epochs", "steps"], ["warmup-epochs", "warmup-steps"], ["blr", "lr"]];

/// Runs the training.
///
/// # Errors
/// Every exit code of the program can come out of it.
pub fn run(args: Args) -> Result<()> {
    if let Ok(ranks) = Ranks::from_env_or(None, None)
        && ranks.world_size > 1
    {
        say!("training uses one device: {ranks}, is ignored");
    }
    let config = config(args)?;
    let Summary { steps, checkpoint, loss, .. } = train::run(&config)?;
    if let Some(loss) = loss {
        answer!("{steps} steps done, the loss of the last is {loss:.4}: {}", checkpoint.display());
    }
    let run = paths::shell_word(&config.output);
    answer!(
        "next: `stablerep probe --checkpoint {run} --train PHOTOS --test PHOTOS` scores the encoder on labelled photographs,"
    );
    answer!("`stablerep export --checkpoint {run} --output DIR` makes a timm folder of it");
    Ok(())
}

/// Lays defaults, preset and flags (those of a --config file among them) over each other.
fn config(args: Args) -> Result<Config> {
    let settings = args.settings.over(args.preset.as_deref())?;
    let activations = settings.activations();
    let reads_texts = set(settings.method, "method")?.method().reads_texts();
    let tokenizer = reads_texts.then(|| settings.open_tokenizer()).transpose()?;
    let language = reads_texts.then(|| settings.language(tokenizer.as_deref())).transpose()?;
    let recipe = recipe(data::weighted(args.data)?, settings, language)?;
    recipe.validate()?;
    let named = recipe.data.iter().map(|path| ("--data", path)).chain([("--output", &args.output)]);
    for (flag, path) in named.chain(recipe.init_from.iter().map(|path| ("--init-from", path))) {
        if path.to_str().is_none() {
            bail!(Usage, "{flag} {}: its name is not UTF-8, in which a run records it; rename it", path.display());
        }
    }
    // A run that goes on does not read it again.
    if let Some(path) = &recipe.init_from
        && !args.output.join(train::CHECKPOINT).exists()
        && let Err(what) = paths::there(path, paths::ENCODER)
    {
        bail!(Usage, "--init-from {}: {what}", path.display());
    }
    let device = Device::parse(&args.device)?;
    let Args { output, save_every, allow_partial, .. } = args;
    Ok(Config { recipe, activations, output, save_every, device, allow_partial, tokenizer })
}

impl Settings {
    /// These over `preset`, over the defaults.
    ///
    /// # Errors
    /// Usage error for what cannot be laid over each other, and for a flag of these that the result does not use.
    fn over(&self, preset: Option<&str>) -> Result<Self> {
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
        for (flag, given, goes, why) in [
            ("mask-ratio", self.mask_ratio.is_some(), name == Name::Mae, "has no decoder"),
            ("decoder-width", self.decoder_width.is_some(), name == Name::Mae, "has no decoder"),
            ("decoder-depth", self.decoder_depth.is_some(), name == Name::Mae, "has no decoder"),
            ("decoder-heads", self.decoder_heads.is_some(), name == Name::Mae, "has no decoder"),
            ("head-dims", self.head_dims.is_some(), head, "has no projection head"),
            ("bn", self.bn.is_some(), head, "has no projection head"),
        ] {
            if given && !goes {
                bail!(Usage, "--{flag} does not go with --method {}, which {why}; leave it out", name.name());
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
        if self.bn.is_some() && !name.method().has_batch_norm() {
            bail!(Usage, "--bn does not go with --method {}, whose head has no batch norms; leave it out", name.name());
        }
        if let (None, Some(momentum)) = (name.method().momentum(), self.momentum) {
            bail!(
                Usage,
                "--momentum {momentum} does not go with --method {}, which has no momentum copy; leave it out",
                name.name()
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
    fn activations(&self) -> Activations {
        Activations { chunk: self.chunk, recompute: self.recompute }
    }

    /// A recipe for updates over synthetic pictures, what of it is held at once, and how many updates were asked for.
    pub(super) fn rehearsed(&self, preset: Option<&str>) -> Result<(Recipe, Activations, Option<u64>)> {
        let settings = self.over(preset)?;
        let (wanted, activations) = (settings.steps, settings.activations());
        let settings = Self {
            steps: Some(1),
            epochs: None,
            warmup_steps: Some(0),
            warmup_epochs: None,
            init_from: None,
            ..settings
        };
        let reads_texts = set(settings.method, "method")?.method().reads_texts();
        let language = reads_texts.then(|| settings.language(None)).transpose()?;
        let recipe = recipe((vec!["(synthetic)".into()], Vec::new()), settings, language)?;
        recipe.validate()?;
        Ok((recipe, activations, wanted))
    }
}

fn recipe((data, weights): (Vec<PathBuf>, Vec<f64>), settings: Settings, language: Option<Language>) -> Result<Recipe> {
    let model = model(&settings)?;
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
    let widest = if matches!(augmentation, Augmentation::Weak | Augmentation::Clip) { 0.5 } else { 0.08 };
    Ok(Recipe {
        data,
        weights,
        positives: settings.positives.unwrap_or_default(),
        method,
        model,
        head_dims: pair(set(settings.head_dims, "head-dims")?, "--head-dims", "4096,256")?,
        batch_norm: set(settings.bn, "bn")?,
        batch: set(settings.batch, "batch")?,
        images_per_caption,
        // Set when it is known what fits.
        chunk: None,
        recompute: false,
        // As many as are drawn of each are wanted anyway.
        min_images: settings.min_images.filter(|&least| least != method.method().views(images_per_caption).images),
        length,
        warmup,
        rate: set(lr.map(Rate::Peak).or(blr.map(Rate::Base)), "blr")?,
        weight_decay: set(settings.weight_decay, "weight-decay")?,
        weight_decay_end: settings.weight_decay_end,
        clip_gradient: settings.clip_gradient,
        beta1: set(settings.beta1, "beta1")?,
        beta2: set(settings.beta2, "beta2")?,
        temperature: set(settings.temperature, "temperature")?,
        momentum: settings.momentum.or(method.method().momentum()),
        augmentation,
        crop_scale: pair(settings.crop_scale.unwrap_or_else(|| vec![widest, 1.0]), "--crop-scale", "0.08,1")?,
        crop_filter: settings.crop_filter.filter(|&filter| filter != CropFilter::Bilinear),
        downsample: settings.downsample.unwrap_or(false),
        shuffle: !settings.no_shuffle.unwrap_or(false),
        seed: set(settings.seed, "seed")?,
        max_bad: set(settings.max_bad, "max-bad")?,
        max_bad_updates: settings.max_bad_updates.unwrap_or(0),
        init_from: settings.init_from,
        language,
        mae,
    })
}

fn model(settings: &Settings) -> Result<VitConfig> {
    let name = settings.model.as_deref().unwrap_or("vit_base");
    let sizes = [("--width", settings.width), ("--depth", settings.depth)];
    if let Some(standard) = VitConfig::named(name) {
        if let Some((flag, Some(value))) = sizes.iter().find(|(_, value)| value.is_some()) {
            bail!(Usage, "{flag} {value} does not go with --model {name}, whose size is fixed; use --model custom");
        }
        let image_size = settings.image_size.unwrap_or(standard.image_size);
        let patch_size = settings.patch_size.unwrap_or(standard.patch_size);
        let heads = settings.heads.unwrap_or(standard.heads);
        return Ok(VitConfig { image_size, patch_size, heads, ..standard });
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
    })
}

fn set<T>(value: Option<T>, key: &str) -> Result<T> {
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
