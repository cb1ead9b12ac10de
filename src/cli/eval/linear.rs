//! `stablerep eval linear`, or `stablerep probe`: score a frozen encoder on labelled photographs.

use std::path::PathBuf;

use clap::builder::ArgGroup;

use super::encoder::{Encoder, Preparation, Sizes};
use crate::bail;
use crate::error::Result;
use crate::eval::knn::KnnConfig;
use crate::eval::linear_probe::LinearConfig;
use crate::eval::{self, DataSource, ProbeConfig, ProbeSettings, TestSource};

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
#[command(group(ArgGroup::new("tested").required(true).args(["test", "holdout"])))]
#[command(after_long_help = "\
Images (--train, --test) are one of:
  an IDX file (MNIST and relatives, gzipped or not), or a folder with train-images-idx3-ubyte, t10k-images-idx3-ubyte, …
  a folder with one subfolder of .jpg or .png files per class (ImageNet's layout; a link is an image like any other)
  a webdataset .tar, or a folder of them, with .jpg or .png and .cls members (class numbers)
Classes of --test are matched with those of --train by name.

Example: stablerep probe --checkpoint run --train imagenet/train --test imagenet/val --output scores")]
pub struct Args {
    #[command(flatten)]
    encoder: Encoder,
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
    #[command(flatten)]
    preparation: Preparation,
    /// Also classify by the K nearest training images (20 is usual)
    #[arg(long, value_name = "K")]
    knn: Option<usize>,
    /// Temperature of the neighbours' votes
    #[arg(long, value_name = "T", default_value_t = 0.07, requires = "knn")]
    knn_temperature: f32,
    /// Seed of heads, order and augmentation, of --holdout and of --random-init [default: 0]
    #[arg(long)]
    seed: Option<u64>,
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
        if self.seed.is_some() && no_linear && self.holdout.is_none() && self.encoder.is_read() {
            bail!(Usage, "--seed: draws nothing: neighbours of a --checkpoint's features have no chance in them");
        }
        let seed = self.seed.unwrap_or(0);
        let test = match (self.test, self.holdout) {
            (Some(path), _) => TestSource::Images(DataSource { path, labels: self.test_labels }),
            (None, Some(share)) => TestSource::HeldOut(share),
            (None, None) => bail!(Usage, "give --test PATH or --holdout SHARE"),
        };
        Ok(ProbeConfig {
            placement: self.encoder.placement(self.output.as_deref())?,
            model: self.encoder.source(&self.sizes, seed)?,
            train: DataSource { path: self.train, labels: self.train_labels },
            test,
            max_bad: self.max_bad,
            settings: ProbeSettings {
                fit: self.preparation.fit,
                resize: self.preparation.resize,
                linear: (!no_linear).then_some(linear),
                knn: self.knn.map(|k| KnnConfig { k, temperature: self.knn_temperature }),
                seed,
            },
            output: self.output,
        })
    }
}
