//! Fused attention of inference against the CPU op on the same rounded inputs.

use half::{bf16, f16};

use crate::device::cuda::{Half, Owned, View};
use crate::error::Result;
use crate::ops::attention::cuda::{Heads, Variant, cross, forward, forward_by};
use crate::ops::attention::{self, Context, Shape, Tokens};
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::gemm::Threads;

mod full_size;
mod values;

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

/// Multiprocessors for kernels whose blocks take several heads: so few that rings of slots go round more than once.
const FEW: u32 = 4;

const fn shape(n: usize, queries: usize, heads: usize, head_dim: usize) -> Shape {
    Shape { n, queries, keys: queries, heads, head_dim, causal: false }
}

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

fn width(shape: Shape) -> usize {
    shape.heads * shape.head_dim
}

/// N(0, spread²), `[N, T, 3, G, d]`; T is the larger of queries and keys.
fn packed(case: &Case, shape: Shape, spread: f32) -> Vec<f32> {
    case.normal(&format!("qkv of {shape:?}"), shape.n * shape.queries.max(shape.keys) * 3 * width(shape), spread)
}

/// A buffer of NaN for the output.
fn output<T: Half>(case: &Case, shape: Shape) -> Result<Owned<T>> {
    case.gpu().upload(&vec![T::round(f32::NAN); shape.n * shape.queries * width(shape)])
}

/// What a variant makes of q, k and v, `q_stride`, … values apart, as bit patterns.
fn on_gpu<T: Half>(case: &Case, variant: Variant, [q, k, v]: [Heads<T>; 3], shape: Shape) -> Result<Vec<T>> {
    let y = output(case, shape)?;
    forward_by(variant, case.gpu(), y.view(), q, k, v, shape)?;
    case.gpu().read(y.view())
}

fn wide_values<T: Half>(values: &[T]) -> Vec<f32> {
    values.iter().map(|v| v.widen()).collect()
}

/// Every variant's output for packed queries, keys and values against the CPU's. Of images with as many queries as keys, and else of one image or
/// of several whose queries and keys follow each other without a gap.
fn compare<T: Half>(case: &Case, shape: Shape, qkv: &[f32]) -> Result<()> {
    let width = width(shape);
    let (device, rounded) = case.half::<T>(qkv)?;
    let part = |i: usize| Tokens { data: &rounded[i * width..], stride: 3 * width };
    let mut want = vec![0.0; shape.n * shape.queries * width];
    attention::forward(&mut want, part(0), part(1), part(2), shape, Threads::All);
    compare_by(case, shape, &device, &want, &Variant::forward(case.gpu(), shape, FEW)?)
}

/// Outputs of these variants against the CPU's.
fn compare_by<T: Half>(case: &Case, shape: Shape, qkv: &Owned<T>, want: &[f32], variants: &[Variant]) -> Result<()> {
    for &variant in variants {
        let parts = [0, 1, 2].map(|i| Heads::part(qkv.view(), i, 3, width(shape)));
        let got = on_gpu(case, variant, parts, shape)?;
        let what = format!("{} of {shape:?} by {variant:?}", T::DTYPE);
        case.close(&what, &wide_values(&got), want, Tolerance::of::<T>())?;
    }
    Ok(())
}

/// The first variant, on all multiprocessors.
fn as_chosen(case: &Case, shape: Shape) -> Result<()> {
    let (qkv, width) = (packed(case, shape, 1.0), width(shape));
    let (device, rounded) = case.half::<f16>(&qkv)?;
    let part = |i: usize| Tokens { data: &rounded[i * width..], stride: 3 * width };
    let mut want = vec![0.0; shape.n * shape.queries * width];
    attention::forward(&mut want, part(0), part(1), part(2), shape, Threads::All);
    let y = output::<f16>(case, shape)?;
    let [q, k, v] = [0, 1, 2].map(|i| Heads::part(device.view(), i, 3, width));
    forward(case.gpu(), y.view(), q, k, v, shape)?;
    case.close(&format!("{shape:?}"), &case.read_half(y.view())?, &want, Tolerance::f16())
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

/// Scores of about −150 to −560 for every key there is: one past the end, whose score is 0, would have a probability of infinity.
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

// ------------------------------------------------------------------------------------------------------------------------------ cross

/// Rows of a problem of cross-attention: images of queries, and whose context each row uses.
struct Rows {
    shape: Shape,
    q_rows: usize,
    which: Vec<u32>,
}

fn rows(shape: Shape, keys: usize, q_rows: usize, which: &[u32]) -> Rows {
    Rows { shape: Shape { keys, ..shape }, q_rows, which: which.to_vec() }
}

/// Queries once for both branches of guidance, one set for all, contexts in any order; 77 keys, few, and as many as there may be.
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

/// Queries and contexts on the device, and rounded.
struct Inputs<T: Half> {
    q: (Owned<T>, Vec<f32>),
    kv: (Owned<T>, Vec<f32>),
}

/// N(0, spread²); queries moved up by `apart`, keys down.
fn inputs<T: Half>(case: &Case, rows: &Rows, spread: f32, apart: f32) -> Result<Inputs<T>> {
    let Rows { shape, q_rows, which } = rows;
    let (width, contexts) = (width(*shape), which.iter().max().map_or(0, |&most| most as usize + 1));
    let mut q = case.normal(&format!("q of {shape:?}"), q_rows * shape.queries * width, spread);
    q.iter_mut().for_each(|q| *q += apart);
    let mut kv = case.normal(&format!("kv of {shape:?}"), contexts * shape.keys * 2 * width, spread);
    kv.chunks_exact_mut(2 * width).for_each(|token| token[..width].iter_mut().for_each(|k| *k -= apart));
    Ok(Inputs { q: case.half(&q)?, kv: case.half(&kv)? })
}

fn cross_on_gpu<T: Half>(case: &Case, rows: &Rows, q: View<T>, kv: View<T>) -> Result<Vec<T>> {
    let shape = rows.shape;
    let y = output(case, shape)?;
    let which = case.gpu().upload(&rows.which)?;
    let q = Heads { x: q, stride: width(shape) };
    cross(case.gpu(), y.view(), q, rows.q_rows, kv, which.view(), shape)?;
    case.gpu().read(y.view())
}

fn compare_cross<T: Half>(case: &Case, rows: &Rows, spread: f32, apart: f32) -> Result<()> {
    let &Rows { shape, q_rows, ref which } = rows;
    let inputs = inputs::<T>(case, rows, spread, apart)?;
    let width = width(shape);
    let contexts: Vec<Context> = inputs
        .kv
        .1
        .chunks_exact(shape.keys * 2 * width)
        .map(|context| {
            let part = |i: usize| -> Vec<f32> {
                context.chunks_exact(2 * width).flat_map(|token| token[i * width..][..width].iter().copied()).collect()
            };
            Context::new(&part(0), &part(1), shape.heads, shape.head_dim)
        })
        .collect();
    let image = shape.queries * width;
    let q: Vec<f32> = (0..shape.n).flat_map(|n| inputs.q.1[n % q_rows * image..][..image].iter().copied()).collect();
    let runs: Vec<(usize, &Context)> = which.iter().map(|&which| (1, &contexts[which as usize])).collect();
    let mut want = vec![0.0; q.len()];
    attention::cross(&mut want, &q, &runs, shape, Threads::All);
    let got = cross_on_gpu(case, rows, inputs.q.0.view(), inputs.kv.0.view())?;
    let what = format!("{} of {shape:?}, queries of {q_rows}, contexts {which:?}", T::DTYPE);
    case.close(&what, &wide_values(&got), &want, Tolerance::of::<T>())
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
