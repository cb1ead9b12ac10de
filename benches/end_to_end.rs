//! Images per second of whole jobs, one JSON line per measurement, as `benches/peers/*.py` print them for PyTorch:
//!
//!     cargo bench --bench end_to_end -- [generate|train_vit_s|train_demo|loss]… [--seconds 10] [--threads 2]
//!
//! `benches/peers/compare.py` runs both in turn and prints the ratios.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use stablerep::device::{self, Plan};
use stablerep::error::Result;
use stablerep::generate::{Drawing, Fp8, Pipeline, Request, Settings, Wanted};
use stablerep::models::vit::VitConfig;
use stablerep::ops::contrastive::{self, Batch, Queue};
use stablerep::ops::l2norm;
use stablerep::ops::sampler_step::NoiseKey;
use stablerep::rng::{Domain, Stream};
use stablerep::train::method::Name;
use stablerep::train::schedule::Position;
use stablerep::train::{Augmentation, BatchNorm, Length, Rate, Recipe, State, Trainer};

const BENCHES: [&str; 4] = ["generate", "train_vit_s", "train_demo", "loss"];

struct Options {
    names: Vec<String>,
    seconds: f64,
    threads: usize,
}

fn main() -> Result<()> {
    if !std::env::args().any(|word| word == "--bench") {
        println!("measures under `cargo bench` only");
        return Ok(());
    }
    let options = options();
    device::set_threads(Some(options.threads))?;
    for name in &options.names {
        let vit = |name: &str| VitConfig::named(name).unwrap();
        match name.as_str() {
            "generate" => generate(&options)?,
            "train_vit_s" => train(&options, name, vit("vit_small"), [4096, 256], 4)?,
            "train_demo" => {
                let demo = VitConfig {
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
                train(&options, name, demo, [512, 64], 64)?;
            }
            "loss" => loss(&options),
            _ => panic!("{name}: expected one of {BENCHES:?}"),
        }
    }
    Ok(())
}

fn options() -> Options {
    let mut options = Options { names: Vec::new(), seconds: 10.0, threads: 2 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => options.seconds = words.next().and_then(|v| v.parse().ok()).expect("--seconds S"),
            "--threads" => options.threads = words.next().and_then(|v| v.parse().ok()).expect("--threads N"),
            // Cargo adds this one.
            "--bench" => {}
            name => options.names.push(name.to_owned()),
        }
    }
    if options.names.is_empty() {
        options.names = BENCHES.map(str::to_owned).to_vec();
    }
    options
}

/// One warm-up, then rounds until the time is spent; the median round counts.
fn measure(options: &Options, bench: &str, images: usize, details: Value, mut work: impl FnMut()) {
    work();
    let (mut rounds, start) = (Vec::new(), Instant::now());
    while start.elapsed().as_secs_f64() < options.seconds || rounds.len() < 3 {
        let begin = Instant::now();
        work();
        rounds.push(begin.elapsed().as_secs_f64());
    }
    rounds.sort_by(f64::total_cmp);
    let middle = rounds.len() / 2;
    let median = if rounds.len() % 2 == 1 { rounds[middle] } else { (rounds[middle - 1] + rounds[middle]) / 2.0 };
    let mut line = json!({
        "bench": bench,
        "engine": "stablerep",
        "images_per_s": images as f64 / median,
        "best_images_per_s": images as f64 / rounds[0],
        "seconds_per_round": median,
        "rounds": rounds.len(),
        "threads": options.threads,
    });
    line.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
    println!("{line}");
}

/// Four captions × four images of the bundled model, 25 steps, w = 2: captions to 8-bit pictures.
fn generate(options: &Options) -> Result<()> {
    const CAPTIONS: [&str; 4] = [
        "a photo of a dark patterned slim dress",
        "a photo of a light plain wide ankle boot",
        "a photo of a gray patterned wide bag",
        "a photo of a dark plain slim sneaker",
    ];
    let (steps, guidance_scale, images) = (25, 2.0, 16);
    let settings = Settings {
        model: &Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-sd"),
        device: device::Device::Cpu,
        precision: None,
        fp8: Fp8::Off,
        drawing: Drawing { steps, guidance_scale, ..Drawing::default() },
        store_size: None,
        batch: Some(images),
    };
    let mut pipeline = Pipeline::open(&settings, &mut Plan::new())?;
    let mut noise = vec![0.0; images * pipeline.latent_shape().iter().product::<usize>()];
    Stream::new(0, Domain::InitialNoise, [0; 3]).fill_normal(&mut noise);
    let keys: Vec<_> = (0..images).map(|i| NoiseKey { seed: 0, caption: i as u32, image: 0 }).collect();
    let details = json!({ "steps": steps, "batch": images, "guidance_scale": guidance_scale });
    measure(options, "generate", images, details, || {
        let texts = pipeline.encode_texts(&CAPTIONS).unwrap();
        let texts = (0..images).map(|i| texts[i / (images / CAPTIONS.len())].clone()).collect();
        let (keys, noise, wanted) = (keys.clone(), noise.clone(), Wanted::default());
        let request = Request { texts, keys, noise, guidance_scale, wanted };
        let pictures = pipeline.draw(request, &mut |_| ()).unwrap().pictures;
        assert!(pictures.len() == images && !pictures[0].not_finite);
    });
    Ok(())
}

/// One training step on `batch` captions × 4 images that are in memory, normalised.
fn train(options: &Options, bench: &str, model: VitConfig, head_dims: [usize; 2], batch: usize) -> Result<()> {
    let views = 4;
    let recipe = Recipe {
        data: Vec::new(),
        weights: Vec::new(),
        positives: Default::default(),
        method: Name::StableRep,
        model,
        head_dims,
        batch_norm: BatchNorm::PerSlot,
        batch,
        images_per_caption: views,
        crops: None,
        queue: None,
        min_images: None,
        chunk: None,
        recompute: false,
        length: Length::Steps(1),
        warmup: Length::Steps(0),
        rate: Rate::Peak(1e-4),
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
        init_from: None,
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
    let mut trainer = Trainer::new(&mut plan, network, &recipe);
    let mut images = vec![0.0; batch * views * recipe.model.image_len()];
    Stream::new(0, Domain::InitialNoise, [0; 3]).fill_normal(&mut images);
    let labels: Vec<u32> = (0..batch * views).map(|row| (row % batch) as u32).collect();
    let VitConfig { image_size, patch_size, width, depth, heads, .. } = recipe.model;
    let details = json!({
        "captions": batch, "views": views, "image": image_size, "patch": patch_size, "width": width, "depth": depth,
        "heads": heads, "hidden": head_dims[0], "out": head_dims[1],
    });
    measure(options, bench, batch * views, details, || {
        trainer.step(&mut state, &images, &labels, Position::first(1e-4)).unwrap();
    });
    Ok(())
}

/// The multi-positive loss of 256 captions × 4 views, forward and backward, from raw features.
fn loss(options: &Options) {
    let (captions, views, width) = (256, 4, 256);
    let rows = captions * views;
    let mut raw = vec![0.0; rows * width];
    Stream::new(0, Domain::InitialNoise, [0; 3]).fill_normal(&mut raw);
    let labels: Vec<u32> = (0..rows).map(|row| (row % captions) as u32).collect();
    let zeros = || vec![0.0f32; rows * width];
    let (mut z, mut dz, mut draw) = (zeros(), zeros(), zeros());
    let (mut norms, mut lse, mut weight) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows]);
    let details = json!({ "captions": captions, "views": views, "width": width });
    measure(options, "loss", rows, details, || {
        l2norm::forward(&mut z, &mut norms, &raw, 1e-12);
        let batch = Batch { z: &z, labels: &labels, queue: Queue::default(), temperature: 0.1 };
        assert!(contrastive::forward(&mut lse, &mut weight, batch).is_finite());
        contrastive::backward(&mut dz, &lse, &weight, batch);
        l2norm::backward(&mut draw, &dz, &z, &norms, 1e-12);
    });
}
