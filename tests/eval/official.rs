//! Encoders in the files of their authors, against timm, open_clip and PyTorch.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stablerep::error::Result;
use stablerep::eval::encoder::{Encoder, ModelSource, Placement};
use stablerep::eval::language::LanguageModel;
use stablerep::eval::timm;
use stablerep::image::{Filter, Rgb8};
use stablerep::models::tokenizer::Tokenizer;
use stablerep::models::vit::{CropMode, Preprocessing, Variant, VitFile, Whose};
use stablerep::weights::{SafeTensors, write_safetensors};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoders").join(name)
}

fn expected() -> SafeTensors {
    SafeTensors::open(fixture("expected.safetensors")).unwrap()
}

/// The three pictures of `size` that every encoder of such pictures has seen.
fn pictures(size: usize) -> Vec<Rgb8> {
    let values = expected().i64(&format!("pictures.{size}"), &[3, size, size, 3]).unwrap();
    let bytes: Vec<u8> = values.into_iter().map(|value| value as u8).collect();
    bytes.chunks_exact(size * size * 3).map(|data| Rgb8 { width: size, height: size, data: data.to_vec() }).collect()
}

fn open(path: &Path, heads: Option<usize>, weights: Option<Whose>, image_size: Option<usize>) -> Result<Encoder> {
    Encoder::open(&ModelSource::Checkpoint { path: path.to_owned(), heads, weights, image_size })
}

#[track_caller]
fn near(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-5 * scale, "{what}: {got} {want}, the largest {scale}");
    }
}

/// The features of an encoder of pictures of `size` are those called `name`.
#[track_caller]
fn sees(encoder: &Encoder, size: usize, name: &str) {
    let golden = expected();
    let name = format!("{name}.features");
    let want = golden.f32(&name, golden.shape(&name).unwrap()).unwrap();
    near(&name, &encoder.features(&pictures(size)).unwrap(), &want);
}

/// The tensors of a fixture, as `change` has them, with `metadata` of its header.
fn rewrite(from: &str, to: &Path, change: impl Fn(&str) -> Option<String>) {
    let stored = SafeTensors::open(fixture(from)).unwrap();
    let numbers = |name: &str| stored.dtype(name).is_some_and(|dtype| dtype.starts_with('F'));
    let tensors: Vec<_> = stored
        .names()
        .filter(|name| numbers(name))
        .filter_map(|name| {
            let shape = stored.shape(name).unwrap().to_vec();
            Some((change(name)?, shape.clone(), stored.f32(name, &shape).unwrap()))
        })
        .collect();
    let views: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), &values[..])).collect();
    write_safetensors(to, &views, &[]).unwrap();
}

#[test]
fn checkpoints_of_their_authors() {
    for name in ["stablerep", "synclr", "moco_v3", "dino", "mae"] {
        let path = fixture(&format!("{name}.safetensors"));
        sees(&open(&path, Some(2), None, None).unwrap(), 16, name);
        // Of no known width, its heads are asked for.
        let error = open(&path, None, None, None).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("give --heads N"), "{error}");
    }
    // DINO and SynCLR are evaluated by the teacher, MoCo v3 by what learns; the other is there when it is asked for.
    for (name, usual, other, of_other) in [
        ("synclr", Whose::Teacher, Whose::Student, "synclr.student"),
        ("dino", Whose::Teacher, Whose::Student, "dino.student"),
        ("moco_v3", Whose::Student, Whose::Teacher, "moco_v3.teacher"),
    ] {
        let path = fixture(&format!("{name}.safetensors"));
        sees(&open(&path, Some(2), Some(usual), None).unwrap(), 16, name);
        let encoder = open(&path, Some(2), Some(other), None).unwrap();
        sees(&encoder, 16, of_other);
        let whose = if other == Whose::Teacher { "(the teacher's weights)" } else { "(the student's weights)" };
        assert!(encoder.source().ends_with(whose), "{}", encoder.source());
    }
    let error = open(&fixture("mae.safetensors"), Some(2), Some(Whose::Teacher), None).unwrap_err();
    assert!(error.to_string().contains("holds no momentum copy"), "{error}");
}

/// A teacher alone is read; a student that is not there is not.
#[test]
fn a_teacher_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("dino.safetensors");
    rewrite("dino.safetensors", &path, |name| name.starts_with("teacher.").then(|| name.to_owned()));
    sees(&open(&path, Some(2), None, None).unwrap(), 16, "dino");
    let error = open(&path, Some(2), Some(Whose::Student), None).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("a teacher's weights alone"), "{error}");
}

#[test]
fn dino_v2_at_its_size_and_another() {
    for (name, registers) in [("dinov2_timm", 0), ("dinov2_reg_timm", 4)] {
        let own = open(&fixture(name), None, None, None).unwrap();
        sees(&own, 28, &format!("{name}.28"));
        assert_eq!((own.vit().config().variant.registers, own.vit().config().heads), (registers, 2));
        let larger = open(&fixture(name), None, None, Some(42)).unwrap();
        sees(&larger, 42, &format!("{name}.42"));
        assert_eq!(own.describe().contains("4 registers"), registers == 4, "{}", own.describe());
    }
    // By the authors' own names, with a position of the class token.
    sees(&open(&fixture("dinov2_reg.safetensors"), Some(2), None, None).unwrap(), 28, "dinov2_reg");
}

/// Without registers and with layer scale in its layers it is timm's plain ViT, and is exported as one.
#[test]
fn dino_v2_as_a_plain_vit() {
    let folder = TempDir::new().unwrap();
    let encoder = open(&fixture("dinov2_timm"), None, None, None).unwrap();
    assert!(encoder.vit().config().variant.is_plain());
    timm::export(&encoder, folder.path()).unwrap();
    sees(&open(folder.path(), None, None, None).unwrap(), 28, "dinov2_timm.28");
    VitFile::open(&fixture("dinov2_timm")).unwrap().check_is(encoder.vit().config()).unwrap();
    // With them it is none.
    for (name, part) in [("dinov2_reg_timm", "4 registers"), ("open_clip_quick", "before the blocks, quick GELU")] {
        let other = open(&fixture(name), None, None, None).unwrap();
        let error = timm::export(&other, folder.path()).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(part), "{error}");
        let plain = stablerep::models::vit::VitConfig { variant: Variant::default(), ..other.vit().config().clone() };
        let error = VitFile::open(&fixture(name)).unwrap().check_is(&plain).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(part), "{error}");
    }
}

#[test]
fn image_towers_of_clip() {
    sees(&open(&fixture("clip_timm"), None, None, None).unwrap(), 16, "clip_timm.16");
    let quick = open(&fixture("clip_quick_timm"), None, None, None).unwrap();
    sees(&quick, 16, "clip_quick_timm.16");
    sees(&open(&fixture("clip_quick_timm"), None, None, Some(24)).unwrap(), 24, "clip_quick_timm.24");
    assert_eq!(quick.vit().config().variant, Variant { registers: 0, norm_pre: true, quick_gelu: true });
    for name in ["open_clip", "open_clip_quick"] {
        // The folder, and its file by name.
        for path in [fixture(name), fixture(name).join("open_clip_model.safetensors")] {
            let encoder = open(&path, None, None, None).unwrap();
            sees(&encoder, 16, name);
            let told = Preprocessing { crop_pct: 1.0, mode: CropMode::Squash, filter: Filter::Bicubic };
            assert_eq!(encoder.preprocessing(), Some(told));
        }
    }
    sees(&open(&fixture("openai.safetensors"), None, None, None).unwrap(), 16, "openai");
    let error = open(&fixture("open_clip"), Some(4), None, None).unwrap_err();
    assert!(error.to_string().contains("open_clip_config.json says 2 heads"), "{error}");
}

/// What tensors do not tell is not taken for granted.
#[test]
fn clips_without_their_configs_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (from, config) in [
        ("open_clip/open_clip_model.safetensors", "open_clip_config.json beside"),
        ("openai.safetensors", "open_clip_config.json beside"),
        ("clip_timm/model.safetensors", "timm's config.json beside"),
    ] {
        rewrite(from, &path, |name| Some(name.to_owned()));
        let error = open(&path, Some(2), None, None).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        for part in ["weights.safetensors", "GELU", config] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

/// A fixture's folder whose config is `change`d.
fn with_config(name: &str, file: &str, change: impl Fn(&mut Value)) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = folder.path().join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    change(&mut value);
    fs::write(config, value.to_string()).unwrap();
    folder
}

#[test]
fn configs_of_other_networks_are_refused() {
    let refused = |name: &str, file: &str, pointer: (&str, &str), value: Value, part: &str| {
        let folder = with_config(name, file, |config| {
            config.pointer_mut(pointer.0).unwrap()[pointer.1] = value.clone();
        });
        let error = open(folder.path(), None, None, None).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(part), "{pointer:?} {value}: {error}");
    };
    for (key, value, part) in [
        ("pool_type", json!("avg"), "vision_cfg.pool_type is \"avg\""),
        ("attentional_pool", json!(true), "vision_cfg.attentional_pool"),
        (
            "no_ln_pre",
            json!(true),
            "vision_cfg.no_ln_pre is true, which leaves out the norm before the blocks (ln_pre)",
        ),
        ("timm_model_name", json!("vit_x"), "vision_cfg.timm_model_name"),
        ("norm_kwargs", json!({"eps": 1e-6}), "vision_cfg.norm_kwargs"),
        ("something_new", json!(1), "vision_cfg.something_new"),
        ("layers", json!([3, 4, 6, 3]), "ResNet"),
        ("layers", json!(3), "depth 3"),
        ("width", json!("wide"), "vision_cfg.width is \"wide\""),
        ("ls_init_value", json!(null), "layer scale"),
        ("image_size", json!(32), "preprocess_cfg.size is 16"),
    ] {
        refused("open_clip", "open_clip_config.json", ("/model_cfg/vision_cfg", key), value, part);
    }
    let quick = ("/model_cfg", "quick_gelu");
    refused("open_clip", "open_clip_config.json", quick, json!("yes"), "expected true or false");
    let mode = ("/preprocess_cfg", "resize_mode");
    refused("open_clip", "open_clip_config.json", mode, json!("longest"), "shortest or squash");
    for (name, key, value, part) in [
        ("dinov2_timm", "reg_tokens", json!(4), "register tokens (reg_tokens) 4"),
        ("dinov2_timm", "init_values", json!(null), "layer scale (init_values)"),
        ("dinov2_timm", "pre_norm", json!(true), "pre_norm"),
        ("clip_timm", "pre_norm", json!(false), "pre_norm"),
        ("clip_timm", "act_layer", json!("relu"), "act_layer"),
    ] {
        refused(name, "config.json", ("/model_args", key), value, part);
    }
    let giant = json!("vit_giant_patch14_reg4_dinov2");
    refused("dinov2_timm", "config.json", ("", "architecture"), giant, "SwiGLU");
}

/// Opens the tokenizer of the bundled model, whatever a run calls it.
fn words(named: Option<&str>, length: usize) -> Result<Tokenizer> {
    assert_eq!(named, None);
    Tokenizer::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-sd/tokenizer"), length)
}

fn language(path: &Path, heads: [Option<usize>; 2]) -> Result<LanguageModel> {
    LanguageModel::open(path.to_owned(), heads, &Placement::default(), &words)
}

/// Pictures and sentences where they are compared are those called `name`.
#[track_caller]
fn compares(model: &LanguageModel, name: &str) {
    let golden = expected();
    let sentences: Vec<String> = serde_json::from_str(golden.metadata("sentences").unwrap()).unwrap();
    let texts: Vec<_> = sentences.iter().map(|sentence| model.text(sentence).unwrap()).collect();
    let features = model.encoder.features(&pictures(16)).unwrap();
    for (side, rows) in
        [("pictures", model.space().pictures(&features)), ("texts", model.space().texts(&texts).unwrap())]
    {
        let name = format!("{name}.{side}");
        near(&name, &rows, &golden.f32(&name, golden.shape(&name).unwrap()).unwrap());
    }
}

#[test]
fn pictures_and_texts_of_open_clip() {
    for name in ["open_clip", "open_clip_quick"] {
        compares(&language(&fixture(name), [None, None]).unwrap(), name);
    }
    // A tokenizer that lies beside the weights is theirs.
    let folder = with_config("open_clip", "open_clip_config.json", |_| {});
    fs::write(folder.path().join("merges.txt"), "").unwrap();
    let own = |named: Option<&str>, length| {
        assert_eq!(named, Some(&*folder.path().display().to_string()));
        words(None, length)
    };
    let model = LanguageModel::open(folder.path().to_owned(), [None, None], &Placement::default(), &own).unwrap();
    compares(&model, "open_clip");
    let folder = with_config("open_clip", "open_clip_config.json", |config| {
        config["model_cfg"]["text_cfg"]["no_causal_mask"] = json!(true);
    });
    let error = language(folder.path(), [None, None]).unwrap_err();
    assert!(error.to_string().contains("text_cfg.no_causal_mask is true"), "{error}");
}

/// Of open_clip's models with a text tower of other names the image tower is read, and texts are refused by what the
/// config says; without the norm before the blocks nothing is.
#[test]
fn open_clips_other_models_are_known_by_their_config() {
    let changed = |key: (&str, &str), rename: fn(&str) -> Option<String>| {
        let folder = with_config("open_clip", "open_clip_config.json", |config| {
            config.pointer_mut(key.0).unwrap()[key.1] = json!(true);
        });
        let weights = "open_clip_model.safetensors";
        rewrite(&format!("open_clip/{weights}"), &folder.path().join(weights), rename);
        folder
    };
    let folder = changed(("/model_cfg", "custom_text"), |name| {
        Some(if name.starts_with("visual.") || name == "logit_scale" {
            name.to_owned()
        } else {
            format!("text.{name}")
        })
    });
    open(folder.path(), None, None, None).unwrap();
    let error = language(folder.path(), [None, None]).unwrap_err();
    for part in ["model_cfg.custom_text is true", "image tower alone is supported"] {
        assert!(error.exit_code() == 3 && error.to_string().contains(part), "{error}");
    }
    let folder =
        changed(("/model_cfg/vision_cfg", "no_ln_pre"), |name| (!name.contains("ln_pre")).then(|| name.to_owned()));
    let error = open(folder.path(), None, None, None).unwrap_err();
    assert!(
        error.to_string().contains("`visual.ln_pre.weight`: a tower without the norm before its blocks"),
        "{error}"
    );
}

/// By the names of StableRep's authors and by those of this program.
#[test]
fn projections_by_heads() {
    let path = fixture("stablerep_plus.safetensors");
    compares(&language(&path, [Some(2), Some(2)]).unwrap(), "stablerep_plus");
    let folder = TempDir::new().unwrap();
    let own = folder.path().join("own.safetensors");
    rewrite("stablerep_plus.safetensors", &own, |name| Some(name.replace("_projection.", "_text_mlp.")));
    compares(&language(&own, [Some(2), Some(2)]).unwrap(), "stablerep_plus");
    for (gone, part) in [
        ("text_projection.bn2.running_var", "text_projection.bn2.running_var"),
        ("image_projection.layer3.weight", "image_projection.layer3.weight"),
    ] {
        rewrite("stablerep_plus.safetensors", &own, |name| (name != gone).then(|| name.to_owned()));
        let error = language(&own, [Some(2), Some(2)]).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(part), "{error}");
    }
}
