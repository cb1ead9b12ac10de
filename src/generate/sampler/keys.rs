//! What a `scheduler_config.json` says beside the noise schedule: the solver that diffusers would run, which
//! `--sampler` replaces.
//!
//! Where the file's class is the sampler's own, a setting that this program does not compute is refused; another
//! class's settings go with the class, and are said to. Configs also carry keys of classes they had before
//! (`from_config` keeps them).

use serde_json::{Value, json};

use super::SamplerKind;
use super::schedule::SchedulerConfig;
use crate::bail;
use crate::config::json;
use crate::error::Result;
use crate::models::settings::Settings;

/// Scheduler classes whose configs hold a Stable Diffusion noise schedule.
const CLASSES: [&str; 19] = [
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverSDEScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "SASolverScheduler",
];

/// Classes of other models, by a part of their name.
const OTHER_MODELS: [(&str, &str); 6] = [
    ("LCM", "its UNet is distilled to a few steps of a sampler of its own, and others draw noise with it"),
    ("TCD", "its UNet is distilled to a few steps of a sampler of its own, and others draw noise with it"),
    ("FlowM", "its network predicts a flow, not noise"),
    ("EDM", "its network is conditioned on noise levels, not on steps"),
    ("Consistency", "it is a consistency model"),
    ("CMStochastic", "it is a consistency model"),
];

/// The keys of the schedule, which [`SchedulerConfig`] reads, and those that say nothing about it nor about a picture:
/// parts of settings that are off, and what Latent Consistency leaves behind.
const HARMLESS: [&str; 24] = [
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "clip_sample",
    "clip_sample_range",
    "set_alpha_to_one",
    "steps_offset",
    "prediction_type",
    "timestep_spacing",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "flow_shift",
    "time_shift_type",
    "original_inference_steps",
    "timestep_scaling",
    "noise_sampler_seed",
    "sigma_min",
    "sigma_max",
    "tensor_format",
    // Of a run whose last step goes to noise zero and is of order 1 whatever these say, as ours is.
    "lower_order_final",
    "euler_at_final",
    // Runge–Kutta steps are PNDM's; see below.
    "skip_prk_steps",
];

/// Settings of the whole noise schedule that are not implemented, and the value that turns each off.
const SCHEDULE: [&str; 4] = ["rescale_betas_zero_snr", "use_flow_sigmas", "use_dynamic_shifting", "shift_terminal"];

/// Keys of a solver, with the values that ask for nothing which the sampler of the same class does not do anyway.
fn solver() -> [(&'static str, Value); 18] {
    [
        // DPMSolverMultistep reads DEIS' and SA-Solver's names as its own.
        ("algorithm_type", json!(["dpmsolver++", "deis", "data_prediction"])),
        ("solver_order", json!([2])),
        ("solver_type", json!(["midpoint", "logrho", "bh1", "bh2"])),
        ("use_karras_sigmas", json!([false, null])),
        ("use_exponential_sigmas", json!([false, null])),
        ("use_beta_sigmas", json!([false, null])),
        ("use_lu_lambdas", json!([false, null])),
        ("final_sigmas_type", json!(["zero"])),
        ("lambda_min_clipped", json!([])),
        ("interpolation_type", json!(["linear"])),
        ("timestep_type", json!(["discrete", null])),
        ("variance_type", json!([null, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"])),
        ("thresholding", json!([false, null])),
        ("predict_x0", json!([true])),
        ("disable_corrector", json!([[], null])),
        ("solver_p", json!([null])),
        ("predictor_order", json!([2])),
        ("corrector_order", json!([2])),
    ]
}

impl SamplerKind {
    /// Diffusers' class that draws the same, and its solver keys that would change what it draws.
    fn own_class(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ddim => ("DDIMScheduler", &["thresholding"]),
            Self::Pndm => ("PNDMScheduler", &[]),
            Self::Euler => (
                "EulerDiscreteScheduler",
                &[
                    "interpolation_type",
                    "use_karras_sigmas",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "timestep_type",
                    "final_sigmas_type",
                ],
            ),
            Self::EulerA => ("EulerAncestralDiscreteScheduler", &[]),
            Self::Dpmpp2m | Self::Dpmpp2mKarras => (
                "DPMSolverMultistepScheduler",
                &[
                    "algorithm_type",
                    "solver_order",
                    "solver_type",
                    "use_karras_sigmas",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "use_lu_lambdas",
                    "final_sigmas_type",
                    "lambda_min_clipped",
                    "variance_type",
                    "thresholding",
                ],
            ),
        }
    }
}

/// The class, if its schedule is one of Stable Diffusion's; DDIM's when absent.
pub(super) fn check_class(settings: &Settings) -> Result<&str> {
    let Some(value) = settings.get("_class_name") else { return Ok(CLASSES[0]) };
    let name = value.as_str().unwrap_or_default();
    if CLASSES.contains(&name) {
        return Ok(name);
    }
    let file = settings.path().display();
    if let Some((_, why)) = OTHER_MODELS.iter().find(|(part, _)| name.contains(part)) {
        bail!(
            Data,
            "{file}: `_class_name` {name} is no scheduler of Stable Diffusion 1.x: {why}; expected one of {}",
            CLASSES.join(", ")
        );
    }
    bail!(
        Data,
        "{file}: unknown scheduler `_class_name` {}: expected one of {}",
        json::shown(value),
        CLASSES.join(", ")
    )
}

/// Refuses schedules that are not implemented, and keys that no scheduler has.
pub(super) fn check_schedule(settings: &Settings) -> Result<()> {
    for key in SCHEDULE {
        settings.only(key, Value::Bool(false))?;
    }
    // DDPM's old name for a `prediction_type` of epsilon.
    settings.only("predict_epsilon", Value::Bool(true))?;
    let known: Vec<&str> = HARMLESS.into_iter().chain(solver().map(|(key, _)| key)).chain(["tau_func"]).collect();
    settings.finish(&known)
}

/// Refuses what the file asks of `kind` by being of its own class, and says what of another class's settings is not
/// used.
pub(super) fn check_solver(config: &SchedulerConfig, kind: SamplerKind) -> Result<Vec<String>> {
    let settings = &config.settings;
    let (own, heeded) = kind.own_class();
    let mut unused = Vec::new();
    for (key, harmless) in solver() {
        let Some(value) = settings.get(key) else { continue };
        let harmless: &[Value] = harmless.as_array().map_or(&[], Vec::as_slice);
        let asks = match key {
            "lambda_min_clipped" => json::number(value).is_none_or(|least| least > config.least_lambda()),
            "use_karras_sigmas" if kind == SamplerKind::Dpmpp2mKarras => false,
            _ => !harmless.contains(value),
        };
        if !asks {
            continue;
        }
        if config.class_name == own && heeded.contains(&key) {
            let fix = match key {
                "use_karras_sigmas" if kind == SamplerKind::Dpmpp2m => {
                    "give --sampler dpmpp_2m_karras, or set it to false"
                }
                "use_karras_sigmas" => {
                    "the sampler with Karras' noise levels is dpmpp_2m_karras; set it to false for this one"
                }
                "lambda_min_clipped" => "set it to -Infinity",
                "variance_type" => "set it to null",
                "thresholding" => "latents are not clipped by quantiles; set it to false",
                _ => "change it, or name another --sampler",
            };
            let expected = match harmless {
                [] => "no limit".to_owned(),
                [first, ..] => json::shown(first).to_string(),
            };
            return Err(settings.wrong(key, &format!("{expected} for --sampler {kind} ({fix})")));
        }
        unused.push(format!("{key} {}", json::shown(value)));
    }
    let file = settings.path().display();
    let mut said = Vec::new();
    if !unused.is_empty() {
        said.push(format!(
            "{file}: not used, as --sampler {kind} takes the place of {}: {}",
            config.class_name,
            unused.join(", ")
        ));
    }
    if kind == SamplerKind::Pndm && settings.get("skip_prk_steps") != Some(&Value::Bool(true)) {
        said.push(format!(
            "{file}: `skip_prk_steps` is taken as true, as in Stable Diffusion's release: no Runge–Kutta steps"
        ));
    }
    Ok(said)
}
