//! The masked autoencoder against transformers' ViTMAEForPreTraining with the same noise.

use stablerep::device::Plan;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::layers::training::{Layout, Losses};
use stablerep::models::mae::{Mae, MaeActs, MaeConfig};
use stablerep::models::vit::VitConfig;
use stablerep::ops::augment::Normalize;
use stablerep::weights::{ParamTable, SafeTensors};

use crate::support::{assert_near, fixture};

fn configs(file: &SafeTensors) -> (VitConfig, MaeConfig) {
    let number = |key| file.metadata(key).unwrap().parse::<f64>().unwrap();
    let value = |key| number(key) as usize;
    let encoder = VitConfig {
        image_size: value("image"),
        patch_size: value("patch"),
        width: value("width"),
        depth: value("depth"),
        heads: value("heads"),
        mlp_ratio: 4,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    };
    let mae = MaeConfig {
        decoder_width: value("decoder_width"),
        decoder_depth: value("decoder_depth"),
        decoder_heads: value("decoder_heads"),
        mask_ratio: number("mask_ratio"),
    };
    (encoder, mae)
}

fn parameters(file: &SafeTensors, table: &ParamTable) -> Vec<f32> {
    let mut params = vec![0.0; table.len()];
    for info in table.iter() {
        let values = file.f32(&format!("param.{}", info.name), &info.shape).unwrap();
        info.param.of_mut(&mut params).copy_from_slice(&values);
    }
    params
}

#[test]
fn predictions_loss_and_every_gradient_match_transformers() {
    let file = fixture("mae.safetensors");
    let (encoder, config) = configs(&file);
    let mut table = ParamTable::new();
    let mae = Mae::new(&encoder, &config, "visual.", &mut table).unwrap();
    assert_eq!(table.iter().count(), file.names().filter(|name| name.starts_with("param.")).count());
    let params = parameters(&file, &table);
    let (n, side, patches) = (6, encoder.image_size, encoder.tokens() - 1);
    let pixels: Vec<u8> =
        file.f32("pixels", &[n, side, side, 3]).unwrap().into_iter().map(|pixel| pixel as u8).collect();
    let mut images = vec![0.0; pixels.len()];
    Normalize::default().apply(&mut images, &pixels);
    let kept = file.f32("kept", &[10, n, config.kept(&encoder)]).unwrap();

    let mut layout = Layout::default();
    let acts = MaeActs::new(&mut layout, (&encoder, &config), (n, n), 0, false);
    let mut numbers = Vec::new();
    let first: Vec<u32> = kept[..kept.len() / 10].iter().map(|&patch| patch as u32).collect();
    acts.masks().write(&first, &mut numbers);
    let mask = file.f32("mask", &[n, patches]).unwrap();
    for (image, mask) in mask.chunks_exact(patches).enumerate() {
        let seen: Vec<bool> = mask.iter().map(|&mask| mask == 0.0).collect();
        assert_eq!(acts.masks().seen(&numbers, image), seen);
    }
    let mut memory = Memory::take(&mut Plan::new(), &layout);
    let mut grads = vec![0.0; params.len()];
    let mut call = Call { images: &images, numbers: &numbers, grads: &mut grads, ..Call::new(&mut memory, &params) };
    mae.encode(&mut call, &acts).unwrap();
    mae.decode(&mut call, &acts).unwrap();
    mae.loss(&mut call, &acts).unwrap();
    call.mean_loss(acts.losses()).unwrap();
    let loss: Vec<f64> = serde_json::from_str(file.metadata("loss").unwrap()).unwrap();
    assert!((call.loss / loss[0] - 1.0).abs() < 1e-6, "{} {}", call.loss, loss[0]);
    // The class token's row comes first.
    let len = 3 * encoder.patch_size.pow(2);
    let got = call.memory.read(acts.predictions());
    let got: Vec<f32> = got.chunks_exact((1 + patches) * len).flat_map(|image| &image[len..]).copied().collect();
    assert_near("predictions", &got, &file.f32("predictions", &[n, patches, len]).unwrap(), 1e-5);
    mae.decode_backward(&mut call, &acts).unwrap();
    mae.encode_backward(&mut call, &acts).unwrap();
    for info in table.iter() {
        let got = info.param.of(&grads);
        if info.name.ends_with("pos_embed") {
            assert!(got.iter().all(|&g| g == 0.0), "{} is fixed", info.name);
        } else {
            let want = file.f32(&format!("grad.{}", info.name), &info.shape).unwrap();
            assert_near(&info.name, got, &want, 1e-4);
        }
    }
}

/// The official code's, on sizes at which a bound shows: Xavier for matrices, the fused qkv and the patches as one.
#[test]
fn initial_values_are_the_official_codes() {
    let file = fixture("mae.safetensors");
    let (encoder, config) = configs(&file);
    let (encoder, config) =
        (VitConfig { width: 192, ..encoder }, MaeConfig { decoder_width: 128, decoder_depth: 2, ..config });
    let mut table = ParamTable::new();
    let mae = Mae::new(&encoder, &config, "visual.", &mut table).unwrap();
    let mut params = vec![f32::NAN; table.len()];
    mae.init(&mut params, 3);
    let close = |name: &str, values: &[f32], bound: f64| {
        let largest = values.iter().fold(0.0f64, |most, &v| most.max(f64::from(v.abs())));
        assert!(largest <= bound && largest > 0.98 * bound, "{name}: {largest} of {bound}");
    };
    for info in table.iter() {
        let (name, values) = (info.name.trim_start_matches("visual."), info.param.of(&params));
        let std = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        match name {
            "pos_embed" | "decoder_pos_embed" => assert!(std > 0.6, "{name}: {std}"),
            "cls_token" | "mask_token" => assert!((std / 0.02 - 1.0).abs() < 0.25, "{name}: {std}"),
            "patch_embed.proj.bias" => close(name, values, 1.0 / 192f64.sqrt()),
            _ if name.contains("norm") && name.ends_with("weight") => assert!(values.iter().all(|&v| v == 1.0)),
            _ if name.ends_with("bias") => assert!(values.iter().all(|&v| v == 0.0), "{name}"),
            _ => {
                let (outputs, inputs) = (info.shape[0], values.len() / info.shape[0]);
                close(name, values, (6.0 / (inputs + outputs) as f64).sqrt());
            }
        }
    }
    // The positions of the reference's own sizes.
    let (encoder, config) = configs(&file);
    let mut table = ParamTable::new();
    let mae = Mae::new(&encoder, &config, "visual.", &mut table).unwrap();
    let mut params = vec![0.0; table.len()];
    mae.init(&mut params, 0);
    let want = parameters(&file, &table);
    for name in ["visual.pos_embed", "decoder_pos_embed"] {
        let param = table.get(name).unwrap().param;
        assert_near(name, param.of(&params), param.of(&want), 1e-6);
    }
}
