//! Fused attention of inference against the CPU op on the same rounded inputs.

mod compare;
mod cross;
mod full_size;
mod values;

use half::{bf16, f16};

use self::compare::{FEW, compare, on_gpu, packed, shape, wide_values, width};
use self::cross::{Inputs, Rows, compare_cross, cross_on_gpu, inputs, rows};
use crate::device::cuda::{Half, View};
use crate::error::Result;
use crate::ops::attention::cuda::{Heads, Variant};
use crate::ops::attention::{self, Shape, Tokens};
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::gemm::Threads;

pub const CHECKS: Checks = Checks { quick: QUICK, full_size: full_size::CHECKS };

const QUICK: &[Check] = &[
    Check { name: "attention, heads of the UNet, f16", run: |case| every_shape::<f16>(case, &unet()) },
    Check { name: "attention, heads of the UNet, bf16", run: |case| every_shape::<bf16>(case, &unet()) },
    Check { name: "attention, V at its own 40, 80 or 160 columns", run: values::own_columns },
    Check { name: "attention, V in whole spans of 64 columns", run: values::whole_spans },
    Check { name: "attention, heads of other sizes", run: |case| in_both_types(case, &other_heads()) },
    Check { name: "attention, one head of up to 512", run: |case| in_both_types(case, &wide()) },
    Check { name: "attention, causal", run: |case| in_both_types(case, &causal()) },
    Check { name: "attention, scores far apart", run: far_apart },
    Check { name: "attention, scores far below zero", run: far_below },
    Check { name: "attention, the largest score last", run: rising },
    Check { name: "attention, q, k and v apart", run: apart },
    Check { name: "attention, an image's bits in any batch", run: batch_independent },
    Check { name: "cross-attention, f16", run: |case| every_context::<f16>(case, &contexts()) },
    Check { name: "cross-attention, bf16", run: |case| every_context::<bf16>(case, &contexts()) },
    Check { name: "cross-attention, scores far below zero and far apart", run: far_contexts },
    Check { name: "cross-attention, an image's bits in any batch", run: cross_batch_independent },
    Check { name: "attention at full size", run: full_size },
];

/// One token, latents of 4×4, 5×7, 8×8 and 16×16, and one more or less than blocks, steps and tiles hold.
fn unet() -> Vec<Shape> {
    vec![
        shape(2, 1, 2, 40),
        shape(2, 16, 2, 40),
        shape(1, 35, 2, 80),
        shape(1, 63, 1, 160),
        shape(2, 64, 2, 160),
        shape(1, 65, 2, 40),
        shape(1, 97, 1, 80),
        shape(1, 131, 2, 40),
        shape(1, 256, 1, 160),
        shape(1, 257, 1, 80),
        shape(1, 400, 1, 40),
        shape(3, 200, 2, 40),
        shape(3, 150, 2, 80),
        Shape { keys: 3, ..shape(2, 33, 2, 40) },
        Shape { keys: 129, ..shape(1, 17, 2, 80) },
    ]
}

fn other_heads() -> Vec<Shape> {
    vec![
        shape(2, 33, 3, 8),
        shape(1, 65, 2, 24),
        shape(1, 40, 2, 32),
        shape(2, 77, 2, 64),
        shape(1, 130, 1, 64),
        shape(1, 70, 2, 72),
        shape(1, 50, 2, 128),
        shape(1, 37, 1, 136),
    ]
}

fn wide() -> Vec<Shape> {
    vec![
        shape(1, 16, 1, 512),
        shape(2, 35, 1, 512),
        shape(1, 96, 1, 512),
        shape(1, 33, 1, 256),
        shape(1, 31, 2, 168),
        Shape { keys: 65, ..shape(1, 5, 1, 512) },
    ]
}

fn causal() -> Vec<Shape> {
    [
        shape(2, 1, 1, 64),
        shape(1, 77, 2, 64),
        shape(2, 16, 1, 64),
        shape(1, 77, 2, 40),
        shape(1, 130, 1, 80),
        shape(1, 99, 1, 160),
        Shape { keys: 150, ..shape(1, 140, 1, 64) },
    ]
    .map(|shape| Shape { causal: true, ..shape })
    .to_vec()
}

fn in_both_types(case: &Case, shapes: &[Shape]) -> Result<()> {
    every_shape::<f16>(case, shapes)?;
    every_shape::<bf16>(case, shapes)
}

fn every_shape<T: Half>(case: &Case, shapes: &[Shape]) -> Result<()> {
    shapes.iter().try_for_each(|&shape| compare::<T>(case, shape, &packed(case, shape, 1.0)))
}

/// Scores of hundreds: probabilities are 0 or 1, and nothing may overflow.
fn far_apart(case: &Case) -> Result<()> {
    for shape in [shape(1, 77, 1, 40), shape(1, 200, 1, 80), shape(1, 40, 1, 160), shape(1, 33, 1, 512)] {
        compare::<f16>(case, shape, &packed(case, shape, 12.0))?;
        compare::<bf16>(case, shape, &packed(case, shape, 12.0))?;
    }
    Ok(())
}

/// Moves queries up and keys down, so that every score is about −25·√d.
fn push_apart(qkv: &mut [f32], width: usize) {
    for token in qkv.chunks_exact_mut(3 * width) {
        token[..width].iter_mut().for_each(|q| *q += 5.0);
        token[width..2 * width].iter_mut().for_each(|k| *k -= 5.0);
    }
}

/// Scores of about −150 to −560 for every key there is: one past the end, whose score is 0, would have a probability
/// of infinity.
fn far_below(case: &Case) -> Result<()> {
    for shape in [
        shape(1, 77, 1, 40),
        Shape { causal: true, ..shape(1, 77, 1, 64) },
        shape(1, 33, 2, 80),
        shape(1, 65, 1, 160),
        shape(1, 40, 1, 512),
    ] {
        let mut qkv = packed(case, shape, 1.0);
        push_apart(&mut qkv, width(shape));
        compare::<f16>(case, shape, &qkv)?;
        compare::<bf16>(case, shape, &qkv)?;
    }
    Ok(())
}

/// Keys that grow with their number: every step brings a larger score than those before, by little or by much.
fn rising(case: &Case) -> Result<()> {
    for shape in
        [shape(1, 300, 1, 40), shape(1, 200, 1, 64), shape(1, 200, 1, 80), shape(1, 150, 1, 160), shape(1, 130, 1, 512)]
    {
        let mut qkv = packed(case, shape, 1.0);
        let width = width(shape);
        for (i, token) in qkv.chunks_exact_mut(3 * width).enumerate() {
            let (q, rest) = token.split_at_mut(width);
            q.iter_mut().for_each(|q| *q = 0.5 * *q + 1.0);
            rest[..width].iter_mut().for_each(|k| *k = 0.5 * *k + 0.01 * i as f32);
        }
        compare::<f16>(case, shape, &qkv)?;
        compare::<bf16>(case, shape, &qkv)?;
    }
    Ok(())
}

/// Three buffers with strides of their own.
fn apart(case: &Case) -> Result<()> {
    let shape = Shape { keys: 70, ..shape(2, 45, 2, 40) };
    let strides = [96, 80, 120];
    let rows = [shape.n * shape.queries, shape.n * shape.keys, shape.n * shape.keys];
    let values = [0, 1, 2].map(|i| case.normal(&format!("part {i}"), rows[i] * strides[i], 1.0));
    let (q, q_rounded) = case.half::<f16>(&values[0])?;
    let (k, k_rounded) = case.half::<f16>(&values[1])?;
    let (v, v_rounded) = case.half::<f16>(&values[2])?;
    let tokens = |data, i: usize| Tokens { data, stride: strides[i] };
    let mut want = vec![0.0; rows[0] * width(shape)];
    let (q_host, k_host, v_host) = (tokens(&q_rounded, 0), tokens(&k_rounded, 1), tokens(&v_rounded, 2));
    attention::forward(&mut want, q_host, k_host, v_host, shape, Threads::All);
    let heads = |x: View<f16>, i: usize| Heads { x, stride: strides[i] };
    for variant in Variant::forward(case.gpu(), shape, FEW)? {
        let parts = [heads(q.view(), 0), heads(k.view(), 1), heads(v.view(), 2)];
        let got = on_gpu(case, variant, parts, shape)?;
        case.close(&format!("{shape:?} by {variant:?}"), &wide_values(&got), &want, Tolerance::f16())?;
    }
    Ok(())
}

/// The last image of 3 and of 8 alone gives the same bits.
fn batch_independent(case: &Case) -> Result<()> {
    for (queries, head_dim, causal) in
        [(65, 40, false), (130, 80, false), (64, 160, false), (77, 64, true), (33, 512, false)]
    {
        for n in [3, 8] {
            let many = Shape { causal, ..shape(n, queries, 2, head_dim) };
            let (device, _) = case.half::<f16>(&packed(case, many, 1.0))?;
            let image = queries * 3 * width(many);
            let parts =
                |from: usize| [0, 1, 2].map(|i| Heads::part(device.view().slice(from..n * image), i, 3, width(many)));
            for variant in Variant::forward(case.gpu(), many, FEW)? {
                let all = on_gpu(case, variant, parts(0), many)?;
                let alone = on_gpu(case, variant, parts((n - 1) * image), Shape { n: 1, ..many })?;
                case.same(&format!("{many:?} by {variant:?}"), &all[all.len() - alone.len()..], &alone)?;
            }
        }
    }
    Ok(())
}

/// Queries once for both branches of guidance, one set for all, contexts in any order; 77 keys, few, and as many as
/// there may be.
fn contexts() -> Vec<Rows> {
    vec![
        rows(shape(4, 64, 2, 40), 77, 2, &[1, 2, 0, 0]),
        rows(shape(3, 16, 2, 80), 77, 3, &[2, 0, 1]),
        rows(shape(2, 64, 1, 160), 77, 1, &[0, 1]),
        rows(shape(1, 300, 1, 40), 77, 1, &[1]),
        rows(shape(1, 1, 3, 40), 1, 1, &[0]),
        rows(shape(2, 35, 2, 64), 80, 2, &[1, 1]),
        rows(shape(2, 35, 2, 40), 81, 2, &[1, 0]),
        rows(shape(1, 131, 1, 80), 128, 1, &[0]),
        rows(shape(2, 17, 1, 64), 97, 2, &[0, 1]),
        rows(shape(2, 65, 1, 160), 128, 2, &[0, 0]),
        rows(shape(1, 50, 2, 24), 5, 1, &[0]),
        rows(shape(1, 19, 1, 104), 16, 1, &[0]),
    ]
}

fn every_context<T: Half>(case: &Case, problems: &[Rows]) -> Result<()> {
    problems.iter().try_for_each(|rows| compare_cross::<T>(case, rows, 1.0, 0.0))
}

fn far_contexts(case: &Case) -> Result<()> {
    for problem in [
        rows(shape(2, 33, 1, 40), 77, 2, &[0, 1]),
        rows(shape(1, 20, 1, 80), 90, 1, &[0]),
        rows(shape(1, 20, 1, 160), 77, 1, &[0]),
    ] {
        for (spread, apart) in [(1.0, 5.0), (12.0, 0.0)] {
            compare_cross::<f16>(case, &problem, spread, apart)?;
            compare_cross::<bf16>(case, &problem, spread, apart)?;
        }
    }
    Ok(())
}

/// The last of 3 and of 8 rows alone gives the same bits.
fn cross_batch_independent(case: &Case) -> Result<()> {
    for (queries, head_dim) in [(65, 40), (40, 80), (64, 160)] {
        for n in [3, 8] {
            let which: Vec<u32> = (0..n as u32).map(|row| row % 3).collect();
            let many = rows(shape(n, queries, 2, head_dim), 77, n, &which);
            let alone = rows(shape(1, queries, 2, head_dim), 77, 1, &which[n - 1..]);
            let Inputs { q, kv } = inputs::<f16>(case, &many, 1.0, 0.0)?;
            let image = queries * width(many.shape);
            let all = cross_on_gpu(case, &many, q.0.view(), kv.0.view())?;
            let alone = cross_on_gpu(case, &alone, q.0.view().slice((n - 1) * image..n * image), kv.0.view())?;
            case.same(&format!("{:?}", many.shape), &all[all.len() - alone.len()..], &alone)?;
        }
    }
    Ok(())
}

/// Stable Diffusion 1.5 at 512².
fn full_size(case: &Case) -> Result<()> {
    if !case.full() {
        return Ok(());
    }
    for (tokens, head_dim) in [(4096, 40), (1024, 80), (256, 160), (64, 160)] {
        compare::<f16>(case, shape(2, tokens, 8, head_dim), &packed(case, shape(2, tokens, 8, head_dim), 1.0))?;
        compare_cross::<f16>(case, &rows(shape(4, tokens, 8, head_dim), 77, 2, &[1, 2, 0, 0]), 1.0, 0.0)?;
    }
    let decoder = shape(1, 4096, 1, 512);
    compare::<f16>(case, decoder, &packed(case, decoder, 1.0))
}
