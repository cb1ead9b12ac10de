//! `stablerep bench generate`: images per second, latency, where the time goes and how much of the device is used,
//! through the line of batches and the encoder of `generate`, over captions made up here.

mod options;
mod report;
mod trial;

use super::machine::{Age, Machine};
use crate::error::{Error, Result};
use crate::generate::{Request, Wanted};
pub use options::{Length, Options};
use report::{Counted, Memory, Report, StartUp};
use trial::Trial;

/// Measures batch after batch, `print`ing as it goes; returns everything as JSON. On the simulated driver one batch of
/// each size is counted.
///
/// # Errors
/// Those of [`crate::generate::Pipeline::open`] for the first batch, and of drawing. A later batch that does not fit
/// ends a search.
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
    let latents = Request { wanted: Wanted { pictures: false, latents: true, trace: false }, ..request.clone() };
    let mut count = |request: &Request| -> Result<_> {
        let before = drawing.queued();
        let counts = machine.count(|| drawing.draw(request.clone()).map(drop))?;
        Ok((counts, drawing.queued().since(before)))
    };
    let (all, first) = count(&request)?;
    // The same captions again: they are there already.
    let (drawn, _) = count(&request)?;
    let (calls, queued) = count(&latents)?;
    let (text, decoder) = (all.less(drawn), drawn.less(calls));
    Ok(Counted { text, calls, decoder, queued, launches: first.launches() + queued.launches() })
}
