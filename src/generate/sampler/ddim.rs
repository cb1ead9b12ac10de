//! DDIM with eta 0 (Song et al. 2021, arXiv 2010.02502, eq. 12).
//!
//! Whatever the network predicts, x0 and eps are linear in (x, prediction), and the next latent is linear in (x0, eps);
//! only clipping x0 in between keeps the two from being one product.

use super::kind::SamplerKind;
use super::schedule::SchedulerConfig;
use super::table::{Row, Sampler};
use crate::error::Result;

pub(super) fn table(config: &SchedulerConfig, steps: usize) -> Result<Sampler> {
    let timesteps = config.timesteps(steps, SamplerKind::Ddim.own_spacing())?;
    let alphas = config.alphas_cumprod();
    let final_alpha = if config.set_alpha_to_one.unwrap_or(true) { 1.0 } else { alphas[0] };
    let stride = config.num_train_timesteps / steps;
    let row = |&t: &usize| {
        let (now, then) = (alphas[t], t.checked_sub(stride).map_or(final_alpha, |previous| alphas[previous]));
        let (x0, eps) = config.prediction_type.parts(now.sqrt(), (1.0 - now).sqrt());
        let (signal, noise) = (then.sqrt(), (1.0 - then).sqrt());
        if config.clips(SamplerKind::Ddim) {
            let row = Row::linear(t as f64, (noise * eps.0, noise * eps.1));
            Row { d: x0, limit: f64::from(config.clip_sample_range), now: signal, ..row }
        } else {
            Row::linear(t as f64, (signal * x0.0 + noise * eps.0, signal * x0.1 + noise * eps.1))
        }
    };
    let mut sampler = Sampler::of(1.0, timesteps.iter().map(row).collect());
    sampler.remarks.extend(config.unjoined("ddim", &timesteps, stride));
    Ok(sampler)
}
