//! Pseudo linear multistep (Liu et al. 2022, arXiv 2202.09778, eq. 9 and 12), as the Stable Diffusion release runs it:
//! no Runge–Kutta steps at the start (diffusers' `skip_prk_steps`, whatever the config says), but the first step taken
//! twice, the second time with the mean of the outputs at its two ends.

use super::kind::SamplerKind;
use super::schedule::{PredictionType, SchedulerConfig};
use super::table::{Row, Sampler};
use crate::bail;
use crate::error::Result;
use crate::ops::sampler_step::SLOTS;

/// Adams–Bashforth: of the newest output and of those before it, by order.
const ADAMS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

pub(super) fn table(config: &SchedulerConfig, steps: usize) -> Result<Sampler> {
    if config.prediction_type == PredictionType::Sample {
        bail!(Usage, "--sampler pndm: this model predicts the clean image, PNDM needs its noise; use --sampler ddim");
    }
    let visited = config.timesteps(steps, SamplerKind::Pndm.own_spacing())?;
    let alphas = config.alphas_cumprod();
    let final_alpha = if config.set_alpha_to_one.unwrap_or(false) { 1.0 } else { alphas[0] };
    let stride = config.num_train_timesteps / steps;
    // From one training step to another: x' = a·x + b·output.
    let transfer = |from: usize, to: Option<usize>| {
        let (now, then) = (alphas[from], to.map_or(final_alpha, |to| alphas[to]));
        let (_, eps) = config.prediction_type.parts(now.sqrt(), (1.0 - now).sqrt());
        let step = -(then - now) / (now * (1.0 - then).sqrt() + (now * (1.0 - now) * then).sqrt());
        ((then / now).sqrt() + step * eps.0, step * eps.1)
    };

    let first = visited[0];
    let (a0, b0) = transfer(first, first.checked_sub(stride));
    let mut rows = vec![multistep(first, (a0, b0), 0)];
    if let Some(&second) = visited.get(1) {
        if second + stride >= alphas.len() {
            bail!(Usage, "--sampler pndm --steps {steps}: the timestep spacing of this model leaves no room; use more");
        }
        // From the latent before the first step, which is (x − b0·e0) / a0.
        let (a, b) = transfer(second + stride, Some(second));
        let mut row = Row { now: b / 2.0, ..Row::linear(second as f64, (a / a0, 0.0)) };
        row.kept[0] = b / 2.0 - a * b0 / a0;
        rows.push(row);
    }
    let others = visited.iter().enumerate().skip(1);
    rows.extend(others.map(|(i, &t)| multistep(t, transfer(t, t.checked_sub(stride)), i)));
    let mut sampler = Sampler::of(1.0, rows);
    sampler.remarks.extend(config.unjoined("pndm", &visited, stride));
    Ok(sampler)
}

/// The step at `t` with `kept` outputs before it: x' = a·x + b·(their Adams–Bashforth sum). Output i lies in slot
/// i % 3.
fn multistep(t: usize, (a, b): (f64, f64), kept: usize) -> Row {
    let adams = ADAMS[kept.min(SLOTS)];
    let mut row = Row { now: b * adams[0], keep: Some(kept % SLOTS), ..Row::linear(t as f64, (a, 0.0)) };
    for (age, weight) in adams.iter().enumerate().skip(1) {
        row.kept[(kept - age) % SLOTS] = b * weight;
    }
    row
}
