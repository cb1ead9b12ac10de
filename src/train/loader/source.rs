//! Which images a step takes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::LoaderConfig;
use super::decode::Images;
use crate::bail;
use crate::error::{Error, Result};
use crate::image::{Rgb8, dimensions};
use crate::rng::{Domain, Stream};
use crate::shards::{CaptionGroup, CaptionGroups, Shards};

/// Indexed shards and the rule by which steps draw from them.
#[derive(Debug)]
pub(super) struct Source {
    shards: Shards,
    groups: Vec<CaptionGroup>,
    pub images: Images,
    n: usize,
    m: usize,
    shuffle: bool,
    seed: u64,
    /// The order of the epoch that was asked for last.
    order: Mutex<Option<(u64, Arc<Vec<u32>>)>>,
}

/// The images of one place of a batch.
#[derive(Debug)]
pub(super) struct Found {
    pub label: u32,
    /// (sample, image), m of them.
    pub images: Vec<(u32, Arc<Rgb8>)>,
    /// (sample, message) of every image that did not decode on the way.
    pub bad: Vec<(u32, String)>,
}

impl Source {
    /// The second value lists what is bad in the shards, one message each.
    pub fn open(config: &LoaderConfig, images: Images) -> Result<(Self, Vec<String>)> {
        let m = config.images_per_caption;
        let shards = Shards::open(&config.data)?;
        let captions = CaptionGroups::new(&shards);
        // A caption that is short of images in a file with damage lost them to it; anywhere else it never had them.
        let damaged: HashSet<_> = shards.damage().iter().map(|damage| damage.file.as_path()).collect();
        let mut touched: Vec<bool> = shards.files().map(|(path, _)| damaged.contains(path)).collect();
        for (file, _) in &captions.bad {
            touched[*file] = true;
        }
        let mut bad: Vec<String> = shards.damage().iter().map(ToString::to_string).collect();
        bad.extend(captions.bad.into_iter().map(|(_, message)| message));
        let mut groups = Vec::with_capacity(captions.groups.len());
        for group in captions.groups {
            let first = shards.sample(group.samples[0] as usize);
            let has = group.samples.len();
            if has >= m {
                groups.push(group);
            } else if group.samples.iter().any(|&sample| touched[shards.sample(sample as usize).file()]) {
                bad.push(format!("{}: only {has} of its caption's images are left, {m} are needed", first.name()));
            } else {
                bail!(
                    Data,
                    "{}: its caption has {has} image(s), --images-per-caption {m} needs {m}; use {has} or fewer, or generate more images",
                    first.name()
                );
            }
        }
        let n = config.captions_per_batch;
        if groups.len() < n && bad.len() <= config.max_bad {
            bail!(
                Data,
                "the shards hold {} usable caption(s), a batch takes {n}; use a smaller --batch or more data",
                groups.len()
            );
        }
        let source =
            Self { shards, groups, images, n, m, shuffle: config.shuffle, seed: config.seed, order: Mutex::new(None) };
        Ok((source, bad))
    }

    pub fn captions(&self) -> usize {
        self.groups.len()
    }

    pub fn images(&self) -> usize {
        self.groups.iter().map(|group| group.samples.len()).sum()
    }

    /// Bytes of all decoded images, by the sizes of a few spread over the shards; no more than the cache may hold.
    pub fn cache_bytes(&self) -> u64 {
        const LOOKED_AT: usize = 64;
        let looked = self.groups.iter().step_by(self.groups.len().div_ceil(LOOKED_AT).max(1));
        let sizes = looked.filter_map(|group| {
            let sample = self.shards.sample(group.samples[0] as usize);
            let (width, height) = dimensions(sample.image()?.1, sample.key()).ok()?;
            Some(3 * (width * height) as u64)
        });
        let (count, sum) = sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
        let mean = u64::checked_div(sum, count).unwrap_or(0);
        (self.images() as u64 * (mean + Images::ENTRY)).min(self.images.limit())
    }

    /// The captions of an epoch in the order they are taken.
    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, order)) if *known == epoch => Arc::clone(order),
            _ => {
                let mut order: Vec<u32> = (0..self.groups.len() as u32).collect();
                if self.shuffle {
                    Stream::new(self.seed, Domain::Shuffle, [epoch as u32, 0, 0]).shuffle(&mut order);
                }
                let order = Arc::new(order);
                *last = Some((epoch, Arc::clone(&order)));
                order
            }
        }
    }

    /// The images of every place of a batch, decoded.
    pub fn find(&self, epoch: u64, step: u64) -> Result<Vec<Found>> {
        let order = self.order(epoch);
        let first = step as usize * self.n;
        (first..first + self.n).into_par_iter().map(|place| self.fill(epoch, &order, place)).collect()
    }

    /// The caption at `place` of the order, or, as long as too few of its images decode, the one n places further.
    fn fill(&self, epoch: u64, order: &[u32], place: usize) -> Result<Found> {
        let mut bad = Vec::new();
        for turn in 0..order.len() {
            let caption = order[(place + turn * self.n) % order.len()];
            let group = &self.groups[caption as usize];
            let mut images = Vec::with_capacity(self.m);
            for sample in self.draw(epoch, caption, group) {
                match &*self.images.get(self.shards.sample(sample as usize)) {
                    Ok(image) => images.push((sample, Arc::clone(image))),
                    Err(message) => bad.push((sample, message.clone())),
                }
                if images.len() == self.m {
                    return Ok(Found { label: group.label, images, bad });
                }
            }
        }
        let messages: Vec<String> = bad.into_iter().map(|(_, message)| message).take(3).collect();
        Err(Error::Data(format!(
            "no caption with {} readable images is left for this batch:\n{}",
            self.m,
            messages.join("\n")
        )))
    }

    /// All samples of a caption in the order they are tried; the first m that decode are taken.
    fn draw(&self, epoch: u64, caption: u32, group: &CaptionGroup) -> Vec<u32> {
        if !self.shuffle {
            return group.samples.clone();
        }
        let count = group.samples.len();
        let mut stream = Stream::new(self.seed, Domain::ImageChoice, [epoch as u32, caption, 0]);
        stream.choose(count, count).into_iter().map(|i| group.samples[i]).collect()
    }
}
