//! Training steps of StableRep on images that are in memory, normalised.

use std::path::Path;

use serde_json::{Value, json};
use stablerep::device::Plan;
use stablerep::error::Result;
use stablerep::models::vit::VitConfig;
use stablerep::ops::gemm::Operands;
use stablerep::train::method::Name;
use stablerep::train::schedule::Position;
use stablerep::train::{Augmentation, BatchNorm, Length, Outcome, Rate, Recipe, State, Trainer};

/// What [`shape`] knows.
pub const NAMES: [&str; 4] = ["train_vit_ti", "train_vit_s", "train_vit_b", "train_demo"];

/// Images of a caption.
const VIEWS: usize = 4;
/// Learning rate.
const RATE: f64 = 1e-4;

/// What a step is of.
pub struct Shape {
    pub model: VitConfig,
    /// Hidden and output width of the head.
    head_dims: [usize; 2],
    captions: usize,
}

/// The shape of one of [`NAMES`], the same as in `benches/peers/train.py`.
pub fn shape(name: &str) -> Option<Shape> {
    let vit = |name: &str| Shape { model: VitConfig::named(name).unwrap(), head_dims: [4096, 256], captions: 4 };
    match name {
        "train_vit_ti" => Some(vit("vit_tiny")),
        "train_vit_s" => Some(vit("vit_small")),
        "train_vit_b" => Some(vit("vit_base")),
        "train_demo" => {
            let model = VitConfig {
                image_size: 32,
                patch_size: 8,
                width: 128,
                depth: 4,
                heads: 2,
                mlp_ratio: 4,
                channels: 3,
                qk_norm: false,
                variant: Default::default(),
            };
            Some(Shape { model, head_dims: [512, 64], captions: 64 })
        }
        _ => None,
    }
}

impl Shape {
    /// Images of a step.
    pub fn images(&self) -> usize {
        self.captions * VIEWS
    }

    /// The shape as the peers print theirs.
    pub fn details(&self) -> Value {
        let VitConfig { image_size, patch_size, width, depth, heads, .. } = self.model;
        json!({
            "captions": self.captions, "views": VIEWS, "image": image_size, "patch": patch_size, "width": width,
            "depth": depth, "heads": heads, "hidden": self.head_dims[0], "out": self.head_dims[1],
        })
    }
}

/// A network, its optimizer and the images of every step.
pub struct Training {
    trainer: Trainer,
    state: State,
    images: Vec<f32>,
    labels: Vec<u32>,
}

impl Training {
    /// On `images`, `[N, S, S, 3]` and view-major, in `precision`, from the weights of `init` (`visual.…`,
    /// `image_mlp.…`) or random ones.
    ///
    /// # Errors
    /// `Data` for weights of another network.
    pub fn new(shape: Shape, init: Option<&Path>, images: Vec<f32>, precision: Operands) -> Result<Self> {
        let labels = (0..shape.images()).map(|row| (row % shape.captions) as u32).collect();
        let recipe = Recipe {
            data: Vec::new(),
            weights: Vec::new(),
            positives: Default::default(),
            method: Name::StableRep,
            model: shape.model,
            head_dims: shape.head_dims,
            cpu_precision: precision,
            batch_norm: BatchNorm::PerSlot,
            batch: shape.captions,
            images_per_caption: VIEWS,
            crops: None,
            queue: None,
            min_images: None,
            chunk: None,
            recompute: false,
            length: Length::Steps(1),
            warmup: Length::Steps(0),
            rate: Rate::Peak(RATE),
            weight_decay: 0.1,
            optimizer: None,
            min_lr: None,
            weight_decay_end: None,
            drop_path: None,
            clip_gradient: None,
            beta1: 0.9,
            beta2: 0.98,
            temperature: 0.1,
            momentum: None,
            augmentation: Augmentation::None,
            crop_scale: [0.08, 1.0],
            local: None,
            crop_filter: None,
            downsample: false,
            shuffle: true,
            seed: 0,
            max_bad: 0,
            max_bad_updates: 0,
            init_from: init.map(Path::to_owned),
            init_weights: None,
            language: None,
            mae: None,
            finetune: None,
            segment: None,
            lr_decay: None,
        };
        let mut plan = Plan::new();
        let network = recipe.network()?;
        let mut state = State::new(&mut plan, &*network);
        state.init(&*network, &recipe)?;
        let trainer = Trainer::new(&mut plan, network, &recipe);
        Ok(Self { trainer, state, images, labels })
    }

    /// One update.
    ///
    /// # Errors
    /// `Diverged` when it is not finite.
    pub fn step(&mut self) -> Result<Outcome> {
        self.trainer.step(&mut self.state, &self.images, &self.labels, Position::first(RATE))
    }
}
