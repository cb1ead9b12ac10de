//! Pictures grouped by caption: what m-of-n sampling draws from.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::record::Remark;
use super::scan::stop_if_asked;
use super::{SampleRef, Shards};
use crate::error::Result;

/// The pictures of one caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptionGroup<'a> {
    /// Number of the caption's *text*, in the order texts first appear: equal texts have equal labels, whatever their
    /// caption id.
    pub label: u32,
    /// Numbers for [`Shards::picture`], in shard order; at least one.
    pub pictures: &'a [u32],
}

/// All captions of some shards, in the order of their first picture.
#[derive(Debug, Default)]
pub struct CaptionGroups {
    /// By group: label, and where its pictures end; they begin where those of the group before end.
    groups: Vec<(u32, u32)>,
    pictures: Vec<u32>,
    /// Number of different texts.
    pub texts: usize,
    /// (position of the file in [`Shards::files`], message) of every sample that has no picture or no readable caption
    /// and is therefore in no group.
    pub bad: Vec<(usize, String)>,
    /// What is odd in samples that are used all the same, a line each.
    pub notes: Vec<String>,
}

/// 128 bits of a text's SHA-256.
type TextHash = [u32; 4];

/// The samples of one file.
#[derive(Default)]
struct Described {
    /// (number of its first picture, how many, caption id, text) of every usable sample.
    samples: Vec<(u32, u32, Option<u64>, TextHash)>,
    bad: Vec<String>,
    remarks: BTreeMap<Remark, (usize, String)>,
}

/// Samples between two looks at whether a signal asked to stop.
const LOOK: usize = 4096;

impl CaptionGroups {
    /// All pictures of a sample have its caption. Samples with equal `caption_id` and equal text are one group; without
    /// `caption_id`, equal text alone decides.
    ///
    /// # Errors
    /// If a shard cannot be read; `Interrupted` after a signal.
    pub fn new(shards: &Shards) -> Result<Self> {
        let files: Vec<Described> =
            (0..shards.files().len()).into_par_iter().map(|file| describe_file(shards, file)).collect::<Result<_>>()?;
        let mut all = Self::default();
        let mut labels: HashMap<TextHash, u32> = HashMap::new();
        let mut places: HashMap<(Option<u64>, u32), u32> = HashMap::new();
        let mut remarks = BTreeMap::<Remark, (usize, String)>::new();
        // Group of every picture, then how many each group has.
        let mut members: Vec<(u32, u32, u32)> = Vec::new();
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for (number, file) in files.into_iter().enumerate() {
            all.bad.extend(file.bad.into_iter().map(|message| (number, message)));
            for (remark, (count, example)) in file.remarks {
                remarks.entry(remark).or_insert((0, example)).0 += count;
            }
            for (first, count, id, text) in file.samples {
                let next = labels.len() as u32;
                let label = *labels.entry(text).or_insert(next);
                let group = *places.entry((id, label)).or_insert_with(|| {
                    counts.push((label, 0));
                    counts.len() as u32 - 1
                });
                counts[group as usize].1 += count;
                members.push((group, first, count));
            }
        }
        all.texts = labels.len();
        all.notes = remarks.into_iter().map(|(remark, (count, example))| remark.describe(count, &example)).collect();
        let mut end = 0;
        let mut next: Vec<u32> = Vec::with_capacity(counts.len());
        for (label, count) in counts {
            next.push(end);
            end += count;
            all.groups.push((label, end));
        }
        all.pictures = vec![0; end as usize];
        for (group, first, count) in members {
            for picture in first..first + count {
                let place = &mut next[group as usize];
                all.pictures[*place as usize] = picture;
                *place += 1;
            }
        }
        Ok(all)
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Group `index`, below [`CaptionGroups::len`].
    pub fn get(&self, index: usize) -> CaptionGroup<'_> {
        let begin = index.checked_sub(1).map_or(0, |before| self.groups[before].1);
        let (label, end) = self.groups[index];
        CaptionGroup { label, pictures: &self.pictures[begin as usize..end as usize] }
    }

    /// All groups, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = CaptionGroup<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Keeps the groups that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(CaptionGroup<'_>) -> bool) {
        let old = std::mem::take(self);
        for group in old.iter().filter(|&group| keep(group)) {
            self.pictures.extend_from_slice(group.pictures);
            self.groups.push((group.label, self.pictures.len() as u32));
        }
        (self.texts, self.bad, self.notes) = (old.texts, old.bad, old.notes);
    }

    /// Memory it takes, bytes.
    pub fn bytes(&self) -> u64 {
        (size_of_val(&self.groups[..]) + size_of_val(&self.pictures[..])) as u64
    }
}

fn describe_file(shards: &Shards, file: usize) -> Result<Described> {
    let mut all = Described::default();
    for (place, sample) in shards.samples_of(file).enumerate() {
        if place.is_multiple_of(LOOK) {
            stop_if_asked()?;
        }
        describe(&sample, &mut all)?;
    }
    Ok(all)
}

fn describe(sample: &SampleRef<'_>, all: &mut Described) -> Result<()> {
    let pictures = match sample.pictures() {
        Ok(pictures) => pictures,
        Err(e) => {
            all.bad.push(e.to_string());
            return Ok(());
        }
    };
    let record = sample.record()?;
    let caption = match record.caption {
        Ok(caption) => caption,
        Err(what) => {
            let separator = if what.starts_with('.') { "" } else { ": " };
            all.bad.push(format!("{}{separator}{what}", sample.name()));
            return Ok(());
        }
    };
    let more = sample.more_pictures(&pictures).then_some(Remark::MorePictures);
    for remark in record.remarks.into_iter().chain(more) {
        all.remarks.entry(remark).or_insert_with(|| (0, sample.name())).0 += 1;
    }
    let hash: [u8; 32] = Sha256::digest(caption.as_bytes()).into();
    let word = |i: usize| u32::from_le_bytes([hash[4 * i], hash[4 * i + 1], hash[4 * i + 2], hash[4 * i + 3]]);
    let text = [word(0), word(1), word(2), word(3)];
    all.samples.push((sample.first_picture(), pictures.len() as u32, record.caption_id, text));
    Ok(())
}
