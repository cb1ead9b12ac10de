//! Ranges for e4m3 layers: a few captions drawn in 16 bits while the layers' inputs are observed, then again in e4m3 to
//! see what it costs.

use std::path::PathBuf;

use super::calibration::{Calibration, SMALLEST};
use super::drawing::Drawing;
use super::limits::check_batch;
use super::line::Line;
use super::lora::Lora;
use super::painter::Drawn;
use super::pipeline::Pipeline;
use super::run::read_captions;
use super::settings::{Fp8, Precision, Settings};
use crate::bail;
use crate::captions::{self, Caption};
use crate::device::{Device, Plan};
use crate::error::{Error, Result};
use crate::image::sheet::{SheetRow, contact_sheet};
use crate::image::{Difference, Rgb8, encode_png};
use crate::metrics::Progress;
use crate::models::unet;
use crate::ops::sampler_step::NoiseKey;
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
    let before = draw(&mut pipeline, config, chosen, &progress)?;
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
    let after = draw(&mut pipeline, config, chosen, &progress)?;
    progress.finish();
    let pairs = || chosen.iter().zip(before.iter().zip(&after));
    if let Some(path) = &config.sheet {
        let row = |(caption, (a, b)): (&Caption, (&Rgb8, &Rgb8))| {
            SheetRow::new(caption.text.clone(), vec![a.clone(), b.clone()])
        };
        store::write_atomic(
            path,
            &encode_png(&contact_sheet("as drawn, and in fp8", &pairs().map(row).collect::<Vec<_>>())?)?,
        )?;
    }
    let difference =
        |(caption, (a, b)): (&Caption, (&Rgb8, &Rgb8))| Some((caption.text.clone(), Difference::of(a, b)?));
    let differences = pairs().filter_map(difference).collect();
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

/// The first picture of every caption, as `generate` with the same settings draws it.
fn draw(pipeline: &mut Pipeline, config: &Calibrate, captions: &[Caption], progress: &Progress) -> Result<Vec<Rgb8>> {
    let mut pictures = Vec::with_capacity(captions.len());
    let mut land = |drawn: Drawn| {
        progress.note("");
        progress.advance(drawn.pictures.len() as u64);
        pictures.extend(drawn.pictures.into_iter().map(|picture| picture.image));
    };
    let (batch, calls) = (pipeline.batch(), pipeline.calls());
    let mut line = Line::new(pipeline, |call| progress.note(format!("step {call} of {calls}")));
    for captions in captions.chunks(batch) {
        // Ids were checked against 2^32 when the captions were read.
        let keys = captions
            .iter()
            .map(|caption| NoiseKey { seed: config.drawing.seed, caption: caption.id as u32, image: 0 })
            .collect();
        let texts: Vec<&str> = captions.iter().map(|caption| caption.text.as_str()).collect();
        let request = line.pipeline().request(&texts, keys, config.drawing.guidance_scale)?;
        if let Some(((), drawn)) = line.push((), request)? {
            land(drawn);
        }
    }
    while let Some(((), drawn)) = line.pop()? {
        land(drawn);
    }
    Ok(pictures)
}
