//! Encoders of other authors on the simulated devices, against the CPU.

use std::fs;
use std::path::Path;

use serde_json::json;
use stablerep::models::vit::{Variant, Vit, VitConfig};
use stablerep::rng::{Domain, Stream};
use stablerep::weights::{ParamTable, SafeTensors, write_safetensors};
use tempfile::TempDir;

use crate::labelled::{of_classes, shards};
use crate::support::{Model, has_kernels, stablerep, text};

/// A timm folder of `config` with weights that hide nothing; layer scale where `scaled`.
fn folder(folder: &Path, config: &VitConfig, architecture: &str, scaled: bool) {
    let mut table = ParamTable::new();
    let vit = Vit::new(config, "", &mut table).unwrap();
    let mut params = vec![0.0; table.len()];
    // Matrices so large that pictures are told apart.
    for (i, (name, _, param)) in vit.tensors().enumerate() {
        let (size, middle) = match name {
            name if name.contains("norm") => (0.1, f32::from(u8::from(name.ends_with("weight")))),
            name if name.ends_with("weight") => (0.3, 0.0),
            _ => (0.1, 0.0),
        };
        let mut stream = Stream::new(5, Domain::Init, [i as u32, 0, 0]);
        param.of_mut(&mut params).iter_mut().for_each(|value| *value = middle + stream.uniform_in(-size, size));
    }
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = vit
        .tensors()
        .filter(|(name, ..)| !(config.variant.norm_pre && *name == "patch_embed.proj.bias"))
        .map(|(name, shape, param)| (name.to_owned(), shape.to_vec(), param.of(&params).to_vec()))
        .collect();
    if config.variant.registers > 0 {
        // timm's have positions of patches alone.
        let (_, shape, values) = tensors.iter_mut().find(|(name, ..)| name == "pos_embed").unwrap();
        values.drain(..config.leading() * config.width);
        shape[1] -= config.leading();
    }
    for block in 0..config.depth * usize::from(scaled) {
        let gamma = |j: usize| (0..config.width).map(|i| 0.2 + (i * 7 % 10 + j) as f32 * 0.1).collect::<Vec<f32>>();
        tensors.extend([1, 2].map(|j| (format!("blocks.{block}.ls{j}.gamma"), vec![config.width], gamma(j))));
    }
    let views: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), &values[..])).collect();
    write_safetensors(folder.join("model.safetensors"), &views, &[]).unwrap();
    let args = json!({
        "img_size": config.image_size, "patch_size": config.patch_size, "embed_dim": config.width, "depth": config.depth,
        "num_heads": config.heads,
    });
    let config = json!({"architecture": architecture, "model_args": args, "pretrained_cfg": {"crop_pct": 1.0}});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// Features that a probe kept, by the pictures they are of.
fn kept(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| SafeTensors::open(entry.unwrap().path()).unwrap());
    let of = |file: SafeTensors| {
        let shape = file.shape("features").unwrap().to_vec();
        (format!("{} {shape:?}", file.metadata("pictures").unwrap()), file.f32("features", &shape).unwrap())
    };
    let mut all: Vec<_> = files.map(of).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn rms(values: impl Iterator<Item = f32>) -> f64 {
    let squares: Vec<f64> = values.map(|value| f64::from(value).powi(2)).collect();
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}

/// Features of the CPU but for the rounding of bf16.
fn follows_the_cpu(model: Model, config: &VitConfig, architecture: &str, scaled: bool) {
    if !has_kernels() {
        return;
    }
    let root = TempDir::new().unwrap();
    let path = |name: &str| root.path().join(name);
    for name in ["data", "encoder"] {
        fs::create_dir(path(name)).unwrap();
    }
    shards(&path("data"), 12, 3, &of_classes(3));
    folder(&path("encoder"), config, architecture, scaled);
    let run = |device: &str| {
        let [data, encoder, output, features] =
            [path("data"), path("encoder"), path(&format!("out-{device}")), path(device)];
        let line = format!(
            "eval linear --checkpoint {} --train {} --holdout 0.5 --device {device} --epochs 1 --batch 4 --lrs 0.1 \
             --augmentation none --features {} --output {}",
            encoder.display(),
            data.display(),
            features.display(),
            output.display()
        );
        let done = stablerep(model, &line.split_whitespace().collect::<Vec<_>>()).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        kept(&features)
    };
    let (cpu, cuda) = (run("cpu"), run("cuda"));
    assert!(!cpu.is_empty() && cpu.len() == cuda.len());
    for ((name, want), (same, got)) in cpu.iter().zip(&cuda) {
        assert_eq!(name, same);
        let apart = rms(want.iter().zip(got).map(|(a, b)| a - b)) / rms(want.iter().copied());
        assert!(apart < 0.02, "{name}: {apart}");
        // Pictures are told apart by more than that.
        let pictures = rms(want.iter().zip(&want[config.width..]).map(|(a, b)| a - b)) / rms(want.iter().copied());
        assert!(pictures > 0.1, "{name}: {pictures}");
    }
}

fn sizes(image_size: usize, patch_size: usize, variant: Variant) -> VitConfig {
    let plain = VitConfig::named("vit_small").unwrap();
    VitConfig { image_size, patch_size, width: 64, depth: 2, heads: 2, variant, ..plain }
}

fn dino_v2(model: Model) {
    let config = sizes(28, 14, Variant { registers: 4, ..Variant::default() });
    follows_the_cpu(model, &config, "vit_small_patch14_reg4_dinov2", true);
}

fn clip(model: Model) {
    let config = sizes(32, 16, Variant { norm_pre: true, quick_gelu: true, registers: 0 });
    follows_the_cpu(model, &config, "vit_base_patch16_clip_quickgelu_224", false);
}

#[test]
fn dino_v2_with_registers_on_hopper() {
    dino_v2(Model::H200);
}

#[test]
fn dino_v2_with_registers_on_ampere() {
    dino_v2(Model::A100);
}

#[test]
fn clip_on_hopper() {
    clip(Model::H200);
}

#[test]
fn clip_on_ada() {
    clip(Model::Rtx4090);
}
