//! Matrix products and what is made of them: linear layers, convolutions, attention, patch embedding.

use stablerep::ops::attention::{self, Context, Tokens};
use stablerep::ops::gemm::{self, Operands, Threads};
use stablerep::ops::packed::{self, Packed, Start};
use stablerep::ops::{conv, linear, patch_embed, self_attention};

use crate::harness::{Bench, Work, values};

/// [`gemm::nn`] and its kin.
type Product = fn(&mut [f32], &[f32], &[f32], (usize, usize, usize), bool, Threads);

pub fn run(bench: &mut Bench) {
    products(bench);
    linears(bench);
    convolutions(bench);
    inference_attention(bench);
    training_attention(bench);
    patches(bench);
}

fn products(bench: &mut Bench) {
    for (m, n, k) in [(1024, 1024, 1024), (512, 80, 80), (1576, 1536, 384)] {
        let (a, b, mut y) = (values(m * k), values(k * n), vec![0.0; m * n]);
        let work = Work::new(2.0 * (m * n * k) as f64, 4.0 * (m * k + k * n + m * n) as f64);
        let mut measure = |layout: &str, product: Product| {
            bench.measure(&format!("gemm {layout}/{m}x{n}x{k}"), work, || {
                product(&mut y, &a, &b, (m, n, k), false, Threads::All)
            });
        };
        measure("nn", gemm::nn);
        measure("nt", gemm::nt);
        measure("tn", gemm::tn);
    }
}

fn linears(bench: &mut Bench) {
    for (name, rows, inputs, outputs) in [("vit-s", 8 * 197, 384, 1536), ("demo vit", 256 * 17, 128, 512)] {
        let shape = linear::Shape { rows, inputs, outputs };
        let (x, w, b) = (values(rows * inputs), values(inputs * outputs), values(outputs));
        let (mut y, mut h) = (values(rows * outputs), values(rows * outputs));
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; outputs]);
        let work = Work::new(shape.flops(), shape.bytes(4));
        let with_hidden = Work::new(shape.flops(), shape.bytes(4) + 4.0 * (rows * outputs) as f64);
        let size = format!("{name} {rows}x{inputs}->{outputs}");
        bench.measure(&format!("linear forward/{size}"), work, || linear::forward(&mut y, &x, &w, Some(&b), shape));
        bench.measure(&format!("linear forward_gelu/{size}"), with_hidden, || {
            linear::forward_gelu(&mut y, &mut h, &x, &w, Some(&b), shape)
        });
        bench
            .measure(&format!("linear backward_input/{size}"), work, || linear::backward_input(&mut dx, &y, &w, shape));
        bench.measure(&format!("linear backward_weight/{size}"), work, || {
            linear::backward_weight(&mut dw, Some(&mut db), &y, &x, Operands::F32, shape)
        });
        let back = linear::Shape { rows, inputs: outputs, outputs: inputs };
        bench.measure(&format!("linear backward_input_gelu/{name} {rows}x{outputs}->{inputs}"), with_hidden, || {
            linear::backward_input_gelu(&mut y, &dx, &w, &h, back)
        });
    }
    for (name, rows, k, n) in [("sd1.5", 2 * 4096, 320, 2560), ("tiny-sd", 32 * 16, 80, 640)] {
        let layer = Packed::from_out_in(&values(n * k), Some(values(n)), n, k, Operands::F32);
        let (x, mut y) = (values(rows * k), vec![0.0; rows * n]);
        bench.measure(
            &format!("packed linear/{name} {rows}x{k}->{n}"),
            Work::new(layer.flops(rows), layer.bytes(rows)),
            || packed::linear(&mut y, &x, &layer, Start::Bias, Threads::All),
        );
    }
}

fn convolutions(bench: &mut Bench) {
    let same = conv::Shape::same;
    for (name, shape, outputs) in [
        ("sd1.5 unet 64²", same(2, 64, 64, 320), 320),
        ("sd1.5 unet 8²", same(2, 8, 8, 1280), 1280),
        ("vae 128²", same(1, 128, 128, 128), 128),
        ("tiny-sd 4²", same(32, 4, 4, 80), 80),
        ("tiny-sd 2²", same(32, 2, 2, 160), 160),
        ("stride 2", conv::Shape { stride: 2, ..same(2, 64, 64, 320) }, 320),
        ("enlarged 2x", conv::Shape { enlarge: Some((64, 64)), ..same(2, 32, 32, 320) }, 320),
    ] {
        let c = shape.channels;
        let layer = conv::Weights::new(
            &values(outputs * c * 9),
            Some(values(outputs)),
            (c, outputs),
            shape.stride,
            Operands::F32,
        );
        let x = values(shape.n * shape.height * shape.width * c);
        let mut y = vec![0.0; shape.rows() * outputs];
        let work = Work::new(shape.flops(outputs), shape.bytes(outputs));
        bench.measure(&format!("conv3x3/{name} {c}->{outputs} n{}", shape.n), work, || {
            conv::forward(&mut y, &x, &layer, Start::Bias, shape, Threads::All)
        });
    }
}

fn inference_attention(bench: &mut Bench) {
    for (name, n, tokens, heads, head_dim, causal) in [
        ("sd1.5 64²", 1, 4096, 8, 40, false),
        ("sd1.5 16²", 2, 256, 8, 160, false),
        ("tiny-sd 4²", 32, 16, 2, 40, false),
        ("clip text", 4, 77, 12, 64, true),
    ] {
        let shape = attention::Shape { n, queries: tokens, keys: tokens, heads, head_dim, causal };
        let width = heads * head_dim;
        let qkv = values(n * tokens * 3 * width);
        let part = |i: usize| Tokens { data: &qkv[i * width..], stride: 3 * width };
        let mut y = vec![0.0; n * tokens * width];
        bench.measure(
            &format!("attention/{name} {heads}x{head_dim} n{n}"),
            Work::new(shape.flops(), shape.bytes(4)),
            || attention::forward(&mut y, part(0), part(1), part(2), shape, Threads::All),
        );
    }
    for (name, captions, images, tokens, heads, head_dim) in
        [("sd1.5 64²", 1, 2, 4096, 8, 40), ("tiny-sd 4²", 4, 4, 16, 2, 40)]
    {
        let (n, width) = (captions * images, heads * head_dim);
        let shape = attention::Shape { n, queries: tokens, keys: 77, heads, head_dim, causal: false };
        let contexts: Vec<Context> =
            (0..captions).map(|_| Context::new(&values(77 * width), &values(77 * width), heads, head_dim)).collect();
        let runs: Vec<(usize, &Context)> = contexts.iter().map(|context| (images, context)).collect();
        let (q, mut y) = (values(n * tokens * width), vec![0.0; n * tokens * width]);
        let work = Work::new(shape.flops(), shape.bytes(4));
        bench.measure(&format!("attention cross/{name} {heads}x{head_dim} n{n}"), work, || {
            attention::cross(&mut y, &q, &runs, shape, Threads::All)
        });
    }
}

fn training_attention(bench: &mut Bench) {
    for (name, n, tokens, heads, head_dim) in [("vit-s", 8, 197, 6, 64), ("demo vit", 256, 17, 4, 32)] {
        let shape = self_attention::Shape { n, tokens, queries: tokens, heads, head_dim, causal: false };
        let (qkv, dout) = (values(shape.qkv_len()), values(shape.out_len()));
        let (mut out, mut lse) = (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()]);
        let mut dqkv = vec![0.0; qkv.len()];
        let size = format!("{name} {tokens} tokens {heads}x{head_dim} n{n}");
        let (flops, bytes) = (shape.flops(), shape.bytes(4));
        bench.measure(&format!("self_attention forward/{size}"), Work::new(flops.0, bytes.0), || {
            self_attention::forward(&mut out, &mut lse, &qkv, shape)
        });
        self_attention::forward(&mut out, &mut lse, &qkv, shape);
        bench.measure(&format!("self_attention backward/{size}"), Work::new(flops.1, bytes.1), || {
            self_attention::backward(&mut dqkv, &dout, &qkv, &out, &lse, shape)
        });
    }
}

fn patches(bench: &mut Bench) {
    for (name, n, side, patch, dim) in [("vit-s", 8, 224, 16, 384), ("demo vit", 256, 32, 8, 128)] {
        let shape = patch_embed::Shape { n, height: side, width: side, channels: 3, patch, dim, leading: 1 };
        let images = values(n * side * side * 3);
        let mut unfolded = vec![0.0; n * shape.patches() * shape.patch_len()];
        let (w, b, cls, pos) =
            (values(shape.patch_len() * dim), values(dim), values(dim), values(shape.tokens() * dim));
        let mut tokens = values(n * shape.tokens() * dim);
        let (mut dw, mut db, mut dcls, mut dpos) =
            (vec![0.0; w.len()], vec![0.0; dim], vec![0.0; dim], vec![0.0; pos.len()]);
        let mut scratch = vec![0.0; n * shape.patches() * dim];
        let (flops, bytes) = (shape.flops(), shape.bytes());
        bench.measure(&format!("patch_embed forward/{name} n{n}"), Work::new(flops.0, bytes.0), || {
            patch_embed::unfold(&mut unfolded, &images, shape);
            let weights = patch_embed::Weights { w: &w, b: &b, cls: &cls, pos: &pos };
            patch_embed::forward(&mut tokens, &unfolded, weights, shape);
        });
        bench.measure(&format!("patch_embed backward/{name} n{n}"), Work::new(flops.1, bytes.1), || {
            let gradients = patch_embed::Gradients { w: &mut dw, b: &mut db, cls: &mut dcls, pos: &mut dpos };
            patch_embed::backward(gradients, &mut scratch, &tokens, &unfolded, shape)
        });
    }
}
