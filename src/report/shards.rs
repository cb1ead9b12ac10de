//! Shards: how they were drawn, and pictures with their captions.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::find::{Kind, name};
use super::page::{Section, command, folded, note, text};
use super::run::pairs;
use crate::config::{json, shell_word};
use crate::error::{Error, Result};
use crate::image::{Filter, Rgb8, decode, encode_jpeg, encode_png, resize};
use crate::shards::{CaptionGroups, Shards};

/// Side that larger pictures are shrunk to.
const SIDE: usize = 192;

/// Side up to which a picture's pixels are shown as they are.
const SMALL: usize = 64;

/// What is damaged of a set, at most so much of it is named.
const DAMAGE: usize = 10;

/// What a `generate` folder says of itself.
const RECORD: &str = "generate.json";

/// What of shards is shown at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Captions of a shard set.
    pub captions: usize,
    /// Pictures of a caption.
    pub pictures: usize,
}

/// The section of the shards at `path`: captions spread over all of them, or pictures where there are none.
/// What is damaged of them is returned too, the first.
pub fn section(path: &Path, limits: Limits) -> Result<(Section, Option<String>)> {
    let shards = Shards::open(&[path.to_owned()])?;
    let captions = CaptionGroups::new(&shards)?;
    let captioned = !captions.is_empty();
    let (groups, what) = match captioned {
        true => {
            let what = format!("of {} captions, {} different texts", captions.len(), captions.texts);
            (captions, what)
        }
        false => without_captions(&shards, captions)?,
    };
    let mut html = format!("<p>{} pictures {what}.</p>\n", shards.pictures());
    for damage in shards.damage().iter().take(DAMAGE) {
        html += &note(&damage.to_string());
    }
    let record = path.join(RECORD);
    if record.is_file() {
        let bytes = fs::read(&record).map_err(Error::io("read", &record))?;
        let said: Value = json::parse(&bytes).map_err(|e| Error::Data(format!("{}: {e}", record.display())))?;
        html += &folded("how they were drawn", &pairs(&said));
        html += &command(&format!("stablerep inspect {} --regenerate KEY --model MODEL", shell_word(path)));
    }
    let shown = limits.captions.min(groups.len());
    let mut alone = String::new();
    for row in 0..shown {
        let group = groups.get(row * groups.len() / shown);
        let mut caption = String::new();
        let mut pictures = String::new();
        for &number in group.pictures.iter().take(limits.pictures) {
            let picture = shards.picture(number)?;
            if captioned && pictures.is_empty() {
                caption = picture.sample().record()?.caption.unwrap_or_default();
            }
            // What does not decode is a matter of `inspect --check`.
            if let Ok(image) = decode(&picture.read()?, &picture.name()) {
                pictures += &embedded(&image, picture.sample().key())?;
            }
        }
        match captioned {
            true => {
                let _ = writeln!(
                    html,
                    "<div class=\"caption\"><p>{}</p><div class=\"pictures\">{pictures}</div></div>",
                    text(&caption)
                );
            }
            false => alone += &pictures,
        }
    }
    if !alone.is_empty() {
        let _ = writeln!(html, "<div class=\"pictures\">{alone}</div>");
    }
    let damage = shards.damage().first().map(ToString::to_string);
    Ok((Section::new(name(path), Kind::Shards.name(), html), damage))
}

/// The pictures of shards without captions, and what lies beside them: the classes of their pixels, their own, or
/// nothing, as `none` has it.
fn without_captions(shards: &Shards, none: CaptionGroups) -> Result<(CaptionGroups, String)> {
    // Of shards without any, `Data` says so.
    let there = |found: Result<CaptionGroups>| match found {
        Ok(groups) => Ok(Some(groups).filter(|groups| !groups.is_empty())),
        Err(Error::Data(_)) => Ok(None),
        Err(other) => Err(other),
    };
    if let Some(mapped) = there(CaptionGroups::mapped(shards))? {
        return Ok((mapped, "with the classes of their pixels, without captions".into()));
    }
    match there(CaptionGroups::labelled(shards, None))? {
        Some(labelled) => {
            let classes: BTreeSet<u32> = (0..labelled.len()).map(|i| labelled.get(i).label).collect();
            Ok((labelled, format!("of {} classes, without captions", classes.len())))
        }
        None => Ok((none, "without captions or classes".into())),
    }
}

/// `image` as an element that holds it.
pub fn embedded(image: &Rgb8, key: &str) -> Result<String> {
    let longest = image.width.max(image.height);
    let (kind, bytes, class) = if longest <= SMALL {
        ("png", encode_png(image)?, " class=\"small\"")
    } else if longest <= SIDE {
        ("jpeg", encode_jpeg(image, 85)?, "")
    } else {
        let side = |length: usize| (length * SIDE / longest).max(1);
        ("jpeg", encode_jpeg(&resize(image, side(image.width), side(image.height), Filter::Bilinear)?, 85)?, "")
    };
    let key = text(key);
    Ok(format!(
        "<img{class} alt=\"{key}\" title=\"{key}\" src=\"data:image/{kind};base64,{}\">",
        STANDARD.encode(bytes)
    ))
}
