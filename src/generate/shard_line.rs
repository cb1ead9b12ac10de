//! Units on their way to shards. The line of their batches goes on from one unit to the next without a pause.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::encode::{Encoded, Encoding};
use super::identity::Set;
use super::line::Line;
use super::painter::{Drawn, NOT_FINITE, Request, Text, WHEN_NOT_FINITE, Wanted};
use super::pipeline::Pipeline;
use super::plan::Unit;
use super::unit::{self, Image, Item, Job, Making, initial_noise, noise_key};
use crate::error::Result;
use crate::metrics::Progress;
use crate::say;
use crate::store;

/// A batch that was begun.
struct Begun {
    items: Vec<Item>,
    /// Tokens of each caption that did not fit.
    truncated: Vec<usize>,
    /// Set number.
    set: usize,
}

/// Units on their way, in order.
pub(super) struct ShardLine<'a> {
    job: &'a Job<'a>,
    line: Line<'a, Begun>,
    progress: &'a Progress,
    encoding: Encoding,
    units: VecDeque<Making<'a>>,
    /// Shards that were finished.
    finished: usize,
    /// Whether it was said that pictures are not finite.
    warned: bool,
}

impl<'a> ShardLine<'a> {
    pub(super) fn new(job: &'a Job<'a>, pipeline: &'a mut Pipeline, progress: &'a Progress) -> Self {
        let config = job.config;
        let encoding = Encoding { store_size: config.store_size, format: config.format, quality: config.quality };
        let calls = pipeline.calls();
        let line = Line::new(pipeline, move |call| progress.note(format!("step {call} of {calls}")));
        Self { job, line, progress, encoding, units: VecDeque::new(), finished: 0, warned: false }
    }

    /// Begins all batches of `unit` for each of `sets`; the last ones may be finished by a later call.
    pub(super) fn make(&mut self, unit: &'a Unit, sets: &[&'a Set]) -> Result<()> {
        let (job, batch) = (self.job, self.line.pipeline().batch());
        let images = |caption| (0..job.config.images_per_caption).map(move |image| Item { caption, image });
        let items: Vec<Item> = unit.captions.clone().flat_map(images).collect();
        self.units.push_back(Making::new(unit, sets, items.len(), items.len().div_ceil(batch))?);
        for items in items.chunks(batch) {
            let texts = self.texts(items)?;
            let truncated: Vec<usize> = texts.iter().map(|text| text.truncated).collect();
            let shape = self.line.pipeline().latent_shape();
            let noise: Vec<f32> = items.iter().flat_map(|&item| initial_noise(job, item, shape)).collect();
            let keys: Vec<_> = items.iter().map(|&item| noise_key(job, item)).collect();
            for (number, set) in sets.iter().enumerate() {
                let request = Request {
                    texts: texts.clone(),
                    keys: keys.clone(),
                    noise: noise.clone(),
                    guidance_scale: set.identity.drawing.guidance_scale,
                    wanted: Wanted { latents: job.config.save_latents, ..Wanted::default() },
                    whole: false,
                };
                let begun = Begun { items: items.to_vec(), truncated: truncated.clone(), set: number };
                if let Some((begun, drawn)) = self.line.push(begun, request)? {
                    self.land(begun, drawn)?;
                }
            }
        }
        Ok(())
    }

    /// Finishes what is on its way.
    pub(super) fn finish(&mut self) -> Result<()> {
        while let Some((begun, drawn)) = self.line.pop()? {
            self.land(begun, drawn)?;
        }
        Ok(())
    }

    /// Shards that were finished, and images that were drawn for others.
    pub(super) fn made(&self) -> (usize, usize) {
        (self.finished, self.units.iter().map(|unit| unit.images).sum())
    }

    /// The caption of each of `items`, which are in the captions' order.
    fn texts(&self, items: &[Item]) -> Result<Vec<Text>> {
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return Ok(Vec::new()) };
        let captions: Vec<&str> =
            self.job.captions[first.caption..=last.caption].iter().map(|caption| caption.text.as_str()).collect();
        let texts = self.line.pipeline().encode_texts(&captions)?;
        Ok(items.iter().map(|item| texts[item.caption - first.caption].clone()).collect())
    }

    /// Encodes a batch that was drawn and adds it to its shard.
    fn land(&mut self, begun: Begun, drawn: Drawn) -> Result<()> {
        let Begun { items, truncated, set } = begun;
        let encoded: Vec<Encoded> =
            drawn.pictures.into_par_iter().map(|picture| self.encoding.encode(picture)).collect::<Result<_>>()?;
        self.progress.note("");
        self.progress.advance(items.len() as u64);
        if let Some(at) = encoded.iter().position(|picture| picture.not_finite).filter(|_| !self.warned) {
            self.warned = true;
            say!("warning: {}: {NOT_FINITE}; {WHEN_NOT_FINITE}", unit::key(self.job, items[at]));
        }
        let images = items.into_iter().zip(encoded).zip(truncated);
        let images = images.map(|((item, encoded), truncated)| Image { item, encoded, truncated });
        let Some(making) = self.units.front_mut() else { return Ok(()) };
        making.add(self.job, set, images, &drawn.latents)?;
        if making.left == 0
            && let Some(done) = self.units.pop_front()
        {
            let shards = done.shards();
            done.finish(self.job, self.line.pipeline().latent_shape())?;
            self.finished += shards;
        }
        store::check_interrupt("run the same command again to resume from the last whole shard")
    }
}
