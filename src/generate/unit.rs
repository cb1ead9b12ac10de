//! One unit of work while it is made: the images of some captions, written as one shard.

use std::borrow::Cow;
use std::path::Path;

use super::config::Config;
use super::encode::Encoded;
use super::identity::Set;
use super::latents::{from_file, to_file, unit_noise};
use super::plan::{Stats, Unit, name_of};
use super::record::Record;
use crate::captions::Caption;
use crate::error::{Error, Result};
use crate::ops::sampler_step::NoiseKey;
use crate::shards::{ShardWriter, named_key};
use crate::store;
use crate::weights;

/// What every unit of a run shares.
pub(super) struct Job<'a> {
    pub config: &'a Config,
    pub captions: &'a [Caption],
    /// Initial latents of all images of the run, when given, as the file has them.
    pub noise: Option<&'a [f32]>,
}

/// One image of a unit: caption (its place in the run's list) and image index.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub caption: usize,
    pub image: usize,
}

/// An image that was drawn.
pub(super) struct Image {
    pub item: Item,
    pub encoded: Encoded,
    /// Tokens of its caption that did not fit.
    pub truncated: usize,
}

/// A unit while it is made: of each of some sets side by side, so that they share contexts.
pub(super) struct Making<'a> {
    unit: &'a Unit,
    outputs: Vec<Output<'a>>,
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
        Ok(Self { unit, outputs, left: batches * sets.len(), images: 0 })
    }

    /// How many shards it becomes.
    pub(super) fn shards(&self) -> usize {
        self.outputs.len()
    }

    /// Adds a batch to the shard of set number `set`.
    pub(super) fn add(
        &mut self,
        job: &Job,
        set: usize,
        images: impl Iterator<Item = Image>,
        latents: &[f32],
    ) -> Result<()> {
        let output = &mut self.outputs[set];
        for image in images {
            let stats = &mut output.stats;
            if image.truncated > 0 && image.item.image == 0 {
                stats.truncated_captions += 1;
                stats.truncated.push(name_of(&job.captions[image.item.caption]).into_owned());
            }
            stats.not_finite_images += usize::from(image.encoded.not_finite);
            stats.constant_images += usize::from(image.encoded.constant);
            write_sample(job, output, &image)?;
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

/// N(0, 1) keyed by (seed, caption id, image index), or the given row, as `[h, w, C]`; `shape` is `[C, h, w]`.
pub(super) fn initial_noise(job: &Job, item: Item, shape: [usize; 3]) -> Vec<f32> {
    let Some(noise) = job.noise else { return unit_noise(noise_key(job, item), shape) };
    let (row, values) = (item.caption * job.config.images_per_caption + item.image, shape.iter().product::<usize>());
    from_file(&noise[row * values..(row + 1) * values], shape)
}

pub(super) fn noise_key(job: &Job, item: Item) -> NoiseKey {
    // Ids were checked against 2^32 when the captions were read.
    NoiseKey { seed: job.config.drawing.seed, caption: job.captions[item.caption].id as u32, image: item.image as u32 }
}

fn write_sample(job: &Job, output: &mut Output, image: &Image) -> Result<()> {
    let &Image { item, ref encoded, truncated } = image;
    let caption = &job.captions[item.caption];
    let identity = &output.set.identity;
    let drawing = &identity.drawing;
    let key = key(job, item);
    let flags = [("truncated", truncated > 0), ("not_finite", encoded.not_finite), ("constant", encoded.constant)];
    let NoiseKey { seed, caption: caption_id, image: image_index } = noise_key(job, item);
    let record = Record {
        key: Cow::Borrowed(&key),
        caption_id,
        image_index,
        caption: Cow::Borrowed(&caption.text),
        seed,
        guidance_scale: drawing.guidance_scale,
        steps: drawing.steps,
        sampler: drawing.sampler,
        width: encoded.width,
        height: encoded.height,
        // Both are said by an identity.
        generated_width: drawing.width.unwrap_or(encoded.width),
        generated_height: drawing.height.unwrap_or(encoded.height),
        negative_prompt: Cow::Borrowed(&drawing.negative_prompt),
        model_sha256: Cow::Borrowed(&identity.model_sha256),
        precision: identity.precision,
        truncated_tokens: truncated,
        flags: flags.iter().filter(|(_, on)| *on).map(|(name, _)| Cow::Borrowed(*name)).collect(),
        caption_key: caption.key.as_deref().map(Cow::Borrowed),
        fp8_sha256: identity.fp8_sha256.as_deref().map(Cow::Borrowed),
        initial_noise_sha256: identity.initial_noise_sha256.as_deref().map(Cow::Borrowed),
        guidance_interval: drawing.guidance_interval,
        timestep_spacing: drawing.timestep_spacing,
        cache_every: drawing.cache_every,
    };
    let json = serde_json::to_vec(&record).map_err(|e| Error::Failed(format!("{key}: {e}")))?;
    let extension = job.config.format.extension();
    output.writer.add(&key, &[(extension, &encoded.bytes), ("txt", caption.text.as_bytes()), ("json", &json)])
}

/// What the sample of an image is called.
pub(super) fn key(job: &Job, item: Item) -> String {
    named_key(&name_of(&job.captions[item.caption]), item.image)
}

/// Final latents of a unit, `[images, h, w, C]`, as `latents [images, C, h, w]`, rows in the order of the shard.
fn write_latents(path: &Path, values: &[f32], latent: [usize; 3]) -> Result<()> {
    if let Some(parent) = path.parent() {
        store::create_dir(parent)?;
    }
    let [c, h, w] = latent;
    let values: Vec<f32> = values.chunks_exact(c * h * w).flat_map(|values| to_file(values, latent)).collect();
    let shape = vec![values.len() / (c * h * w), c, h, w];
    weights::write_safetensors(path, &[("latents".to_owned(), shape, &values)], &[])
}
