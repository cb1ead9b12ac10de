//! Whole generation runs of the binary on the simulated devices, against the CPU.

use std::collections::BTreeMap;
use std::fs;

use stablerep::image;

use crate::run::Run;
use crate::support::{Model, has_kernels, text};

fn stablerep_fixture(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Rounding of 16-bit storage: a mean difference of 8-bit values up to 1, and at most one in a hundred off by more than
/// 2.
fn assert_close(got: &BTreeMap<String, image::Rgb8>, want: &BTreeMap<String, image::Rgb8>, what: &str) {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{what}");
    for (key, want) in want {
        let got = &got[key];
        assert_eq!((got.width, got.height), (want.width, want.height), "{what} {key}");
        let apart: Vec<u32> = got.data.iter().zip(&want.data).map(|(&a, &b)| u32::from(a.abs_diff(b))).collect();
        let mean = f64::from(apart.iter().sum::<u32>()) / apart.len() as f64;
        let far = apart.iter().filter(|&&d| d > 2).count();
        println!("{what} {key}: mean difference {mean:.3}, {far} of {} off by more than 2", apart.len());
        assert!(mean <= 1.0 && far * 100 <= apart.len(), "{what} {key}: mean {mean}, {far} of {}", apart.len());
    }
}

/// Guided and unguided, both types, an odd latent, stored smaller than drawn.
fn follows_the_cpu(model: Model) {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    for (name, options, precision) in [
        ("plain", "-w 7.5", "f16"),
        ("unguided", "-w 1 --width 40 --height 24 --store-size 17 --sampler euler_a", "bf16"),
    ] {
        let want = run.draw(model, &format!("{name}-cpu"), options);
        let got = run.draw(model, name, &format!("{options} --device cuda --precision {precision}"));
        assert_eq!(got.len(), 4);
        assert_close(&got, &want, name);
    }
}

#[test]
fn hopper_follows_the_cpu() {
    follows_the_cpu(Model::H200);
}

#[test]
fn ampere_follows_the_cpu() {
    follows_the_cpu(Model::A100);
}

/// A solver of two orders, guidance in the first of two calls, and layers of a LoRA; a network that is told the
/// guidance scale, of which one run has two.
#[test]
fn few_calls_follow_the_cpu() {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    let lora = stablerep_fixture("lora_kohya.safetensors");
    let options = format!("-w 7.5 --guidance-interval 0,0.5 --sampler unipc --cache-every 2 --lora {lora}=0.5");
    let want = run.draw(Model::A100, "few-cpu", &options);
    assert_close(&run.draw(Model::A100, "few", &format!("{options} --device cuda")), &want, "few");
    let run = Run::told_guidance();
    let options = "--sweep-guidance 1.5,8 --sampler lcm --steps 2 --limit 1";
    for (name, device) in [("told-cpu", "cpu"), ("told", "cuda")] {
        let output = run.try_draw(Model::A100, name, &format!("{options} --device {device}"));
        assert!(output.status.success(), "{}", text(&output));
    }
    let told = ["w=1.5", "w=8.0"].map(|scale| {
        let want = run.pictures(&format!("told-cpu/{scale}"));
        assert_close(&run.pictures(&format!("told/{scale}")), &want, scale);
        want
    });
    assert!(told[0] != told[1], "the scale makes no difference");
}

/// Batches of 4, of 3 and, for the one that is left, of 1 give the same bits, and so do those of a rank that draws the
/// second half.
fn same_bits(model: Model) {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    let whole = run.draw(model, "four", "--device cuda --steps 1 --batch 4");
    run.draw(model, "three", "--device cuda --steps 1 --batch 3");
    let shard = |name: &str| fs::read(run.path(name).join("00000.tar")).unwrap();
    assert!(shard("three") == shard("four"), "batch 3");
    let output = run.try_draw(model, "rank", "--device cuda --steps 1 --images-per-shard 2 --rank 1 --world-size 2");
    assert!(output.status.success(), "{}", text(&output));
    let half = run.pictures("rank");
    assert!(half.len() == 2 && half.iter().all(|(key, picture)| picture.data == whole[key].data), "second rank");
}

#[test]
fn hopper_draws_the_same_bits_in_every_batch() {
    same_bits(Model::H200);
}

#[test]
fn ampere_draws_the_same_bits_in_every_batch() {
    same_bits(Model::A100);
}

/// A decoder with a map beyond f16, which a norm brings back: what f16 loses is drawn in bf16, in any batch and beside
/// pictures that follow.
#[test]
fn pictures_beyond_f16_are_decoded_in_bf16() {
    if !has_kernels() {
        return;
    }
    let conv = "decoder.mid_block.resnets.0.conv1";
    let run = Run::with_decoder(&[&format!("{conv}.weight"), &format!("{conv}.bias")], 3e4);
    let want = run.draw(Model::A100, "cpu", "-w 1");
    let output = run.try_draw(Model::A100, "f16", "-w 1 --device cuda --batch 3");
    let said = text(&output);
    assert!(output.status.success() && said.contains("decoded once more in bf16"), "{said}");
    assert_close(&run.pictures("f16"), &want, "beyond f16");
    run.draw(Model::A100, "one", "-w 1 --device cuda --batch 1");
    let shard = |name: &str| fs::read(run.path(name).join("00000.tar")).unwrap();
    assert!(shard("one") == shard("f16"));
}

/// Fewer multiprocessors change no bit, nor do the slower kernels where wgmma reads V in whole spans only (heads of
/// 40).
#[test]
fn every_hopper_draws_the_same_bits() {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    let shard = |model, name: &str| {
        // 80 tokens: up to 64 no card runs the kernels of which there are two.
        run.draw(model, name, "--device cuda --steps 1 --limit 1 -w 1 --width 80 --height 64");
        fs::read(run.path(name).join("00000.tar")).unwrap()
    };
    let first = shard(Model::H200, "h200");
    assert!(shard(Model::WholeSpans, "whole") == first, "whole spans");
    assert!(shard(Model::H100Pcie, "pcie") == first, "fewer multiprocessors");
}

#[test]
fn what_cannot_be_run_is_refused() {
    if !has_kernels() {
        return;
    }
    let run = Run::new();
    for (options, code, words) in [
        ("--device cuda --precision f32", 2, "--precision f32"),
        ("--precision f16", 2, "--device cuda"),
        ("--device cuda:7", 4, "numbered from 0"),
    ] {
        let output = run.try_draw(Model::H200, "refused", options);
        let said = text(&output);
        assert!(output.status.code() == Some(code) && said.contains(words), "{options}: {said}");
    }
    // A folder drawn in one precision does not go on in another.
    run.draw(Model::H200, "cpu", "");
    let output = run.try_draw(Model::H200, "cpu", "--device cuda");
    let said = text(&output);
    assert!(output.status.code() == Some(2) && said.contains("precision"), "{said}");
}
