//! Norms of queries and keys against the CPU op on the same bf16 inputs.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::qk_norm::cuda::{backward, forward, scratch_len};
use crate::ops::qk_norm::{self, Shape};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "qk_norm forward and backward", run: every_shape }]);

const EPS: f32 = 1e-6;

/// One row, less than a block's vectors, blocks with an end, several pieces of the backward.
fn every_shape(case: &Case) -> Result<()> {
    for (tokens, heads, head_dim) in [(1, 1, 32), (1, 1, 64), (5, 3, 64), (17, 2, 32), (33, 6, 64), (150, 3, 32)] {
        compare(case, Shape { tokens, heads, head_dim })?;
    }
    if case.full() {
        compare(case, Shape { tokens: 64 * 197, heads: 12, head_dim: 64 })?;
    }
    Ok(())
}

fn compare(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, len, what) = (case.gpu(), shape.qkv_len(), |name: &str| format!("{name} of {shape:?}"));
    let (qkv, x) = case.half::<bf16>(&case.normal(&what("qkv"), len, 2.0))?;
    let mut affine = case.normal(&what("affine"), shape.affine_len(), 0.5);
    affine.iter_mut().for_each(|value| *value += 1.0);
    let (mut y, mut stats) = (vec![0.0; len], vec![0.0; shape.stats_len()]);
    qk_norm::forward(&mut y, &mut stats, &x, &affine, EPS, shape);
    let (affine_gpu, got) = (case.f32(&affine)?, gpu.upload(&vec![bf16::NAN; len])?);
    let of_rows = gpu.upload(&vec![f32::NAN; stats.len()])?;
    forward(gpu, got.view(), of_rows.view(), qkv.view(), affine_gpu.view(), EPS, shape)?;
    case.close(&what("y"), &case.read_bf16(got.view())?, &y, Tolerance::bf16())?;
    case.close(&what("statistics"), &gpu.read(of_rows.view())?, &stats, Tolerance::f32())?;
    // Values go through in their bits.
    let (third, values) = (shape.heads * shape.head_dim, gpu.read(got.view())?);
    let values_of = |all: &[bf16]| -> Vec<bf16> {
        all.chunks_exact(3 * third).flat_map(|token| token[2 * third..].to_vec()).collect()
    };
    case.same(&what("values"), &values_of(&values), &values_of(&gpu.read(qkv.view())?))?;

    let (d, dy) = case.half::<bf16>(&case.normal(&what("dy"), len, 1.0))?;
    let before = case.normal(&what("daffine"), shape.affine_len(), 1.0);
    let (mut dx, mut daffine, stats) = (dy, before.clone(), gpu.read(of_rows.view())?);
    qk_norm::backward(&mut dx, &mut daffine, &x, &stats, &affine, shape);
    let (sums, scratch) = (case.f32(&before)?, gpu.upload(&vec![f32::NAN; scratch_len(shape)])?);
    let (gradient, of_rows) = (d.view(), of_rows.view());
    backward(gpu, gradient, sums.view(), (qkv.view(), of_rows), affine_gpu.view(), scratch.view(), shape)?;
    case.close(&what("dx"), &case.read_bf16(gradient)?, &dx, Tolerance::bf16())?;
    case.close(&what("daffine"), &gpu.read(sums.view())?, &daffine, Tolerance::f32())
}
