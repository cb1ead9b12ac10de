//! Fused self-attention against the CPU op on the same bf16 inputs.

use half::bf16;

use crate::bail;
use crate::device::cuda::Gpu;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::self_attention::cuda::{Backward, Variant, backward_by, forward_by, scratch_len};
use crate::ops::self_attention::{self, Shape};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "self-attention, every token asks", run: |case| every_shape(case, &all_ask()) },
    Check { name: "self-attention, few tokens ask", run: |case| every_shape(case, &few_ask()) },
    Check { name: "self-attention, causal", run: |case| every_shape(case, &causal()) },
    Check { name: "self-attention, scores far apart", run: far_apart },
    Check { name: "self-attention, scores far below zero", run: far_below },
    Check { name: "self-attention, an image's bits in any batch", run: batch_independent },
    Check { name: "self-attention at full size", run: full_size },
]);

/// Multiprocessors for kernels whose blocks take several heads: so few that rings of stages go round more than once.
const FEW: u32 = 2;

/// P and dS are rounded to bf16 before the last products: an element is as exact as its row is large, and rows of
/// causal attention differ.
const GRADIENT: Tolerance = Tolerance { difference: 1e-5, relative: 1.0 / 64.0, of_rms: 0.1 };

const fn shape(n: usize, tokens: usize, queries: usize, heads: usize, head_dim: usize) -> Shape {
    Shape { n, tokens, queries, heads, head_dim, causal: false }
}

/// One token, below and above a warp's 16 rows, a chunk's 64 and its neighbours, ViT's 196 and 197, past 256.
fn all_ask() -> Vec<Shape> {
    vec![
        shape(2, 1, 1, 2, 64),
        shape(2, 5, 5, 2, 32),
        shape(2, 16, 16, 1, 64),
        shape(1, 17, 17, 3, 64),
        shape(2, 63, 63, 2, 32),
        shape(2, 64, 64, 1, 64),
        shape(3, 65, 65, 4, 64),
        shape(1, 65, 65, 3, 32),
        shape(1, 129, 129, 2, 64),
        shape(2, 196, 196, 1, 64),
        shape(2, 197, 197, 4, 64),
        shape(1, 197, 197, 2, 32),
        shape(1, 209, 209, 1, 64),
        shape(1, 256, 256, 1, 64),
        shape(1, 257, 257, 2, 64),
        shape(1, 300, 300, 1, 32),
        shape(1, 300, 300, 1, 64),
    ]
}

fn few_ask() -> Vec<Shape> {
    vec![
        shape(3, 5, 1, 2, 64),
        shape(2, 65, 1, 2, 32),
        shape(5, 197, 1, 3, 64),
        shape(1, 197, 64, 2, 64),
        shape(1, 197, 70, 1, 32),
        shape(1, 197, 196, 1, 64),
        shape(2, 300, 1, 1, 64),
        shape(1, 300, 259, 1, 64),
    ]
}

fn causal() -> Vec<Shape> {
    [
        shape(2, 1, 1, 1, 64),
        shape(2, 17, 17, 2, 32),
        shape(2, 77, 77, 2, 64),
        shape(1, 77, 77, 2, 32),
        shape(1, 77, 40, 1, 64),
        shape(1, 130, 130, 1, 64),
        shape(1, 197, 197, 1, 64),
        shape(1, 300, 300, 1, 64),
        shape(1, 300, 140, 1, 32),
    ]
    .map(|shape| Shape { causal: true, ..shape })
    .to_vec()
}

fn every_shape(case: &Case, shapes: &[Shape]) -> Result<()> {
    shapes.iter().try_for_each(|&shape| compare(case, shape, 1.0))
}

/// Scores of hundreds: probabilities are 0 or 1, and nothing may overflow.
fn far_apart(case: &Case) -> Result<()> {
    [shape(1, 77, 77, 1, 64), shape(1, 300, 300, 1, 32)].iter().try_for_each(|&shape| compare(case, shape, 12.0))
}

/// Scores of about −200 for every key there is: one past the end, whose score is 0, would have a probability of
/// infinity.
fn far_below(case: &Case) -> Result<()> {
    for shape in [shape(1, 77, 77, 1, 64), shape(1, 197, 197, 1, 64), shape(1, 65, 3, 1, 64), shape(1, 300, 300, 1, 64)]
    {
        let mut problem = problem(case, shape, 1.0);
        for token in problem.qkv.chunks_exact_mut(3 * shape.head_dim) {
            let (q, rest) = token.split_at_mut(shape.head_dim);
            q.iter_mut().for_each(|q| *q = bf16::from_f32(*q + 5.0).to_f32());
            rest[..shape.head_dim].iter_mut().for_each(|k| *k = bf16::from_f32(*k - 5.0).to_f32());
        }
        // Keys have a large component in common, so dq is a small difference of large terms: bf16 leaves more of an
        // error in it.
        compare_on(case, &problem, Some(Tolerance { difference: 1e-4, ..GRADIENT }))?;
    }
    Ok(())
}

fn full_size(case: &Case) -> Result<()> {
    if !case.full() {
        return Ok(());
    }
    [shape(16, 197, 197, 12, 64), shape(64, 197, 1, 12, 64), shape(4, 1025, 1025, 6, 64)]
        .iter()
        .try_for_each(|&shape| compare(case, shape, 1.0))
}

/// Inputs on the device and what the CPU makes of them.
struct Problem {
    shape: Shape,
    qkv: Vec<f32>,
    dout: Vec<f32>,
}

/// What the device made: bit patterns.
struct Outputs {
    out: Vec<bf16>,
    lse: Vec<f32>,
    dqkv: Vec<bf16>,
}

/// Forward by one variant, backward by another, into buffers of NaN.
fn on_gpu(gpu: &Gpu, problem: &Problem, variants: (Variant, Variant)) -> Result<Outputs> {
    let &Problem { shape, ref qkv, ref dout } = problem;
    let rounded = |values: &[f32]| values.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>();
    let (qkv, dout) = (gpu.upload(&rounded(qkv))?, gpu.upload(&rounded(dout))?);
    let out = gpu.upload(&vec![bf16::NAN; shape.out_len()])?;
    let lse = gpu.upload(&vec![f32::NAN; shape.lse_len()])?;
    let scratch = gpu.upload(&vec![f32::NAN; scratch_len(shape)])?;
    let dqkv = gpu.upload(&vec![bf16::NAN; shape.qkv_len()])?;
    forward_by(variants.0, gpu, out.view(), lse.view(), qkv.view(), shape)?;
    let of = Backward {
        dqkv: dqkv.view(),
        dout: dout.view(),
        qkv: qkv.view(),
        out: out.view(),
        lse: lse.view(),
        scratch: scratch.view(),
    };
    backward_by(variants.1, gpu, of, shape)?;
    Ok(Outputs { out: gpu.read(out.view())?, lse: gpu.read(lse.view())?, dqkv: gpu.read(dqkv.view())? })
}

/// N(0, spread²) queries, keys and values, rounded to bf16.
fn problem(case: &Case, shape: Shape, spread: f32) -> Problem {
    let rounded = |name: &str, len: usize, std: f32| -> Vec<f32> {
        case.normal(&format!("{name} of {shape:?}"), len, std).iter().map(|&v| bf16::from_f32(v).to_f32()).collect()
    };
    Problem { shape, qkv: rounded("qkv", shape.qkv_len(), spread), dout: rounded("dout", shape.out_len(), 1.0) }
}

fn compare(case: &Case, shape: Shape, spread: f32) -> Result<()> {
    // Where a probability is 1, dq and dk are nothing but rounding: they are weighed together with dv.
    compare_on(case, &problem(case, shape, spread), (shape.tokens == 1 || spread > 1.0).then_some(GRADIENT))
}

/// Each variant's output, log-sum-exp and gradients against the CPU's; those of q, k and v apart, or `together` within
/// a tolerance of their own.
fn compare_on(case: &Case, problem: &Problem, together: Option<Tolerance>) -> Result<()> {
    let &Problem { shape, ref qkv, ref dout } = problem;
    let (mut out, mut lse) = (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()]);
    self_attention::forward(&mut out, &mut lse, qkv, shape);

    let gpu = case.gpu();
    let (forwards, backwards) = (Variant::forward(gpu, shape, FEW), Variant::backward(gpu, shape, FEW));
    for i in 0..forwards.len().max(backwards.len()) {
        let variants = (forwards[i.min(forwards.len() - 1)], backwards[i.min(backwards.len() - 1)]);
        let got = on_gpu(gpu, problem, variants)?;
        let what = |name: &str| format!("{name} of {shape:?} by {variants:?}");
        case.close(&what("out"), &wide(&got.out), &out, Tolerance::bf16())?;
        case.close(&what("lse"), &got.lse, &lse, Tolerance { relative: 1e-5, ..Tolerance::f32() })?;
        // What the backward pass is given: out as the device rounded it. Where probabilities are 0 or 1 this matters.
        let mut dqkv = vec![0.0; shape.qkv_len()];
        self_attention::backward(&mut dqkv, dout, qkv, &wide(&got.out), &got.lse, shape);
        let got = wide(&got.dqkv);
        if let Some(tolerance) = together {
            case.close(&what("dqkv"), &got, &dqkv, tolerance)?;
            continue;
        }
        for (which, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
            // Tokens that do not ask have a dq of zeros, which would make the others' root mean square look small.
            let tokens = if which == 0 { shape.queries } else { shape.tokens };
            let (got, rest) = part(&got, shape, which, tokens);
            case.close(&what(name), &got, &part(&dqkv, shape, which, tokens).0, GRADIENT)?;
            if rest.iter().any(|&v| v != 0.0) {
                bail!(Failed, "{}: tokens that do not ask have a gradient", what(name));
            }
        }
    }
    Ok(())
}

/// q, k or v of a packed buffer: of the first `tokens` tokens of each image, and of the others.
fn part(qkv: &[f32], shape: Shape, which: usize, tokens: usize) -> (Vec<f32>, Vec<f32>) {
    let width = shape.heads * shape.head_dim;
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (i, token) in qkv.chunks_exact(3 * width).enumerate() {
        let to = if i % shape.tokens < tokens { &mut first } else { &mut rest };
        to.extend_from_slice(&token[which * width..][..width]);
    }
    (first, rest)
}

fn wide(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|v| v.to_f32()).collect()
}

/// The last of five images alone gives the same bits.
fn batch_independent(case: &Case) -> Result<()> {
    for (tokens, queries, head_dim) in [(65, 65, 64), (197, 1, 64), (77, 77, 32)] {
        let many = problem(case, shape(5, tokens, queries, 3, head_dim), 1.0);
        let one = shape(1, tokens, queries, 3, head_dim);
        let last = |values: &[f32], len: usize| values[values.len() - len..].to_vec();
        let alone = Problem { shape: one, qkv: last(&many.qkv, one.qkv_len()), dout: last(&many.dout, one.out_len()) };
        let gpu = case.gpu();
        for (forward, backward) in Variant::forward(gpu, one, FEW).into_iter().zip(Variant::backward(gpu, one, FEW)) {
            let (many, alone) = (on_gpu(gpu, &many, (forward, backward))?, on_gpu(gpu, &alone, (forward, backward))?);
            case.same("out", &many.out[many.out.len() - alone.out.len()..], &alone.out)?;
            case.same("lse", &many.lse[many.lse.len() - alone.lse.len()..], &alone.lse)?;
            case.same("dqkv", &many.dqkv[many.dqkv.len() - alone.dqkv.len()..], &alone.dqkv)?;
        }
    }
    Ok(())
}
