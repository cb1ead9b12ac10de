//! `stablerep generate`.

use std::path::PathBuf;

use crate::answer;
use crate::bail;
use crate::captions::Options;
use crate::cli::captions::CaptionArgs;
use crate::cli::model::{LoraArgs, Model};
use crate::cli::pairs;
use crate::device::Device;
use crate::dist::Ranks;
use crate::error::Result;
use crate::generate::{self, Compared, Config, Drawing, ImageFormat, NOT_FINITE, Precision, WHEN_NOT_FINITE};
use crate::say;

/// Draw images for captions with Stable Diffusion, as webdataset shards.
///
/// --model takes any diffusers folder of the Stable Diffusion 1.x or 2.x architecture (safetensors; f32, f16 or bf16):
/// fine-tunes, distilled ones with fewer layers (BK-SDM, small-sd, tiny-sd), SD-Turbo, and latent consistency models,
/// which are told --guidance-scale. Its scheduler gives the noise schedule and --sampler the solver, whatever class the
/// folder names. A single file (.safetensors, .ckpt) becomes a folder with diffusers:
/// StableDiffusionPipeline.from_single_file(FILE).save_pretrained(DIR).
///
/// Fewer calls of the network are more images per second: SD-Turbo draws with --sampler euler --timestep-spacing
/// trailing --steps 1 -w 0; LCM-LoRA with --lora FILE --sampler lcm --steps 4 -w 1; any model with --sampler dpmpp_2m
/// or unipc in 10 to 20 steps, with --guidance-interval or --cache-every. `bench generate` tells what each costs.
///
/// The image of (seed, caption number, image index) has the same bits whatever --batch, --threads and --world-size are.
/// A caption's number is its line or data row in the file, from 0, blank ones counted: captions added at the end change
/// no picture, one added in between changes those after it.
///
/// Interrupted? Run the same command again: whole shards are kept; what was lost of the folder, or cut short, is drawn
/// again to the same bytes. A folder that was started with other settings is refused, with the difference. A finished
/// folder grows by captions added at the end of the file; more images of the same captions go into a second folder with
/// another --seed, and `train --data` takes both.
///
/// Several processes share the work: ranks from torchrun, MPI, a Slurm step (srun) or a Slurm job array, or --rank and
/// --world-size. Each draws the shards of its rank into the same folder, and which rank it is, is said. Another process
/// with the same rank is refused.
///
/// Pixels are truncated to 8 bits, not rounded: beside diffusers' files, which round, many values are one lower. A
/// picture that came out with values that are not numbers is stored all the same, flagged `not_finite` in its json,
/// counted and warned of; when no picture came out otherwise, the run ends with exit code 5, its shards in place.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example, the paper's settings:\n  \
    stablerep generate --model stable-diffusion-v1-5 --captions cc12m.tsv --caption-column 1 \\\n    \
    --images-per-caption 10 --guidance-scale 2 --steps 50 --store-size 256 --output shards\n\n\
    The folder then holds 00000.tar …, sizes.json, contact-sheet.png and, once all is done, stats.json.")]
pub struct Args {
    /// Diffusers folder: model_index.json, tokenizer/, text_encoder/, unet/, vae/, scheduler/; or `bundled`, a tiny
    /// model in the binary that knows only garments, to try things out
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    loras: LoraArgs,
    /// Captions: .txt (one per line), .csv or .tsv; - is standard input
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
    /// Folder for the shards
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Images drawn for each caption (m of the paper: 10 drawn, 6 used per step)
    #[arg(long, short = 'm', value_name = "M", default_value_t = 1)]
    images_per_caption: usize,
    #[command(flatten)]
    drawing: Drawing,
    /// Several w in one run, such as 2,3,4,6,8,10,12: a shard set for each, in folders w=2.0 … under --output
    #[arg(long, value_name = "W,…", value_delimiter = ',', conflicts_with = "guidance_scale")]
    sweep_guidance: Vec<f32>,
    /// Downscale the shorter side to this before storing, antialiased bicubic (paper: 512 → 256) [default: as drawn]
    #[arg(long, value_name = "PX")]
    store_size: Option<usize>,
    /// How images are stored
    #[arg(long, value_enum, default_value_t = ImageFormat::Png)]
    format: ImageFormat,
    /// JPEG quality, with --format jpg [default: 95]
    #[arg(long, value_name = "Q")]
    quality: Option<u8>,
    /// Images drawn at once; changes speed and memory, never the images [default: 16 on the CPU, on a GPU what fits, up
    /// to 64]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Images per shard; a shard is also what an interruption can lose
    #[arg(long, value_name = "N", default_value_t = 1000)]
    images_per_shard: usize,
    /// Start from these latents instead of drawn ones: tensor `noise` [images, 4, h, w], rows in output order
    #[arg(long, value_name = "FILE")]
    initial_noise: Option<PathBuf>,
    /// Keep the final latents in latents/00000.safetensors …
    #[arg(long)]
    save_latents: bool,
    /// Take a shard that is not there as done if its counts (00000_stats.json) are: it was moved to where shards are
    /// kept
    #[arg(long)]
    done_by_stats: bool,
    /// First draw 8 captions with every call whole and guided too, beside what --guidance-interval and --cache-every
    /// make of the same noise: compare.png in --output, and the difference in numbers
    #[arg(long)]
    compare: bool,
    #[command(flatten)]
    caption_flags: CaptionArgs,
    /// csv, tsv: name samples by this column (name or number) instead of the caption's number
    #[arg(long, value_name = "COLUMN", allow_negative_numbers = true)]
    key_column: Option<String>,
    /// Draw only the first N captions
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// This process among --world-size, from 0 [default: from torchrun, MPI, a Slurm step or job array, else 0 of 1]
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Processes that share the work; each writes its own shards to the same folder (1: this one does all)
    #[arg(long, value_name = "N")]
    world_size: Option<usize>,
    /// Where to compute: cpu, cuda (the first GPU, or that of LOCAL_RANK or SLURM_LOCALID) or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// What weights and feature maps are rounded to [default: f32 on the CPU, f16 on a GPU]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Compute convolutions and linear layers of the UNet in fp8 on Ada, Hopper or newer, with the ranges that
    /// `calibrate` wrote here
    #[arg(long, value_name = "FILE")]
    fp8: Option<PathBuf>,
}

/// How far the pictures of calls that do less are from the others'.
fn report(Compared { sheet, differences, work }: &Compared) {
    pairs::tell("compared with every call whole and guided", differences);
    answer!("{:.0} % of the UNet's work; look at {}", 100.0 * work, sheet.display());
}

/// Captions named one by one; more are in a file.
const NAMED: usize = 5;

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let quality = args.format.quality(args.quality)?;
    let model = Model::open(args.model)?;
    let config = Config {
        model: model.folder().to_path_buf(),
        loras: args.loras.open()?,
        captions: args.captions,
        caption_options: Options { key_column: args.key_column, limit: args.limit, ..args.caption_flags.options() },
        images_per_caption: args.images_per_caption,
        drawing: args.drawing,
        sweep_guidance: args.sweep_guidance,
        store_size: args.store_size,
        format: args.format,
        quality,
        batch: args.batch,
        device: Device::parse(&args.device)?,
        precision: args.precision,
        fp8: args.fp8,
        images_per_shard: args.images_per_shard,
        initial_noise: args.initial_noise,
        save_latents: args.save_latents,
        done_by_stats: args.done_by_stats,
        compare: args.compare,
        output: args.output,
        ranks: Ranks::from_env_or(args.rank, args.world_size)?,
    };
    let sets = config.sets();
    let mut lost = Vec::new();
    for ((_, folder), stats) in sets.iter().zip(generate::run(&config, &mut |compared| report(&compared))?) {
        let which = if sets.len() > 1 { format!("{}: ", folder.display()) } else { String::new() };
        answer!("{which}{} images of {} captions", stats.images, stats.captions);
        for (count, what) in [
            (stats.truncated_captions, "captions were longer than the text encoder reads and were cut"),
            (stats.not_finite_images, "images held values that are not numbers"),
            (stats.constant_images, "images are one single color"),
        ] {
            if count > 0 {
                answer!("{which}{count} {what} (flagged in their json)");
            }
        }
        let cut = &stats.truncated;
        if !cut.is_empty() {
            let more = if cut.len() > NAMED { ", …" } else { "" };
            answer!("{which}cut: {}{more} (`truncated` in *stats.json)", cut[..cut.len().min(NAMED)].join(", "));
        }
        match stats.not_finite_images {
            0 => {}
            all if all == stats.images => lost.push(folder.display().to_string()),
            some => say!("warning: {which}{some} of {} images: {NOT_FINITE}; {WHEN_NOT_FINITE}", stats.images),
        }
    }
    if !lost.is_empty() {
        bail!(Diverged, "{}: every image: {NOT_FINITE}; {WHEN_NOT_FINITE}", lost.join(", "));
    }
    Ok(())
}
