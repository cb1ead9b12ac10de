//! `stablerep eval fid`: how far generated pictures are from real ones.

use std::path::PathBuf;

use clap::builder::ArgGroup;

use super::encoder::placement;
use crate::bail;
use crate::device::Device;
use crate::error::Result;
use crate::eval::distance::kernel::Subsets;
use crate::eval::encoder::ModelSource;
use crate::eval::fid::inception::Resize;
use crate::eval::fid::{self, FidConfig, Source};
use crate::eval::transform::Fit;
use crate::models::vit::Whose;

/// Distance of generated pictures to real ones: FID, KID, precision and recall.
///
/// FID is the Fréchet distance of Inception's features (Heusel et al. 2017). Two programs that resize pictures in
/// different ways differ by points, and so do two numbers of pictures: compare figures of the same --resize and the
/// same N alone, which is in every row. With an encoder in Inception's place the distance is called FD.
///
/// Pictures are what Pillow's convert("RGB") makes of them: alpha is dropped, palettes, gray and CMYK become RGB;
/// samples of 16 bits keep their high byte. All are looked at before the work begins. Inception's features of every
/// thousand pictures are kept in ~/.cache/stablerep (STABLEREP_CACHE names another folder, or off), by the hashes of
/// weights and pictures: a run that was stopped goes on, and another one need not compute them again.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("compared").required(true).args(["inception", "encoder"])))]
#[command(after_long_help = "\
Pictures (--real, --generated) are one of:
  a folder with .jpg or .png files in it or below it
  a webdataset .tar, a folder of them (as `generate` writes), or dir/{00000..00012}.tar
  an IDX file of images (MNIST and relatives, gzipped or not), or a folder with one
--generated may also be the folder of `generate --sweep-guidance`: each w=… in it is a set.

Example: stablerep eval fid --inception inception.safetensors --real coco/val2014 --generated sweep --output fid")]
pub struct Args {
    /// Real pictures
    #[arg(long, value_name = "PATH")]
    real: PathBuf,
    /// Generated pictures: one or more sets, or sweeps
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    generated: Vec<PathBuf>,
    /// Inception's weights as safetensors (dev/inception.py converts pytorch-fid's)
    #[arg(long, value_name = "FILE")]
    inception: Option<PathBuf>,
    /// How pictures become Inception's 299×299 pixels
    #[arg(long, value_enum, default_value = "pytorch-fid", conflicts_with = "encoder")]
    resize: Resize,
    /// Features of this encoder instead: a training run or checkpoint, a folder or file of timm or open_clip, or
    /// an official checkpoint as safetensors
    #[arg(long, value_name = "PATH")]
    encoder: Option<PathBuf>,
    /// Whose weights, of a run with a momentum copy [default: teacher for dino and
    /// SynCLR, else student]
    #[arg(long, value_enum, value_name = "WHOSE", conflicts_with = "inception")]
    weights: Option<Whose>,
    /// Attention heads, for an --encoder that does not tell
    #[arg(long, conflicts_with = "inception")]
    heads: Option<usize>,
    /// Where it computes: cpu, cuda or cuda:N; a GPU computes Inception's features within 1e-4 of the CPU's, an
    /// --encoder's with bf16 weights and activations
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Where features by the --encoder are kept and found [default: features in --output, if that is given]
    #[arg(long, value_name = "DIR", conflicts_with = "inception")]
    features: Option<PathBuf>,
    /// How a picture becomes the --encoder's square [default: as a timm config.json says, else crop]
    #[arg(long, value_enum, conflicts_with = "inception")]
    fit: Option<Fit>,
    /// The kernel distance too (KID, Bińkowski et al. 2018), by subsets
    #[arg(long)]
    kid: bool,
    /// Subsets of the kernel distance
    #[arg(long, value_name = "N", default_value_t = Subsets::default().count, requires = "kid")]
    kid_subsets: usize,
    /// Pictures of each set in a subset; no more than a set has
    #[arg(long, value_name = "N", default_value_t = Subsets::default().size, requires = "kid")]
    kid_subset_size: usize,
    /// Precision and recall too (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)
    #[arg(long)]
    precision_recall: bool,
    /// Nearest neighbours that are the radius of a picture's ball
    #[arg(long, value_name = "K", default_value_t = 3, requires = "precision_recall")]
    neighbours: usize,
    /// Seed of the subsets
    #[arg(long, default_value_t = 0, requires = "kid")]
    seed: u64,
    /// Damaged pictures of all sets together to leave out (each is named) before the evaluation refuses to begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
    /// Folder for report.json and, of several guidance scales, the curve fid.png
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
}

/// Measures and prints the table.
pub fn run(args: Args) -> Result<()> {
    let markdown = args.markdown;
    let report = fid::run(&args.config()?)?;
    crate::console::to_stdout(format_args!("{}", if markdown { report.markdown() } else { report.text() }));
    Ok(())
}

impl Args {
    fn config(self) -> Result<FidConfig> {
        let source = match (self.inception, self.encoder) {
            (Some(path), _) => Source::Inception { path, resize: self.resize, device: Device::parse(&self.device)? },
            (None, Some(path)) => {
                let model =
                    ModelSource::Checkpoint { path, heads: self.heads, weights: self.weights, image_size: None };
                let placement = placement(&self.device, self.features.as_deref(), self.output.as_deref())?;
                Source::Encoder { model, placement, fit: self.fit }
            }
            (None, None) => bail!(Usage, "give --inception FILE or --encoder PATH"),
        };
        let subsets = Subsets { count: self.kid_subsets, size: self.kid_subset_size };
        Ok(FidConfig {
            source,
            real: self.real,
            generated: self.generated,
            kernel: self.kid.then_some(subsets),
            neighbours: self.precision_recall.then_some(self.neighbours),
            seed: self.seed,
            max_bad: self.max_bad,
            output: self.output,
        })
    }
}
