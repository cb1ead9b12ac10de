use stablerep::device::Plan;
use stablerep::eval::encoder::Encoder;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::layers::training::{Kind, Layout};
use stablerep::models::vit::{DropPath, Variant, Vit, VitActs, VitConfig, VitFile, VitGradients};
use stablerep::weights::{ParamTable, SafeTensors, write_safetensors};
use tempfile::TempDir;

use crate::support::{assert_near, fixture, nhwc};

fn config(file: &SafeTensors) -> VitConfig {
    let value = |key| file.metadata(key).unwrap_or("4").parse::<f64>().unwrap() as usize;
    VitConfig {
        image_size: value("image"),
        patch_size: value("patch"),
        width: value("width"),
        depth: value("depth"),
        heads: value("heads"),
        mlp_ratio: value("mlp_ratio"),
        channels: 3,
        qk_norm: file.metadata("qk_norm") == Some("true"),
        variant: Variant {
            registers: 0,
            norm_pre: file.metadata("pre_norm") == Some("true"),
            quick_gelu: file.metadata("act_layer") == Some("quick_gelu"),
        },
    }
}

/// By the path that keeps no activations.
fn features(config: &VitConfig, params: &[f32], images: &[f32]) -> Vec<f32> {
    let encoder = Encoder::from_params(config, params.to_vec(), [0.5; 3], [0.5; 3], "test").unwrap();
    encoder.features_of(images).unwrap()
}

#[test]
fn features_and_every_gradient_match_timm() {
    let all = [("vit_32_patch8", 2), ("vit_48_patch16", 2), ("vit_drop_path", 5), ("vit_24_patch8_qk_norm", 2)];
    for (name, n) in all.into_iter().chain([("vit_24_patch8_clip", 2)]) {
        let file = fixture(&format!("{name}.safetensors"));
        let config = config(&file);
        let mut table = ParamTable::new();
        let vit = Vit::new(&config, "visual.", &mut table).unwrap();
        let mut params = vec![0.0; table.len()];
        // CLIP's patches have no bias, which is 0 then.
        let is_held = |name: &str| !(config.variant.norm_pre && name == "patch_embed.proj.bias");
        for (name, shape, param) in vit.tensors().filter(|(name, ..)| is_held(name)) {
            let values = file.f32(&format!("param.{name}"), shape).unwrap();
            param.of_mut(&mut params).copy_from_slice(&values);
        }
        let held = file.names().filter(|n| n.starts_with("param.")).count();
        let tensors = vit.tensors().filter(|(name, ..)| is_held(name)).count();
        assert_eq!(held, tensors, "{name}: tensors of timm's state dict");
        let (side, d) = (config.image_size, config.width);
        let images = nhwc(&file.f32("images", &[n, 3, side, side]).unwrap(), n, 3, side, side);
        // Which images keep which branches, behind a number that is not read.
        let rate = file.metadata("rate").map(|rate| rate.parse::<f64>().unwrap());
        let kept = rate.map_or_else(Vec::new, |_| file.i64("kept", &[config.depth - 1, 2, n]).unwrap());
        let numbers: Vec<u32> = [7].into_iter().chain(kept.iter().map(|&kept| kept as u32)).collect();
        let mut layout = Layout::default();
        let (acts, back) = (VitActs::new(&mut layout, &config, n), VitGradients::new(&mut layout, &config, n));
        let acts = match rate {
            Some(rate) => acts.dropping(DropPath::new(&config, rate, n, 1), 0),
            None => acts,
        };
        let dfeatures = layout.take("test", "d features", n * d, Kind::Rounded);
        let mut memory = Memory::take(&mut Plan::new(), &layout);
        memory.of_mut(dfeatures).copy_from_slice(&file.f32("upstream", &[n, d]).unwrap());
        let mut grads = vec![0.0; params.len()];
        let call = Call::new(&mut memory, &params);
        let mut call = Call { images: &images, numbers: &numbers, grads: &mut grads, ..call };
        vit.forward(&mut call, &acts, 0).unwrap();
        let want = file.f32("features", &[n, d]).unwrap();
        assert_near("features", call.memory.read(acts.features()), &want, 1e-5);
        vit.backward(&mut call, &acts, &back, dfeatures).unwrap();
        if rate.is_none() {
            assert_near("inference path", &features(&config, &params, &images), &want, 1e-5);
        }
        for (name, shape, param) in vit.tensors().filter(|(name, ..)| is_held(name)) {
            let (got, want) = (param.of(&grads), file.f32(&format!("grad.{name}"), shape).unwrap());
            if name.ends_with("k_norm.bias") {
                // What is added to all keys of a head changes no softmax.
                assert!(got.iter().chain(&want).all(|value| value.abs() < 1e-6), "{name}: {got:?} {want:?}");
            } else {
                assert_near(name, got, &want, 1e-4);
            }
        }
    }
}

/// Weights of images of one size in a network for those of another: larger, smaller, of a single patch.
#[test]
fn positions_of_images_of_another_size_are_timms() {
    let (file, folder) = (fixture("positions.safetensors"), TempDir::new().unwrap());
    let path = folder.path().join("weights.safetensors");
    let network = |image_size: usize| {
        let (sizes, mut table) =
            (VitConfig { heads: 2, mlp_ratio: 1, ..VitConfig::named("vit_tiny").unwrap() }, ParamTable::new());
        let config = VitConfig { image_size, patch_size: 8, width: 8, depth: 1, ..sizes };
        let vit = Vit::new(&config, "visual.", &mut table).unwrap();
        let mut params = vec![0.0; table.len()];
        vit.init(&mut params, image_size as u64);
        (vit, params)
    };
    for name in ["up", "down", "apart"] {
        let [from, to]: [usize; 2] = serde_json::from_str(file.metadata(name).unwrap()).unwrap();
        let (old, mut given) = network(from);
        let positions =
            |end: &str, side: usize| file.f32(&format!("{name}.{end}"), &[1, 1 + (side / 8).pow(2), 8]).unwrap();
        let all = old.tensors().map(|(name, shape, param)| (name.to_owned(), shape.to_vec(), param));
        let all: Vec<_> = all.collect();
        let (_, _, at) = all.iter().find(|(name, ..)| name == "pos_embed").unwrap();
        at.of_mut(&mut given).copy_from_slice(&positions("from", from));
        let tensors: Vec<_> =
            all.iter().map(|(name, shape, param)| (name.clone(), shape.clone(), param.of(&given))).collect();
        write_safetensors(&path, &tensors, &[]).unwrap();
        let held = VitFile::open(&path).unwrap();
        let (new, mut params) = network(to);
        held.check_is(new.config()).unwrap();
        held.load(&new, &mut params).unwrap();
        for (tensor, _, param) in new.tensors() {
            let got = param.of(&params);
            match tensor {
                "pos_embed" => assert_near(name, got, &positions("to", to), 1e-5),
                _ => assert_eq!(got, tensors.iter().find(|(name, ..)| name == tensor).unwrap().2, "{tensor}"),
            }
        }
    }
}

/// The inference path works through more images than it takes at once, with a rest, at any depth.
#[test]
fn features_of_many_images() {
    for depth in [1, 2, 3] {
        let config = VitConfig {
            image_size: 4,
            patch_size: 2,
            width: 6,
            depth,
            heads: 2,
            mlp_ratio: 2,
            channels: 3,
            qk_norm: false,
            variant: Default::default(),
        };
        let mut table = ParamTable::new();
        let vit = Vit::new(&config, "", &mut table).unwrap();
        let mut params = vec![0.0; table.len()];
        vit.init(&mut params, 3);
        params.iter_mut().enumerate().for_each(|(i, p)| *p += (i % 7) as f32 * 0.05);
        let n = 70;
        let images: Vec<f32> = (0..n * 48).map(|i| ((i * 31) % 17) as f32 * 0.1 - 0.8).collect();
        let mut layout = Layout::default();
        let acts = VitActs::new(&mut layout, &config, n);
        let mut memory = Memory::take(&mut Plan::new(), &layout);
        let mut call = Call { images: &images, ..Call::new(&mut memory, &params) };
        vit.forward(&mut call, &acts, 0).unwrap();
        let want = call.memory.read(acts.features());
        assert_near("features", &features(&config, &params, &images), want, 1e-5);
    }
}

#[test]
fn initial_values_are_timms() {
    let config = VitConfig { image_size: 32, patch_size: 8, ..VitConfig::named("vit_tiny_patch16_224").unwrap() };
    let mut table = ParamTable::new();
    let vit = Vit::new(&config, "visual.", &mut table).unwrap();
    let mut params = vec![f32::NAN; table.len()];
    vit.init(&mut params, 1);
    for (name, _, param) in vit.tensors() {
        let values = param.of(&params);
        let len = values.len() as f64;
        let std = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / len).sqrt();
        let tolerance = 4.0 / (2.0 * len).sqrt();
        if name.starts_with("patch_embed") {
            // Uniform in ±1/√192: standard deviation 1/√192/√3.
            let bound = 1.0 / 192f64.sqrt();
            assert!(values.iter().all(|&v| f64::from(v.abs()) <= bound), "{name}");
            assert!((std / (bound / 3f64.sqrt()) - 1.0).abs() < tolerance, "{name}: {std}");
        } else if name.contains("norm") {
            assert!(values.iter().all(|&v| v == if name.ends_with("weight") { 1.0 } else { 0.0 }), "{name}");
        } else if name.ends_with("bias") {
            assert!(values.iter().all(|&v| v == 0.0), "{name}");
        } else {
            assert!((std / 0.02 - 1.0).abs() < tolerance, "{name}: {std}");
        }
    }
    let mut again = vec![0.0; table.len()];
    vit.init(&mut again, 1);
    assert_eq!(params, again);
    vit.init(&mut again, 2);
    assert_ne!(params, again);
}

#[test]
fn named_sizes_and_refused_sizes() {
    for name in ["vit_tiny", "vit_small", "vit_base", "vit_large"] {
        let config = VitConfig::named(name).unwrap();
        assert_eq!(config.timm_name().unwrap(), format!("{name}_patch16_224"));
        config.validate().unwrap();
    }
    let small = VitConfig::named("vit_small_patch16_224").unwrap();
    let mut table = ParamTable::new();
    Vit::new(&small, "", &mut table).unwrap();
    // timm: 21,665,664 parameters of vit_small_patch16_224 without classifier.
    assert_eq!(table.len(), 21_665_664);
    for (bad, word) in [
        (VitConfig { patch_size: 0, ..small.clone() }, "--patch-size 0"),
        (VitConfig { patch_size: 15, ..small.clone() }, "--image-size 224 is not a multiple"),
        (VitConfig { heads: 5, ..small.clone() }, "--width 384 is not a multiple of --heads 5"),
        (VitConfig { depth: 1_000_000, ..small.clone() }, "--depth 1000000"),
    ] {
        let error = bad.validate().unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(word), "{error}");
    }
}

/// Records of networks without norms of queries and keys are what they were before there were any.
#[test]
fn norms_of_queries_and_keys_are_recorded_where_they_are() {
    let plain = VitConfig::named("vit_tiny").unwrap();
    let text = r#"{"image_size":224,"patch_size":16,"width":192,"depth":12,"heads":3,"mlp_ratio":4,"channels":3}"#;
    assert_eq!(serde_json::to_string(&plain).unwrap(), text);
    assert_eq!(serde_json::from_str::<VitConfig>(text).unwrap(), plain);
    let normed = VitConfig { qk_norm: true, ..plain.clone() };
    let again: VitConfig = serde_json::from_str(&serde_json::to_string(&normed).unwrap()).unwrap();
    assert!(again == normed && normed.timm_name().is_none());
    let mut tables = [ParamTable::new(), ParamTable::new()];
    for (config, table) in [plain, normed].iter().zip(&mut tables) {
        Vit::new(config, "", table).unwrap();
    }
    // Gain and shift of 64 values, of queries and of keys, in every block.
    assert_eq!(tables[1].len() - tables[0].len(), 12 * 4 * 64);
}
