//! Which encoder is scored, and how a photograph reaches it: flags that the protocols share.

use std::path::{Path, PathBuf};

use clap::builder::ArgGroup;

use crate::bail;
use crate::device::Device;
use crate::error::Result;
use crate::eval::encoder::{ModelSource, Placement};
use crate::eval::transform::Fit;
use crate::models::vit::{VitConfig, Whose};

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("model").required(true).args(["checkpoint", "random_init"])))]
pub struct Encoder {
    /// Encoder: a training run or checkpoint, a folder or file of timm (DINOv2 and CLIP among them) or open_clip, or an
    /// official checkpoint as safetensors: of StableRep, SynCLR, MAE, MoCo v3, DINO, DINOv2 or OpenAI's CLIP
    #[arg(long, value_name = "PATH")]
    checkpoint: Option<PathBuf>,
    /// Whose weights, of a run with a momentum copy [default: teacher for dino and
    /// SynCLR, else student]
    #[arg(long, value_enum, value_name = "WHOSE", conflicts_with = "random_init")]
    weights: Option<Whose>,
    /// Untrained encoder of this size, as a baseline: vit_tiny, vit_small, vit_base or vit_large
    #[arg(long, value_name = "MODEL")]
    random_init: Option<String>,
    /// Where it computes: cpu, cuda or cuda:N; a GPU computes with bf16 weights and activations
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Where features of whole data sets are kept, and found again by whatever is scored next with the same weights and
    /// pictures [default: features in --output, if that is given]
    #[arg(long, value_name = "DIR")]
    features: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Preparation {
    /// How a photograph becomes the encoder's square [default: as a timm config.json says, else crop]
    #[arg(long, value_enum)]
    pub fit: Option<Fit>,
    /// Short side before the centre crop, pixels [default: the encoder's side over a timm config.json's crop_pct, else
    /// 256/224 of it from 128 pixels on, else its side; rounded down]
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sizes of --random-init")]
pub struct Sizes {
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

/// Where an encoder is to compute, and where its features are kept: beside a report in `output`, where nothing else is
/// said.
pub fn placement(device: &str, features: Option<&Path>, output: Option<&Path>) -> Result<Placement> {
    let beside = || Some(output?.join("features"));
    Ok(Placement { device: Device::parse(device)?, features: features.map(Path::to_owned).or_else(beside) })
}

impl Encoder {
    /// As [`placement`].
    pub fn placement(&self, output: Option<&Path>) -> Result<Placement> {
        placement(&self.device, self.features.as_deref(), output)
    }

    /// Whether it comes from a file, not from a seed.
    pub fn is_read(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// What is to be opened; `seed` draws an untrained one.
    pub fn source(self, sizes: &Sizes, seed: u64) -> Result<ModelSource> {
        match (self.checkpoint, self.random_init) {
            (Some(path), _) => {
                let Sizes { heads, image_size, .. } = *sizes;
                Ok(ModelSource::Checkpoint { path, heads, weights: self.weights, image_size })
            }
            (None, Some(name)) => Ok(ModelSource::Random { model: sizes.of(&name)?, seed }),
            (None, None) => bail!(Usage, "give --checkpoint FILE or --random-init MODEL"),
        }
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
