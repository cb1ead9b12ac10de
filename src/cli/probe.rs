//! `stablerep probe`: score a frozen encoder on labelled photographs.

use std::path::PathBuf;

use clap::builder::ArgGroup;

use crate::bail;
use crate::error::Result;
use crate::eval::encoder::ModelSource;
use crate::eval::knn::KnnConfig;
use crate::eval::linear_probe::LinearConfig;
use crate::eval::transform::Fit;
use crate::eval::{self, DataSource, ProbeConfig, ProbeSettings, TestSource};
use crate::models::vit::{VitConfig, Whose};

/// Score a frozen encoder on labelled photographs: linear probe, k-NN.
///
/// The linear probe is the paper's: ten learning rates at once, with and without batch norm before the head, on the
/// class token after the last layer norm. The paper reports the best head on the test images; --select val chooses on
/// held-out training images instead.
///
/// The probe looks at every photograph before the work begins. A photograph becomes what Pillow's convert("RGB") makes
/// of it, as in torchvision's and timm's loaders: the EXIF orientation is not followed, alpha is dropped, palettes,
/// gray and CMYK become RGB; samples of 16 bits keep their high byte. Files of more than 178,956,970 pixels or 65,535
/// on a side are refused.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("model").required(true).args(["checkpoint", "random_init"])))]
#[command(group(ArgGroup::new("tested").required(true).args(["test", "holdout"])))]
#[command(after_long_help = "\
Images (--train, --test) are one of:
  an IDX file (MNIST and relatives, gzipped or not), or a folder with train-images-idx3-ubyte, t10k-images-idx3-ubyte, …
  a folder with one subfolder of .jpg or .png files per class (ImageNet's layout; a link is an image like any other)
  a webdataset .tar, or a folder of them, with .jpg or .png and .cls members (class numbers)
Classes of --test are matched with those of --train by name.

Example: stablerep probe --checkpoint run --train imagenet/train --test imagenet/val --output scores")]
pub struct Args {
    /// Encoder: a training run or checkpoint, a timm folder or safetensors file, or an official StableRep checkpoint as
    /// safetensors
    #[arg(long, value_name = "PATH")]
    checkpoint: Option<PathBuf>,
    /// Whose weights, of a run with a momentum copy [default: teacher for dino, else student]
    #[arg(long, value_enum, value_name = "WHOSE", conflicts_with = "random_init")]
    weights: Option<Whose>,
    /// Untrained encoder of this size, as a baseline: vit_tiny, vit_small, vit_base or vit_large
    #[arg(long, value_name = "MODEL")]
    random_init: Option<String>,
    /// Labelled images that train the probe
    #[arg(long, value_name = "PATH")]
    train: PathBuf,
    /// Labelled images that test it
    #[arg(long, value_name = "PATH")]
    test: Option<PathBuf>,
    /// Test on this share of every class of --train instead, drawn by --seed; it trains nothing (a class of one image
    /// keeps it)
    #[arg(long, value_name = "SHARE")]
    holdout: Option<f64>,
    /// IDX labels of --train [default: the file beside it with labels-idx1 in its name]
    #[arg(long, value_name = "FILE")]
    train_labels: Option<PathBuf>,
    /// IDX labels of --test
    #[arg(long, value_name = "FILE", requires = "test")]
    test_labels: Option<PathBuf>,
    /// Damaged images of --train and --test together to leave out (each is named) before the probe refuses to begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
    /// How a photograph becomes the encoder's square [default: as a timm config.json says, else crop]
    #[arg(long, value_enum)]
    fit: Option<Fit>,
    /// Short side before the centre crop, pixels [default: the encoder's side over a timm config.json's crop_pct, else
    /// 256/224 of it from 128 pixels on, else its side; rounded down]
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// Also classify by the K nearest training images (20 is usual)
    #[arg(long, value_name = "K")]
    knn: Option<usize>,
    /// Temperature of the neighbours' votes
    #[arg(long, value_name = "T", default_value_t = 0.07, requires = "knn")]
    knn_temperature: f32,
    /// Seed of heads, order and augmentation, and of --random-init
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for report.json
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
    // Flattened groups come last: their help heading holds for every argument after it.
    #[command(flatten)]
    linear: Linear,
    #[command(flatten)]
    sizes: Sizes,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sizes of --random-init")]
struct Sizes {
    /// Side of its images, pixels; of a --checkpoint, whose positions are then resampled as timm does, too
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Side of a patch, pixels
    #[arg(long, value_name = "PIXELS", conflicts_with = "checkpoint")]
    patch_size: Option<usize>,
    /// Width of a token
    #[arg(long, conflicts_with = "checkpoint")]
    width: Option<usize>,
    /// Number of blocks
    #[arg(long, conflicts_with = "checkpoint")]
    depth: Option<usize>,
    /// Attention heads; for a --checkpoint that does not tell, too
    #[arg(long)]
    heads: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Linear probe")]
struct Linear {
    /// Leave the linear probe out (with --knn)
    #[arg(
        long,
        conflicts_with_all = ["epochs", "batch", "eval_every", "base_lrs", "batch_norm", "augmentation", "select"]
    )]
    no_linear: bool,
    #[command(flatten)]
    config: LinearConfig,
}

/// Runs the probe and prints its table.
pub fn run(args: Args) -> Result<()> {
    let markdown = args.markdown;
    let report = eval::probe(&args.config()?)?;
    crate::console::to_stdout(format_args!("{}", if markdown { report.markdown() } else { report.text() }));
    Ok(())
}

impl Args {
    fn config(self) -> Result<ProbeConfig> {
        let Linear { no_linear, config: linear } = self.linear;
        let model = match (self.checkpoint, self.random_init) {
            (Some(path), _) => {
                let Sizes { heads, image_size, .. } = self.sizes;
                ModelSource::Checkpoint { path, heads, weights: self.weights, image_size }
            }
            (None, Some(name)) => ModelSource::Random { model: self.sizes.of(&name)?, seed: self.seed },
            (None, None) => bail!(Usage, "give --checkpoint FILE or --random-init MODEL"),
        };
        let test = match (self.test, self.holdout) {
            (Some(path), _) => TestSource::Images(DataSource { path, labels: self.test_labels }),
            (None, Some(share)) => TestSource::HeldOut(share),
            (None, None) => bail!(Usage, "give --test PATH or --holdout SHARE"),
        };
        Ok(ProbeConfig {
            model,
            train: DataSource { path: self.train, labels: self.train_labels },
            test,
            max_bad: self.max_bad,
            settings: ProbeSettings {
                fit: self.fit,
                resize: self.resize,
                linear: (!no_linear).then_some(linear),
                knn: self.knn.map(|k| KnnConfig { k, temperature: self.knn_temperature }),
                seed: self.seed,
            },
            output: self.output,
        })
    }
}

impl Sizes {
    fn of(&self, name: &str) -> Result<VitConfig> {
        let Some(standard) = VitConfig::named(name) else {
            bail!(Usage, "--random-init {name}: expected vit_tiny, vit_small, vit_base or vit_large");
        };
        let model = VitConfig {
            image_size: self.image_size.unwrap_or(standard.image_size),
            patch_size: self.patch_size.unwrap_or(standard.patch_size),
            width: self.width.unwrap_or(standard.width),
            depth: self.depth.unwrap_or(standard.depth),
            heads: self.heads.unwrap_or(standard.heads),
            ..standard
        };
        model.validate()?;
        Ok(model)
    }
}
