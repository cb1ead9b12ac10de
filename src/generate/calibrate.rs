//! Ranges for e4m3 layers: a few captions drawn in 16 bits while the layers' inputs are observed, then again in e4m3 to
//! see what it costs.

use std::path::PathBuf;

use super::calibration::{Calibration, SMALLEST};
use super::drawing::Drawing;
use super::limits::check_batch;
use super::lora::Lora;
use super::pairs::{Pairs, Way, draw};
use super::pipeline::Pipeline;
use super::run::read_captions;
use super::settings::{Fp8, Precision, Settings};
use crate::bail;
use crate::captions;
use crate::device::{Device, Plan};
use crate::error::{Error, Result};
use crate::image::Difference;
use crate::metrics::Progress;
use crate::models::unet;
use crate::store;

/// What to draw for it.
#[derive(Clone, Debug)]
pub struct Calibrate {
    /// Diffusers folder.
    pub model: PathBuf,
    /// Files that are folded into it.
    pub loras: Vec<Lora>,
    pub captions: PathBuf,
    pub caption_options: captions::Options,
    pub device: Device,
    pub precision: Option<Precision>,
    pub drawing: Drawing,
    pub batch: Option<usize>,
    /// Layers whose names contain one of these stay in 16 bits.
    pub keep_wide: Vec<String>,
    /// The calibration.
    pub output: PathBuf,
    /// A picture of both drawings of every caption, 16 bits at the left.
    pub sheet: Option<PathBuf>,
}

impl Calibrate {
    /// Refuses numbers no drawing can have, before anything is read.
    fn check(&self) -> Result<()> {
        self.drawing.check()?;
        check_batch(self.batch)
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Calibrated {
    pub calibration: Calibration,
    /// Layers that could be in e4m3 and stay in 16 bits.
    pub wide: Vec<String>,
    /// How far e4m3 takes the picture of each caption from its 16-bit one.
    pub differences: Vec<(String, Difference)>,
}

/// Finds the ranges, writes the file, and draws the same pictures with it.
///
/// # Errors
/// Usage error for a device without e4m3; data error for a model whose layers read values that are not finite.
pub fn calibrate(config: &Calibrate) -> Result<Calibrated> {
    config.check()?;
    let captions = read_captions(&config.captions, &config.caption_options)?;
    let chosen = captions.list.as_slice();
    let progress = Progress::bar(2 * chosen.len() as u64, "images", ("image", 1));

    let mut pipeline = Pipeline::open(&settings(config, Fp8::Observe), &mut Plan::new())?;
    let unet = unet::Config::open(&config.model.join("unet/config.json"))?;
    let known = unet.quantizable();
    if let Some(part) = config.keep_wide.iter().find(|part| !known.iter().any(|name| name.contains(*part))) {
        let like = known.first().map_or("", String::as_str);
        bail!(Usage, "--keep-wide {part}: no layer's name has that; names look like {like}");
    }
    let way = Way { seed: config.drawing.seed, guidance_scale: config.drawing.guidance_scale, whole: false };
    let before = draw(&mut pipeline, way, chosen, &progress)?;
    let mut ranges = pipeline.ranges()?;
    if let Some((name, range)) = ranges.iter().find(|(_, range)| !range.is_finite()) {
        bail!(Data, "{}: {name} reads {range}: the model overflows; try --precision bf16", config.model.display());
    }
    ranges.retain(|name, range| *range >= SMALLEST && !config.keep_wide.iter().any(|part| name.contains(part)));
    for (name, before) in unet.quantizable_after() {
        if !ranges.contains_key(&before) {
            ranges.remove(&name);
        }
    }
    let calibration = Calibration {
        model_sha256: pipeline.model_sha256().to_owned(),
        captions_sha256: captions.sha256.clone(),
        images: chosen.len(),
        drawing: config.drawing.sized(pipeline.size()),
        ranges,
    };
    // Its memory is wanted for the next one.
    drop(pipeline);
    let text = serde_json::to_string_pretty(&calibration).map_err(|e| Error::Failed(e.to_string()))?;
    store::write_atomic(&config.output, (text + "\n").as_bytes())?;

    let mut pipeline = Pipeline::open(&settings(config, Fp8::On(&calibration)), &mut Plan::new())?;
    let after = draw(&mut pipeline, way, chosen, &progress)?;
    progress.finish();
    let pairs = Pairs { captions: chosen, before, after };
    if let Some(path) = &config.sheet {
        pairs.write(path, "as drawn, and in fp8")?;
    }
    let differences = pairs.differences();
    let wide = known.into_iter().filter(|name| !calibration.ranges.contains_key(name)).collect();
    Ok(Calibrated { calibration, wide, differences })
}

fn settings<'a>(config: &'a Calibrate, fp8: Fp8<'a>) -> Settings<'a> {
    Settings {
        model: &config.model,
        loras: &config.loras,
        device: config.device,
        precision: config.precision,
        fp8,
        drawing: config.drawing.clone(),
        store_size: None,
        batch: config.batch,
    }
}
