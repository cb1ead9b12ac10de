//! DDIM against diffusers: schedules, coefficients, single steps, and configs that must be refused.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use stablerep::generate::sampler::{Sampler, SamplerKind, SchedulerConfig};
use stablerep::ops::sampler_step::{State, Step, advance};

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

fn ddim(config: &SchedulerConfig, steps: usize) -> Sampler {
    Sampler::new(SamplerKind::Ddim, config, steps).unwrap()
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
        let ddim = ddim(&config, steps as usize);
        let timesteps: Vec<f32> =
            row["timesteps"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as f32).collect();
        assert_eq!(ddim.timesteps(), timesteps, "{steps} {spacing}");
        for i in 0..timesteps.len() {
            let (a, b) = (ddim.rows()[i].x, ddim.rows()[i].e);
            assert!(ddim.steps()[i].now == 0.0 && ddim.steps()[i].keep.is_none());
            let what = format!("{steps} steps, {spacing}, set_alpha_to_one {one}, step {i}");
            close(a, row["a"][i].as_f64().unwrap(), 1e-9, &what);
            close(b, row["b"][i].as_f64().unwrap(), 1e-9, &what);
        }
    }
}

#[test]
fn the_papers_schedule() {
    let ddim = ddim(&config(""), 50);
    assert_eq!(ddim.timesteps(), (0..50).rev().map(|i| 20.0 * i as f32 + 1.0).collect::<Vec<_>>());
    let alphas = config("").alphas_cumprod();
    close(alphas[0], 0.99915, 1e-9, "alphas_cumprod[0]");
    // The last step goes to alphas_cumprod[0], not to 1.
    close(ddim.rows()[49].x, (alphas[0] / alphas[1]).sqrt(), 1e-12, "last step");
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
            let ddim = ddim(&SchedulerConfig::parse(&text, "test").unwrap(), 25);
            for t in [961.0, 481.0, 1.0] {
                let i = ddim.timesteps().iter().position(|&visited| visited == t).unwrap();
                let mut got = x.clone();
                advance(State { x: &mut got, ..State::default() }, &output, None, &ddim.steps()[i]);
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
    assert_eq!(ddim(&SchedulerConfig::parse("{}", "test").unwrap(), 10).steps()[0].limit, 1.0);
    assert!(!config("").clip_sample);
    assert_eq!(ddim(&config(""), 10).steps()[0].limit, f32::INFINITY);
}

#[test]
fn odd_configs_are_refused_by_name() {
    for (text, needles) in [
        (r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, vec!["_class_name", "FlowMatch", "DDIMScheduler"]),
        (r#"{"beta_schedule": "sigmoid"}"#, vec!["sigmoid", "scaled_linear"]),
        (r#"{"prediction_type": "flow"}"#, vec!["flow", "v_prediction"]),
        (r#"{"timestep_spacing": "odd"}"#, vec!["odd", "leading"]),
        (r#"{"use_flow_sigmas": true}"#, vec!["use_flow_sigmas"]),
        (r#"{"_class_name": "EDMEulerScheduler"}"#, vec!["_class_name", "EDMEulerScheduler", "noise levels"]),
        (r#"{"beta_start": null}"#, vec!["beta_start", "null"]),
        (r#"{"timestep_spacing": null}"#, vec!["timestep_spacing", "null"]),
        (r#"{"beta_end": NaN}"#, vec!["beta_end", "NaN"]),
        (r#"{"betas_of_mine": 3}"#, vec!["betas_of_mine", "not known"]),
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
        assert_eq!(Sampler::new(SamplerKind::Ddim, &config(""), steps).unwrap_err().exit_code(), 2, "{steps}");
    }
}

#[test]
fn guidance_interpolates_and_extrapolates() {
    let (uncond, cond) = ([1.0f32, -2.0, 0.5], [2.0f32, 1.0, 0.5]);
    for (w, want) in [(0.0, [1.0, -2.0, 0.5]), (1.0, [2.0, 1.0, 0.5]), (3.0, [4.0, 7.0, 0.5])] {
        let mut eps = [0.0; 3];
        advance(State { x: &mut eps, ..State::default() }, &cond, Some((&uncond, w)), &Step::linear(0.0, 1.0));
        assert_eq!(eps, want);
    }
}

/// The network's place in the trajectories of `samplers.safetensors`.
fn network(output: &mut [f32], input: &[f32], t: f32) {
    for (i, (output, u)) in output.iter_mut().zip(input).enumerate() {
        *output = ((0.8 * f64::from(*u)).tanh() + 0.2 * (0.01 * f64::from(t) + i as f64).sin()) as f32;
    }
}

#[test]
fn trajectories_match_diffusers() {
    let file = stablerep::weights::SafeTensors::open(fixture("samplers.safetensors")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(file.metadata("cases").unwrap()).unwrap();
    let (start, noise) = (file.f32("start", &[4, 3, 3]).unwrap(), file.f32("noise", &[50, 4, 3, 3]).unwrap());
    let len = start.len();
    let mut seen = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let config = SchedulerConfig::parse(&case["config"].to_string(), name).unwrap();
        let kind: SamplerKind = serde_json::from_value(case["sampler"].clone()).unwrap();
        let sampler = Sampler::new(kind, &config, case["steps"].as_u64().unwrap() as usize).unwrap();
        let timesteps: Vec<f32> =
            case["timesteps"].as_array().unwrap().iter().map(|t| t.as_f64().unwrap() as f32).collect();
        assert_eq!(sampler.timesteps(), timesteps, "{name}");
        close(sampler.initial().into(), case["initial"].as_f64().unwrap(), 1e-6, name);
        let stochastic = match kind {
            SamplerKind::EulerA => true,
            // But for the last step.
            SamplerKind::Lcm | SamplerKind::Tcd => sampler.rows().len() > 1,
            _ => false,
        };
        assert_eq!(sampler.draws(), stochastic, "{name}");

        let mut x: Vec<f32> = start.iter().map(|x| x * sampler.initial()).collect();
        let mut input: Vec<f32> = x.iter().map(|x| x * sampler.first_input()).collect();
        // What was never written must never be read.
        let mut history = vec![f32::NAN; sampler.slots() * len];
        let trace = file.f32(name, &[timesteps.len(), 4, 3, 3]).unwrap();
        let mut output = vec![0.0; len];
        for (call, ((step, t), want)) in sampler.steps().iter().zip(timesteps).zip(trace.chunks_exact(len)).enumerate()
        {
            network(&mut output, &input, t);
            let noise = &noise[call * len..(call + 1) * len];
            let state = State { x: &mut x, input: &mut input, history: &mut history, noise };
            advance(state, &output, None, step);
            let largest = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            let worst = x.iter().zip(want).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst <= 1e-5 * largest, "{name} after call {call}: off by {worst} of {largest}");
        }
        seen.push(kind);
    }
    use clap::ValueEnum;
    for kind in SamplerKind::value_variants().iter().filter(|&&kind| kind != SamplerKind::Ddim) {
        assert!(seen.contains(kind), "{kind} has no trajectory");
        assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.to_string());
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
    }
}

#[test]
fn samplers_refuse_what_they_cannot_run() {
    let odd = |kind, extra: &str, steps| Sampler::new(kind, &config(extra), steps).unwrap_err();
    let error = odd(SamplerKind::Pndm, r#", "prediction_type": "sample""#, 10);
    assert!(error.exit_code() == 2 && error.to_string().contains("--sampler ddim"), "{error}");
    for kind in [SamplerKind::Pndm, SamplerKind::Euler, SamplerKind::EulerA, SamplerKind::Dpmpp2m] {
        for steps in [0, 1000, 1001] {
            let error = odd(kind, r#", "timestep_spacing": "leading""#, steps);
            assert!(error.exit_code() == 2 && error.to_string().contains("--steps"), "{kind} {steps}: {error}");
        }
    }
    // Two training steps, the first without any noise: its logarithm is asked for.
    let text = r#"{"num_train_timesteps": 2, "trained_betas": [0.0, 0.5], "timestep_spacing": "linspace"}"#;
    let silent = SchedulerConfig::parse(text, "test").unwrap();
    let error = Sampler::new(SamplerKind::Dpmpp2mKarras, &silent, 2).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("no noise"), "{error}");
}

/// Values lie in blocks of 1,024, and a history in slots: every place has its own.
#[test]
fn long_latents_are_advanced_as_short_ones() {
    let len = 2500;
    let value =
        |seed: usize| -> Vec<f32> { (0..len).map(|i| ((i * 7 + seed * 13) % 101) as f32 / 50.0 - 1.0).collect() };
    let step = Step {
        d: (0.5, 0.75),
        limit: 0.9,
        now: 0.25,
        kept: [0.5, 0.0, -0.25],
        keep: Some(2),
        noise: 0.125,
        input: 0.5,
        ..Step::linear(1.5, -0.5)
    };
    let (mut x, c, u, noise) = (value(1), value(2), value(3), value(4));
    let (before, mut input, mut history) = (x.clone(), vec![f32::NAN; len], [value(5), value(6), value(7)].concat());
    let old = history.clone();
    advance(State { x: &mut x, input: &mut input, history: &mut history, noise: &noise }, &c, Some((&u, 3.0)), &step);
    for i in 0..len {
        let e = u[i] + 3.0 * (c[i] - u[i]);
        let d = (0.5 * before[i] + 0.75 * e).clamp(-0.9, 0.9);
        let want = 1.5 * before[i] - 0.5 * e + 0.25 * d + 0.5 * old[i] - 0.25 * old[2 * len + i] + 0.125 * noise[i];
        assert!((x[i] - want).abs() < 1e-5 && input[i] == 0.5 * x[i], "{i}: {} {want}", x[i]);
        assert_eq!(history[2 * len + i], d, "{i}");
    }
    assert_eq!(history[..2 * len], old[..2 * len]);
}

/// A scheduler of `class` over Stable Diffusion's schedule, with `extra` keys.
fn of_class(class: &str, extra: &str) -> SchedulerConfig {
    let text = format!(
        r#"{{"_class_name": "{class}", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
            "clip_sample": false{extra}}}"#
    );
    SchedulerConfig::parse(&text, "scheduler_config.json").unwrap()
}

#[test]
fn settings_of_a_samplers_own_class_are_refused_by_name() {
    use SamplerKind::{Ddim, Dpmpp2m, Dpmpp2mKarras, Euler};
    let (dpm, euler) = ("DPMSolverMultistepScheduler", "EulerDiscreteScheduler");
    for (kind, class, key, value) in [
        (Dpmpp2m, dpm, "use_karras_sigmas", "true"),
        (Dpmpp2m, dpm, "use_exponential_sigmas", "true"),
        (Dpmpp2mKarras, dpm, "use_beta_sigmas", "true"),
        (Dpmpp2mKarras, dpm, "use_lu_lambdas", "true"),
        (Dpmpp2m, dpm, "algorithm_type", "\"sde-dpmsolver++\""),
        (Dpmpp2m, dpm, "solver_order", "3"),
        (Dpmpp2m, dpm, "solver_type", "\"heun\""),
        (Dpmpp2m, dpm, "final_sigmas_type", "\"sigma_min\""),
        (Dpmpp2m, dpm, "lambda_min_clipped", "-2.0"),
        (Dpmpp2m, dpm, "thresholding", "true"),
        (Euler, euler, "use_karras_sigmas", "true"),
        (Euler, euler, "interpolation_type", "\"log_linear\""),
        (Euler, euler, "timestep_type", "\"continuous\""),
        (Ddim, "DDIMScheduler", "thresholding", "true"),
    ] {
        let config = of_class(class, &format!(r#", "{key}": {value}"#));
        let error = Sampler::new(kind, &config, 10).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(&format!("`{key}`")), "{kind} {key}: {error}");
    }
    let karras = of_class(dpm, r#", "use_karras_sigmas": true"#);
    let error = Sampler::new(Dpmpp2m, &karras, 10).unwrap_err().to_string();
    assert!(error.contains("--sampler dpmpp_2m_karras"), "{error}");
    assert!(Sampler::new(Dpmpp2mKarras, &karras, 10).unwrap().remarks.is_empty());
}

#[test]
fn another_classs_settings_are_said_and_change_nothing() {
    let steps = |config: &SchedulerConfig| Sampler::new(SamplerKind::Dpmpp2m, config, 10).unwrap();
    let plain = steps(&of_class("PNDMScheduler", ""));
    for (class, extra, said) in [
        ("DEISMultistepScheduler", r#", "algorithm_type": "deis", "solver_type": "logrho", "solver_order": 2"#, None),
        (
            "UniPCMultistepScheduler",
            r#", "solver_order": 3, "solver_type": "bh2", "predict_x0": true"#,
            Some("solver_order 3"),
        ),
        ("LMSDiscreteScheduler", r#", "use_karras_sigmas": true"#, Some("use_karras_sigmas true")),
        ("SASolverScheduler", r#", "algorithm_type": "data_prediction", "tau_func": null"#, None),
        ("DPMSolverMultistepScheduler", r#", "lambda_min_clipped": -Infinity, "euler_at_final": true"#, None),
        ("DPMSolverMultistepScheduler", r#", "lambda_min_clipped": -5.1, "use_karras_sigmas": null"#, None),
        ("DPMSolverSinglestepScheduler", r#", "lower_order_final": false"#, None),
        ("HeunDiscreteScheduler", "", None),
        ("KDPM2DiscreteScheduler", "", None),
        ("DDPMScheduler", r#", "variance_type": "fixed_small""#, None),
    ] {
        let sampler = steps(&of_class(class, extra));
        assert_eq!(sampler.timesteps(), plain.timesteps(), "{class}");
        assert_eq!(format!("{:?}", sampler.steps()), format!("{:?}", plain.steps()), "{class}");
        match said {
            None => assert!(sampler.remarks.is_empty(), "{class}: {:?}", sampler.remarks),
            Some(said) => {
                assert!(sampler.remarks.len() == 1 && sampler.remarks[0].contains(said), "{:?}", sampler.remarks)
            }
        }
    }
    let odd = Sampler::new(SamplerKind::Pndm, &of_class("EulerDiscreteScheduler", ""), 10).unwrap();
    assert!(odd.remarks[0].contains("skip_prk_steps"), "{:?}", odd.remarks);
}

#[test]
fn configs_are_put_right_as_diffusers_does() {
    let base = r#""_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear""#;
    let corrected = |extra: &str, kind| {
        let config = SchedulerConfig::parse(&format!("{{{base}{extra}}}"), "test").unwrap();
        config.corrected(kind)
    };
    let (open, felt, said) = corrected("", SamplerKind::Ddim);
    assert!(felt && said.len() == 2 && said[0].contains("clip_sample") && said[1].contains("steps_offset"), "{said:?}");
    let (whole, felt, said) = corrected(r#", "clip_sample": false, "steps_offset": 1"#, SamplerKind::Ddim);
    assert!(!felt && said.is_empty(), "{said:?}");
    assert_eq!(format!("{:?}", ddim(&open, 20).steps()), format!("{:?}", ddim(&whole, 20).steps()));
    // Null is false, and no offset.
    let (_, felt, said) = corrected(r#", "clip_sample": null, "steps_offset": 1"#, SamplerKind::Ddim);
    assert!(!felt && said.is_empty(), "{said:?}");
    // Of no concern to a sampler that has neither.
    let (_, felt, said) = corrected("", SamplerKind::Dpmpp2m);
    assert!(!felt && said.is_empty(), "{said:?}");
    // Also where the file says otherwise.
    let (other, felt, said) = corrected(r#", "clip_sample": true, "steps_offset": 0"#, SamplerKind::Ddim);
    assert!(felt && said.len() == 2, "{said:?}");
    assert!(said[0].contains("`clip_sample` true: taken as false") && said[1].contains("0: taken as 1"), "{said:?}");
    assert_eq!(format!("{:?}", ddim(&other, 20).steps()), format!("{:?}", ddim(&whole, 20).steps()));
}

#[test]
fn betas_that_are_no_schedule_are_refused_by_key() {
    for (keys, needles) in [
        (r#""beta_end": 1.5"#, &["`beta_end`", "1.5"][..]),
        (r#""beta_end": 1"#, &["`beta_end`"]),
        (r#""beta_start": 0.02, "beta_end": 0.01"#, &["`beta_end`", "from beta_start, 0.02"]),
        (r#""beta_start": -0.1"#, &["`beta_start`", "-0.1"]),
        (r#""beta_start": 0"#, &["`beta_start`", "above 0"]),
        (r#""beta_start": NaN"#, &["`beta_start`", "NaN"]),
        (r#""beta_start": 0.5, "beta_end": 0.9"#, &["of the signal", "beta_end"]),
        (r#""num_train_timesteps": 2, "trained_betas": [0, 0]"#, &["of the signal", "trained_betas"]),
        (r#""num_train_timesteps": 2, "trained_betas": [0.1, 1.1]"#, &["step 1", "trained_betas"]),
    ] {
        let error = SchedulerConfig::parse(&format!("{{{keys}}}"), "test.json").unwrap_err();
        let said = error.to_string();
        assert!(error.exit_code() == 3 && needles.iter().all(|word| said.contains(word)), "{keys}: {said}");
    }
    // What is not used may say anything.
    let unused = r#"{"beta_start": 7, "beta_end": -1, "beta_schedule": "squaredcos_cap_v2"}"#;
    assert!(SchedulerConfig::parse(unused, "test.json").is_ok());
}

#[test]
fn steps_that_do_not_join_are_said() {
    for (kind, spacing, steps, joins) in [
        (SamplerKind::Ddim, "leading", 7, true),
        (SamplerKind::Ddim, "trailing", 10, true),
        (SamplerKind::Ddim, "trailing", 30, false),
        (SamplerKind::Ddim, "linspace", 10, false),
        (SamplerKind::Pndm, "linspace", 10, false),
        (SamplerKind::Euler, "linspace", 10, true),
    ] {
        let config =
            of_class("DDIMScheduler", &format!(r#", "timestep_spacing": "{spacing}", "skip_prk_steps": true"#));
        let remarks = Sampler::new(kind, &config, steps).unwrap().remarks;
        assert_eq!(
            !remarks.iter().any(|line| line.contains("timestep_spacing")),
            joins,
            "{kind} {spacing}: {remarks:?}"
        );
    }
}
