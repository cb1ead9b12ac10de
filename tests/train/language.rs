//! Methods with texts: PyTorch's runs of the same steps, chunks, bad settings.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use stablerep::device::Device;
use stablerep::models::tokenizer::Tokenizer;
use stablerep::train::method::Name;
use stablerep::train::{
    Activations, CHECKPOINT, Chunk, Config, Language, Length, METRICS, Projection, Rate, Recipe, SaveEvery, run,
};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::support::{fixture_path, recipe};

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(fixture_path("language_run/run.json")).unwrap()).unwrap()
}

fn language() -> Language {
    let golden = golden();
    let size = |key: &str| golden["text"][key].as_u64().unwrap() as usize;
    Language {
        tokenizer: "tiny".into(),
        words: "hash".into(),
        any_caption: false,
        vocabulary: size("vocabulary"),
        context: size("context"),
        width: size("width"),
        depth: size("depth"),
        heads: size("heads"),
        embed_dim: golden["embed_dim"].as_u64().unwrap() as usize,
        projection: Projection::Linear,
        weight: golden["text_weight"].as_f64().unwrap(),
    }
}

pub fn job(method: Name, output: &Path) -> Config {
    let golden = golden();
    let tokenizer = Tokenizer::open(&fixture_path("tiny_tokenizer"), language().context).unwrap();
    Config {
        recipe: Recipe {
            method,
            batch: golden["captions_per_step"].as_u64().unwrap() as usize,
            length: Length::Epochs(5.0),
            warmup: Length::Epochs(1.0),
            rate: Rate::Peak(golden["peak_lr"].as_f64().unwrap()),
            init_from: Some(fixture_path("language_run/init.safetensors")),
            language: Some(language()),
            ..recipe()
        },
        activations: Activations { chunk: Some(Chunk::All), recompute: Some(false) },
        output: output.to_owned(),
        save_every: SaveEvery::Steps(1000),
        device: Device::Cpu,
        allow_partial: false,
        watch: None,
        tokenizer: Some(Arc::new(tokenizer)),
        test: None,
    }
}

pub fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(METRICS)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const METHODS: [(&str, Name); 3] = [("clip", Name::Clip), ("stablerep+", Name::StableRepPlus), ("slip", Name::Slip)];

/// Shards, no augmentation, given initial weights: losses, gradient norms and the scale of PyTorch's run. Two texts
/// come twice, each in one batch.
#[test]
fn ten_steps_follow_pytorch() {
    let golden = golden();
    for (name, method) in METHODS {
        let folder = TempDir::new().unwrap();
        run(&job(method, folder.path())).unwrap();
        let (want, lines) = (&golden[name], metrics(folder.path()));
        assert_eq!(lines.len(), 10);
        for (step, line) in lines.iter().enumerate() {
            for (key, wanted) in [("loss", "loss"), ("loss", "loss_f64"), ("grad_norm", "grad_norm")] {
                let (got, want) = (line[key].as_f64().unwrap(), want[wanted][step].as_f64().unwrap());
                assert!((got - want).abs() <= 1e-4 * want, "{name} step {step}: {key} {got}, PyTorch {want}");
            }
            // A sum of two losses is told apart.
            let [loss, image, text] =
                ["loss", "image_loss", "text_loss"].map(|key| line.get(key).and_then(Value::as_f64));
            match method {
                Name::Clip => assert_eq!((image, text), (None, None)),
                _ => assert!((image.unwrap() + text.unwrap() - loss.unwrap()).abs() < 1e-12 && image.unwrap() > 0.0),
            }
        }
        let checkpoint = SafeTensors::open(folder.path().join(CHECKPOINT)).unwrap();
        let scale = f64::from(checkpoint.f32("logit_scale", &[]).unwrap()[0]);
        let want = want["logit_scale"][9].as_f64().unwrap();
        assert!((scale - want).abs() <= 1e-5 * want, "{name}: logit scale {scale}, PyTorch {want}");
    }
}

/// Images and texts in chunks that do not divide them, norms and activations computed again: the same losses.
#[test]
fn chunks_change_no_loss() {
    for (name, method) in METHODS {
        let losses = [None, Some(5)].map(|chunk| {
            let folder = TempDir::new().unwrap();
            let mut job = job(method, folder.path());
            if let Some(images) = chunk {
                job.activations = Activations { chunk: Some(Chunk::Images(images)), recompute: Some(true) };
            }
            run(&job).unwrap();
            metrics(folder.path()).iter().map(|line| line["loss"].as_f64().unwrap()).collect::<Vec<f64>>()
        });
        for (whole, chunked) in losses[0].iter().zip(&losses[1]) {
            assert!((whole - chunked).abs() <= 1e-5 * whole, "{name}: {losses:?}");
        }
    }
}

/// Heads in place of matrices: initial values of their own, and a loss that falls.
#[test]
fn projections_may_be_heads() {
    let folder = TempDir::new().unwrap();
    let mut job = job(Name::StableRepPlus, folder.path());
    job.recipe.init_from = None;
    job.recipe.language = Some(Language { projection: Projection::Mlp, ..language() });
    run(&job).unwrap();
    let checkpoint = SafeTensors::open(folder.path().join(CHECKPOINT)).unwrap();
    for name in ["image_text_mlp.layer3.weight", "text_text_mlp.bn2.running_var"] {
        assert!(checkpoint.contains(name), "{name}");
    }
    let losses: Vec<f64> = metrics(folder.path()).iter().map(|line| line["loss"].as_f64().unwrap()).collect();
    assert!(losses[9] < losses[0], "{losses:?}");
}

#[test]
fn bad_sizes_are_named() {
    for (change, named) in [
        (Language { heads: 3, ..language() }, "--text-heads 3"),
        (Language { context: 2, ..language() }, "--context-length 2"),
        (Language { embed_dim: 20, ..language() }, "--embed-dim 20"),
        (Language { weight: f64::NAN, ..language() }, "--text-weight NaN"),
    ] {
        let folder = TempDir::new().unwrap();
        let mut job = job(Name::Clip, folder.path());
        job.recipe.language = Some(change);
        let error = run(&job).unwrap_err();
        assert!(error.to_string().contains(named) && error.exit_code() == 2, "{error}");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "something was written");
    }
}
