//! UniPC of order 2 (Zhao et al. 2023, arXiv 2302.04867, algorithms 5 and 7) with B₂(h) and the predicted clean image,
//! as diffusers has it: each output of the network first corrects the latent it was computed at, then predicts the
//! next. The first step and the last, which goes to noise zero, are of order 1.
//!
//! The corrector starts where the predictor before it did. That latent is not kept: it is what was predicted from it,
//! without the outputs that led there, so that the corrected latent is x plus outputs, and all of a step one row.

use super::dpmpp_2m::{split, timesteps};
use super::kind::SamplerKind;
use super::schedule::SchedulerConfig;
use super::table::{Row, Sampler};
use crate::error::Result;

/// From one noise level to the next: the factor of the latent, and the weights of the newest output and the one before.
#[derive(Clone, Copy)]
struct Predictor {
    x: f64,
    newest: f64,
    before: f64,
}

pub(super) fn table(config: &SchedulerConfig, steps: usize) -> Result<Sampler> {
    let levels = config.sigmas();
    let visited = timesteps(config, SamplerKind::Unipc, steps)?;
    let sigmas: Vec<f64> = visited.iter().map(|&t| levels[t]).chain([0.0]).collect();
    // lambda of a level but for the last one, which is infinite.
    let lambda = |i: usize| -sigmas[i].ln();
    let order = |i: usize| 2.min(i + 1).min(steps - i);
    // Of the step from level i, B(h) of it, and where the output before lies, in units of h.
    let b = |i: usize| sigmas[i + 1] / sigmas[i] - 1.0;
    let back = |i: usize| (lambda(i - 1) - lambda(i)) / (lambda(i + 1) - lambda(i));
    let predictor = |i: usize| {
        let (_, noise) = split(sigmas[i]);
        let (signal, next_noise) = split(sigmas[i + 1]);
        let whole = -signal * b(i);
        let before = if order(i) == 2 { whole * 0.5 / back(i) } else { 0.0 };
        Predictor { x: next_noise / noise, newest: whole - before, before }
    };
    let rows = visited.iter().enumerate().map(|(i, &t)| {
        let (signal, noise) = split(sigmas[i]);
        let (x0, _) = config.prediction_type.parts(signal, noise);
        let next = predictor(i);
        // Output i lies in slot i % 2 until it is the one before the last.
        let mut row = Row { d: x0, now: next.newest, keep: Some(i % 2), ..Row::linear(t as f64, (next.x, 0.0)) };
        row.kept[(i + 1) % 2] = next.before;
        if i > 0 {
            let (whole, last) = (-signal * b(i - 1), predictor(i - 1));
            // Weights of the newest output, and of the older difference.
            let (newest, older) = if order(i - 1) == 2 {
                let (h, r) = (lambda(i - 1) - lambda(i), back(i - 1));
                let first = b(i - 1) / h - 1.0;
                let (first, second) = (first / b(i - 1), 2.0 * (first / h - 0.5) / b(i - 1));
                let older = (first - second) / (1.0 - r);
                (first - older, older / r)
            } else {
                (0.5, 0.0)
            };
            row.now += next.x * whole * newest;
            row.kept[(i + 1) % 2] += next.x * (whole * (1.0 - older - newest) - last.newest);
            row.kept[i % 2] += next.x * (whole * older - last.before);
        }
        row
    });
    Ok(Sampler::of(1.0, rows.collect()))
}
