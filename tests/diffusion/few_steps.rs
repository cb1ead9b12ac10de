//! Pictures in few calls of the network, and what is folded into one, against diffusers.

use std::fs;

use stablerep::generate::sampler::{SamplerKind, TimestepSpacing};
use stablerep::generate::{Drawing, Lora, Pipeline, Request, Settings};
use stablerep::weights::{SafeTensors, write_safetensors};
use tempfile::TempDir;

use super::{BOTH, Golden, altered, drawing, drawn, keys, open, refused, root, settings, told_guidance};

fn expected() -> SafeTensors {
    SafeTensors::open(root().join("tests/fixtures/few_steps.safetensors")).unwrap()
}

#[test]
fn few_calls_match_diffusers() {
    let (golden, expected, model) = (Golden::open(), expected(), root().join("assets/tiny-sd"));
    for (name, sampler, steps, w, spacing) in [
        ("unipc", SamplerKind::Unipc, 8, 3.0, None),
        ("turbo", SamplerKind::Euler, 1, 0.0, Some(TimestepSpacing::Trailing)),
        ("trailing", SamplerKind::Ddim, 4, 3.0, Some(TimestepSpacing::Trailing)),
    ] {
        let mut pipeline = open(drawing(&model, |d| {
            (d.sampler, d.steps, d.guidance_scale, d.timestep_spacing) = (sampler, steps, w, spacing);
        }));
        golden.check_in(&expected, name, steps, &mut pipeline, 4);
    }
}

#[test]
fn guidance_in_some_of_the_calls_matches_diffusers() {
    let (golden, expected, model) = (Golden::open(), expected(), root().join("assets/tiny-sd"));
    let within = |interval: &str| drawing(&model, |d| d.guidance_interval = Some(interval.parse().unwrap()));
    // Calls 1, 2 and 3 of 7.
    let mut some = open(within("0.2,0.6"));
    golden.check_in(&expected, "interval", 7, &mut some, 4);
    let flops = some.0.flops();
    assert_eq!((flops.calls, flops.guided), (7, 3));
    assert_eq!(flops.image(), flops.text + 10.0 * flops.call + flops.decoder);
    // All of them, and none.
    assert_eq!(drawn(within("0,1"), 3.0), drawn(settings(&model), 3.0));
    assert_eq!(drawn(within("0,0.1"), 3.0), drawn(settings(&model), 1.0));
}

#[test]
fn calls_that_reuse_match_diffusers_with_a_hook() {
    let (golden, expected, model) = (Golden::open(), expected(), root().join("assets/tiny-sd"));
    let mut third = open(drawing(&model, |d| d.cache_every = Some(3)));
    golden.check_in(&expected, "cached", 7, &mut third, 4);
    let flops = third.0.flops();
    assert_eq!((flops.calls, flops.guided, flops.reusing), (7, 7, 4));
    assert!(flops.unet > 6.0 * flops.call && flops.unet < 10.0 * flops.call, "{flops:?}");
    let interval = drawing(&model, |d| {
        (d.cache_every, d.guidance_interval) = (Some(2), Some("0.3,0.72".parse().unwrap()));
    });
    golden.check_in(&expected, "cached.interval", 7, &mut open(interval.clone()), 4);
    // A request may ask for every call whole and guided.
    let (mut less, w) = open(interval.clone());
    let request = less.request(&["a photo of a bag", "a photo of a coat"], keys(0..2), w).unwrap();
    let latents = less.draw(Request { wanted: BOTH, whole: true, ..request }, &mut |_| ()).unwrap().latents;
    assert!(latents == drawn(settings(&model), 3.0) && latents != drawn(interval.clone(), 3.0));
    // The first guided call is whole, whatever its number.
    let late = drawing(&model, |d| {
        (d.cache_every, d.guidance_interval) = (Some(4), Some("0.15,1".parse().unwrap()));
    });
    let (pipeline, _) = open(late.clone());
    assert_eq!((pipeline.flops().guided, pipeline.flops().reusing), (6, 4));
    assert!(drawn(late, 3.0).iter().all(|value| value.is_finite()));
    assert_eq!(drawn(drawing(&model, |d| d.cache_every = Some(1)), 3.0), drawn(settings(&model), 3.0));
}

/// As Stable Diffusion 2.x: the network predicts v, and texts are padded with another token than the end's.
#[test]
fn v_prediction_and_another_padding_match_diffusers() {
    let folder = altered(
        "scheduler/scheduler_config.json",
        "\"prediction_type\": \"epsilon\"",
        "\"prediction_type\": \"v_prediction\"",
    );
    let (map, pad) = ("tokenizer/special_tokens_map.json", "\"pad_token\": ");
    told_guidance::replace(folder.path(), map, &format!("{pad}\"<|endoftext|>\""), &format!("{pad}\"!\""));
    Golden::open().check_in(&expected(), "sd2", 7, &mut open(settings(folder.path())), 4);
}

#[test]
fn latent_consistency_matches_diffusers() {
    let (golden, expected, folder) = (Golden::open(), expected(), TempDir::new().unwrap());
    told_guidance::model(folder.path());
    let one = |w: f32| drawing(folder.path(), |d| (d.sampler, d.steps, d.guidance_scale) = (SamplerKind::Lcm, 1, w));
    golden.check_in(&expected, "lcm.w8", 1, &mut open(one(8.0)), 4);
    golden.check_in(&expected, "lcm.w1", 1, &mut open(one(1.0)), 4);
    // A pipeline that was opened for another scale is told the request's, and has one branch.
    let mut opened = (open(one(1.0)).0, 8.0);
    golden.check_in(&expected, "lcm.w8", 1, &mut opened, 4);
    opened.1 = 1.0;
    golden.check_in(&expected, "lcm.w1", 1, &mut opened, 4);
    assert_eq!(opened.0.flops().guided, 0);
    // Several steps draw noise, an image's own.
    let four = drawn(drawing(folder.path(), |d| (d.sampler, d.steps) = (SamplerKind::Lcm, 4)), 8.0);
    assert!(four.iter().all(|value| value.is_finite()));
    refused(settings(folder.path()), 2, &["--sampler ddim", "distilled", "--sampler lcm"]);
    refused(
        drawing(folder.path(), |d| {
            (d.sampler, d.timestep_spacing) = (SamplerKind::Lcm, Some(TimestepSpacing::Leading))
        }),
        2,
        &["--timestep-spacing", "lcm"],
    );
    let karras = |d: &mut Drawing| {
        (d.sampler, d.timestep_spacing) = (SamplerKind::Dpmpp2mKarras, Some(TimestepSpacing::Trailing));
    };
    refused(drawing(&root().join("assets/tiny-sd"), karras), 2, &["--timestep-spacing", "dpmpp_2m_karras"]);
    refused(
        drawing(folder.path(), |d| (d.sampler, d.steps) = (SamplerKind::Lcm, 51)),
        2,
        &["--steps 51", "at most 50"],
    );
}

fn lora(name: &str, scale: f32) -> Vec<Lora> {
    vec![Lora { path: root().join("tests/fixtures").join(name), scale }]
}

#[test]
fn folded_loras_match_diffusers() {
    let (golden, expected, model) = (Golden::open(), expected(), root().join("assets/tiny-sd"));
    let mut hashes = Vec::new();
    for (name, file, scale) in [
        ("lora", "lora_kohya.safetensors", 1.0),
        ("lora", "lora_diffusers.safetensors", 1.0),
        ("lora.half", "lora_kohya.safetensors", 0.5),
    ] {
        let loras = lora(file, scale);
        let mut pipeline = open(Settings { loras: &loras, ..settings(&model) });
        golden.check_in(&expected, name, 7, &mut pipeline, 4);
        hashes.push(pipeline.0.model_sha256().to_owned());
    }
    // Half twice is one.
    let halves = [lora("lora_kohya.safetensors", 0.5), lora("lora_diffusers.safetensors", 0.5)].concat();
    golden.check_in(&expected, "lora", 7, &mut open(Settings { loras: &halves, ..settings(&model) }), 4);
    hashes.push(open(settings(&model)).0.model_sha256().to_owned());
    for (i, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..i].contains(hash), "{i}: {hashes:?}");
    }
    // A file's name does not matter.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("another.safetensors");
    fs::copy(&lora("lora_kohya.safetensors", 1.0)[0].path, &path).unwrap();
    let renamed = [Lora { path, scale: 1.0 }];
    let (pipeline, _) = open(Settings { loras: &renamed, ..settings(&model) });
    assert_eq!(pipeline.model_sha256(), hashes[0]);
    assert!(pipeline.loras().len() == 1 && pipeline.loras()[0].starts_with("1 of "), "{:?}", pipeline.loras());
}

/// Names and shapes.
type Tensors<'a> = Vec<(&'a str, Vec<usize>)>;

#[test]
fn loras_of_other_models_are_refused_by_name() {
    let (model, folder) = (root().join("assets/tiny-sd"), TempDir::new().unwrap());
    let to_q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
    let down = format!("{to_q}.lora_down.weight");
    let up = format!("{to_q}.lora_up.weight");
    let values = vec![0.5f32; 4096];
    let width = SafeTensors::open(model.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    let width = width.shape("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight").unwrap()[0];
    let named = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight";
    let alpha = format!("{to_q}.alpha");
    let cases: [(Tensors<'_>, [&str; 2]); 9] = [
        (vec![(&down, vec![2, width + 8]), (&up, vec![width + 8, 2])], [to_q, "another width"]),
        (vec![(&down, vec![3, width]), (&up, vec![width, 2])], [to_q, "no rank in common"]),
        (vec![(&down, vec![2, width]), (&up, vec![width, 2]), (&alpha, vec![2])], [to_q, "alpha has 2 values"]),
        (vec![(&down, vec![2, width]), (&up, vec![width, 2]), (named, vec![2, width])], [named, "one layer"]),
        (vec![(&down, vec![2, width])], ["to_q", "one factor of two"]),
        (vec![("lora_unet_up_blocks_7_x.lora_down.weight", vec![2, 8])], ["up_blocks_7_x", "not in this model"]),
        (vec![("lora_te2_text_model_x.lora_down.weight", vec![2, 8])], ["lora_te2", "Stable Diffusion XL"]),
        (vec![("lora_unet_x.hada_w1_a", vec![2, 8])], ["hada", "LoHa"]),
        (vec![("conv_in.weight", vec![2, 8])], ["conv_in.weight", "no part of a LoRA"]),
    ];
    for (i, (tensors, words)) in cases.into_iter().enumerate() {
        let path = folder.path().join(format!("{i}.safetensors"));
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), shape.clone(), &values[..shape.iter().product()]))
            .collect();
        write_safetensors(&path, &tensors, &[]).unwrap();
        let loras = [Lora { path, scale: 1.0 }];
        refused(Settings { loras: &loras, ..settings(&model) }, 3, &words);
    }
    let loras = [Lora { path: folder.path().join("none.safetensors"), scale: 1.0 }];
    let error = Pipeline::open(&Settings { loras: &loras, ..settings(&model) }, &mut stablerep::device::Plan::new());
    assert!(error.unwrap_err().to_string().contains("none.safetensors"));
}
