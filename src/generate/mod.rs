//! Captions to shards of images.
//!
//! A run is a list of units, each a shard of some captions. Ranks deal the units among themselves; a unit that has its file is done;
//! an image depends on (seed, caption id, image index) and the configuration alone.

mod config;
mod finish;
mod lane;
mod pipeline;
mod plan;
pub mod sampler;
mod unit;

use std::fs;
use std::path::Path;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::bail;
use crate::captions::Captions;
use crate::device::{Device, Plan};
use crate::error::{Error, Result};
use crate::metrics::Progress;
use crate::store;
use crate::weights::SafeTensors;

pub use config::{Config, Identity, ImageFormat};
pub use pipeline::{Decoded, Pipeline, Settings, Text};
pub use plan::{Stats, Unit};
use unit::Job;

/// Name of the file that says which configuration an output folder belongs to.
const CONFIG_FILE: &str = "generate.json";

/// Runs `config` to its end, or to a signal: then finished shards stay and the same command goes on from them.
pub fn run(config: &Config) -> Result<Stats> {
    config.check()?;
    let captions = read_captions(config)?;
    let mut memory = Plan::new();
    let mut pipeline = Pipeline::open(&settings(config), &mut memory)?;
    let noise =
        config.initial_noise.as_deref().map(|path| read_noise(path, &captions, config, &pipeline)).transpose()?;
    let identity = identity(config, &captions, &pipeline, noise.as_ref());
    store::claim_folder(&config.output, CONFIG_FILE, &identity)?;
    eprintln!("{memory}");
    memory.check(Device::Cpu, "lower --batch, --width or --height")?;

    let units = plan::units(captions.list.len(), config.captions_per_shard());
    let mine: Vec<&Unit> = units.iter().filter(|unit| config.ranks.mine(unit.index)).collect();
    let left: Vec<&Unit> = mine.iter().copied().filter(|unit| !unit.done(&config.output)).collect();
    announce(config, &mine, &left);

    let images =
        |units: &[&Unit]| units.iter().map(|unit| unit.captions.len() * config.images_per_caption).sum::<usize>();
    let progress = Progress::bar(images(&left) as u64, "images");
    let started = Instant::now();
    let job = Job {
        config,
        identity: &identity,
        captions: &captions.list,
        noise: noise.as_ref().map(|n| n.values.as_slice()),
    };
    for unit in &left {
        unit::make(&job, unit, &mut pipeline, &progress)?;
    }
    progress.finish();
    if !left.is_empty() {
        let (made, seconds) = (images(&left), started.elapsed().as_secs_f64());
        eprintln!("{made} images in {seconds:.1} s: {:.1} images/s", made as f64 / seconds);
    }
    finish::when_all_done(config, &units)
}

fn settings(config: &Config) -> Settings<'_> {
    Settings {
        model: &config.model,
        sampler: config.sampler,
        steps: config.steps,
        guidance_scale: config.guidance_scale,
        negative_prompt: &config.negative_prompt,
        width: config.width,
        height: config.height,
        batch: config.batch,
    }
}

fn read_captions(config: &Config) -> Result<Captions> {
    let captions = Captions::open(&config.captions, &config.caption_options)?;
    for message in &captions.bad {
        eprintln!("skipped {message}");
    }
    if captions.skipped_empty > 0 {
        eprintln!("skipped {} empty lines of {}", captions.skipped_empty, config.captions.display());
    }
    if let Some(last) = captions.list.last()
        && last.id > u64::from(u32::MAX)
    {
        bail!(
            Data,
            "{}: more than 2^32 lines; split the file and give each part its own --seed",
            config.captions.display()
        );
    }
    Ok(captions)
}

/// Initial latents read from a file.
struct Noise {
    values: Vec<f32>,
    sha256: String,
}

/// Reads `noise` [images of the whole run, 4, h, w].
fn read_noise(path: &Path, captions: &Captions, config: &Config, pipeline: &Pipeline) -> Result<Noise> {
    let [c, h, w] = pipeline.latent_shape();
    let images = captions.list.len() * config.images_per_caption;
    let values = SafeTensors::open(path)?.f32("noise", &[images, c, h, w])?;
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(Noise { values, sha256: hex(&Sha256::digest(bytes)) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn identity(config: &Config, captions: &Captions, pipeline: &Pipeline, noise: Option<&Noise>) -> Identity {
    let (width, height) = pipeline.size();
    Identity {
        model_sha256: pipeline.model_sha256().to_owned(),
        captions_sha256: captions.sha256.clone(),
        captions: captions.list.len(),
        images_per_caption: config.images_per_caption,
        captions_per_shard: config.captions_per_shard(),
        sampler: config.sampler,
        steps: config.steps,
        guidance_scale: config.guidance_scale,
        negative_prompt: config.negative_prompt.clone(),
        seed: config.seed,
        width,
        height,
        store_size: config.store_size,
        format: config.format,
        quality: config.quality,
        initial_noise_sha256: noise.map(|noise| noise.sha256.clone()),
        save_latents: config.save_latents,
    }
}

fn announce(config: &Config, mine: &[&Unit], left: &[&Unit]) {
    let ranks = config.ranks;
    let done = mine.len() - left.len();
    let whose =
        if ranks.world_size > 1 { format!(" of rank {} of {}", ranks.rank, ranks.world_size) } else { String::new() };
    let resumed = if done > 0 { format!(", {done} already whole") } else { String::new() };
    eprintln!("{} shards{whose}{resumed} → {}", mine.len(), config.output.display());
}
