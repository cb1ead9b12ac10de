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
    pub(super) groups: Vec<(u32, u32)>,
    pub(super) pictures: Vec<u32>,
    /// Number of different texts.
    pub texts: usize,
    /// Samples whose json lists `captions`.
    pub listed: usize,
    /// (position of the file in [`Shards::files`], message) of every sample that has no picture or no readable caption
    /// and is therefore in no group.
    pub bad: Vec<(usize, String)>,
    /// What is odd in samples that are used all the same, a line each.
    pub notes: Vec<String>,
    /// Samples without a defect that are in no group, a line for each reason.
    pub left_out: Vec<String>,
}

/// 128 bits of a text's SHA-256.
type TextHash = [u32; 4];

/// A usable sample.
struct Sample {
    /// Number of its first picture, and how many it has.
    first: u32,
    count: u32,
    id: Option<u64>,
    text: TextHash,
    /// [`super::Record::drawn`].
    drawn: Option<u64>,
}

/// A usable sample and the group it is in.
struct Placed {
    group: u32,
    first: u32,
    count: u32,
    drawn: Option<u64>,
}

/// The samples of one file.
#[derive(Default)]
struct Described {
    samples: Vec<Sample>,
    listed: usize,
    bad: Vec<String>,
    remarks: BTreeMap<Remark, (usize, String)>,
}

/// Samples between two looks at whether a signal asked to stop.
const LOOK: usize = 4096;

impl CaptionGroups {
    /// All pictures of a sample have its caption. Samples with equal `caption_id` and equal text are one group; without
    /// `caption_id`, equal text alone decides. What `generate` flagged as not finite, and what it drew a second time
    /// with the same seed, is left out.
    ///
    /// # Errors
    /// If a shard cannot be read; `Interrupted` after a signal.
    pub fn new(shards: &Shards) -> Result<Self> {
        Self::group(shards, |_| 0)
    }

    /// The same, but samples of files that different paths named are never one group. Groups of a path follow each
    /// other.
    ///
    /// # Errors
    /// As [`CaptionGroups::new`].
    pub fn apart(shards: &Shards) -> Result<Self> {
        Self::group(shards, |file| shards.named_by(file))
    }

    fn group(shards: &Shards, set: impl Fn(usize) -> usize) -> Result<Self> {
        let files: Vec<Described> =
            (0..shards.files().len()).into_par_iter().map(|file| describe_file(shards, file)).collect::<Result<_>>()?;
        let mut all = Self::default();
        let mut labels: HashMap<TextHash, u32> = HashMap::new();
        let mut places: HashMap<(usize, Option<u64>, u32), u32> = HashMap::new();
        let mut remarks = BTreeMap::<Remark, (usize, String)>::new();
        let mut members: Vec<Placed> = Vec::new();
        // Label of every group, and how many pictures it has.
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for (number, file) in files.into_iter().enumerate() {
            all.listed += file.listed;
            all.bad.extend(file.bad.into_iter().map(|message| (number, message)));
            for (remark, (count, example)) in file.remarks {
                remarks.entry(remark).or_insert((0, example)).0 += count;
            }
            for Sample { first, count, id, text, drawn } in file.samples {
                let next = labels.len() as u32;
                let label = *labels.entry(text).or_insert(next);
                let group = *places.entry((set(number), id, label)).or_insert_with(|| {
                    counts.push((label, 0));
                    counts.len() as u32 - 1
                });
                counts[group as usize].1 += count;
                members.push(Placed { group, first, count, drawn });
            }
        }
        all.texts = labels.len();
        for (remark, (count, example)) in remarks {
            let lines = if remark.leaves_out() { &mut all.left_out } else { &mut all.notes };
            lines.push(remark.describe(count, &example));
        }
        if let Some((count, [second, first])) = leave_out_twice(&mut members, &mut counts) {
            let name = |picture: u32| shards.picture(picture).map(|picture| picture.sample().name());
            all.left_out.push(format!(
                "{count} sample(s) were drawn with the caption, model, seed and image index of another one, e.g. {} as \
                 {}; left out: more images of the same captions need another --seed of `stablerep generate`",
                name(second)?,
                name(first)?
            ));
        }
        let mut end = 0;
        let mut next: Vec<u32> = Vec::with_capacity(counts.len());
        for (label, count) in counts {
            next.push(end);
            end += count;
            all.groups.push((label, end));
        }
        all.pictures = vec![0; end as usize];
        for Placed { group, first, count, .. } in members {
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
        (self.texts, self.bad, self.notes, self.left_out) = (old.texts, old.bad, old.notes, old.left_out);
    }

    /// Memory it takes, bytes.
    pub fn bytes(&self) -> u64 {
        (size_of_val(&self.groups[..]) + size_of_val(&self.pictures[..])) as u64
    }
}

/// Takes samples from `members` and `counts` that are the same drawing as an earlier one of their group. Returns how
/// many, and the first picture of one of them and of the one that stays.
fn leave_out_twice(members: &mut Vec<Placed>, counts: &mut [(u32, u32)]) -> Option<(usize, [u32; 2])> {
    let numbered = members.iter().zip(0u32..);
    let mut known: Vec<(u32, u64, u32)> =
        numbered.filter_map(|(member, number)| Some((member.group, member.drawn?, number))).collect();
    known.sort_unstable();
    let same = |pair: &&[(u32, u64, u32)]| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1);
    let mut twice: Vec<(u32, u32)> = known.windows(2).filter(same).map(|pair| (pair[1].2, pair[0].2)).collect();
    twice.sort_unstable();
    let &(second, first) = twice.first()?;
    let example = [members[second as usize].first, members[first as usize].first];
    let mut next = twice.iter().map(|&(number, _)| number).peekable();
    let mut number = 0;
    members.retain(|member| {
        let leave = next.next_if_eq(&number).is_some();
        number += 1;
        counts[member.group as usize].1 -= if leave { member.count } else { 0 };
        !leave
    });
    Some((twice.len(), example))
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
    let mut left_out = false;
    for remark in record.remarks.into_iter().chain(more) {
        all.remarks.entry(remark).or_insert_with(|| (0, sample.name())).0 += 1;
        left_out |= remark.leaves_out();
    }
    if left_out {
        return Ok(());
    }
    all.listed += usize::from(!record.captions.is_empty());
    let hash: [u8; 32] = Sha256::digest(caption.as_bytes()).into();
    let word = |i: usize| u32::from_le_bytes([hash[4 * i], hash[4 * i + 1], hash[4 * i + 2], hash[4 * i + 3]]);
    let text = [word(0), word(1), word(2), word(3)];
    all.samples.push(Sample {
        first: sample.first_picture(),
        count: pictures.len() as u32,
        id: record.caption_id,
        text,
        drawn: record.drawn,
    });
    Ok(())
}
