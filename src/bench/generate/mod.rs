//! `stablerep bench generate`: images per second, latency, where the time goes and how much of the device is used, through the pipeline and
//! the encoder of `generate`, over captions made up here.

mod report;
mod trial;

use std::path::PathBuf;

use super::machine::{Age, Machine};
use crate::device::{Device, Plan, human_bytes};
use crate::error::{Error, Result};
use crate::generate::{CalibrationFile, Drawing, Encoding, Fp8, Pipeline, Precision, Settings};
use report::{Counted, Memory, Report, StartUp};
use trial::Trial;

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

/// Gain in images per second below which a doubled batch is the last one tried.
const GAIN: f64 = 1.02;
/// The largest batch tried unasked.
const MOST: usize = 256;

impl Options {
    fn settings(&self, batch: usize) -> Settings<'_> {
        Settings {
            model: &self.model,
            device: self.device,
            precision: self.precision,
            fp8: self.fp8.as_ref().map_or(Fp8::Off, |file| Fp8::On(&file.calibration)),
            drawing: self.drawing.clone(),
            store_size: self.encoding.store_size,
            batch: Some(batch),
        }
    }

    fn open(&self, batch: usize) -> Result<(Pipeline, Plan)> {
        let mut plan = Plan::new();
        let pipeline = Pipeline::open(&self.settings(batch), &mut plan)?;
        Ok((pipeline, plan))
    }

    /// The batch after `batch`, whose images per second and the best ones so far are known.
    fn next(&self, done: usize, batch: usize, rate: f64, best: f64) -> Option<usize> {
        match self.batches.is_empty() {
            true => (2 * batch <= MOST && rate > GAIN * best).then_some(2 * batch),
            false => self.batches.get(done).copied(),
        }
    }
}

/// Measures batch after batch, `print`ing as it goes; returns everything as JSON. On the simulated driver one batch of each size is counted.
///
/// # Errors
/// Those of [`Pipeline::open`] for the first batch, and of drawing. A later batch that does not fit ends a search.
pub fn generate(options: &Options, age: Age, print: &mut dyn FnMut(String)) -> Result<serde_json::Value> {
    let mut machine = Machine::open(options.device, options.counts.clone())?;
    let mut report = Report::new(print);
    let (mut batch, mut done, mut best) = (options.batches.first().copied().unwrap_or(1), 0, 0.0);
    loop {
        let free = machine.free()?;
        let (mut pipeline, plan) = match options.open(batch) {
            Err(Error::Device(message)) if done > 0 => {
                report.does_not_fit(batch, &message);
                match options.batches.get(done + 1) {
                    Some(&next) => (batch, done) = (next, done + 1),
                    None => break,
                }
                continue;
            }
            opened => opened?,
        };
        let opened = age.seconds();
        let mut drawing = Trial::new(&mut pipeline, options, batch)?;
        // The first of a size loads kernels and records the step.
        let first = drawing.alone()?;
        if done == 0 {
            let start_up = StartUp { age, opened, first_call: opened + first.first_call, first_batch: age.seconds() };
            let peak = machine.peak()?;
            report.begin(options, &machine, &drawing, start_up, peak);
        }
        let rate = if machine.counts().is_some() {
            report.counted(batch, &count(&machine, &mut drawing)?, &drawing.steady(1)?.traces);
            // Nothing to search by.
            f64::NAN
        } else {
            let lone = drawing.latency(first.seconds)?;
            let steady = drawing.steady(drawing.batches(options.length, lone.seconds))?;
            let planned = if machine.is_gpu() { drawing.device_bytes() } else { plan.total_bytes() };
            let used = match (free, machine.free()?) {
                (Some(before), Some(now)) => Some(before.saturating_sub(now)),
                _ => None,
            };
            report.timed(batch, lone, &steady, Memory { planned, used })
        };
        done += 1;
        match options.next(done, batch, rate, best) {
            Some(next) => batch = next,
            None => break,
        }
        best = f64::max(best, rate);
    }
    Ok(report.finish())
}

/// One batch by its stages.
fn count(machine: &Machine, drawing: &mut Trial<'_>) -> Result<Counted> {
    let request = drawing.request()?;
    let before = drawing.queued();
    let mut latents = Vec::new();
    let with_text = machine.count(|| drawing.sample(&request).map(|drawn| latents = drawn))?;
    let between = drawing.queued();
    // The same captions again: they are there already.
    let calls = machine.count(|| drawing.sample(&request).map(drop))?;
    let queued = drawing.queued().since(between);
    let text = with_text.less(&calls);
    let decoder = machine.count(|| drawing.decode(&latents))?;
    Ok(Counted { text, calls, decoder, queued, whole: drawing.queued().since(before) })
}
