//! Layer normalisation against the CPU op on the same bf16 inputs.

use half::{bf16, f16};

use crate::device::cuda::{E4m3, Element, Half, Owned, View};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::gemm::Threads;
use crate::ops::layernorm::cuda::{Affine, Backward, Branch, Shape, backward, forward, infer, infer_e4m3, scratch_len};
use crate::ops::layernorm::{self};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "layernorm forward", run: |case| every(case, &shapes(), compare_forward) },
    Check { name: "layernorm inference f16", run: |case| compare_inference::<f16>(case) },
    Check { name: "layernorm inference bf16", run: |case| compare_inference::<bf16>(case) },
    Check { name: "layernorm e4m3 of f16", run: |case| narrow::<f16>(case) },
    Check { name: "layernorm e4m3 of bf16", run: |case| narrow::<bf16>(case) },
    Check { name: "layernorm backward", run: |case| every(case, &shapes(), compare_backward) },
    Check { name: "layernorm, a row's bits in any batch", run: batch_independent },
    Check { name: "layernorm at full size", run: full_size },
]);

const EPS: f32 = 1e-6;

fn shape(rows: usize, d: usize, stride: usize) -> Shape {
    Shape { rows, d, stride }
}

/// Widths of a vector, a warp, ViT-T/S/B/L, past the registers and odd ones; rows about a warp's and a block's; class
/// tokens; more rows than the backward has blocks of sixteen.
fn shapes() -> Vec<Shape> {
    let dense =
        [(1, 3), (3, 5), (17, 8), (16, 64), (33, 96), (70, 192), (5, 384), (9, 512), (7, 768), (3, 1024), (2, 1032)];
    let odd = [(31, 37), (9, 257), (2, 1025), (16_500, 8)];
    let mut all: Vec<Shape> = dense.iter().chain(&odd).map(|&(rows, d)| Shape::dense(rows, d)).collect();
    all.extend([shape(5, 64, 3 * 64), shape(3, 768, 5 * 768), shape(4, 7, 15), shape(6, 64, 68)]);
    all
}

fn every(case: &Case, shapes: &[Shape], compare: fn(&Case, Shape, usize) -> Result<()>) -> Result<()> {
    for &shape in shapes {
        compare(case, shape, 0)?;
    }
    // One value past an aligned address.
    compare(case, shape(5, 64, 64), 1)
}

fn full_size(case: &Case) -> Result<()> {
    if !case.full() {
        return Ok(());
    }
    for shape in [Shape::dense(64 * 197, 768), Shape::dense(32 * 197, 1024), shape(512, 768, 197 * 768)] {
        compare_forward(case, shape, 0)?;
        compare_backward(case, shape, 0)?;
    }
    Ok(())
}

/// `values` rounded to bf16, `offset` values into an allocation.
struct Rows {
    owned: Owned<bf16>,
    offset: usize,
    values: Vec<f32>,
}

impl Rows {
    fn new(case: &Case, name: &str, len: usize, offset: usize) -> Result<Self> {
        Self::of(case, &case.normal(name, len + offset, 1.0), offset)
    }

    fn of(case: &Case, values: &[f32], offset: usize) -> Result<Self> {
        let (owned, mut values) = case.bf16(values)?;
        values.drain(..offset);
        Ok(Self { owned, offset, values })
    }

    fn view(&self) -> View<bf16> {
        tail(&self.owned, self.offset)
    }
}

fn tail<T: Element>(owned: &Owned<T>, offset: usize) -> View<T> {
    owned.view().slice(offset..owned.view().len())
}

/// The rows without their gaps.
fn dense(values: &[f32], shape: Shape) -> Vec<f32> {
    values.chunks(shape.stride).flat_map(|row| row[..shape.d].to_vec()).collect()
}

fn affine(gamma: &Owned<f32>, beta: &Owned<f32>) -> Affine {
    Affine { gamma: gamma.view(), beta: beta.view(), eps: EPS }
}

fn gamma_beta(case: &Case, d: usize) -> (Vec<f32>, Vec<f32>) {
    (case.normal("gamma", d, 0.5).iter().map(|v| 1.0 + v).collect(), case.normal("beta", d, 0.5))
}

/// Every third row has a variance like eps; the one after it is constant.
fn compare_forward(case: &Case, shape: Shape, offset: usize) -> Result<()> {
    let (gpu, Shape { rows, d, stride }) = (case.gpu(), shape);
    let mut x = case.normal(&format!("x {shape:?}"), shape.span() + offset, 1.0);
    for (row, values) in x[offset..].chunks_mut(stride).enumerate() {
        let (first, scale) = (values[0], if row % 3 == 1 { 1e-3 } else { 1.0 });
        values.iter_mut().for_each(|v| *v = if row % 3 == 2 { first } else { *v * scale });
    }
    let x = Rows::of(case, &x, offset)?;
    let (gamma, beta) = gamma_beta(case, d);
    let (gamma_gpu, beta_gpu) = (case.f32(&gamma)?, case.f32(&beta)?);
    let y = gpu.upload(&vec![bf16::NAN; rows * d + offset])?;
    let stats = gpu.upload(&vec![f32::NAN; 2 * rows])?;
    let y = tail(&y, offset);
    forward(gpu, y, stats.view(), x.view(), affine(&gamma_gpu, &beta_gpu), shape)?;
    check_forward(case, &format!("{shape:?} + {offset}"), y, stats.view(), &dense(&x.values, shape), &gamma, &beta)
}

fn check_forward(
    case: &Case,
    what: &str,
    y: View<bf16>,
    stats: View<f32>,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
) -> Result<()> {
    let (mut want, mut want_stats) = (vec![0.0; x.len()], vec![0.0; stats.len()]);
    layernorm::forward(&mut want, &mut want_stats, x, gamma, beta, EPS);
    case.close(&format!("y of {what}"), &case.read_bf16(y)?, &want, Tolerance::bf16())?;
    let got = case.gpu().read(stats)?;
    for (which, name) in ["mean", "rstd"].into_iter().enumerate() {
        let column = |stats: &[f32]| stats.iter().skip(which).step_by(2).copied().collect::<Vec<f32>>();
        case.close(&format!("{name} of {what}"), &column(&got), &column(&want_stats), Tolerance::f32())?;
    }
    Ok(())
}

/// Widths and offsets of rows: every number of vectors per lane, with the last one whole and not; past the registers;
/// odd; an odd address.
fn inference_rows() -> impl Iterator<Item = (usize, usize)> {
    let widths = (1..=10).flat_map(|vectors| [128 * vectors - 64, 128 * vectors]).chain([8, 1288, 37]);
    widths.map(|d| (d, 0)).chain([(64, 1)])
}

/// All rows, and one row alone.
fn compare_inference<T: Half>(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (d, offset) in inference_rows() {
        let rows = 5;
        let (x, values) = case.half::<T>(&case.normal(&format!("x {d}"), rows * d + offset, 2.0))?;
        let values = &values[offset..];
        let (gamma, beta) = gamma_beta(case, d);
        let (gamma_gpu, beta_gpu) = (case.f32(&gamma)?, case.f32(&beta)?);
        let y = gpu.upload(&vec![T::round(f32::NAN); rows * d])?;
        let (x, affine) = (tail(&x, offset), affine(&gamma_gpu, &beta_gpu));
        infer(gpu, y.view(), x, affine, rows, d)?;
        let mut want = vec![0.0; rows * d];
        layernorm::infer(&mut want, values, &gamma, &beta, EPS, Threads::One);
        case.close(&format!("{rows}×{d} + {offset}"), &case.read_half(y.view())?, &want, Tolerance::of::<T>())?;
        let all = gpu.read(y.view())?;
        infer(gpu, y.view().slice(0..d), x.slice(3 * d..4 * d), affine, 1, d)?;
        case.same(&format!("row 3 of {d} alone"), &gpu.read(y.view().slice(0..d))?, &all[3 * d..4 * d])?;
    }
    Ok(())
}

/// The same values as in 16 bits, rounded once instead; what is beyond 3 saturates.
fn narrow<T: Half>(case: &Case) -> Result<()> {
    const INVERSE: f32 = E4m3::MAX / 3.0;
    let (gpu, rows) = (case.gpu(), 5);
    if !case.has_e4m3() {
        return Ok(());
    }
    for (d, offset) in inference_rows() {
        let (x, _) = case.half::<T>(&case.normal(&format!("x {d}"), rows * d + offset, 2.0))?;
        let (gamma, beta) = gamma_beta(case, d);
        let (gamma, beta) = (case.f32(&gamma)?, case.f32(&beta)?);
        let (x, affine) = (tail(&x, offset), affine(&gamma, &beta));
        let y = gpu.upload(&vec![T::round(f32::NAN); rows * d])?;
        infer(gpu, y.view(), x, affine, rows, d)?;
        let narrow = gpu.upload(&vec![E4m3::round(f32::NAN); rows * d])?;
        infer_e4m3(gpu, narrow.view(), INVERSE, x, affine, rows, d)?;
        let all = gpu.read(narrow.view())?;
        case.narrowed(&format!("{rows}×{d} + {offset}"), &all, &gpu.read(y.view())?, INVERSE)?;
        infer_e4m3(gpu, narrow.view().slice(0..d), INVERSE, x.slice(3 * d..4 * d), affine, 1, d)?;
        case.same(&format!("row 3 of {d} alone"), &gpu.read(narrow.view().slice(0..d))?, &all[3 * d..4 * d])?;
    }
    Ok(())
}

/// Without a branch, with one of every third row, and of every row; the last also in place.
fn compare_backward(case: &Case, shape: Shape, offset: usize) -> Result<()> {
    let (gpu, Shape { rows, d, stride }) = (case.gpu(), shape);
    let x = Rows::new(case, &format!("x {shape:?}"), shape.span(), offset)?;
    let dy = Rows::new(case, &format!("dy {shape:?}"), rows * d, offset)?;
    let around = Rows::new(case, &format!("branch {shape:?}"), rows * d, offset)?;
    let (gamma, beta) = gamma_beta(case, d);
    let dense_x = dense(&x.values, shape);
    let (mut y, mut stats) = (vec![0.0; rows * d], vec![0.0; 2 * rows]);
    layernorm::forward(&mut y, &mut stats, &dense_x, &gamma, &beta, EPS);
    let (gamma_gpu, stats_gpu) = (case.f32(&gamma)?, case.f32(&stats)?);
    for period in [0, 3, 1] {
        let branch = match period {
            0 => Branch::None,
            1 => Branch::Every(around.view()),
            _ => Branch::OneIn(period, around.view().slice(0..rows.div_ceil(period) * d)),
        };
        let mut want: Vec<f32> = vec![0.0; rows * d];
        for (row, want) in want.chunks_exact_mut(d).enumerate() {
            if period > 0 && row % period == 0 {
                want.copy_from_slice(&around.values[row / period * d..][..d]);
            }
        }
        let (dgamma, dbeta) = (case.normal("dgamma", d, 1.0), case.normal("dbeta", d, 1.0));
        let (dgamma_gpu, dbeta_gpu) = (case.f32(&dgamma)?, case.f32(&dbeta)?);
        let dx = gpu.upload(&vec![bf16::NAN; shape.span() + offset])?;
        let scratch = gpu.upload(&vec![f32::NAN; scratch_len(shape)])?;
        let dx = tail(&dx, offset);
        let (dg, db) = (dgamma_gpu.view(), dbeta_gpu.view());
        let stats = stats_gpu.view();
        let of = Backward {
            dx,
            branch,
            dgamma: dg,
            dbeta: db,
            dy: dy.view(),
            x: x.view(),
            stats,
            gamma: gamma_gpu.view(),
            scratch: scratch.view(),
        };
        backward(gpu, of, shape)?;

        let (mut want_dgamma, mut want_dbeta) = (dgamma.clone(), dbeta.clone());
        let stats = gpu.read(stats)?;
        layernorm::backward(&mut want, &mut want_dgamma, &mut want_dbeta, &dy.values, &dense_x, &stats, &gamma);
        let what = |name: &str| format!("{name} of {shape:?} + {offset}, branch {period}");
        let got = case.read_bf16(dx)?;
        case.close(&what("dx"), &dense(&got, shape), &want, Tolerance::bf16())?;
        // What lies between the rows is not touched.
        let between = got.chunks(stride).flat_map(|row| &row[d.min(row.len())..]).all(|v| v.is_nan());
        case.same(&what("gaps of dx"), &[u8::from(between)], &[1])?;
        case.close(&what("dgamma"), &gpu.read(dg)?, &want_dgamma, Tolerance::f32())?;
        case.close(&what("dbeta"), &gpu.read(db)?, &want_dbeta, Tolerance::f32())?;

        if period == 1 && stride == d {
            // The branch in place, and the same bits again.
            let (dgamma_gpu, dbeta_gpu) = (case.f32(&dgamma)?, case.f32(&dbeta)?);
            let (over, dg2, db2) = (around.view(), dgamma_gpu.view(), dbeta_gpu.view());
            backward(gpu, Backward { dx: over, branch: Branch::Every(over), dgamma: dg2, dbeta: db2, ..of }, shape)?;
            case.same(&what("dx in place"), &gpu.read(over)?, &gpu.read(dx)?)?;
            case.same(&what("dgamma again"), &gpu.read(dg2)?, &gpu.read(dg)?)?;
            case.same(&what("dbeta again"), &gpu.read(db2)?, &gpu.read(db)?)?;
        }
    }
    Ok(())
}

fn batch_independent(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for d in [64, 768, 37] {
        let rows = 21;
        let (x, dy) = (Rows::new(case, "x", rows * d, 0)?, Rows::new(case, "dy", rows * d, 0)?);
        let (gamma, beta) = gamma_beta(case, d);
        let (gamma, beta) = (case.f32(&gamma)?, case.f32(&beta)?);
        let run = |first: usize, rows: usize| -> Result<(Vec<bf16>, Vec<bf16>)> {
            let shape = Shape::dense(rows, d);
            let part = first * d..(first + rows) * d;
            let (x, dy) = (x.view().slice(part.clone()), dy.view().slice(part));
            let (y, dx) = (gpu.alloc(rows * d)?, gpu.alloc(rows * d)?);
            let (stats, scratch, sums) = (gpu.alloc(2 * rows)?, gpu.alloc(scratch_len(shape))?, gpu.zeros(2 * d)?);
            let (stats, dx) = (stats.view(), dx.view());
            forward(gpu, y.view(), stats, x, affine(&gamma, &beta), shape)?;
            let (dgamma, dbeta) = (sums.view().slice(0..d), sums.view().slice(d..2 * d));
            let (branch, gamma, scratch) = (Branch::None, gamma.view(), scratch.view());
            backward(gpu, Backward { dx, branch, dgamma, dbeta, dy, x, stats, gamma, scratch }, shape)?;
            Ok((gpu.read(y.view())?, gpu.read(dx)?))
        };
        let (all, alone) = (run(0, rows)?, run(13, 1)?);
        // An odd width puts row 13 at another alignment: both run the same kernel.
        case.same("y", &all.0[13 * d..14 * d], &alone.0)?;
        case.same("dx", &all.1[13 * d..14 * d], &alone.1)?;
    }
    Ok(())
}
