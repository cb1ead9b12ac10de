use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stablerep::device::{Device, Plan};
use stablerep::models::vit::VitConfig;
use stablerep::train::method::Network;
use stablerep::train::{Activations, Config, METRICS, Recipe, SaveEvery, State};
use stablerep::weights::SafeTensors;

use crate::recipe::smallest;

pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The settings of the golden run (tests/fixtures/train_run).
pub fn recipe() -> Recipe {
    Recipe {
        data: vec![fixture_path("train_run/stablerep")],
        weights: Vec::new(),
        positives: Default::default(),
        model: VitConfig {
            image_size: 32,
            patch_size: 8,
            width: 24,
            depth: 2,
            heads: 3,
            mlp_ratio: 4,
            channels: 3,
            qk_norm: false,
            variant: Default::default(),
        },
        head_dims: [32, 16],
        batch: 8,
        images_per_caption: 4,
        init_from: Some(fixture_path("train_run/init.safetensors")),
        language: None,
        ..smallest()
    }
}

/// A state with the parameters that `file` holds as `param.NAME`.
pub fn golden_state(file: &SafeTensors, network: &dyn Network) -> State {
    let mut state = State::new(&mut Plan::new(), network);
    for info in network.parameters().iter() {
        let values = file.f32(&format!("param.{}", info.name), &info.shape).unwrap();
        info.param.of_mut(&mut state.params).copy_from_slice(&values);
    }
    state
}

/// A run on the CPU that saves at its end alone.
pub fn job(recipe: Recipe, output: &Path) -> Config {
    Config {
        recipe,
        output: output.to_owned(),
        save_every: SaveEvery::Steps(1000),
        activations: Activations::default(),
        device: Device::Cpu,
        allow_partial: false,
        watch: None,
        tokenizer: None,
        test: None,
    }
}

/// The loss of every step.
pub fn losses(folder: &Path) -> Vec<f64> {
    let text = fs::read_to_string(folder.join(METRICS)).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
}
