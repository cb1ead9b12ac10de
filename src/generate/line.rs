//! The line of batches: while one is drawn, the next is begun already and the one before is encoded and written. It goes on from one unit to
//! the next without a pause.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::encode::{Encoded, Encoding};
use super::pipeline::{AHEAD, Drawn, Pipeline};
use super::plan::Unit;
use super::request::Request;
use super::unit::{self, Item, Job, Making, Set, initial_latent, noise_key};
use super::{NOT_FINITE, WHEN_NOT_FINITE};
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
pub(super) struct Line<'a> {
    job: &'a Job<'a>,
    pipeline: &'a mut Pipeline,
    progress: &'a Progress,
    encoding: Encoding,
    units: VecDeque<Making<'a>>,
    begun: VecDeque<Begun>,
    /// Shards that were finished.
    finished: usize,
    /// Whether it was said that pictures are not finite.
    warned: bool,
}

impl<'a> Line<'a> {
    pub(super) fn new(job: &'a Job<'a>, pipeline: &'a mut Pipeline, progress: &'a Progress) -> Self {
        let config = job.config;
        let encoding = Encoding { store_size: config.store_size, format: config.format, quality: config.quality };
        Self {
            job,
            pipeline,
            progress,
            encoding,
            units: VecDeque::new(),
            begun: VecDeque::new(),
            finished: 0,
            warned: false,
        }
    }

    /// Begins all batches of `unit` for each of `sets`; the last ones may be finished by a later call.
    pub(super) fn make(&mut self, unit: &'a Unit, sets: &[&'a Set]) -> Result<()> {
        let (job, batch) = (self.job, self.pipeline.batch());
        let images = |caption| (0..job.config.images_per_caption).map(move |image| Item { caption, image });
        let items: Vec<Item> = unit.captions.clone().flat_map(images).collect();
        self.units.push_back(Making::new(unit, sets, items.len(), items.len().div_ceil(batch))?);
        for items in items.chunks(batch) {
            let Some(making) = self.units.back_mut() else { break };
            let texts = making.texts(job, items, self.pipeline)?;
            let truncated: Vec<usize> = texts.iter().map(|text| text.truncated).collect();
            let values: usize = self.pipeline.latent_shape().iter().product();
            let mut latents = vec![0.0; items.len() * values];
            for (item, latent) in items.iter().zip(latents.chunks_exact_mut(values)) {
                initial_latent(job, *item, latent);
            }
            let keys: Vec<_> = items.iter().map(|&item| noise_key(job, item)).collect();
            for set in 0..sets.len() {
                if self.begun.len() == AHEAD {
                    self.land()?;
                }
                let Some(making) = self.units.back() else { break };
                let (texts, keys, latents) = (texts.clone(), keys.clone(), latents.clone());
                self.pipeline.start(Request { texts, keys, latents, guidance_scale: making.guidance_scale(set) })?;
                self.begun.push_back(Begun { items: items.to_vec(), truncated: truncated.clone(), set });
            }
        }
        Ok(())
    }

    /// Finishes what is on its way.
    pub(super) fn finish(&mut self) -> Result<()> {
        while !self.begun.is_empty() {
            self.land()?;
        }
        Ok(())
    }

    /// Shards that were finished, and images that were drawn for others.
    pub(super) fn made(&self) -> (usize, usize) {
        (self.finished, self.units.iter().map(|unit| unit.images).sum())
    }

    /// Waits for the batch begun first, encodes it and adds it to its shard.
    fn land(&mut self) -> Result<()> {
        let (Some(Begun { items, truncated, set }), Some(making)) = (self.begun.pop_front(), self.units.front_mut())
        else {
            return Ok(());
        };
        let calls = self.pipeline.calls();
        let Drawn { latents, pictures, .. } =
            self.pipeline.finish(&mut |call| self.progress.note(format!("step {call} of {calls}")))?;
        let encoded: Vec<Encoded> =
            pictures.into_par_iter().map(|picture| self.encoding.encode(picture)).collect::<Result<_>>()?;
        self.progress.note("");
        self.progress.advance(items.len() as u64);
        if let Some(at) = encoded.iter().position(|picture| picture.not_finite).filter(|_| !self.warned) {
            self.warned = true;
            say!("warning: {}: {NOT_FINITE}; {WHEN_NOT_FINITE}", unit::key(self.job, items[at]));
        }
        let images = items.into_iter().zip(encoded).zip(truncated);
        making.add(self.job, set, images.map(|((item, encoded), truncated)| (item, encoded, truncated)), &latents)?;
        if making.left == 0
            && let Some(done) = self.units.pop_front()
        {
            let shards = done.shards();
            done.finish(self.job, self.pipeline.latent_shape())?;
            self.finished += shards;
        }
        store::check_interrupt("run the same command again to resume from the last whole shard")
    }
}
