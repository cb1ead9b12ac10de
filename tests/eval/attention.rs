//! Attention maps beside timm's, and what they add up to.

use std::path::Path;

use stablerep::eval::attention::{attention, attention_of, spread};
use stablerep::eval::encoder::Encoder;
use stablerep::image::Rgb8;
use stablerep::models::vit::{Vit, VitConfig};
use stablerep::weights::{ParamTable, SafeTensors};

fn fixture(name: &str) -> SafeTensors {
    SafeTensors::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

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
        variant: Default::default(),
    }
}

/// The encoder of a fixture, and its images `[N, S, S, 3]`.
fn encoder(name: &str) -> (Encoder, Vec<f32>) {
    let file = fixture(&format!("{name}.safetensors"));
    let config = config(&file);
    let mut table = ParamTable::new();
    let vit = Vit::new(&config, "", &mut table).unwrap();
    let mut params = vec![0.0; table.len()];
    for (name, shape, param) in vit.tensors() {
        param.of_mut(&mut params).copy_from_slice(&file.f32(&format!("param.{name}"), shape).unwrap());
    }
    let side = config.image_size;
    let planes = file.f32("images", &[2, 3, side, side]).unwrap();
    let at = |image: usize, pixel: usize, channel: usize| planes[(3 * image + channel) * side * side + pixel];
    let images = (0..2)
        .flat_map(|image| (0..side * side).flat_map(move |pixel| [0, 1, 2].map(|channel| (image, pixel, channel))))
        .map(|(image, pixel, channel)| at(image, pixel, channel))
        .collect();
    (Encoder::from_params(&config, params, [0.5; 3], [0.5; 3], name).unwrap(), images)
}

#[test]
fn maps_are_timms() {
    let golden = fixture("attention.safetensors");
    for name in ["vit_32_patch8", "vit_24_patch8_qk_norm"] {
        let (encoder, images) = encoder(name);
        let config = encoder.vit().config();
        let patches = config.tokens() - 1;
        let heads = golden.f32(&format!("{name}.heads"), &[2, config.heads, patches]).unwrap();
        let rollout = golden.f32(&format!("{name}.rollout"), &[2, patches]).unwrap();
        let maps = attention_of(&encoder, &images).unwrap();
        assert_eq!((maps.len(), maps[0].side * maps[0].side), (2, patches));
        let close = |got: &[f32], want: &[f32]| {
            assert_eq!(got.len(), want.len());
            got.iter().zip(want).for_each(|(a, b)| assert!((a - b).abs() < 2e-6, "{name}: {a} {b}"));
        };
        let all: Vec<f32> = maps.iter().flat_map(|maps| maps.heads.concat()).collect();
        close(&all, &heads);
        close(&maps.iter().flat_map(|maps| maps.rollout.clone()).collect::<Vec<_>>(), &rollout);
        for (maps, heads) in maps.iter().zip(heads.chunks_exact(config.heads * patches)) {
            let mean = |patch: usize| heads.iter().skip(patch).step_by(patches).sum::<f32>() / config.heads as f32;
            close(&maps.mean(), &(0..patches).map(mean).collect::<Vec<_>>());
        }
    }
}

/// One picture alone has the maps that it has among others, and of a single block too.
#[test]
fn maps_do_not_depend_on_other_pictures() {
    let model = VitConfig {
        image_size: 16,
        patch_size: 8,
        width: 12,
        depth: 1,
        heads: 3,
        mlp_ratio: 2,
        channels: 3,
        qk_norm: false,
        variant: Default::default(),
    };
    let encoder = Encoder::random(&model, 3).unwrap();
    let [red, blue] = [[200, 30, 20], [10, 40, 220]].map(|colour| Rgb8::filled(16, 16, colour));
    let both = attention(&encoder, &[red.clone(), blue.clone()]).unwrap();
    assert_eq!(both, [attention(&encoder, &[red]).unwrap(), attention(&encoder, &[blue]).unwrap()].concat());
    assert_eq!((both[0].side, both[0].heads.len()), (2, 3));
    // Through one block, half of what the mean of its heads weighs; the other half stays with the class token.
    for (mean, rollout) in both[0].mean().iter().zip(&both[0].rollout) {
        assert!((mean / 2.0 - rollout).abs() < 1e-6, "{mean} {rollout}");
    }
    assert_eq!(attention(&encoder, &[]).unwrap(), []);
}

#[test]
fn spreads_count_patches() {
    let (share, over) = spread(&[0.25, 0.0, 0.25, 0.0]);
    assert!((share - 0.5).abs() < 1e-12 && (over - 2.0).abs() < 1e-12);
    let (share, over) = spread(&[0.1; 9]);
    assert!((share - 0.9).abs() < 1e-6 && (over - 9.0).abs() < 1e-6);
    assert_eq!(spread(&[0.0, 0.75]), (0.75, 1.0));
}
