//! One unit of work: the images of some captions, drawn in batches, encoded, written as one shard.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::json;

use super::config::{Config, Identity};
use super::encode::{Encoded, Encoding};
use super::pipeline::{Pipeline, Text};
use super::plan::{Stats, Unit};
use crate::captions::Caption;
use crate::error::{Error, Result};
use crate::metrics::Progress;
use crate::ops::sampler_step::NoiseKey;
use crate::rng::{Domain, Stream};
use crate::shards::{ShardWriter, image_key};
use crate::store;
use crate::weights;

/// What every unit of a run shares.
pub(super) struct Job<'a> {
    pub config: &'a Config,
    pub captions: &'a [Caption],
    /// Initial latents of all images of the run, when given.
    pub noise: Option<&'a [f32]>,
}

/// A folder of shards and what its images are drawn with. The sets of a run differ in the guidance scale.
pub(super) struct Set {
    pub folder: PathBuf,
    pub identity: Identity,
}

/// One image of a unit: caption (its place in the run's list) and image index.
#[derive(Clone, Copy)]
struct Item {
    caption: usize,
    image: usize,
}

/// The unit of one set while it is made.
struct Output<'a> {
    set: &'a Set,
    stats: Stats,
    writer: ShardWriter,
    kept_latents: Vec<f32>,
}

/// Makes `unit` of each of `sets` side by side, so that they share text encodings, and writes its files, the shards last.
pub(super) fn make(job: &Job, unit: &Unit, sets: &[&Set], pipeline: &mut Pipeline, progress: &Progress) -> Result<()> {
    let config = job.config;
    let per_image: usize = pipeline.latent_shape().iter().product();
    let items: Vec<Item> = unit
        .captions
        .clone()
        .flat_map(|caption| (0..config.images_per_caption).map(move |image| Item { caption, image }))
        .collect();
    let mut outputs = Vec::with_capacity(sets.len());
    for &set in sets {
        let stats = Stats { captions: unit.captions.len(), images: items.len(), ..Stats::default() };
        let writer = ShardWriter::create(unit.tar(&set.folder))?;
        outputs.push(Output { set, stats, writer, kept_latents: Vec::new() });
    }
    let encoding = Encoding { store_size: config.store_size, format: config.format, quality: config.quality };
    // Text encodings of this unit, dropped once the last image of the caption is drawn.
    let mut texts: Vec<Option<Text>> = unit.captions.clone().map(|_| None).collect();
    let first = unit.captions.start;

    for batch in items.chunks(config.batch) {
        let mut new: Vec<usize> = batch.iter().map(|item| item.caption).collect();
        new.dedup();
        new.retain(|caption| texts[caption - first].is_none());
        let captions: Vec<&str> = new.iter().map(|&caption| job.captions[caption].text.as_str()).collect();
        for (caption, text) in new.into_iter().zip(pipeline.encode_texts(&captions)?) {
            outputs.iter_mut().for_each(|output| output.stats.truncated_captions += usize::from(text.truncated > 0));
            texts[caption - first] = Some(text);
        }
        let mut noise = vec![0.0; batch.len() * per_image];
        for (item, latent) in batch.iter().zip(noise.chunks_exact_mut(per_image)) {
            initial_latent(job, *item, latent);
        }
        let selected: Vec<&Text> = batch.iter().filter_map(|item| texts[item.caption - first].as_ref()).collect();
        let keys: Vec<NoiseKey> = batch.iter().map(|&item| noise_key(job, item)).collect();
        let calls = pipeline.calls();
        for output in &mut outputs {
            let mut latents = noise.clone();
            pipeline.set_guidance_scale(output.set.identity.guidance_scale);
            pipeline
                .sample(&selected, &keys, &mut latents, &mut |call| progress.note(format!("step {call} of {calls}")))?;
            let decoded = pipeline.decode(&latents)?;
            let encoded: Vec<Encoded> =
                decoded.into_par_iter().map(|decoded| encoding.encode(decoded)).collect::<Result<_>>()?;
            for ((item, encoded), text) in batch.iter().zip(&encoded).zip(&selected) {
                output.stats.not_finite_images += usize::from(encoded.not_finite);
                output.stats.constant_images += usize::from(encoded.constant);
                write_sample(job, output, *item, encoded, text.truncated)?;
            }
            if config.save_latents {
                output.kept_latents.extend_from_slice(&latents);
            }
            progress.advance(batch.len() as u64);
            store::check_interrupt("run the same command again to resume from the last whole shard")?;
        }
        if let Some(last) = batch.last() {
            texts[..last.caption - first].fill_with(|| None);
        }
    }

    for Output { set, stats, writer, kept_latents } in outputs {
        if config.save_latents {
            write_latents(&unit.latents(&set.folder), &kept_latents, pipeline.latent_shape())?;
        }
        let text = serde_json::to_string_pretty(&stats).map_err(|e| Error::Failed(e.to_string()))?;
        store::write_atomic(unit.stats(&set.folder), (text + "\n").as_bytes())?;
        writer.finish()?;
    }
    Ok(())
}

/// N(0, 1) keyed by (seed, caption id, image index), or the given row.
fn initial_latent(job: &Job, item: Item, latent: &mut [f32]) {
    match job.noise {
        Some(noise) => {
            let row = item.caption * job.config.images_per_caption + item.image;
            latent.copy_from_slice(&noise[row * latent.len()..(row + 1) * latent.len()]);
        }
        None => {
            let NoiseKey { seed, caption, image } = noise_key(job, item);
            Stream::new(seed, Domain::InitialNoise, [caption, image, 0]).fill_normal(latent);
        }
    }
}

fn noise_key(job: &Job, item: Item) -> NoiseKey {
    // Ids were checked against 2^32 when the captions were read.
    NoiseKey { seed: job.config.seed, caption: job.captions[item.caption].id as u32, image: item.image as u32 }
}

fn write_sample(job: &Job, output: &mut Output, item: Item, encoded: &Encoded, truncated: usize) -> Result<()> {
    let caption = &job.captions[item.caption];
    let identity = &output.set.identity;
    let key = image_key(caption.id, item.image);
    let mut flags = Vec::new();
    for (name, on) in [("truncated", truncated > 0), ("not_finite", encoded.not_finite), ("constant", encoded.constant)]
    {
        if on {
            flags.push(name);
        }
    }
    let mut json = json!({
        "key": key,
        "caption_id": caption.id,
        "image_index": item.image,
        "caption": caption.text,
        "seed": identity.seed,
        "guidance_scale": identity.guidance_scale,
        "steps": identity.steps,
        "sampler": identity.sampler,
        "width": encoded.width,
        "height": encoded.height,
        "generated_width": identity.width,
        "generated_height": identity.height,
        "negative_prompt": identity.negative_prompt,
        "model_sha256": identity.model_sha256,
        "truncated_tokens": truncated,
        "flags": flags,
    });
    if let Some(noise) = &identity.initial_noise_sha256 {
        json["initial_noise_sha256"] = noise.as_str().into();
    }
    let json = serde_json::to_vec(&json).map_err(|e| Error::Failed(format!("{key}: {e}")))?;
    let extension = job.config.format.extension();
    output.writer.add(&key, &[(extension, &encoded.bytes), ("txt", caption.text.as_bytes()), ("json", &json)])
}

/// Final latents of a unit, `latents [images, 4, h, w]`, rows in the order of the shard.
fn write_latents(path: &Path, values: &[f32], [c, h, w]: [usize; 3]) -> Result<()> {
    if let Some(parent) = path.parent() {
        store::create_dir(parent)?;
    }
    let shape = vec![values.len() / (c * h * w), c, h, w];
    weights::write_safetensors(path, &[("latents".to_owned(), shape, values)], &[])
}
