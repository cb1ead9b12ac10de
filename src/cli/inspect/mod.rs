//! `stablerep inspect`: what is in a file.

mod attention;
mod encoder;
mod nearest;
mod regenerate;
mod shards;
mod tensors;

use std::path::{Path, PathBuf};

use clap::builder::ArgGroup;

use self::encoder::Looked;
use crate::bail;
use crate::cli::model::{LoraArgs, Model};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::encoder::Placement;
use crate::eval::nearest::NearestConfig;
use crate::shards::{is_compressed_name, of_folder};

/// Show what is in shards, checkpoints and other weights.
///
/// Shards: samples, captions, images per caption, sizes, flags, damage. Weights: every tensor with shape, dtype, mean,
/// spread, and how many values are not numbers. Encoders: what their attention looks at in pictures, and the training
/// pictures that they take for most like these.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("looked").args(["attention", "nearest"])))]
#[command(group(ArgGroup::new("drawn").multiple(true).args(["regenerate", "nearest"])))]
#[command(after_long_help = "\
Examples:
  stablerep inspect images/ --sheet sheet.png
  stablerep inspect 'images/{00000..00003}.tar' --check
  stablerep inspect run/checkpoint.safetensors
  stablerep inspect run --attention cat.jpg dog.jpg --sheet run/attention.png
  stablerep inspect run --nearest cat.jpg --data images/ --sheet nearest.png --features kept/
  stablerep inspect images/ --regenerate 00000017_003 --model stable-diffusion-v1-5 --output again.png")]
pub struct Args {
    /// Shards (a folder of *.tar, a tar, or a pattern such as dir/{00000..00012}.tar), or weights (a .safetensors file
    /// or a folder of them)
    path: PathBuf,
    /// Draw a contact sheet into this PNG: of shards a row for each caption, of --attention the picture and its maps,
    /// of --nearest the picture and its neighbours
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Shards: captions on the contact sheet, spread over all of them
    #[arg(long, value_name = "N", default_value_t = 12, requires = "sheet", value_parser = rows)]
    rows: usize,
    /// Shards: decode every image, not only the headers
    #[arg(long)]
    check: bool,
    /// Shards: draw this sample again from its record, and say whether it is the stored picture (exit code 1 if not)
    #[arg(long, value_name = "KEY", requires = "model", conflicts_with_all = ["sheet", "check"])]
    regenerate: Option<String>,
    /// With --regenerate: the diffusers folder it was drawn with, or `bundled`; another model is refused. With
    /// --nearest: what the commands that are printed name
    #[arg(long, value_name = "DIR", requires = "drawn")]
    model: Option<PathBuf>,
    #[command(flatten)]
    loras: LoraArgs,
    /// With --regenerate and --nearest: where to compute; a picture drawn in f16, or on a GPU, needs cuda
    #[arg(long, value_name = "DEVICE", default_value = "cpu", requires = "drawn")]
    device: String,
    /// With --regenerate: write the new picture here
    #[arg(long, value_name = "IMAGE", requires = "regenerate")]
    output: Option<PathBuf>,
    /// Encoders: draw beside each of these pictures what the class token looks at in the last block, by head and by the
    /// mean of heads, and through all blocks (attention rollout); computed on the CPU
    #[arg(long, value_name = "PICTURE", num_args = 1.., requires = "sheet", conflicts_with_all = NOT_LOOKED)]
    attention: Vec<PathBuf>,
    /// Encoders: find the pictures of --data whose features are nearest to those of each of these, with what their
    /// samples tell: caption, seed, model, and the command that draws them again
    #[arg(long, value_name = "PICTURE", num_args = 1.., requires = "data", conflicts_with_all = NOT_LOOKED)]
    nearest: Vec<PathBuf>,
    /// With --nearest: shards, or folders of .jpg and .png files; every picture counts
    #[arg(long, value_name = "SHARDS", num_args = 1.., requires = "nearest")]
    data: Vec<PathBuf>,
    /// With --nearest: how many for each picture
    #[arg(long, value_name = "K", default_value_t = 5, requires = "nearest", value_parser = rows)]
    top: usize,
    /// With --nearest: write what was found here too
    #[arg(long, value_name = "FILE", requires = "nearest")]
    json: Option<PathBuf>,
    /// With --nearest: where features are kept, and found again by whatever is asked next with the same weights and
    /// pictures
    #[arg(long, value_name = "DIR", requires = "nearest")]
    features: Option<PathBuf>,
    // Flattened groups come last: their help heading holds for every argument after it.
    #[command(flatten)]
    looked: Looked,
}

/// What is of shards alone.
const NOT_LOOKED: [&str; 3] = ["rows", "check", "regenerate"];

fn rows(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|rows| (1..=1000).contains(rows)).ok_or_else(|| "expected 1 to 1000".into())
}

/// Prints a table of what `path` holds, or what is asked of the encoder there. Damage is listed and gives exit code 3.
pub fn run(args: Args) -> Result<()> {
    let loras = args.loras.clone().open()?;
    if args.regenerate.is_none() && !loras.is_empty() {
        bail!(Usage, "--lora: goes with --regenerate");
    }
    if let Some(sheet) = &args.sheet
        && let Ok(written) = sheet.canonicalize()
        && args
            .attention
            .iter()
            .chain(&args.nearest)
            .any(|picture| picture.canonicalize().ok().as_ref() == Some(&written))
    {
        bail!(
            Usage,
            "--sheet {}: is one of the pictures that are looked at, which would be lost; choose a name that is free",
            sheet.display()
        );
    }
    if !args.attention.is_empty() {
        let Some(sheet) = &args.sheet else { bail!(Usage, "--attention: give --sheet PNG") };
        return attention::run(args.path, &args.looked, &args.attention, sheet);
    }
    if !args.nearest.is_empty() {
        let to = nearest::Outputs { sheet: args.sheet.as_deref(), json: args.json.as_deref() };
        let config = NearestConfig {
            model: args.looked.source(args.path),
            placement: Placement { device: Device::parse(&args.device)?, features: args.features },
            fit: args.looked.preparation.fit,
            resize: args.looked.preparation.resize,
            pictures: args.nearest,
            data: args.data,
            top: args.top,
        };
        return nearest::run(&config, args.model.as_deref(), to);
    }
    args.looked.refuse()?;
    if let (Some(key), Some(model)) = (&args.regenerate, &args.model) {
        let device = Device::parse(&args.device)?;
        let model = Model::open(model.clone())?;
        return regenerate::run(&args.path, key, (model.folder(), &loras), device, args.output.as_deref());
    }
    match kind(&args.path)? {
        Kind::Shards => shards::inspect(&args.path, args.check, args.sheet.as_deref().map(|path| (path, args.rows))),
        Kind::Tensors(files) => {
            if args.sheet.is_some() || args.check {
                bail!(Usage, "--sheet and --check are for shards; {} holds weights", args.path.display());
            }
            files.iter().try_for_each(|file| tensors::inspect(file))
        }
    }
}

enum Kind {
    Shards,
    Tensors(Vec<PathBuf>),
}

fn kind(path: &Path) -> Result<Kind> {
    if !path.is_dir() {
        let name = path.to_string_lossy();
        let shards = name.ends_with(".tar") || is_compressed_name(path) || (name.contains('{') && !path.exists());
        return Ok(if shards { Kind::Shards } else { Kind::Tensors(vec![path.to_path_buf()]) });
    }
    let mut tensors = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io("list", path))? {
        let file = entry.map_err(Error::io("list", path))?.path();
        match file.extension().and_then(|e| e.to_str()) {
            Some("tar") => return Ok(Kind::Shards),
            Some("safetensors") => tensors.push(file),
            _ => {}
        }
    }
    if tensors.is_empty() {
        bail!(
            Data,
            "{}: neither *.tar shards nor *.safetensors weights in this folder; {}",
            path.display(),
            of_folder(path)
        );
    }
    tensors.sort();
    Ok(Kind::Tensors(tensors))
}
