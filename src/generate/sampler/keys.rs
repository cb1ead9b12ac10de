//! The keys of a `scheduler_config.json`: which there are, and which ask for a schedule that is not computed here.

use serde_json::{Value, json};

use crate::bail;
use crate::config::json;
use crate::error::Result;
use crate::models::settings::Settings;

/// Scheduler classes whose configs hold a Stable Diffusion noise schedule.
const CLASSES: [&str; 21] = [
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
    "LCMScheduler",
    "TCDScheduler",
];

/// Classes of other models, by a part of their name.
const OTHER_MODELS: [(&str, &str); 4] = [
    ("FlowM", "its network predicts a flow, not noise"),
    ("EDM", "its network is conditioned on noise levels, not on steps"),
    ("Consistency", "it is a consistency model"),
    ("CMStochastic", "it is a consistency model"),
];

/// The keys of the schedule, which [`super::SchedulerConfig`] reads, and those that say nothing about it nor about a
/// picture: parts of settings that are off, and what Latent Consistency leaves behind.
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
pub(super) fn solver() -> [(&'static str, Value); 18] {
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
            "{file}: `_class_name` {name} is no scheduler of Stable Diffusion: {why}; expected one of {}",
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
