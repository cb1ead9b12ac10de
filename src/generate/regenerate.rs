//! One stored sample, drawn again from its own record.

use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::calibration::CalibrationFile;
use super::config::{ImageFormat, QUALITY};
use super::encode::Encoding;
use super::identity::{CALIBRATION_FILE, CONFIG_FILE};
use super::lora::Lora;
use super::pipeline::Pipeline;
use super::record::Record;
use super::settings::{Fp8, Settings};
use crate::bail;
use crate::device::{Device, Plan};
use crate::error::{Error, Result};
use crate::image::{self, Difference};
use crate::ops::sampler_step::NoiseKey;
use crate::shards::{PictureRef, Shards};
use crate::store;

/// What the folder's `generate.json` says besides.
#[derive(Debug, Default, Deserialize)]
struct Folder {
    quality: Option<u8>,
    initial_noise_sha256: Option<String>,
}

/// A sample drawn again, beside the stored one.
#[derive(Clone, Debug)]
pub struct Regenerated {
    /// Encoded as the stored picture is.
    pub bytes: Vec<u8>,
    pub comparison: Comparison,
}

/// How the new picture compares with the stored one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    SameBytes,
    /// The pixels are equal, the files are not.
    SamePixels,
    Different(Difference),
}

/// Everything that a stored sample and its folder say of how it was drawn.
#[derive(Debug)]
pub struct Told<'a> {
    /// `shard.tar: key`.
    name: String,
    record: Record<'static>,
    folder: Folder,
    fp8: Option<CalibrationFile>,
    picture: PictureRef<'a>,
}

impl<'a> Told<'a> {
    /// Of sample `key`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a key that is not there; [`Error::Data`] for a sample without a full record, or one that
    /// began from latents of a file.
    pub fn of(shards: &'a Shards, key: &str) -> Result<Self> {
        let Some(sample) = shards.iter().find(|sample| sample.key() == key) else {
            return Err(not_there(shards, key));
        };
        let name = sample.name();
        let Some(json) = sample.read("json")? else { bail!(Data, "{name}: has no json that says how it was drawn") };
        let record: Record<'static> = parse(&json, &format!("{name}.json: expected what generate records there"))?;
        record.check(&name)?;
        let picture = sample.picture()?;
        let tar = shards.files().nth(sample.file()).map_or(Path::new(""), |file| file.path);
        let config = tar.with_file_name(CONFIG_FILE);
        let folder: Folder = match store::read(&config, store::RECORD) {
            Ok(bytes) => parse(&bytes, &config.display().to_string())?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Folder::default(),
            Err(e) => return Err(Error::io("read", &config)(e)),
        };
        if record.initial_noise_sha256.is_some() || folder.initial_noise_sha256.is_some() {
            bail!(Data, "{name}: was drawn from latents of a file (--initial-noise), which its record does not hold");
        }
        let fp8 = match &record.fp8_sha256 {
            Some(sha256) => Some(calibration(&tar.with_file_name(CALIBRATION_FILE), sha256, &name)?),
            None => None,
        };
        Ok(Self { name, record, folder, fp8, picture })
    }
}

/// The error for a key that no sample has.
fn not_there(shards: &Shards, key: &str) -> Error {
    let dots = if shards.files().len() > 1 { " …" } else { "" };
    let place = shards.files().next().map_or(String::new(), |first| format!(" of {}{dots}", first.path.display()));
    if let Some(damage) = shards.damage().first() {
        return Error::Data(format!(
            "--regenerate {key}: not among the {} samples{place} that can be read; {damage}",
            shards.len()
        ));
    }
    let like = shards.iter().next().map_or(String::new(), |first| format!("; keys here look like {}", first.key()));
    Error::Usage(format!("--regenerate {key}: no such sample among the {}{place}{like}", shards.len()))
}

/// Draws sample `key` of `shards` again with a model and what is folded into it, on `device`, in the precision it was drawn in.
///
/// # Errors
/// As [`Told::of`]; [`Error::Usage`] for a model that is another one.
pub fn regenerate((model, loras): (&Path, &[Lora]), device: Device, shards: &Shards, key: &str) -> Result<Regenerated> {
    let Told { name, record, folder, fp8, picture } = Told::of(shards, key)?;
    let settings = Settings {
        model,
        loras,
        device,
        precision: Some(record.precision),
        fp8: fp8.as_ref().map_or(Fp8::Off, |file| Fp8::On(&file.calibration)),
        drawing: record.drawing(),
        store_size: None,
        batch: Some(1),
    };
    let mut pipeline = Pipeline::open(&settings, &mut Plan::new()).map_err(|e| drawing(e, &name))?;
    if record.model_sha256 != pipeline.model_sha256() {
        bail!(
            Usage,
            "--model {}{}: is another model than {name} was drawn with: its sha256 is {}, the sample's {}; give the model, and each \
             --lora FILE=SCALE, that it was drawn with ({CONFIG_FILE} beside the shards tells)",
            model.display(),
            loras.iter().map(|lora| format!(" --lora {lora}")).collect::<String>(),
            pipeline.model_sha256(),
            record.model_sha256
        );
    }
    let noise = NoiseKey { seed: record.seed, caption: record.caption_id, image: record.image_index };
    let request = pipeline.request(&[&record.caption], vec![noise], record.guidance_scale)?;
    let mut pictures = pipeline.draw(request, &mut |_| ())?.pictures;
    let drawn = (record.generated_width, record.generated_height);
    let encoding = Encoding {
        store_size: (drawn != (record.width, record.height)).then_some(record.width.min(record.height)),
        format: if picture.extension().ends_with("png") { ImageFormat::Png } else { ImageFormat::Jpg },
        quality: folder.quality.unwrap_or(QUALITY),
    };
    let Some(decoded) = pictures.pop() else { bail!(Failed, "{name}: the decoder gave no picture") };
    let bytes = encoding.encode(decoded)?.bytes;
    let comparison = compare(&bytes, &picture.read()?, &name)?;
    Ok(Regenerated { bytes, comparison })
}

/// What went wrong on the way to the sample `name`.
fn drawing(error: Error, name: &str) -> Error {
    let said = |text: String| format!("{text} (to draw {name} again as its json says)");
    match error {
        Error::Usage(text) => Error::Usage(said(text)),
        Error::Data(text) => Error::Data(said(text)),
        Error::Device(text) => Error::Device(said(text)),
        other => other,
    }
}

/// The calibration that the sample was drawn with.
fn calibration(path: &Path, sha256: &str, name: &str) -> Result<CalibrationFile> {
    let file = CalibrationFile::open(path)?;
    if file.sha256 != sha256 {
        bail!(Data, "{}: is not the calibration that {name} was drawn with (its sha256 is {sha256})", path.display());
    }
    Ok(file)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::Data(format!("{what} ({e})")))
}

fn compare(new: &[u8], stored: &[u8], name: &str) -> Result<Comparison> {
    if new == stored {
        return Ok(Comparison::SameBytes);
    }
    let (new, stored) = (image::decode(new, "the new picture")?, image::decode(stored, name)?);
    let Some(difference) = Difference::of(&new, &stored) else {
        bail!(
            Data,
            "{name}: is {}×{} where its json leads to {}×{}",
            stored.width,
            stored.height,
            new.width,
            new.height
        );
    };
    Ok(if difference.largest == 0 { Comparison::SamePixels } else { Comparison::Different(difference) })
}
