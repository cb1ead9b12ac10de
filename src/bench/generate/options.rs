//! What `bench generate` is asked for.

use std::path::PathBuf;

use crate::device::{Device, Plan};
use crate::error::Result;
use crate::generate::{CalibrationFile, Drawing, Encoding, Fp8, Lora, Pipeline, Precision, Settings};

/// Gain in images per second below which a doubled batch is the last one tried.
const GAIN: f64 = 1.02;
/// The largest batch tried unasked.
const MOST: usize = 256;

/// How long a batch size is measured, after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    Images(usize),
    Seconds(f64),
}

/// What to draw, and in which batches.
#[derive(Clone, Debug)]
pub struct Options {
    /// Diffusers folder.
    pub model: PathBuf,
    /// Files that are folded into it.
    pub loras: Vec<Lora>,
    pub device: Device,
    pub precision: Option<Precision>,
    /// Layers in e4m3.
    pub fp8: Option<CalibrationFile>,
    pub drawing: Drawing,
    pub encoding: Encoding,
    /// Images at once; when empty, from 1 doubled while it fits and gains.
    pub batches: Vec<usize>,
    pub length: Length,
    /// Where the simulated driver appends its counts.
    pub counts: Option<PathBuf>,
}

impl Options {
    fn settings(&self, batch: usize) -> Settings<'_> {
        Settings {
            model: &self.model,
            loras: &self.loras,
            device: self.device,
            precision: self.precision,
            fp8: self.fp8.as_ref().map_or(Fp8::Off, |file| Fp8::On(&file.calibration)),
            drawing: self.drawing.clone(),
            store_size: self.encoding.store_size,
            batch: Some(batch),
        }
    }

    pub(super) fn open(&self, batch: usize) -> Result<(Pipeline, Plan)> {
        let mut plan = Plan::new();
        let pipeline = Pipeline::open(&self.settings(batch), &mut plan)?;
        Ok((pipeline, plan))
    }

    /// The batch after `batch`, whose images per second and the best ones so far are known.
    pub(super) fn next(&self, done: usize, batch: usize, rate: f64, best: f64) -> Option<usize> {
        match self.batches.is_empty() {
            true => (2 * batch <= MOST && rate > GAIN * best).then_some(2 * batch),
            false => self.batches.get(done).copied(),
        }
    }
}
