//! What a `scheduler_config.json` says beside the noise schedule: the solver that diffusers would run, which
//! `--sampler` replaces.
//!
//! Where the file's class is the sampler's own, a setting that this program does not compute is refused; another
//! class's settings go with the class, and are said to. Configs also carry keys of classes they had before
//! (`from_config` keeps them).

use serde_json::Value;

use super::keys::solver;
use super::kind::SamplerKind;
use super::schedule::SchedulerConfig;
use crate::bail;
use crate::config::json;
use crate::error::Result;

/// Refuses what the file asks of `kind` by being of its own class, and says what of another class's settings is not
/// used.
pub(super) fn check(config: &SchedulerConfig, kind: SamplerKind) -> Result<Vec<String>> {
    let settings = &config.settings;
    for distilled in [SamplerKind::Lcm, SamplerKind::Tcd] {
        if config.class_name == distilled.own_class().0 && kind != distilled {
            bail!(
                Usage,
                "--sampler {kind}: {} is of a {}, whose network is distilled to a few steps of that sampler, and others draw \
                 noise with it; give --sampler {distilled} --steps 4",
                settings.path().display(),
                config.class_name
            );
        }
    }
    let (own, heeded) = kind.own_class();
    let mut unused = Vec::new();
    for (key, harmless) in solver() {
        let Some(value) = settings.get(key) else { continue };
        let harmless: &[Value] = harmless.as_array().map_or(&[], Vec::as_slice);
        let asks = match key {
            "lambda_min_clipped" => json::number(value).is_none_or(|least| least > config.least_lambda()),
            "use_karras_sigmas" if kind == SamplerKind::Dpmpp2mKarras => false,
            // Of which diffusers' UniPC takes all others for bh2.
            "solver_type" if kind == SamplerKind::Unipc && config.class_name == own => value == "bh1",
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
                "solver_type" if kind == SamplerKind::Unipc => "set it to bh2",
                "thresholding" => "latents are not clipped by quantiles; set it to false",
                _ => "change it, or name another --sampler",
            };
            let expected = match harmless {
                [] => "no limit".to_owned(),
                _ if key == "solver_type" && kind == SamplerKind::Unipc => "\"bh2\"".to_owned(),
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
