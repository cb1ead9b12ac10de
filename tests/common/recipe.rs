//! A training of very little, of which each test says what it wants otherwise.

use stablerep::models::vit::VitConfig;
use stablerep::train::method::Name;
use stablerep::train::{Augmentation, BatchNorm, Length, Rate, Recipe};

pub fn smallest() -> Recipe {
    Recipe {
        data: vec!["shards".into()],
        weights: Vec::new(),
        positives: Default::default(),
        method: Name::StableRep,
        model: VitConfig {
            image_size: 8,
            patch_size: 8,
            width: 2,
            depth: 1,
            heads: 1,
            mlp_ratio: 1,
            channels: 3,
            qk_norm: false,
        },
        head_dims: [2, 2],
        batch_norm: BatchNorm::PerSlot,
        batch: 2,
        images_per_caption: 2,
        crops: None,
        min_images: None,
        chunk: None,
        recompute: false,
        length: Length::Epochs(10.0),
        warmup: Length::Epochs(2.5),
        rate: Rate::Peak(2e-3),
        weight_decay: 0.1,
        min_lr: None,
        weight_decay_end: None,
        drop_path: None,
        clip_gradient: None,
        beta1: 0.9,
        beta2: 0.98,
        temperature: 0.1,
        momentum: None,
        queue: None,
        augmentation: Augmentation::None,
        crop_scale: [0.08, 1.0],
        local: None,
        crop_filter: None,
        downsample: false,
        shuffle: false,
        seed: 0,
        max_bad: 0,
        max_bad_updates: 0,
        init_from: None,
        language: None,
        mae: None,
        finetune: None,
    }
}
