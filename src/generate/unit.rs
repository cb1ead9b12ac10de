//! One unit of work while it is made: the images of some captions, written as one shard.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::Config;
use super::encode::Encoded;
use super::identity::Identity;
use super::pipeline::{Pipeline, Precision, Text};
use super::plan::{Stats, Unit};
use super::request::unit_noise;
use super::sampler::SamplerKind;
use crate::captions::Caption;
use crate::error::{Error, Result};
use crate::ops::sampler_step::NoiseKey;
use crate::shards::{ShardWriter, caption_name, named_key};
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
pub(super) struct Item {
    pub caption: usize,
    pub image: usize,
}

/// A unit while it is made: of each of some sets side by side, so that they share text encodings.
pub(super) struct Making<'a> {
    unit: &'a Unit,
    outputs: Vec<Output<'a>>,
    /// Text encodings, dropped once the last image of the caption is begun.
    texts: Vec<Option<Text>>,
    /// Batches whose pictures are still to come.
    pub left: usize,
    /// Images that were added so far.
    pub images: usize,
}

/// The unit of one set.
struct Output<'a> {
    set: &'a Set,
    stats: Stats,
    writer: ShardWriter,
    kept_latents: Vec<f32>,
}

impl<'a> Making<'a> {
    pub(super) fn new(unit: &'a Unit, sets: &[&'a Set], images: usize, batches: usize) -> Result<Self> {
        let mut outputs = Vec::with_capacity(sets.len());
        for &set in sets {
            let stats = Stats { captions: unit.captions.len(), images, ..Stats::default() };
            let writer = ShardWriter::create(unit.tar(&set.folder))?;
            outputs.push(Output { set, stats, writer, kept_latents: Vec::new() });
        }
        let texts = unit.captions.clone().map(|_| None).collect();
        Ok(Self { unit, outputs, texts, left: batches * sets.len(), images: 0 })
    }

    /// How many shards it becomes.
    pub(super) fn shards(&self) -> usize {
        self.outputs.len()
    }

    /// The caption of every image of `batch`.
    pub(super) fn texts(&mut self, job: &Job, batch: &[Item], pipeline: &Pipeline) -> Result<Vec<Text>> {
        let first = self.unit.captions.start;
        let mut new: Vec<usize> = batch.iter().map(|item| item.caption).collect();
        new.dedup();
        new.retain(|caption| self.texts[caption - first].is_none());
        let captions: Vec<&str> = new.iter().map(|&caption| job.captions[caption].text.as_str()).collect();
        for (caption, text) in new.into_iter().zip(pipeline.encode_texts(&captions)?) {
            if text.truncated > 0 {
                for Output { stats, .. } in &mut self.outputs {
                    stats.truncated_captions += 1;
                    stats.truncated.push(name_of(&job.captions[caption]).into_owned());
                }
            }
            self.texts[caption - first] = Some(text);
        }
        let texts = batch.iter().filter_map(|item| self.texts[item.caption - first].clone()).collect();
        if let Some(last) = batch.last() {
            self.texts[..last.caption - first].fill_with(|| None);
        }
        Ok(texts)
    }

    /// Scale w of set number `set`.
    pub(super) fn guidance_scale(&self, set: usize) -> f32 {
        self.outputs[set].set.identity.drawing.guidance_scale
    }

    /// Adds a batch to the shard of set number `set`.
    pub(super) fn add(
        &mut self,
        job: &Job,
        set: usize,
        images: impl Iterator<Item = (Item, Encoded, usize)>,
        latents: &[f32],
    ) -> Result<()> {
        let output = &mut self.outputs[set];
        for (item, encoded, truncated) in images {
            output.stats.not_finite_images += usize::from(encoded.not_finite);
            output.stats.constant_images += usize::from(encoded.constant);
            write_sample(job, output, item, &encoded, truncated)?;
            self.images += 1;
        }
        if job.config.save_latents {
            output.kept_latents.extend_from_slice(latents);
        }
        self.left -= 1;
        Ok(())
    }

    /// Writes the files: the shards behind their latents, and their counts last, which say that a shard was whole.
    pub(super) fn finish(self, job: &Job, latent: [usize; 3]) -> Result<()> {
        for Output { set, stats, writer, kept_latents } in self.outputs {
            if job.config.save_latents {
                write_latents(&self.unit.latents(&set.folder), &kept_latents, latent)?;
            }
            writer.finish()?;
            stats.write(&self.unit.stats(&set.folder))?;
        }
        Ok(())
    }
}

/// N(0, 1) keyed by (seed, caption id, image index), or the given row.
pub(super) fn initial_latent(job: &Job, item: Item, latent: &mut [f32]) {
    match job.noise {
        Some(noise) => {
            let row = item.caption * job.config.images_per_caption + item.image;
            latent.copy_from_slice(&noise[row * latent.len()..(row + 1) * latent.len()]);
        }
        None => unit_noise(noise_key(job, item), latent),
    }
}

pub(super) fn noise_key(job: &Job, item: Item) -> NoiseKey {
    // Ids were checked against 2^32 when the captions were read.
    NoiseKey { seed: job.config.drawing.seed, caption: job.captions[item.caption].id as u32, image: item.image as u32 }
}

/// What the json of a sample says. Written as it stands, not by way of a `Value`, where an f32 of 2.1 is
/// 2.0999999046325684.
#[derive(Serialize)]
struct Record<'a> {
    key: &'a str,
    caption_id: u64,
    image_index: usize,
    caption: &'a str,
    seed: u64,
    guidance_scale: f32,
    steps: usize,
    sampler: SamplerKind,
    width: usize,
    height: usize,
    /// Both are said by an identity.
    generated_width: Option<usize>,
    generated_height: Option<usize>,
    negative_prompt: &'a str,
    model_sha256: &'a str,
    precision: Precision,
    truncated_tokens: usize,
    flags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caption_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fp8_sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_noise_sha256: Option<&'a str>,
}

fn write_sample(job: &Job, output: &mut Output, item: Item, encoded: &Encoded, truncated: usize) -> Result<()> {
    let caption = &job.captions[item.caption];
    let identity = &output.set.identity;
    let drawing = &identity.drawing;
    let key = key(job, item);
    let mut flags = Vec::new();
    for (name, on) in [("truncated", truncated > 0), ("not_finite", encoded.not_finite), ("constant", encoded.constant)]
    {
        if on {
            flags.push(name);
        }
    }
    let record = Record {
        key: &key,
        caption_id: caption.id,
        image_index: item.image,
        caption: &caption.text,
        seed: drawing.seed,
        guidance_scale: drawing.guidance_scale,
        steps: drawing.steps,
        sampler: drawing.sampler,
        width: encoded.width,
        height: encoded.height,
        generated_width: drawing.width,
        generated_height: drawing.height,
        negative_prompt: &drawing.negative_prompt,
        model_sha256: &identity.model_sha256,
        precision: identity.precision,
        truncated_tokens: truncated,
        flags,
        caption_key: caption.key.as_deref(),
        fp8_sha256: identity.fp8_sha256.as_deref(),
        initial_noise_sha256: identity.initial_noise_sha256.as_deref(),
    };
    let json = serde_json::to_vec(&record).map_err(|e| Error::Failed(format!("{key}: {e}")))?;
    let extension = job.config.format.extension();
    output.writer.add(&key, &[(extension, &encoded.bytes), ("txt", caption.text.as_bytes()), ("json", &json)])
}

/// What the sample of an image is called.
pub(super) fn key(job: &Job, item: Item) -> String {
    named_key(&name_of(&job.captions[item.caption]), item.image)
}

/// What the samples of a caption are called, but for the number of the image.
pub(super) fn name_of(caption: &Caption) -> Cow<'_, str> {
    match &caption.key {
        Some(key) => Cow::Borrowed(key),
        None => Cow::Owned(caption_name(caption.id)),
    }
}

/// Final latents of a unit, `latents [images, 4, h, w]`, rows in the order of the shard.
fn write_latents(path: &Path, values: &[f32], [c, h, w]: [usize; 3]) -> Result<()> {
    if let Some(parent) = path.parent() {
        store::create_dir(parent)?;
    }
    let shape = vec![values.len() / (c * h * w), c, h, w];
    weights::write_safetensors(path, &[("latents".to_owned(), shape, values)], &[])
}
