//! `--model` through the binary: what is no model says what it is, what diffusers puts right is put right aloud,
//! numbers are recorded short.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stablerep::shards::Shards;
use tempfile::TempDir;

use crate::common::{command, fails, files, root, run, succeeds, text};

/// A folder with a copy of the tiny model, `model`, and two captions.
fn scratch() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files(&root().join("assets/tiny-sd")) {
        let path = folder.path().join("model").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(folder.path().join("captions.txt"), "a photo of a bag\na photo of a coat\n").unwrap();
    folder
}

fn arguments(folder: &Path, model: &str, output: &str, extra: &[&str]) -> Vec<String> {
    let captions = text(&folder.join("captions.txt"));
    let output = text(&folder.join(output));
    let line =
        ["generate", "--steps", "2", "--threads", "1", "--model", model, "--captions", &captions, "--output", &output];
    line.iter().chain(extra).map(|&word| word.to_owned()).collect()
}

/// Draws, and gives what was said on standard error.
fn draw(folder: &Path, model: &str, output: &str, extra: &[&str]) -> String {
    let args = arguments(folder, model, output, extra);
    let ran = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{args:?}\n{said}");
    said
}

fn refuses(folder: &Path, model: &Path, code: i32, needles: &[&str]) {
    let args = arguments(folder, &text(model), "refused", &[]);
    fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), code, needles);
    assert!(!folder.join("refused").exists(), "a refused run made its folder");
}

/// Pictures of a folder of one shard.
fn pictures(folder: &Path, output: &str) -> Vec<Vec<u8>> {
    let shards = Shards::open(&[folder.join(output).join("00000.tar")]).unwrap();
    shards.iter().map(|sample| sample.picture().unwrap().read().unwrap()).collect()
}

#[test]
fn what_is_no_model_says_what_it_is() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let empty = at("empty");
    fs::create_dir(&empty).unwrap();
    refuses(folder.path(), &empty, 2, &["diffusers folder", "is empty"]);
    refuses(folder.path(), &at("nowhere"), 2, &["no such folder", "--model bundled"]);

    let cache = at("models--someone--sd");
    fs::create_dir_all(cache.join("refs")).unwrap();
    fs::create_dir_all(cache.join("snapshots/0123abc")).unwrap();
    refuses(folder.path(), &cache, 2, &["diffusers folder", "cache's outer folder", "snapshots/0123abc"]);

    let parent = fs::canonicalize(at("model")).unwrap();
    for part in ["unet", "text_encoder", "tokenizer", "scheduler"] {
        refuses(folder.path(), &at("model").join(part), 2, &["one part of a model", &text(&parent)]);
    }

    for name in ["dreamy.safetensors", "old.ckpt"] {
        let file = at(name);
        fs::write(&file, "weights").unwrap();
        refuses(folder.path(), &file, 2, &["single file", "from_single_file", &text(&file), "save_pretrained"]);
    }
    let holds = at("downloads");
    fs::create_dir(&holds).unwrap();
    fs::rename(at("dreamy.safetensors"), holds.join("dreamy.safetensors")).unwrap();
    refuses(folder.path(), &holds, 2, &["diffusers folder", "from_single_file", "dreamy.safetensors"]);
    let outer = at("outer");
    fs::create_dir(&outer).unwrap();
    fs::rename(at("model"), outer.join("inner")).unwrap();
    refuses(folder.path(), &outer, 2, &["there is one inside", "outer/inner"]);
    refuses(folder.path(), &at("captions.txt"), 2, &["is a file", "diffusers folder"]);
}

#[test]
fn files_that_are_not_what_their_names_say() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167540\n";
    for (file, bytes, needles) in [
        ("unet/diffusion_pytorch_model.safetensors", pointer.as_bytes(), &["Git LFS pointer", "git lfs pull"][..]),
        ("tokenizer/vocab.json", pointer.as_bytes(), &["vocab.json", "Git LFS pointer"]),
        ("tokenizer/merges.txt", pointer.as_bytes(), &["merges.txt", "Git LFS pointer"]),
        ("vae/config.json", pointer.as_bytes(), &["vae/config.json", "Git LFS pointer"]),
        ("unet/diffusion_pytorch_model.safetensors", b"\x1f\x8b\x08\x00rest of it", &["gzip"]),
        ("unet/diffusion_pytorch_model.safetensors", b"<!DOCTYPE html><html>", &["web page"]),
        ("text_encoder/model.safetensors", b"PK\x03\x04 archive/data.pkl", &["zip archive"]),
        ("model_index.json", br#"{"_class_name": "X", "text_encoder_2": ["transformers", "Y"]}"#, &["text_encoder_2"]),
        (
            "model_index.json",
            br#"{"controlnet": ["diffusers", "ControlNetModel"]}"#,
            &["controlnet", "ControlNetModel"],
        ),
        ("model_index.json", br#"{"unet": [null, null]}"#, &["model_index.json", "`unet`", "without this part"]),
        (
            "model_index.json",
            br#"{"vae": ["diffusers", "AutoencoderTiny"]}"#,
            &["`vae`", "AutoencoderKL", "AutoencoderTiny"],
        ),
        ("model_index.json", br#"{"unet": ["onnx", "UNet2DConditionModel"]}"#, &["`unet`", "diffusers", "onnx"]),
        (
            "model_index.json",
            br#"{"_class_name": "StableDiffusionXLPipeline"}"#,
            &["`_class_name`", "expected StableDiffusionPipeline", "StableDiffusionXLPipeline"],
        ),
        (
            "model_index.json",
            br#"{"_class_name": "A", "_class_name": "B"}"#,
            &["model_index.json", "`_class_name`", "twice"],
        ),
    ] {
        let folder = scratch();
        fs::write(folder.path().join("model").join(file), bytes).unwrap();
        refuses(folder.path(), &folder.path().join("model"), 3, needles);
    }
}

#[test]
fn variants_and_shards_by_their_names() {
    let folder = scratch();
    let model = text(&folder.path().join("model"));
    draw(folder.path(), &model, "whole", &[]);
    let expected = pictures(folder.path(), "whole");
    let unet = folder.path().join("model/unet");
    let whole = unet.join("diffusion_pytorch_model.safetensors");
    let weights = stablerep::weights::SafeTensors::open(&whole).unwrap();
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    let index = |variant: &str, file: &str| {
        let map: serde_json::Map<String, Value> = names.iter().map(|name| (name.clone(), file.into())).collect();
        let path = unet.join(format!("diffusion_pytorch_model.safetensors.index{variant}.json"));
        fs::write(&path, serde_json::json!({"metadata": {"total_size": f64::MAX}, "weight_map": map}).to_string())
            .unwrap();
        path
    };
    let mut last = whole;
    let mut rename = |name: &str| {
        let next: PathBuf = unet.join(name);
        fs::rename(&last, &next).unwrap();
        last = next;
    };
    for (i, (file, variant)) in [
        ("diffusion_pytorch_model.fp16.safetensors", None),
        ("diffusion_pytorch_model.bf16.safetensors", None),
        ("diffusion_pytorch_model-00001-of-00001.safetensors", Some("")),
        ("diffusion_pytorch_model-00001-of-00001.fp16.safetensors", Some(".fp16")),
    ]
    .into_iter()
    .enumerate()
    {
        rename(file);
        let index = variant.map(|variant| index(variant, file));
        let output = format!("variant{i}");
        draw(folder.path(), &model, &output, &[]);
        assert!(pictures(folder.path(), &output) == expected, "{file}");
        index.map(fs::remove_file).transpose().unwrap();
    }
    refuses(folder.path(), &folder.path().join("model"), 3, &["-00001-of-00001.fp16.safetensors", "index is missing"]);
    rename("diffusion_pytorch_model.non_ema.safetensors");
    refuses(folder.path(), &folder.path().join("model"), 3, &["non_ema", "rename"]);
}

#[test]
fn the_model_in_the_binary_is_a_name() {
    let folder = scratch();
    let said = draw(folder.path(), "bundled", "bundled", &[]);
    assert!(said.contains("garments"), "{said}");
    // The same model, so the same folder goes on.
    draw(folder.path(), &text(&folder.path().join("model")), "bundled", &[]);
    let (shard, key) = (text(&folder.path().join("bundled/00000.tar")), "00000001_000");
    let out = succeeds(&["inspect", &shard, "--regenerate", key, "--model", "bundled"]);
    assert!(out.contains("byte for byte"), "{out}");
}

#[test]
fn numbers_are_recorded_as_they_were_given() {
    let folder = scratch();
    let model = text(&folder.path().join("model"));
    draw(folder.path(), &model, "out", &["-w", "2.1"]);
    let record = folder.path().join("out/generate.json");
    let recorded = fs::read_to_string(&record).unwrap();
    assert!(recorded.contains("\"guidance_scale\": 2.1,"), "{recorded}");
    let shards = Shards::open(&[folder.path().join("out/00000.tar")]).unwrap();
    let json = String::from_utf8(shards.iter().next().unwrap().read("json").unwrap().unwrap()).unwrap();
    assert!(json.contains("\"guidance_scale\":2.1,"), "{json}");
    // As earlier versions wrote it.
    fs::write(&record, recorded.replace("2.1,", "2.0999999046325684,")).unwrap();
    draw(folder.path(), &model, "out", &["-w", "2.1"]);
    let out =
        succeeds(&["inspect", &text(&folder.path().join("out")), "--regenerate", "00000000_000", "--model", &model]);
    assert!(out.contains("byte for byte"), "{out}");
    draw(folder.path(), &model, "sweep", &["--sweep-guidance", "0.3,2.1"]);
    assert!(folder.path().join("sweep/w=0.3").is_dir() && folder.path().join("sweep/w=2.1").is_dir());
}

#[test]
fn scales_below_one_belong_to_another_folder_than_before() {
    let folder = scratch();
    let model = text(&folder.path().join("model"));
    draw(folder.path(), &model, "alone", &["-w", "1"]);
    draw(folder.path(), &model, "zero", &["-w", "0"]);
    assert!(pictures(folder.path(), "zero") == pictures(folder.path(), "alone"));
    let record = folder.path().join("zero/generate.json");
    let recorded = fs::read_to_string(&record).unwrap();
    assert!(recorded.contains("\"as_diffusers\": true"), "{recorded}");
    // Earlier versions drew without the caption then, and said nothing of this key.
    let mut old: Value = serde_json::from_str(&recorded).unwrap();
    old.as_object_mut().unwrap().remove("as_diffusers");
    fs::write(&record, old.to_string()).unwrap();
    let args = arguments(folder.path(), &model, "zero", &["-w", "0"]);
    fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["diffusers"]);
}

#[test]
fn what_is_cut_or_put_right_is_said() {
    let folder = scratch();
    let model = folder.path().join("model");
    let (named, long) = (text(&model), "bag ".repeat(80));
    let said = draw(folder.path(), &named, "cut", &["--negative-prompt", &long]);
    assert!(said.contains("--negative-prompt: its last 5 tokens are cut"), "{said}");
    let said = draw(folder.path(), &named, "short", &["--negative-prompt", "bag"]);
    assert!(!said.contains("negative"), "{said}");
    let said = draw(folder.path(), &named, "alone", &["-w", "1", "--negative-prompt", "bag"]);
    assert!(said.contains("--negative-prompt has no effect"), "{said}");

    let scheduler = model.join("scheduler/scheduler_config.json");
    let config = fs::read_to_string(&scheduler).unwrap();
    for (output, from, to, key) in [
        ("clip", "  \"clip_sample\": false,\n", "", "clip_sample"),
        ("offset", "  \"steps_offset\": 1,\n", "", "steps_offset"),
        ("clip true", "\"clip_sample\": false", "\"clip_sample\": true", "`clip_sample` true: taken as false"),
        ("offset 0", "\"steps_offset\": 1", "\"steps_offset\": 0", "`steps_offset` 0: taken as 1"),
        ("spacing", "\"leading\"", "\"linspace\"", "timestep_spacing"),
    ] {
        assert!(config.contains(from), "{config}");
        fs::write(&scheduler, config.replace(from, to)).unwrap();
        let said = draw(folder.path(), &named, output, &[]);
        assert!(said.contains(key), "{output}: {said}");
    }
    fs::write(&scheduler, config.replace("\"trained_betas\": null", "\"lambda_min_clipped\": -Infinity")).unwrap();
    draw(folder.path(), &named, "infinity", &[]);
    fs::write(&scheduler, config).unwrap();
    draw(folder.path(), &named, "plain", &[]);
    let plain = pictures(folder.path(), "plain");
    for output in ["clip", "offset", "clip true", "offset 0", "infinity"] {
        assert!(pictures(folder.path(), output) == plain, "{output}");
    }
}

/// Opening a pipe would wait for who writes into it.
#[test]
fn pipes_in_place_of_files_are_named() {
    for file in ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"] {
        let folder = scratch();
        let path = folder.path().join("model").join(file);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refuses(folder.path(), &folder.path().join("model"), 3, &[file]);
    }
}

/// Where there is a cache nothing is left beside it, whenever the program is killed; without one, nothing after the
/// run.
#[test]
fn the_bundled_model_is_unpacked_where_it_is_found_again() {
    let folder = scratch();
    let (cache, temporary) = (folder.path().join("cache"), folder.path().join("temporary"));
    fs::create_dir(&temporary).unwrap();
    let absent = folder.path().join("absent");
    let draw = |output: &str, cache: &Path, temporary: &Path| {
        let args = arguments(folder.path(), "bundled", output, &[]);
        let mut command = command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let ran = command.env("STABLEREP_CACHE", cache).env("TMPDIR", temporary).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        pictures(folder.path(), output)
    };
    let first = draw("first", &cache, &absent);
    // A kill half-way, or somebody who tidied up.
    let unet = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path().join("tiny-sd/unet/config.json"));
    fs::write(unet.filter(|path| path.exists()).last().unwrap(), "{").unwrap();
    assert_eq!(draw("again", &cache, &absent), first);
    assert_eq!(draw("without", Path::new("off"), &temporary), first);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

/// The same JSON key twice: Python would take the last, and nobody knows which one is meant.
#[test]
fn keys_of_configs_come_once() {
    for (file, key, value) in [
        ("scheduler/scheduler_config.json", "beta_end", "0.02"),
        ("unet/config.json", "in_channels", "4"),
        ("vae/config.json", "scaling_factor", "0.2"),
        ("text_encoder/config.json", "vocab_size", "588"),
        ("tokenizer/vocab.json", "a</w>", "7"),
    ] {
        let folder = scratch();
        let path = folder.path().join("model").join(file);
        let config = fs::read_to_string(&path).unwrap();
        fs::write(&path, config.replacen('{', &format!("{{\"{key}\": {value},"), 1)).unwrap();
        refuses(folder.path(), &folder.path().join("model"), 3, &[file, &format!("`{key}`"), "twice"]);
    }
}

/// Tensors that no layer reads: of another kind of model they are refused, others are counted, known ones are silent.
#[test]
fn tensors_without_a_layer() {
    let with = |part: &str, name: &str| {
        let folder = scratch();
        let file = match part {
            "text_encoder" => "text_encoder/model.safetensors".to_owned(),
            part => format!("{part}/diffusion_pytorch_model.safetensors"),
        };
        let path = folder.path().join("model").join(&file);
        let weights = stablerep::weights::SafeTensors::open(&path).unwrap();
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = weights
            .names()
            .map(|name| {
                let shape = weights.shape(name).unwrap().to_vec();
                let values = weights.f32(name, &shape).unwrap();
                (name.to_owned(), shape, values)
            })
            .collect();
        tensors.push((name.to_owned(), vec![2], vec![1.0, f32::NAN]));
        let tensors: Vec<_> =
            tensors.iter().map(|(name, shape, data)| (name.clone(), shape.clone(), data.as_slice())).collect();
        drop(weights);
        stablerep::weights::write_safetensors(&path, &tensors, &[]).unwrap();
        (folder, file)
    };
    for (part, name, what) in [
        ("unet", "class_embedding.weight", "conditioned on classes"),
        ("unet", "add_embedding.linear_1.weight", "Stable Diffusion XL"),
        ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", "--lora"),
        ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", "--lora"),
    ] {
        let (folder, file) = with(part, name);
        refuses(folder.path(), &folder.path().join("model"), 3, &[&file, &format!("`{name}`"), what]);
    }
    for (part, name, noted) in [
        ("unet", "something.weight", true),
        ("text_encoder", "text_projection.weight", true),
        ("text_encoder", "text_model.embeddings.position_ids", false),
        ("vae", "encoder.conv_in.extra", false),
        ("vae", "loss.logvar", true),
    ] {
        let (folder, file) = with(part, name);
        let said = draw(folder.path(), &text(&folder.path().join("model")), "out", &[]);
        let note = said.lines().find(|line| line.starts_with("note: ") && line.contains("not used"));
        assert_eq!(note.is_some(), noted, "{name}: {said}");
        if let Some(note) = note {
            assert!(
                note.contains(&file) && note.contains("1 tensor(s)") && note.contains(&format!("`{name}`")),
                "{note}"
            );
        }
    }
}
