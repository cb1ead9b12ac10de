//! Which pictures a step takes.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::batch::Pictures;
use super::config::{LoaderConfig, Positives};
use super::decode::{Images, Seen};
use super::mixture::{Mixture, Place};
use super::usable::{Usable, usable};
use crate::bail;
use crate::error::{Error, Result};
use crate::image::dimensions;
use crate::models::text_tower::Text;
use crate::models::tokenizer::{Encoding, Tokenizer};
use crate::rng::{Domain, Stream};
use crate::shards::{CaptionGroup, CaptionGroups, Shards};

/// Indexed shards and the rule by which steps draw from them.
#[derive(Debug)]
pub(super) struct Source {
    pub shards: Shards,
    groups: CaptionGroups,
    pub images: Images,
    n: usize,
    m: usize,
    shuffle: bool,
    seed: u64,
    max_bad: usize,
    positives: Positives,
    tokenizer: Option<Arc<Tokenizer>>,
    any_caption: bool,
    /// Where batches are mixed of several sets.
    mixture: Option<Mixture>,
    /// The order of the epoch that was asked for last.
    order: Mutex<Option<(u64, Arc<Vec<u32>>)>>,
}

/// The pictures of one place of a batch.
#[derive(Debug)]
pub(super) struct Found {
    pub label: u32,
    /// The pass over its set that takes it: the epoch, where there is one set.
    pub pass: u64,
    /// The caption, where texts were asked for.
    pub text: Option<Text>,
    /// (number of the picture, image), m of them.
    pub images: Vec<(u32, Seen)>,
}

/// Captions that stand in for those of a set.
type Others<'a> = Box<dyn Iterator<Item = Place> + 'a>;

/// The sets of the captions that `config` weighs.
fn mixture(config: &LoaderConfig, shards: &Shards, groups: &CaptionGroups) -> Result<Mixture> {
    // Groups of a path follow each other.
    let mut ends = vec![0; config.data.len()];
    for (number, group) in groups.iter().enumerate() {
        ends[shards.named_by(shards.picture(group.pictures[0])?.sample().file())] = number as u32 + 1;
    }
    for set in 1..ends.len() {
        ends[set] = ends[set].max(ends[set - 1]);
    }
    let names: Vec<String> = config.data.iter().map(|path| path.display().to_string()).collect();
    let seed = config.shuffle.then_some(config.seed);
    Mixture::new(&ends, &config.weights, config.captions_per_batch, seed, &names)
}

/// (number of the picture, message) of pictures that did not decode.
pub(super) type Bad = Vec<(u32, String)>;

impl Source {
    /// The second value lists what is bad in the shards, one message each; the third what else there is to say of them.
    pub fn open(config: &LoaderConfig, images: Images) -> Result<(Self, Vec<String>, Vec<String>)> {
        let shards = Shards::open(&config.data)?;
        let Usable { groups, bad, notes } = usable(&shards, config)?;
        let mixture = match config.weights.is_empty() {
            true => None,
            false => Some(mixture(config, &shards, &groups)?),
        };
        let source = Self {
            mixture,
            shards,
            groups,
            images,
            n: config.captions_per_batch,
            m: config.images_per_caption,
            shuffle: config.shuffle,
            seed: config.seed,
            max_bad: config.max_bad,
            any_caption: config.any_caption,
            positives: config.positives,
            tokenizer: config.tokenizer.clone(),
            order: Mutex::new(None),
        };
        Ok((source, bad, notes))
    }

    pub fn captions(&self) -> usize {
        self.groups.len()
    }

    /// One more than the largest label.
    pub fn classes(&self) -> usize {
        self.groups.iter().map(|group| group.label as usize + 1).max().unwrap_or(0)
    }

    pub fn images(&self) -> usize {
        self.groups.iter().map(|group| group.pictures.len()).sum()
    }

    /// Memory that the index of the shards takes, bytes.
    pub fn index_bytes(&self) -> u64 {
        self.shards.bytes() + self.groups.bytes()
    }

    /// Widths and heights of a few images spread over the shards.
    fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        const LOOKED_AT: usize = 64;
        let looked = (0..self.groups.len()).step_by(self.groups.len().div_ceil(LOOKED_AT).max(1));
        looked.filter_map(|group| {
            let picture = self.shards.picture(self.groups.get(group).pictures[0]).ok()?;
            dimensions(&picture.read().ok()?, picture.sample().key()).ok()
        })
    }

    /// What a step takes.
    pub fn pictures(&self) -> Pictures {
        let largest = |(w, h): (usize, usize), (width, height)| (w.max(width), h.max(height));
        let (width, height) = self.sizes().fold((1, 1), largest);
        Pictures { count: self.n * self.m, width, height }
    }

    /// Bytes of all decoded images, by the sizes of a few; no more than the cache may hold.
    pub fn cache_bytes(&self) -> u64 {
        let each = if self.images.is_mapped() { 4 } else { 3 };
        let sizes = self.sizes().map(|(width, height)| each * (width * height) as u64);
        let (count, sum) = sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
        let mean = u64::checked_div(sum, count).unwrap_or(0);
        (self.images() as u64 * (mean + Images::ENTRY)).min(self.images.limit())
    }

    /// The number of step `step` of `epoch` in the run.
    fn run_step(&self, epoch: u64, step: u64) -> u64 {
        epoch * (self.captions() / self.n) as u64 + step
    }

    /// Captions drawn of each set, by the names of `data`, in the steps before (`epoch`, `step`); empty where all is
    /// one set.
    pub fn drawn(&self, epoch: u64, step: u64) -> Vec<u64> {
        self.mixture.as_ref().map_or_else(Vec::new, |mixture| mixture.drawn(self.run_step(epoch, step)))
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

    /// The pictures of every place of a batch, decoded, and those on the way that did not decode.
    ///
    /// A place whose caption has fewer than m readable pictures gets a stand-in that the batch does not hold: one of
    /// the captions that are left over at the end of the epoch's order, as long as there are some, else one of another
    /// step. Once more pictures did not decode than the run tolerates, no more are tried and places are missing.
    pub fn find(&self, epoch: u64, step: u64) -> Result<(Vec<Found>, Bad)> {
        let order = self.order(epoch);
        let own: Vec<Place> = match &self.mixture {
            Some(mixture) => mixture.own(self.run_step(epoch, step)),
            None => order[step as usize * self.n..][..self.n].iter().map(|&caption| (caption, epoch)).collect(),
        };
        let drawn: Vec<(Option<Found>, Bad)> =
            own.par_iter().map(|&(caption, pass)| self.take(pass, caption)).collect::<Result<_>>()?;
        let mut bad = Bad::new();
        let mut places = Vec::with_capacity(self.n);
        for (found, mut unreadable) in drawn {
            places.push(found);
            bad.append(&mut unreadable);
        }
        // One iterator for each set, begun where it is first asked for.
        let mut others: Vec<(usize, Others)> = Vec::new();
        let mut filled = Vec::with_capacity(self.n);
        for (mut place, &(wanted, _)) in places.into_iter().zip(&own) {
            while place.is_none() {
                if bad.len() > self.max_bad {
                    return Ok((filled, bad));
                }
                let set = self.mixture.as_ref().map_or(0, |mixture| mixture.set_of(wanted));
                let at = others.iter().position(|known| known.0 == set).unwrap_or(others.len());
                if at == others.len() {
                    let others_of: Others = match &self.mixture {
                        Some(mixture) => Box::new(mixture.stand_ins(&own, self.run_step(epoch, step), set)),
                        None => Box::new(self.stand_ins(&order, step as usize).map(|caption| (caption, epoch))),
                    };
                    others.push((set, others_of));
                }
                let Some((caption, pass)) = others[at].1.next() else { return Err(self.nothing_left(&bad)) };
                let (found, mut unreadable) = self.take(pass, caption)?;
                bad.append(&mut unreadable);
                place = found;
            }
            filled.extend(place);
        }
        Ok((filled, bad))
    }

    /// Captions outside step `step` in the order in which they stand in: those that no step of the epoch takes, begun
    /// at another one in every step so that two steps rarely take the same, then those of the steps that follow, in a
    /// circle.
    fn stand_ins<'a>(&self, order: &'a [u32], step: usize) -> impl Iterator<Item = u32> + use<'a> {
        let taken = order.len() / self.n * self.n;
        let (whole, left) = order.split_at(taken);
        let begin = step.checked_rem(left.len()).unwrap_or(0);
        let rest = left[begin..].iter().chain(&left[..begin]);
        let (before, after) = (&whole[..step * self.n], &whole[(step + 1) * self.n..]);
        rest.chain(after).chain(before).copied()
    }

    fn nothing_left(&self, bad: &Bad) -> Error {
        let messages: Vec<&str> = bad.iter().map(|(_, message)| message.as_str()).take(3).collect();
        Error::Data(format!(
            "no caption with {} readable images is left for this batch:\n{}",
            self.m,
            messages.join("\n")
        ))
    }

    /// m pictures of a caption in a pass over its set, or `None` if too few of them decode.
    fn take(&self, epoch: u64, caption: u32) -> Result<(Option<Found>, Bad)> {
        let group = self.groups.get(caption as usize);
        let mut bad = Bad::new();
        let mut images = Vec::with_capacity(self.m);
        for picture in self.draw(epoch, caption, group) {
            match &*self.images.get(self.shards.picture(picture)?)? {
                Ok(seen) => images.push((picture, seen.clone())),
                Err(message) => bad.push((picture, message.clone())),
            }
            if images.len() == self.m {
                let text = |tokenizer| self.text(images[0].0, [epoch as u32, caption, 0], tokenizer);
                let text = self.tokenizer.as_ref().map(|tokenizer| text(tokenizer)).transpose()?;
                let label = match self.positives {
                    Positives::Text => group.label,
                    Positives::Caption => caption,
                    Positives::Class => self.class(images[0].0)?,
                };
                return Ok((Some(Found { label, pass: epoch, text, images }), bad));
            }
        }
        Ok((None, bad))
    }

    /// The class of a picture.
    fn class(&self, picture: u32) -> Result<u32> {
        let sample = self.shards.picture(picture)?.sample();
        match sample.class()? {
            Some(class) => class.map_err(Error::Data),
            None => bail!(
                Data,
                "{}: no .cls beside the image, which --positives class reads; add it, or take --positives text",
                sample.name()
            ),
        }
    }

    /// The caption of a picture, or any of its texts: all with equal chances, where one of less than two words stands
    /// for the caption (Fan et al. 2023, arXiv 2305.20088).
    fn text(&self, picture: u32, key: [u32; 3], tokenizer: &Tokenizer) -> Result<Text> {
        let sample = self.shards.picture(picture)?.sample();
        let record = sample.record()?;
        let caption = record.caption.map_err(|what| Error::Data(format!("{}: {what}", sample.name())))?;
        let others: Vec<&String> = record.captions.iter().filter(|text| **text != caption).collect();
        let text = match others.len() {
            count @ 1.. if self.any_caption => {
                let drawn = Stream::new(self.seed, Domain::TextChoice, key).below(count + 1);
                let text = if drawn == 0 { &caption } else { others[drawn - 1] };
                if text.split_whitespace().count() < 2 { &caption } else { text }
            }
            _ => &caption,
        };
        let Encoding { ids, end, .. } = tokenizer.encode(text)?;
        Ok(Text { ids, end })
    }

    /// All pictures of a caption in the order they are tried; the first m that decode are taken.
    fn draw(&self, epoch: u64, caption: u32, group: CaptionGroup<'_>) -> Vec<u32> {
        if !self.shuffle {
            return group.pictures.to_vec();
        }
        let count = group.pictures.len();
        let mut stream = Stream::new(self.seed, Domain::ImageChoice, [epoch as u32, caption, 0]);
        stream.choose(count, count).into_iter().map(|i| group.pictures[i]).collect()
    }
}
