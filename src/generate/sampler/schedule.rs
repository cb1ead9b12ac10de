//! `scheduler/scheduler_config.json`: the noise schedule, read as diffusers' `XScheduler.from_config` reads it.
//!
//! The schedulers of Stable Diffusion share these keys, so a folder whose config names PNDM or Euler runs under DDIM
//! with the same schedule, and the other way round. A key that is absent has the default of the scheduler that runs; in
//! particular DDIM's `clip_sample` defaults to *true*, which Stable Diffusion's pipeline corrects
//! ([`SchedulerConfig::corrected`]). Keys that are no part of the schedule: [`super::keys`],
//! [`super::solver`].

use std::path::Path;

use serde_json::Value;

use super::keys;
use super::kind::{SamplerKind, TimestepSpacing};
use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::models::settings::Settings;

/// How the betas rise from `beta_start` to `beta_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaSchedule {
    Linear,
    /// Linear in the square root (latent diffusion's).
    ScaledLinear,
    /// Glide's cosine, capped at 0.999.
    SquaredcosCapV2,
}

/// What the UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    Epsilon,
    VPrediction,
    Sample,
}

impl PredictionType {
    /// The clean image and the noise as products of (x, prediction), where x = signal·image + noise·(unit noise) and
    /// the squares add to 1.
    pub(super) fn parts(self, signal: f64, noise: f64) -> ((f64, f64), (f64, f64)) {
        match self {
            Self::Epsilon => ((1.0 / signal, -noise / signal), (0.0, 1.0)),
            Self::Sample => ((0.0, 1.0), (1.0 / noise, -signal / noise)),
            Self::VPrediction => ((signal, -noise), (noise, signal)),
        }
    }
}

/// The keys the samplers use, with diffusers' defaults; `None` where its schedulers do not agree on one.
#[derive(Debug)]
pub struct SchedulerConfig {
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
    /// Everything the file says.
    pub(super) settings: Settings,
}

impl SchedulerConfig {
    /// Reads and checks a `scheduler_config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(Settings::open(path)?)
    }

    /// Parses the JSON `text` of the file called `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        Self::of(Settings::parse(text.as_bytes(), name.into())?)
    }

    fn of(s: Settings) -> Result<Self> {
        let class_name = keys::check_class(&s)?.to_owned();
        let trained_betas = match s.non_null("trained_betas") {
            None => None,
            Some(list) => {
                let numbers = list.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
                Some(numbers.ok_or_else(|| s.wrong("trained_betas", "null or a list of numbers"))?)
            }
        };
        let set_alpha_to_one = match s.get("set_alpha_to_one") {
            None => None,
            Some(_) => Some(s.flag("set_alpha_to_one", true)?),
        };
        let steps_offset = match s.non_null("steps_offset") {
            None => 0,
            Some(value) => value
                .as_u64()
                .filter(|offset| *offset <= 1 << 20)
                .ok_or_else(|| s.wrong("steps_offset", "a whole number from 0"))? as usize,
        };
        let spacing = match s.get("timestep_spacing") {
            None => None,
            Some(_) => Some(match s.choice("timestep_spacing", &["leading", "trailing", "linspace"])? {
                "leading" => TimestepSpacing::Leading,
                "trailing" => TimestepSpacing::Trailing,
                _ => TimestepSpacing::Linspace,
            }),
        };
        let beta_schedule = match s.choice("beta_schedule", &["linear", "scaled_linear", "squaredcos_cap_v2"])? {
            "linear" => BetaSchedule::Linear,
            "scaled_linear" => BetaSchedule::ScaledLinear,
            _ => BetaSchedule::SquaredcosCapV2,
        };
        let (beta_start, beta_end) = (s.number("beta_start", 0.0001)?, s.number("beta_end", 0.02)?);
        if trained_betas.is_none() && beta_schedule != BetaSchedule::SquaredcosCapV2 {
            if !(beta_start > 0.0 && beta_start < 1.0) {
                return Err(s.wrong("beta_start", "a number above 0 and below 1"));
            }
            if !(beta_end >= beta_start && beta_end < 1.0) {
                return Err(s.wrong("beta_end", &format!("a number from beta_start, {beta_start}, to below 1")));
            }
        }
        let config = Self {
            class_name,
            num_train_timesteps: s.count("num_train_timesteps", Some(1000))?,
            beta_start,
            beta_end,
            beta_schedule,
            trained_betas,
            clip_sample: s.flag("clip_sample", true)?,
            clip_sample_range: s.number("clip_sample_range", 1.0)? as f32,
            set_alpha_to_one,
            steps_offset,
            prediction_type: match s.choice("prediction_type", &["epsilon", "v_prediction", "sample"])? {
                "epsilon" => PredictionType::Epsilon,
                "v_prediction" => PredictionType::VPrediction,
                _ => PredictionType::Sample,
            },
            timestep_spacing: spacing,
            settings: s,
        };
        let (s, steps) = (&config.settings, config.num_train_timesteps);
        let name = s.path().display();
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
        let kept = config.alphas_cumprod();
        let of_noise = |last: &f64| (f64::from(f32::MIN_POSITIVE)..1.0).contains(last);
        if let Some(last) = kept.last().filter(|last| !of_noise(last)) {
            bail!(
                Data,
                "{name}: its {steps} betas leave {last:e} of the signal's variance at the noisiest step: expected a small number \
                 above 0, such as 0.005; check beta_start, beta_end, trained_betas, num_train_timesteps"
            );
        }
        if config.clip_sample_range <= 0.0 {
            return Err(s.wrong("clip_sample_range", "a positive number"));
        }
        keys::check_schedule(s)?;
        Ok(config)
    }

    /// With what diffusers' `StableDiffusionPipeline` puts right when it opens a folder, whether the file leaves it
    /// open or says otherwise: nothing is clipped in the space of latents, and `steps_offset` is 1. Also whether a run
    /// of `kind` feels it, and what it should know.
    pub fn corrected(mut self, kind: SamplerKind) -> (Self, bool, Vec<String>) {
        let name = self.settings.path().display().to_string();
        let (mut felt, mut said) = (false, Vec::new());
        let mut say = |key: &str, other: Option<&Value>, value: &str| {
            felt = true;
            let says = match other {
                None => format!("does not say `{key}`: {value}"),
                Some(other) => format!("says `{key}` {}: taken as {value}", json::shown(other)),
            };
            said.push(format!("{name} {says}, as diffusers' pipeline corrects it"));
        };
        if self.clips(kind) {
            say("clip_sample", self.settings.get("clip_sample"), "false, latents are not clipped");
        }
        let spacing = self.timestep_spacing.unwrap_or(kind.own_spacing());
        if self.steps_offset != 1 && spacing == TimestepSpacing::Leading && !kind.is_of_distilled() {
            say("steps_offset", self.settings.non_null("steps_offset"), "1");
        }
        (self.clip_sample, self.steps_offset) = (false, 1);
        (self, felt, said)
    }

    /// Whether a run of `kind` clips the predicted image: DDIM unless the file says no, latent consistency if it says so.
    pub(super) fn clips(&self, kind: SamplerKind) -> bool {
        let asked = match kind {
            SamplerKind::Ddim => true,
            SamplerKind::Lcm => self.settings.get("clip_sample").is_some(),
            _ => false,
        };
        asked && self.clip_sample
    }

    /// With the spacing that was asked for in place of the file's.
    ///
    /// # Errors
    /// Usage error for a sampler whose steps nothing moves.
    pub fn spaced(mut self, spacing: Option<TimestepSpacing>, kind: SamplerKind) -> Result<Self> {
        if spacing.is_some() && kind.has_own_steps() {
            bail!(Usage, "--timestep-spacing: --sampler {kind} visits steps of its own; leave it away");
        }
        self.timestep_spacing = spacing.or(self.timestep_spacing);
        Ok(self)
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

    /// Cumulative product of 1 − beta, in f64 (ᾱ of Ho et al. 2020, eq. 4).
    pub fn alphas_cumprod(&self) -> Vec<f64> {
        self.betas()
            .into_iter()
            .scan(1.0, |product, beta| {
                *product *= 1.0 - beta;
                Some(*product)
            })
            .collect()
    }

    /// Logarithm of signal over noise at the noisiest training step.
    pub(super) fn least_lambda(&self) -> f64 {
        -self.sigmas().last().map_or(0.0, |sigma| sigma.ln())
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

    /// What to say of a run whose steps, each `stride` training steps long, do not end where the next one begins: these
    /// are the steps of diffusers, which the spacings other than leading do not fit.
    pub(super) fn unjoined(&self, sampler: &str, timesteps: &[usize], stride: usize) -> Option<String> {
        let joins = timesteps.windows(2).all(|pair| pair[1] + stride == pair[0]);
        (!joins).then(|| {
            format!(
                "{}: with this `timestep_spacing` the steps of --sampler {sampler}, {stride} training steps each as in diffusers, do not \
                 end where the next begin, and pictures lose contrast; \"leading\" has steps that join, so have other samplers",
                self.settings.path().display()
            )
        })
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
