//! What an output folder belongs to: everything that decides the bits of its pictures, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::calibration::CalibrationFile;
use super::config::ImageFormat;
use super::drawing::Drawing;
use super::plan::{Demands, Held, STATS_FILE, Unit, is_output, units};
use super::settings::Precision;
use crate::bail;
use crate::captions::{self, Caption, Captions};
use crate::config::FlagNames;
use crate::config::hex;
use crate::dist::Ranks;
use crate::error::{Error, Result};
use crate::say;
use crate::shards::Shards;
use crate::store::{self, Occupied};

/// Name of the file that says which configuration an output folder belongs to.
pub(super) const CONFIG_FILE: &str = "generate.json";
/// Name of the copy of the calibration that its pictures were drawn with.
pub(super) const CALIBRATION_FILE: &str = "fp8.json";

/// A folder of shards and what its images are drawn with. The sets of a run differ in the guidance scale.
pub(super) struct Set {
    pub folder: PathBuf,
    pub identity: Identity,
}

/// What decides the bits of the output; recorded in the output folder, compared when a run resumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub model_sha256: String,
    /// f32 for folders of versions that knew nothing else.
    #[serde(default)]
    pub precision: Precision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8_sha256: Option<String>,
    /// Scale and hash of each file that was folded into the model, which its own hash covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<String>,
    /// Of the captions as they were read (`caption_list_sha256`), whatever the file looks like.
    pub caption_list_sha256: String,
    pub captions: usize,
    /// How they were read: told, and compared only when other captions came out of it.
    #[serde(default)]
    pub captions_read: Option<captions::Read>,
    pub images_per_caption: usize,
    pub captions_per_shard: usize,
    /// With the size that was drawn, whoever said it.
    #[serde(flatten)]
    pub drawing: Drawing,
    pub store_size: Option<usize>,
    pub format: ImageFormat,
    pub quality: u8,
    pub initial_noise_sha256: Option<String>,
    pub save_latents: bool,
    /// Drawn by a rule of diffusers' pipeline in place of which earlier versions had another: a scheduler config that
    /// it puts right, or a guidance scale below 1.
    #[serde(default, skip_serializing_if = "is_false")]
    pub as_diffusers: bool,
}

fn is_false(on: &bool) -> bool {
    !on
}

/// Flags of what [`Identity`] records under other names.
const FLAGS: &FlagNames = &[
    ("model_sha256", "--model and --lora (hash of their files)"),
    ("fp8_sha256", "--fp8 (hash of the file)"),
    ("loras", "--lora (scale and hash of each file)"),
    ("caption_list_sha256", "--captions (hash of the captions)"),
    ("captions", "--captions (how many)"),
    ("captions_read.format", "--caption-format"),
    ("captions_read.column", "--caption-column (number)"),
    ("captions_read.header", "first row of --captions is a header"),
    ("captions_read.key_column", "--key-column (number)"),
    ("captions_per_shard", "--images-per-shard (captions per shard)"),
    ("initial_noise_sha256", "--initial-noise (hash of the file)"),
    (
        "as_diffusers",
        "drawn as diffusers puts it right (scheduler config, or --guidance-scale below 1), as earlier versions did not",
    ),
];

/// SHA-256 over ids, texts and keys of captions, hex.
pub(super) fn caption_list_sha256(captions: &[Caption]) -> String {
    let mut hash = Sha256::new();
    for caption in captions {
        hash.update(caption.id.to_le_bytes());
        for text in [&caption.text, caption.key.as_deref().unwrap_or_default()] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    hex(&hash.finalize())
}

/// Takes the folders of `sets` for this rank until what is returned is dropped, and records in each what it belongs to.
/// A folder that was begun with the first of these captions grows.
///
/// # Errors
/// Usage error for a folder of other settings or other things, or while another process of this rank or another run
/// writes there; then nothing was written into any of them.
pub(super) fn claim(
    sets: &[Set],
    captions: &Captions,
    units: &[Unit],
    ranks: Ranks,
    fp8: Option<&CalibrationFile>,
) -> Result<Vec<Occupied>> {
    for set in sets {
        if set.folder.exists() {
            look(&set.folder, &set.identity, captions, units)?;
        }
    }
    sets.iter().map(|set| claim_one(set, captions, units, ranks, fp8)).collect()
}

/// Names of the shards that a run like this one, begun in `folder` or not, has left to draw there. Nothing is written.
///
/// # Errors
/// Usage error for a folder of other settings or other things; if something in it cannot be read.
pub fn missing(folder: &Path, wanted: &Identity, captions: &Captions) -> Result<Vec<String>> {
    let units = units(captions.list.len(), wanted.captions_per_shard.max(1));
    look(folder, wanted, captions, &units)?;
    let demands = Demands {
        captions: &captions.list,
        images_per_caption: wanted.images_per_caption,
        latents: wanted.save_latents,
        by_stats: false,
    };
    let left = |unit: &Unit| match unit.held(folder, &demands) {
        Ok(Held::Done(_) | Held::Uncounted(_)) => None,
        Ok(Held::Nothing | Held::Gone(_) | Held::Spoiled(_)) => Some(Ok(unit.tar_name())),
        Err(error) => Some(Err(error)),
    };
    units.iter().filter_map(left).collect()
}

fn claim_one(
    set: &Set,
    captions: &Captions,
    units: &[Unit],
    ranks: Ranks,
    fp8: Option<&CalibrationFile>,
) -> Result<Occupied> {
    let folder = &set.folder;
    store::create_dir(folder)?;
    let lock = store::lock_folder(folder)?;
    let place = store::occupy_locked(folder, &lock, ranks.rank, ranks.world_size)?;
    if place.alone {
        store::remove_leftovers(&folder.join("latents"));
    }
    match look(folder, &set.identity, captions, units)? {
        Found::Same => {}
        Found::Earlier | Found::Nothing => store::write_record(folder, CONFIG_FILE, &set.identity)?,
        Found::Fewer(_) if !place.alone => bail!(
            Usage,
            "{}: was begun with fewer captions, and another process is writing into it; wait for it to end before it grows",
            folder.display()
        ),
        Found::Fewer(before) => {
            say!("{}: grows from {before} captions to {}", folder.display(), set.identity.captions);
            unfinish(folder)?;
            store::write_record(folder, CONFIG_FILE, &set.identity)?;
        }
    }
    if let Some(fp8) = fp8 {
        let path = folder.join(CALIBRATION_FILE);
        if fs::read(&path).ok().as_deref() != Some(&fp8.bytes[..]) {
            store::write_atomic(&path, &fp8.bytes)?;
        }
    }
    Ok(place)
}

/// Takes the mark from `folder` that says that it is complete.
pub(super) fn unfinish(folder: &Path) -> Result<()> {
    store::remove_file(&folder.join(STATS_FILE))
}

/// What was found in a folder that may become a set's.
enum Found {
    Nothing,
    /// A record of the same settings.
    Same,
    /// The same, written by a version that recorded less.
    Earlier,
    /// The same but for captions at the end: how many there were.
    Fewer(usize),
}

fn look(folder: &Path, wanted: &Identity, captions: &Captions, units: &[Unit]) -> Result<Found> {
    let Some(mut record) = store::read_record(folder, CONFIG_FILE)? else { return empty(folder) };
    let mut found = Found::Same;
    if let Some(map) = record.as_object_mut() {
        if !map.contains_key("caption_list_sha256") {
            // Earlier versions recorded the file's hash, and not which captions were read of it.
            let file = map.remove("captions_sha256").unwrap_or_default();
            let same =
                file.as_str() == Some(&captions.sha256) && map.get("captions") == Some(&Value::from(wanted.captions));
            if same {
                check_stored(folder, captions, units)?;
                found = Found::Earlier;
            }
            let hash = if same { wanted.caption_list_sha256.clone().into() } else { file };
            map.insert("caption_list_sha256".into(), hash);
        }
        let before = map.get("captions").and_then(Value::as_u64).unwrap_or(0) as usize;
        let hash = map.get("caption_list_sha256").and_then(Value::as_str).unwrap_or_default().to_owned();
        if before < wanted.captions && hash == caption_list_sha256(&captions.list[..before]) {
            map.insert("captions".into(), wanted.captions.into());
            map.insert("caption_list_sha256".into(), wanted.caption_list_sha256.clone().into());
            found = Found::Fewer(before);
        }
        let same = map.get("caption_list_sha256").and_then(Value::as_str) == Some(&wanted.caption_list_sha256);
        if same || map.get("captions_read").is_none_or(Value::is_null) {
            let read = serde_json::to_value(&wanted.captions_read).unwrap_or_default();
            map.insert("captions_read".into(), read);
        }
        if wanted.format == ImageFormat::Png {
            // It decides nothing.
            map.insert("quality".into(), wanted.quality.into());
        }
    }
    match store::check_record(folder, &record, wanted, FLAGS) {
        Err(Error::Usage(text)) if fewer_images(&record, wanted) => Err(Error::Usage(format!(
            "{text}\nmore images of the same captions: draw them into a second folder with another --seed; `stablerep train --data` \
             takes both and joins the images of equal captions"
        ))),
        checked => checked.map(|()| found),
    }
}

fn fewer_images(record: &Value, wanted: &Identity) -> bool {
    record["images_per_caption"].as_u64().is_some_and(|before| before < wanted.images_per_caption as u64)
}

/// A folder without a record must not hold what would be taken for this run's.
fn empty(folder: &Path) -> Result<Found> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Found::Nothing) };
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect();
    names.retain(|name| is_output(name));
    names.sort();
    match names.first() {
        // Another rank may have begun between the two looks.
        _ if folder.join(CONFIG_FILE).exists() => Ok(Found::Nothing),
        Some(name) => bail!(
            Usage,
            "{}: holds {name} and no {CONFIG_FILE} that tells what it was drawn with; choose another --output",
            folder.display()
        ),
        None => Ok(Found::Nothing),
    }
}

/// Compares the captions of the first shard that is there with those that would be drawn now.
fn check_stored(folder: &Path, captions: &Captions, units: &[Unit]) -> Result<()> {
    let Some(unit) = units.iter().find(|unit| unit.tar(folder).exists()) else { return Ok(()) };
    let shards = Shards::open(&[unit.tar(folder)])?;
    let wanted = &captions.list[unit.captions.clone()];
    for sample in shards.iter() {
        let text = sample.record()?.caption.unwrap_or_default();
        if !wanted.iter().any(|caption| caption.text == text) {
            bail!(
                Usage,
                "{} was started with other captions: {} is of {text:?}, which is not among what --captions gives for that shard now; \
                 read the file as before (--caption-column, --caption-format), or choose another --output",
                folder.display(),
                sample.name()
            );
        }
    }
    Ok(())
}
