//! Which captions of the shards can be drawn, and what is said of the others.

use std::collections::BTreeMap;

use super::config::{LoaderConfig, over_limit};
use crate::bail;
use crate::error::{Error, Result};
use crate::shards::{CaptionGroups, Shards};

/// Captions to draw from.
pub(super) struct Usable {
    /// Each with enough pictures.
    pub groups: CaptionGroups,
    /// What is damaged or lacks something, a message each.
    pub bad: Vec<String>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// Groups the pictures of `shards` and leaves out captions with too few.
///
/// # Errors
/// `Data` if more is bad than the configuration allows, or fewer captions are left than a batch takes: with the reason
/// that weighs most.
pub(super) fn usable(shards: &Shards, config: &LoaderConfig) -> Result<Usable> {
    let (n, least) = (config.captions_per_batch, config.least_images());
    let mut groups = match (&config.labelled, config.weights.is_empty()) {
        _ if config.scene.is_some() => CaptionGroups::mapped(shards)?,
        (Some(labelled), _) => CaptionGroups::labelled(shards, labelled.classes)?,
        (None, true) => CaptionGroups::new(shards)?,
        (None, false) => CaptionGroups::apart(shards)?,
    };
    if config.any_caption && groups.listed == 0 {
        bail!(
            Data,
            "--any-caption: no sample of the shards lists other texts as `captions` in its .json; leave it out"
        );
    }
    let mut bad: Vec<String> = shards.damage().iter().map(ToString::to_string).collect();
    bad.extend(std::mem::take(&mut groups.bad).into_iter().map(|(_, message)| message));

    let all = groups.len();
    let mut short = Short::default();
    groups.retain(|group| {
        let has = group.pictures.len();
        *short.counts.entry(has).or_default() += 1;
        if has >= least {
            return true;
        }
        short.left_out += 1;
        if short.example.is_none() {
            short.example = shards.picture(group.pictures[0]).ok().map(|picture| (picture.sample().name(), has));
        }
        false
    });
    if bad.len() > config.max_bad {
        return Err(too_many(&bad, config.max_bad));
    }
    let mut notes: Vec<String> = [shards.notes(), &groups.notes, &groups.left_out].concat();
    if short.left_out > 0 {
        notes.push(format!("{} and are left out ({})", short.describe(all, least), short.advice(config)));
    }
    if groups.len() < n {
        let why = match (bad.first(), short.left_out) {
            (Some(first), 0) => format!(": {} sample(s) or places are bad, e.g. {first}", bad.len()),
            (_, 1..) => format!(": {}; {}", short.describe(all, least), short.advice(config)),
            (None, 0) => "; use a smaller --batch or more data".into(),
        };
        // Whatever else is not drawn from may be what is missing.
        let also: String = shards.notes().iter().chain(&groups.left_out).map(|note| format!("\n{note}")).collect();
        let more = config.data.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (data, held) = (config.data.first().map_or(String::new(), |path| path.display().to_string()), groups.len());
        bail!(Data, "{data}{more}: the shards hold {held} usable caption(s), a batch takes {n}{why}{also}");
    }
    Ok(Usable { groups, bad, notes })
}

/// More bad samples than allowed: how many, and the first of them.
fn too_many(bad: &[String], allowed: usize) -> Error {
    const NAMED: usize = 3;
    let mut text = bad[..bad.len().min(NAMED)].join("\n");
    if bad.len() > NAMED {
        text += &format!("\n… and {} more", bad.len() - NAMED);
    }
    Error::Data(format!("{text}\n{}", over_limit(bad.len(), allowed)))
}

/// Captions with fewer pictures than are drawn of each.
#[derive(Default)]
struct Short {
    /// Captions by their number of pictures.
    counts: BTreeMap<usize, usize>,
    left_out: usize,
    /// A sample of one, and how many its caption has.
    example: Option<(String, usize)>,
}

impl Short {
    fn describe(&self, all: usize, least: usize) -> String {
        let example = self.example.as_ref().map(|(name, has)| format!(" (e.g. that of {name} has {has})"));
        let example = example.unwrap_or_default();
        format!("{} of {all} captions have fewer than {least} images{example}", self.left_out)
    }

    /// What to change so that most captions, and a batch of them, have enough pictures.
    fn advice(&self, config: &LoaderConfig) -> String {
        let (n, m, least) = (config.captions_per_batch, config.images_per_caption, config.least_images());
        let with = |least: usize| -> usize { self.counts.range(least..).map(|(_, count)| count).sum() };
        let most_have = |least: usize| 2 * with(least) > with(0);
        // More than are drawn of each are wanted by --min-images alone.
        let wanted = least > m;
        match (m.min(2)..least).rev().find(|&fewer| most_have(fewer) && with(fewer) >= n) {
            Some(fewer) if fewer > m => format!("{} have {fewer} or more: --min-images {fewer}", with(fewer)),
            Some(fewer) if fewer == m => format!("{} have {m} or more: leave --min-images out", with(m)),
            Some(fewer) => {
                let too = if wanted { ", without --min-images" } else { "" };
                format!("{} have {fewer} or more: --images-per-caption {fewer}{too}", with(fewer))
            }
            None if most_have(least) => format!("{} have {least} or more", with(least)),
            None if most_have(2) || m == 1 => {
                let too = if wanted { ", with a smaller --min-images" } else { "" };
                format!("use a smaller --batch or more data{too}")
            }
            None => "most have one: --method simclr makes two views of each image, or generate more images per caption"
                .into(),
        }
    }
}
