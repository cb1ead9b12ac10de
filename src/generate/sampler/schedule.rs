//! `scheduler/scheduler_config.json`: the noise schedule, read as diffusers' `XScheduler.from_config` reads it.
//!
//! The schedulers of Stable Diffusion share these keys, so a folder whose config names PNDM or Euler runs under DDIM with the same
//! schedule, and the other way round. A key that is absent has the default of the scheduler that runs; in particular DDIM's `clip_sample`
//! defaults to *true*, and Stable Diffusion's own config turns it off (METHOD: the predicted x0 is not clipped).

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::bail;
use crate::error::{Error, Result};

/// How the betas rise from `beta_start` to `beta_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    Linear,
    /// Linear in the square root (latent diffusion's).
    ScaledLinear,
    /// Glide's cosine, capped at 0.999.
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredcosCapV2,
}

/// Which of the training steps a short run visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    Leading,
    Trailing,
    Linspace,
}

/// What the UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    Epsilon,
    VPrediction,
    Sample,
}

impl PredictionType {
    /// The clean image and the noise as products of (x, prediction), where x = signal·image + noise·(unit noise) and the squares add to 1.
    pub(super) fn parts(self, signal: f64, noise: f64) -> ((f64, f64), (f64, f64)) {
        match self {
            Self::Epsilon => ((1.0 / signal, -noise / signal), (0.0, 1.0)),
            Self::Sample => ((0.0, 1.0), (1.0 / noise, -signal / noise)),
            Self::VPrediction => ((signal, -noise), (noise, signal)),
        }
    }
}

/// The keys the samplers use, with diffusers' defaults; `None` where its schedulers do not agree on one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    #[serde(rename = "_class_name")]
    pub class_name: String,
    pub num_train_timesteps: usize,
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: BetaSchedule,
    pub trained_betas: Option<Vec<f64>>,
    /// DDIM's alone.
    pub clip_sample: bool,
    pub clip_sample_range: f32,
    pub set_alpha_to_one: Option<bool>,
    pub steps_offset: usize,
    pub prediction_type: PredictionType,
    pub timestep_spacing: Option<TimestepSpacing>,
    thresholding: bool,
    rescale_betas_zero_snr: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            class_name: "DDIMScheduler".to_owned(),
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            clip_sample: true,
            clip_sample_range: 1.0,
            set_alpha_to_one: None,
            steps_offset: 0,
            prediction_type: PredictionType::Epsilon,
            timestep_spacing: None,
            thresholding: false,
            rescale_betas_zero_snr: false,
        }
    }
}

/// Scheduler classes whose configs hold a Stable Diffusion noise schedule in these keys.
const KNOWN_CLASSES: [&str; 12] = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
];

impl SchedulerConfig {
    /// Reads and checks a `scheduler_config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io("read scheduler config", path))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses the JSON `text` of the file called `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        // serde's message names the line, the value and the accepted ones.
        let config: Self = serde_json::from_str(text).map_err(|e| Error::Data(format!("{name}: {e}")))?;
        if !KNOWN_CLASSES.contains(&config.class_name.as_str()) {
            bail!(
                Data,
                "{name}: unknown scheduler `_class_name` {}: expected one of {}",
                config.class_name,
                KNOWN_CLASSES.join(", ")
            );
        }
        for (key, on) in
            [("thresholding", config.thresholding), ("rescale_betas_zero_snr", config.rescale_betas_zero_snr)]
        {
            if on {
                bail!(
                    Data,
                    "{name}: \"{key}\": true is not supported; no Stable Diffusion 1.x model sets it: set it to false"
                );
            }
        }
        let steps = config.num_train_timesteps;
        if !(1..=1_000_000).contains(&steps) {
            bail!(Data, "{name}: num_train_timesteps {steps}: expected 1 to 1000000");
        }
        if let Some(betas) = &config.trained_betas
            && betas.len() != steps
        {
            bail!(Data, "{name}: trained_betas has {} values, num_train_timesteps is {steps}", betas.len());
        }
        if let Some((t, beta)) = config.betas().into_iter().enumerate().find(|(_, beta)| !(0.0..1.0).contains(beta)) {
            bail!(
                Data,
                "{name}: beta {beta} at step {t}: expected 0 ≤ beta < 1; check beta_start, beta_end, trained_betas"
            );
        }
        if !(config.clip_sample_range > 0.0 && config.clip_sample_range.is_finite()) {
            bail!(Data, "{name}: clip_sample_range {}: expected a positive number", config.clip_sample_range);
        }
        Ok(config)
    }

    /// Noise variance added at each training step.
    fn betas(&self) -> Vec<f64> {
        if let Some(betas) = &self.trained_betas {
            return betas.clone();
        }
        let n = self.num_train_timesteps;
        let ramp = |from: f64, to: f64, t: usize| {
            if n == 1 { from } else { from + (to - from) * t as f64 / (n - 1) as f64 }
        };
        (0..n)
            .map(|t| match self.beta_schedule {
                BetaSchedule::Linear => ramp(self.beta_start, self.beta_end, t),
                BetaSchedule::ScaledLinear => ramp(self.beta_start.sqrt(), self.beta_end.sqrt(), t).powi(2),
                BetaSchedule::SquaredcosCapV2 => {
                    let bar = |x: f64| ((x + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
                    (1.0 - bar((t + 1) as f64 / n as f64) / bar(t as f64 / n as f64)).min(0.999)
                }
            })
            .collect()
    }

    /// Cumulative product of 1 − beta, in f64 (METHOD §1.2).
    pub fn alphas_cumprod(&self) -> Vec<f64> {
        self.betas()
            .into_iter()
            .scan(1.0, |product, beta| {
                *product *= 1.0 - beta;
                Some(*product)
            })
            .collect()
    }

    /// Noise over signal at each training step.
    pub(super) fn sigmas(&self) -> Vec<f64> {
        self.alphas_cumprod().into_iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect()
    }

    /// `Error::Usage` unless a run can have this many steps.
    pub(super) fn check_steps(&self, steps: usize) -> Result<()> {
        let n = self.num_train_timesteps;
        if steps == 0 || steps > n {
            bail!(Usage, "--steps {steps}: expected 1 to {n}, the number of training steps of this model");
        }
        Ok(())
    }

    /// The training steps visited by a run of `steps`, noisiest first; `default` is the scheduler's own spacing.
    pub(super) fn timesteps(&self, steps: usize, default: TimestepSpacing) -> Result<Vec<usize>> {
        let n = self.num_train_timesteps;
        let timesteps: Vec<usize> = match self.timestep_spacing.unwrap_or(default) {
            TimestepSpacing::Leading => (0..steps).rev().map(|i| i * (n / steps) + self.steps_offset).collect(),
            TimestepSpacing::Trailing => {
                let ratio = n as f64 / steps as f64;
                (0..steps).map(|i| (n as f64 - i as f64 * ratio).round_ties_even() as usize - 1).collect()
            }
            TimestepSpacing::Linspace => {
                let gap = if steps == 1 { 0.0 } else { (n - 1) as f64 / (steps - 1) as f64 };
                (0..steps).rev().map(|i| (i as f64 * gap).round_ties_even() as usize).collect()
            }
        };
        self.check_first(steps, &timesteps)?;
        Ok(timesteps)
    }

    /// `Error::Usage` when a run of `steps` begins at a training step that the model has not.
    pub(super) fn check_first(&self, steps: usize, timesteps: &[usize]) -> Result<()> {
        match timesteps.first() {
            Some(&first) if first >= self.num_train_timesteps => Err(Error::Usage(format!(
                "--steps {steps} with steps_offset {}: visits step {first} of a model trained on {}; use fewer steps",
                self.steps_offset, self.num_train_timesteps
            ))),
            _ => Ok(()),
        }
    }
}
