//! Samples grouped by caption: what m-of-n sampling draws from.

use std::collections::HashMap;

use super::{SampleRef, Shards};
use crate::error::Result;

/// The images of one caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptionGroup {
    /// Number of the caption's *text*, in the order texts first appear: equal texts have equal labels, whatever their caption id.
    pub label: u32,
    /// Indices into [`Shards`], in shard order.
    pub samples: Vec<u32>,
}

/// All captions of some shards, in the order of their first image.
#[derive(Debug, Default)]
pub struct CaptionGroups {
    pub groups: Vec<CaptionGroup>,
    /// Number of different texts.
    pub texts: usize,
    /// (position of the file in [`Shards::files`], message) of every sample that has no image or no readable caption and is
    /// therefore in no group.
    pub bad: Vec<(usize, String)>,
}

impl CaptionGroups {
    /// Samples with equal `caption_id` and equal text are one group; without `caption_id`, equal text alone decides.
    pub fn new(shards: &Shards) -> Self {
        let mut all = Self::default();
        let mut labels: HashMap<String, u32> = HashMap::new();
        let mut places: HashMap<(Option<u64>, u32), usize> = HashMap::new();
        for sample in shards.iter() {
            let (id, text) = match describe(&sample) {
                Ok(Ok(pair)) => pair,
                Ok(Err(missing)) => {
                    all.bad.push((sample.file(), format!("{}: {missing}", sample.name())));
                    continue;
                }
                Err(e) => {
                    all.bad.push((sample.file(), e.to_string()));
                    continue;
                }
            };
            let next = labels.len() as u32;
            let label = *labels.entry(text).or_insert(next);
            let place = *places.entry((id, label)).or_insert_with(|| {
                all.groups.push(CaptionGroup { label, samples: Vec::new() });
                all.groups.len() - 1
            });
            all.groups[place].samples.push(sample.index() as u32);
        }
        all.texts = labels.len();
        all
    }
}

/// Caption id and text of a sample, or what it lacks.
fn describe(sample: &SampleRef<'_>) -> Result<Result<(Option<u64>, String), String>> {
    if sample.image().is_none() {
        let members: Vec<&str> = sample.members().map(|(extension, _)| extension).collect();
        return Ok(Err(format!("no image (.jpg, .jpeg or .png); it has .{}", members.join(" ."))));
    }
    let id = sample.caption_id()?;
    Ok(match sample.caption()? {
        Some(text) => Ok((id, text)),
        None => Err("no caption (.txt, or \"caption\" in .json)".into()),
    })
}
