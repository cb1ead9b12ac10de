use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use stablerep::device::Plan;
use stablerep::error::{Error, Result};
use stablerep::eval::encoder::{Encoder, ModelSource};
use stablerep::eval::timm;
use stablerep::image::Filter;
use stablerep::models::vit::{CropMode, Preprocessing, VitConfig, VitFile};
use stablerep::ops::augment::Normalize;
use stablerep::shards::Shards;
use stablerep::train::method::Name;
use stablerep::train::{Augmentation, BatchNorm, DataRecord, Length, Rate, Recipe, State, checkpoint};
use stablerep::weights::{SafeTensors, write_safetensors};
use tempfile::TempDir;

fn small() -> VitConfig {
    VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 24,
        depth: 2,
        heads: 3,
        mlp_ratio: 2,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    }
}

fn open(path: &Path, heads: Option<usize>) -> Result<Encoder> {
    Encoder::open(&ModelSource::Checkpoint { path: path.to_path_buf(), heads, weights: None, image_size: None })
}

/// Writes the weights of `encoder` with `prefix` before timm's names and `extra` tensors beside them.
fn write(path: &Path, encoder: &Encoder, prefix: &str, extra: &[&str], metadata: &[(&str, String)]) {
    let other = [1.0f32, 2.0];
    let mut tensors: Vec<_> = encoder
        .vit()
        .tensors()
        .map(|(name, shape, param)| (format!("{prefix}{name}"), shape.to_vec(), param.of(encoder.params())))
        .collect();
    tensors.extend(extra.iter().map(|name| (name.to_string(), vec![2], &other[..])));
    write_safetensors(path, &tensors, metadata).unwrap();
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn export_and_import_keep_every_bit() {
    let root = TempDir::new().unwrap();
    for (i, model) in [small(), VitConfig { depth: 1, ..VitConfig::named("vit_tiny").unwrap() }].iter().enumerate() {
        let fresh = Encoder::random(model, 7).unwrap();
        let (mean, std) = ([0.1, 0.25, 0.3], [0.31, 0.5, 0.7]);
        let encoder = Encoder::from_params(model, fresh.params().to_vec(), mean, std, "test").unwrap();
        let folder = root.path().join(i.to_string());
        timm::export(&encoder, &folder).unwrap();
        for path in [folder.clone(), folder.join("model.safetensors")] {
            let again = open(&path, None).unwrap();
            assert_eq!(again.vit().config(), model);
            assert_eq!(bits(again.params()), bits(encoder.params()));
            assert_eq!((again.mean(), again.std()), (mean, std));
        }
    }
}

/// Of a size that is asked for, only positions are others.
#[test]
fn an_encoder_of_larger_images() {
    let root = TempDir::new().unwrap();
    let encoder = Encoder::random(&small(), 7).unwrap();
    timm::export(&encoder, root.path()).unwrap();
    let sized = |image_size| {
        let path = root.path().to_owned();
        Encoder::open(&ModelSource::Checkpoint { path, heads: None, weights: None, image_size: Some(image_size) })
    };
    assert_eq!(bits(sized(32).unwrap().params()), bits(encoder.params()));
    let larger = sized(40).unwrap();
    assert_eq!(larger.vit().config(), &VitConfig { image_size: 40, ..small() });
    assert_eq!(larger.features_of(&vec![0.5; 40 * 40 * 3]).unwrap().len(), small().width);
    for ((name, _, new), (_, _, old)) in larger.vit().tensors().zip(encoder.vit().tensors()) {
        let same = bits(new.of(larger.params())) == bits(old.of(encoder.params()));
        assert_eq!(same, name != "pos_embed", "{name}");
    }
    let error = sized(35).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--image-size 35 is not a multiple"), "{error}");
}

#[test]
fn config_json_is_timms() {
    let root = TempDir::new().unwrap();
    let config = |model: &VitConfig| -> Value {
        timm::export(&Encoder::random(model, 0).unwrap(), root.path()).unwrap();
        serde_json::from_slice(&fs::read(root.path().join("config.json")).unwrap()).unwrap()
    };
    let tiny = config(&VitConfig::named("vit_tiny").unwrap());
    assert_eq!(tiny["architecture"], "vit_tiny_patch16_224");
    assert_eq!((&tiny["num_classes"], &tiny["num_features"]), (&json!(0), &json!(192)));
    assert_eq!((&tiny["global_pool"], &tiny["model_args"]), (&json!("token"), &Value::Null));
    let pretrained = &tiny["pretrained_cfg"];
    assert_eq!(pretrained["input_size"], json!([3, 224, 224]));
    assert_eq!(pretrained["mean"], json!([0.485, 0.456, 0.406]));
    assert_eq!(pretrained["std"], json!([0.229, 0.224, 0.225]));
    assert_eq!(pretrained["crop_pct"], json!(0.875));
    assert_eq!((&pretrained["first_conv"], &pretrained["classifier"]), (&json!("patch_embed.proj"), &json!("head")));
    let odd = config(&small());
    let args = json!({"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2});
    assert_eq!(odd["model_args"], args);
    assert_eq!(odd["pretrained_cfg"]["crop_pct"], json!(1.0));
}

/// Official checkpoints as safetensors: `visual.` beside the head, `module.` in front when several GPUs trained it.
#[test]
fn official_names_are_imported() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("official.safetensors");
    let model = VitConfig { width: 64, heads: 1, ..small() };
    let encoder = Encoder::random(&model, 3).unwrap();
    for (prefix, extra) in [
        ("visual.", "image_mlp.layer1.weight"),
        ("module.visual.", "module.image_mlp.bn1.running_var"),
        ("", "image_mlp.layer3.bias"),
        ("", "head.bias"),
    ] {
        write(&path, &encoder, prefix, &[extra], &[]);
        let again = open(&path, Some(1)).unwrap();
        assert_eq!(again.vit().config(), &model);
        assert_eq!(bits(again.params()), bits(encoder.params()));
        assert_eq!((again.mean(), again.std()), (Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD));
    }
}

#[test]
fn training_checkpoints_bring_heads_mean_and_std() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("checkpoint.safetensors");
    let encoder = Encoder::random(&small(), 3).unwrap();
    let metadata = |model: &str| {
        [("model", model.to_string()), ("mean", "[0.5,0.25,0.125]".into()), ("std", "[0.5,0.5,1.0]".into())]
    };
    let text = serde_json::to_string(&small()).unwrap();
    write(&path, &encoder, "visual.", &["adam.m.visual.cls_token", "image_mlp.bn1.weight"], &metadata(&text));
    let again = open(&path, None).unwrap();
    assert_eq!(again.vit().config(), &small());
    assert_eq!((again.mean(), again.std()), ([0.5, 0.25, 0.125], [0.5, 0.5, 1.0]));
    // The folder of the run stands for its checkpoint.
    assert_eq!(bits(open(root.path(), None).unwrap().params()), bits(encoder.params()));
    write(&path, &encoder, "visual.", &[], &metadata("{}"));
    let error = open(&path, None).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("`model`"), "{error}");
}

#[test]
fn heads_that_cannot_be_told_are_asked_for() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("timm.safetensors");
    write(&path, &Encoder::random(&small(), 3).unwrap(), "", &[], &[]);
    let error = open(&path, None).unwrap_err();
    assert!(matches!(&error, Error::Usage(text) if text.contains("--heads")), "{error}");
    assert_eq!(open(&path, Some(3)).unwrap().vit().config(), &small());
    let error = open(&path, Some(5)).unwrap_err();
    assert!(matches!(&error, Error::Usage(text) if text.contains("--heads 5")), "{error}");
}

/// A lone file of the sizes of a standard ViT is that one; a name in timm's config.json tells more than sizes do.
#[test]
fn heads_are_read_or_asked_for_and_contradictions_refused() {
    let root = TempDir::new().unwrap();
    let folder = root.path();
    let model = VitConfig { image_size: 32, ..VitConfig::named("vit_tiny").unwrap() };
    let encoder = Encoder::random(&model, 0).unwrap();
    let alone = folder.join("alone.safetensors");
    write(&alone, &encoder, "", &[], &[]);
    assert_eq!(open(&alone, None).unwrap().vit().config().heads, 3);
    write(&folder.join("model.safetensors"), &encoder, "", &[], &[]);
    let with = |config: Value| {
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        open(folder, None).map(|encoder| encoder.vit().config().heads).map_err(|error| error.to_string())
    };
    let refused = |config: Value, needles: &[&str]| {
        let text = with(config).unwrap_err();
        for needle in needles {
            assert!(text.contains(needle), "expected `{needle}` in {text}");
        }
    };
    assert_eq!(with(json!({"architecture": "vit_tiny_patch16_32.mine", "global_pool": "token"})), Ok(3));
    let args = |args: Value| json!({"architecture": "vit_tiny_patch16_224", "model_args": args});
    assert_eq!(with(args(json!({"img_size": 32, "num_heads": 6, "class_token": true, "drop_rate": 0.1}))), Ok(6));
    assert_eq!(with(args(json!({"img_size": [32, 32], "init_values": null, "act_layer": "gelu"}))), Ok(3));
    let python = r#"{"architecture": "vit_tiny_patch16_32", "pretrained_cfg": {"crop_pct": 0.9, "loss": NaN}}"#;
    fs::write(folder.join("config.json"), python).unwrap();
    // What it leaves out is as timm has it by default.
    let told = Preprocessing { crop_pct: 0.9, mode: CropMode::Center, filter: Filter::Bicubic };
    assert_eq!(open(folder, None).unwrap().preprocessing(), Some(told));
    // Names of other networks tell no heads, although the width is vit_tiny's.
    refused(json!({"architecture": "vit_mine_patch16_32"}), &["vit_mine_patch16_32", "--heads N"]);
    for other in [
        "resnet50",
        "vit_relpos_small_patch16_224",
        "eva02_tiny_patch14_224",
        "deit3_small_patch16_224",
        "convnext_tiny.fb_in22k",
    ] {
        refused(json!({"architecture": other}), &[other, "none of timm's plain ViTs, vit_… and deit_…"]);
    }
    // The words of Python's that are no JSON, where they are asked for.
    for (text, needles) in [
        (
            "{\"architecture\": \"vit_tiny_patch16_32\",\n\"pretrained_cfg\":\n{\"crop_pct\": NaN}}",
            "crop_pct is NaN (line 3)",
        ),
        (
            "{\"architecture\":\n\"vit_tiny_patch16_32\", \"mean\": [0.5, -Infinity, 1]}",
            "mean is [0.5,-Infinity,1] (line 2)",
        ),
        (
            "{\"architecture\": \"vit_tiny_patch16_32\", \"model_args\": {\n\n\"depth\": Infinity}}",
            "depth is Infinity (line 3)",
        ),
    ] {
        fs::write(folder.join("config.json"), text).unwrap();
        let error = open(folder, None).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(needles), "{error}");
    }
    refused(json!({"architecture": "vit_huge_patch16_32"}), &["vit_huge_patch16_32", "width 1280", "192"]);
    refused(json!({"architecture": "vit_tiny_patch16_224"}), &["image size 224", "32"]);
    refused(args(json!({"img_size": 32, "depth": 6})), &["depth 6", "12"]);
    for (key, value) in [
        ("qk_norm", json!("yes")),
        ("class_token", json!(false)),
        ("init_values", json!(1e-5)),
        ("reg_tokens", json!(4)),
        ("act_layer", json!("relu")),
        ("norm_layer", json!("rmsnorm")),
        ("global_pool", json!("avg")),
        ("something_new", json!(1)),
    ] {
        refused(args(json!({"img_size": 32, key: value})), &[key]);
    }
    let error = Encoder::open(&ModelSource::Checkpoint {
        path: folder.into(),
        heads: Some(4),
        weights: None,
        image_size: None,
    })
    .unwrap_err();
    assert!(error.to_string().contains("something_new"), "{error}");
    with(json!({"architecture": "vit_tiny_patch16_32"})).unwrap();
    let error = open(folder, Some(4)).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("3 heads"), "{error}");
}

/// Norms of queries and keys are found by their names, go to timm and back, and are no part of a model without.
#[test]
fn norms_of_queries_and_keys_are_known_again() {
    let root = TempDir::new().unwrap();
    let normed = VitConfig { qk_norm: true, ..small() };
    let mut params = Encoder::random(&normed, 3).unwrap().params().to_vec();
    params.iter_mut().enumerate().for_each(|(i, value)| *value += (i % 5) as f32 * 0.01);
    let (mean, std) = (Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD);
    let encoder = Encoder::from_params(&normed, params, mean, std, "test").unwrap();
    assert!(encoder.describe().ends_with("3 heads, norms of queries and keys"));
    let folder = root.path().join("timm");
    timm::export(&encoder, &folder).unwrap();
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(config["model_args"]["qk_norm"], json!(true));
    let again = open(&folder, None).unwrap();
    assert_eq!((again.vit().config(), bits(again.params())), (&normed, bits(encoder.params())));
    let images: Vec<f32> = (0..2 * 32 * 32 * 3).map(|i| (i % 23) as f32 * 0.1 - 1.0).collect();
    assert_eq!(bits(&again.features_of(&images).unwrap()), bits(&encoder.features_of(&images).unwrap()));
    // Tensors decide; what is said of them must be so.
    config["model_args"]["qk_norm"] = json!(false);
    fs::write(&path, config.to_string()).unwrap();
    let error = open(&folder, None).unwrap_err().to_string();
    assert!(error.contains("no norms of queries and keys, its tensors have norms of queries and keys"), "{error}");
    let plain = root.path().join("plain.safetensors");
    write(&plain, &Encoder::random(&small(), 3).unwrap(), "", &[], &[]);
    let with = root.path().join("with.safetensors");
    write(&with, &encoder, "", &[], &[]);
    for (file, model, needle) in [(&plain, &normed, "leave --qk-norm out"), (&with, &small(), "give --qk-norm")] {
        let error = VitFile::open(file).unwrap().check_is(model).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(needle), "{error}");
    }
}

/// An export writes over nothing but an export.
#[test]
fn exports_stay_out_of_other_folders() {
    let root = TempDir::new().unwrap();
    let encoder = Encoder::random(&small(), 3).unwrap();
    let refused = |folder: &Path, needle: &str| {
        let before: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        let error = timm::export(&encoder, folder).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(needle), "{error}");
        assert_eq!(before, fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>());
    };
    let folder = |name: &str, files: &[(&str, &str)]| {
        let folder = root.path().join(name);
        fs::create_dir(&folder).unwrap();
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), text).unwrap());
        folder
    };
    refused(&folder("run", &[("config.json", "{}"), ("metrics.jsonl", "")]), "training run");
    refused(&folder("shards", &[("00000.tar", "")]), "00000.tar");
    refused(&folder("other", &[("config.json", r#"{"pretrained_cfg": {"tag": "augreg"}}"#)]), "config.json");
    refused(&folder("weights", &[("model.safetensors", "not mine")]), "model.safetensors");
    // Its own, whole or left by a kill before the last file, and an empty folder.
    let own = folder("own", &[]);
    timm::export(&encoder, &own).unwrap();
    let config = fs::read(own.join("config.json")).unwrap();
    fs::remove_file(own.join("config.json")).unwrap();
    timm::export(&encoder, &own).unwrap();
    assert_eq!(fs::read(own.join("config.json")).unwrap(), config);
    timm::export(&Encoder::random(&VitConfig { heads: 4, ..small() }, 3).unwrap(), &own).unwrap();
    assert_eq!(open(&own, None).unwrap().vit().config().heads, 4);
    // What somebody wrote there since is not replaced, nor written beside.
    let config = fs::read_to_string(own.join("config.json")).unwrap();
    fs::write(own.join("config.json"), config.replace("bilinear", "bicubic")).unwrap();
    refused(&own, "config.json was changed since it was exported");
    fs::write(own.join("config.json"), config).unwrap();
    fs::write(own.join("README.md"), "mine").unwrap();
    refused(&own, "README.md");
    fs::remove_file(own.join("README.md")).unwrap();
    fs::remove_file(own.join("model.safetensors")).unwrap();
    refused(&own, "config.json");
}

#[test]
fn bad_weights_are_named() {
    let root = TempDir::new().unwrap();
    let refuse = |path: &Path, parts: &[&str]| {
        let error = open(path, Some(3)).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{error}");
        }
    };
    let pickle = root.path().join("stablerep.pth");
    fs::write(&pickle, b"\x80\x02").unwrap();
    refuse(&pickle, &["stablerep.pth", "pickle", "save_file"]);

    let path = root.path().join("weights.safetensors");
    let one = [0.0f32; 24];
    write_safetensors(&path, &[("fc.weight".into(), vec![24], &one[..])], &[]).unwrap();
    refuse(&path, &["weights.safetensors", "no ViT"]);

    let encoder = Encoder::random(&small(), 3).unwrap();
    let mut params = encoder.params().to_vec();
    params[30] = f32::NAN;
    let broken =
        Encoder::from_params(&small(), params, Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD, "test").unwrap();
    write(&path, &broken, "", &[], &[]);
    refuse(&path, &["weights.safetensors", "pos_embed", "not finite"]);

    write(&path, &encoder, "", &[], &[]);
    let file = SafeTensors::open(&path).unwrap();
    let square = |name: &str, shape: &[usize]| {
        let values = file.f32(name, file.shape(name).unwrap()).unwrap();
        (name.to_string(), shape.to_vec(), values[..shape.iter().product()].to_vec())
    };
    // 14 and 15 patches are no square; a norm of another width.
    for (name, shape, part) in [
        ("pos_embed", vec![1, 15, 24], "15 positions"),
        ("blocks.1.norm2.bias", vec![23], "blocks.1.norm2.bias"),
        ("patch_embed.proj.weight", vec![24, 192], "patch_embed.proj.weight"),
    ] {
        let changed: Vec<_> = file
            .names()
            .map(|other| square(other, if other == name { &shape } else { file.shape(other).unwrap() }))
            .collect();
        let tensors: Vec<_> = changed.iter().map(|(n, s, v)| (n.clone(), s.clone(), v.as_slice())).collect();
        let damaged = root.path().join("damaged.safetensors");
        write_safetensors(&damaged, &tensors, &[]).unwrap();
        refuse(&damaged, &["damaged.safetensors", part]);
    }
    refuse(root.path(), &["stablerep.pth", "weights_only=False"]);
    fs::remove_file(&pickle).unwrap();
    refuse(root.path(), &["model.safetensors", "checkpoint.safetensors"]);
    fs::write(root.path().join("metrics.jsonl"), "").unwrap();
    refuse(root.path(), &["a training run that has no checkpoint"]);
}

#[test]
fn bad_timm_configs_are_named() {
    let root = TempDir::new().unwrap();
    timm::export(&Encoder::random(&small(), 3).unwrap(), root.path()).unwrap();
    let path = root.path().join("config.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut cases = Vec::new();
    let mut case = |key: &str, value: Value, part: &'static str| {
        let mut config = good.clone();
        *config.pointer_mut(key).unwrap() = value;
        cases.push((config.to_string(), part));
    };
    case("/global_pool", json!("avg"), "global_pool");
    case("/model_args/num_heads", json!("three"), "num_heads");
    case("/pretrained_cfg/mean", json!([0.5]), "mean");
    case("/pretrained_cfg/std", json!([0.5, 0.0, 0.5]), "std");
    case("/pretrained_cfg/crop_pct", json!(1.5), "crop_pct");
    case("/pretrained_cfg/crop_mode", json!("zoom"), "crop_mode");
    case("/pretrained_cfg/interpolation", json!("hamming"), "interpolation");
    case("/architecture", json!(7), "architecture");
    cases.push(("{".into(), "not JSON"));
    for (text, part) in cases {
        fs::write(&path, text).unwrap();
        let error = open(root.path(), None).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(error.to_string().contains(&root.path().display().to_string()), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// What training saves, probing reads: the same weights, sizes, mean and std.
#[test]
fn a_checkpoint_that_training_saved_is_read() {
    let root = TempDir::new().unwrap();
    let recipe = Recipe {
        data: vec!["shards".into()],
        weights: Vec::new(),
        positives: Default::default(),
        method: Name::StableRep,
        model: small(),
        head_dims: [8, 4],
        cpu_precision: Default::default(),
        batch_norm: BatchNorm::PerSlot,
        batch: 2,
        images_per_caption: 2,
        crops: None,
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
        queue: None,
        augmentation: Augmentation::None,
        crop_scale: [1.0, 1.0],
        local: None,
        crop_filter: None,
        downsample: false,
        shuffle: false,
        seed: 5,
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
    let network = recipe.network().unwrap();
    let mut state = State::new(&mut Plan::new(), &*network);
    state.init(&*network, &recipe).unwrap();
    let data = DataRecord::of(&Shards::open(&[]).unwrap(), None);
    checkpoint::save(&root.path().join("checkpoint.safetensors"), &*network, &state, &recipe, 10, (&data, &[]))
        .unwrap();
    let encoder = open(root.path(), None).unwrap();
    assert_eq!(encoder.vit().config(), &recipe.model);
    assert_eq!(bits(encoder.params()), bits(Encoder::random(&small(), 5).unwrap().params()));
    assert_eq!((encoder.mean(), encoder.std()), (Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD));
}
