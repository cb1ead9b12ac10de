//! DDIM against diffusers: schedules, coefficients, single steps, and configs that must be refused.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use stablerep::generate::sampler::{Ddim, SchedulerConfig};
use stablerep::ops::sampler_step::{Step, advance};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Stable Diffusion 1.5's schedule with `extra` keys.
fn config(extra: &str) -> SchedulerConfig {
    let text = format!(
        r#"{{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
            "clip_sample": false, "set_alpha_to_one": false {extra}}}"#
    );
    SchedulerConfig::parse(&text, "test").unwrap()
}

fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-3), "{what}: {got} {want}");
}

#[test]
fn schedules_match_diffusers() {
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(fixture("ddim_schedules.json")).unwrap()).unwrap();
    assert_eq!(rows.len(), 24);
    for row in rows {
        let (steps, spacing, one) =
            (row["steps"].as_u64().unwrap(), row["spacing"].as_str().unwrap(), &row["set_alpha_to_one"]);
        let mut text: Value = serde_json::json!({
            "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "steps_offset": 1, "clip_sample": false, "timestep_spacing": spacing
        });
        text["set_alpha_to_one"] = one.clone();
        let config = SchedulerConfig::parse(&text.to_string(), "test").unwrap();
        let ddim = Ddim::new(&config, steps as usize).unwrap();
        let timesteps: Vec<usize> =
            row["timesteps"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as usize).collect();
        assert_eq!(ddim.timesteps(), timesteps, "{steps} {spacing}");
        for i in 0..timesteps.len() {
            let (a, b) = ddim.linear(i).unwrap();
            let what = format!("{steps} steps, {spacing}, set_alpha_to_one {one}, step {i}");
            close(a, row["a"][i].as_f64().unwrap(), 1e-9, &what);
            close(b, row["b"][i].as_f64().unwrap(), 1e-9, &what);
        }
    }
}

#[test]
fn the_papers_schedule() {
    let ddim = Ddim::new(&config(""), 50).unwrap();
    assert_eq!(ddim.timesteps(), (0..50).rev().map(|i| 20 * i + 1).collect::<Vec<_>>());
    let alphas = config("").alphas_cumprod();
    close(alphas[0], 0.99915, 1e-9, "alphas_cumprod[0]");
    // The last step goes to alphas_cumprod[0], not to 1.
    let (a, _) = ddim.linear(49).unwrap();
    close(a, (alphas[0] / alphas[1]).sqrt(), 1e-12, "last step");
}

#[test]
fn single_steps_match_diffusers() {
    let bytes = fs::read(fixture("ddim_steps.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let f32s = |name: &str| -> Vec<f32> {
        tensors
            .tensor(name)
            .unwrap()
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    let alphas: Vec<f64> = tensors
        .tensor("alphas_cumprod_f64")
        .unwrap()
        .data()
        .chunks_exact(8)
        .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    for (ours, theirs) in config("").alphas_cumprod().iter().zip(&alphas) {
        close(*ours, *theirs, 1e-12, "alphas_cumprod");
    }
    let (x, output) = (f32s("x"), f32s("model_output"));
    for prediction in ["epsilon", "v_prediction", "sample"] {
        for (mode, clip) in [("free", false), ("clipped", true)] {
            let text = format!(
                r#"{{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1, "set_alpha_to_one": false,
                    "prediction_type": "{prediction}", "clip_sample": {clip}}}"#
            );
            let ddim = Ddim::new(&SchedulerConfig::parse(&text, "test").unwrap(), 25).unwrap();
            for t in [961, 481, 1] {
                let i = ddim.timesteps().iter().position(|&visited| visited == t).unwrap();
                let mut got = x.clone();
                advance(&mut got, &output, None, ddim.coefficients(i));
                for (got, want) in got.iter().zip(f32s(&format!("{prediction}.{mode}.t{t}"))) {
                    // diffusers works in f32: at t = 1, 1 - alpha = 1.8e-3 is known to 3e-5, its root to 2e-5.
                    assert!((got - want).abs() <= 5e-5 * want.abs().max(1.0), "{prediction} {mode} {t}: {got} {want}");
                }
            }
        }
    }
}

#[test]
fn clip_sample_is_on_unless_the_config_says_otherwise() {
    assert!(SchedulerConfig::parse("{}", "test").unwrap().clip_sample);
    assert!(Ddim::new(&SchedulerConfig::parse("{}", "test").unwrap(), 10).unwrap().linear(0).is_none());
    assert!(!config("").clip_sample);
}

#[test]
fn odd_configs_are_refused_by_name() {
    for (text, needles) in [
        (r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, vec!["_class_name", "FlowMatch", "DDIMScheduler"]),
        (r#"{"beta_schedule": "sigmoid"}"#, vec!["sigmoid", "scaled_linear"]),
        (r#"{"prediction_type": "flow"}"#, vec!["flow", "v_prediction"]),
        (r#"{"timestep_spacing": "odd"}"#, vec!["odd", "leading"]),
        (r#"{"thresholding": true}"#, vec!["thresholding"]),
        (r#"{"rescale_betas_zero_snr": true}"#, vec!["rescale_betas_zero_snr"]),
        (r#"{"trained_betas": [0.1]}"#, vec!["trained_betas", "1 values"]),
        (r#"{"beta_end": 2.0}"#, vec!["beta"]),
        (r#"{"num_train_timesteps": 0}"#, vec!["num_train_timesteps"]),
        (r#"{"#, vec!["test"]),
    ] {
        let error = SchedulerConfig::parse(text, "test").unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        for needle in needles {
            assert!(error.to_string().contains(needle), "{text}: {error}");
        }
    }
    for steps in [0, 1001, 1000] {
        // 1000 leading steps with offset 1 would visit step 1000 of 0..1000.
        assert_eq!(Ddim::new(&config(""), steps).unwrap_err().exit_code(), 2, "{steps}");
    }
}

#[test]
fn guidance_interpolates_and_extrapolates() {
    let (uncond, cond) = ([1.0f32, -2.0, 0.5], [2.0f32, 1.0, 0.5]);
    for (w, want) in [(0.0, [1.0, -2.0, 0.5]), (1.0, [2.0, 1.0, 0.5]), (3.0, [4.0, 7.0, 0.5])] {
        let mut eps = [0.0; 3];
        advance(&mut eps, &cond, Some((&uncond, w)), Step::Linear { a: 0.0, b: 1.0 });
        assert_eq!(eps, want);
    }
}
