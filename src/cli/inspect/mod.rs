//! `stablerep inspect`: what is in a file.

mod regenerate;
mod shards;
mod tensors;

use std::path::{Path, PathBuf};

use crate::bail;
use crate::cli::model::Model;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::shards::{is_compressed_name, of_folder};

/// Show what is in shards, checkpoints and other weights.
///
/// Shards: samples, captions, images per caption, sizes, flags, damage. Weights: every tensor with shape, dtype, mean,
/// spread, and how many values are not numbers.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  stablerep inspect images/ --sheet sheet.png
  stablerep inspect 'images/{00000..00003}.tar' --check
  stablerep inspect run/checkpoint.safetensors
  stablerep inspect images/ --regenerate 00000017_003 --model stable-diffusion-v1-5 --output again.png")]
pub struct Args {
    /// Shards (a folder of *.tar, a tar, or a pattern such as dir/{00000..00012}.tar), or weights (a .safetensors file
    /// or a folder of them)
    path: PathBuf,
    /// Shards: draw a contact sheet (rows = captions, columns = their images) into this PNG
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
    /// With --regenerate: the diffusers folder it was drawn with, or `bundled`; another model is refused
    #[arg(long, value_name = "DIR", requires = "regenerate")]
    model: Option<PathBuf>,
    /// With --regenerate: where to compute; a picture drawn in f16 or bf16 needs cuda
    #[arg(long, value_name = "DEVICE", default_value = "cpu", requires = "regenerate")]
    device: String,
    /// With --regenerate: write the new picture here
    #[arg(long, value_name = "IMAGE", requires = "regenerate")]
    output: Option<PathBuf>,
}

fn rows(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|rows| (1..=1000).contains(rows)).ok_or_else(|| "expected 1 to 1000".into())
}

/// Prints a table of what `path` holds. Damage is listed and gives exit code 3.
pub fn run(args: Args) -> Result<()> {
    if let (Some(key), Some(model)) = (&args.regenerate, &args.model) {
        let device = Device::parse(&args.device)?;
        let model = Model::open(model.clone())?;
        return regenerate::run(&args.path, key, model.folder(), device, args.output.as_deref());
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
