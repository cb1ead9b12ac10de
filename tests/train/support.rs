use std::path::{Path, PathBuf};

use stablerep::models::vit::VitConfig;
use stablerep::train::method::Method;
use stablerep::train::{Augmentation, BatchNorm, Length, Rate, Recipe};

pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The settings of the golden run (tests/fixtures/train_run).
pub fn recipe() -> Recipe {
    Recipe {
        data: vec![fixture_path("train_run/stablerep")],
        method: Method::StableRep,
        model: VitConfig { image_size: 32, patch_size: 8, width: 24, depth: 2, heads: 3, mlp_ratio: 4, channels: 3 },
        head_dims: [32, 16],
        batch_norm: BatchNorm::PerSlot,
        batch: 8,
        images_per_caption: 4,
        min_images: None,
        length: Length::Epochs(10.0),
        warmup: Length::Epochs(2.5),
        rate: Rate::Peak(2e-3),
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.98,
        temperature: 0.1,
        augmentation: Augmentation::None,
        crop_scale: [0.08, 1.0],
        downsample: false,
        shuffle: false,
        seed: 0,
        max_bad: 0,
        init_from: Some(fixture_path("train_run/init.safetensors")),
    }
}
