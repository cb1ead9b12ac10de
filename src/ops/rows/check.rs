//! Rows by whole numbers against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::rows::cuda::{self, scratch_len};
use crate::ops::rows::{Places, Shape, fill_backward, place, take};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "rows taken bf16", run: |case| every_shape(case, compare_take) },
    Check { name: "rows placed bf16", run: |case| every_shape(case, compare_place) },
    Check { name: "gradient of the filler", run: |case| every_shape(case, compare_fill) },
]);

/// One row, widths that are vectors and that are not, more rows than come and fewer, more images than a block.
fn every_shape(case: &Case, compare: fn(&Case, Shape) -> Result<()>) -> Result<()> {
    let shape = |n, from, to, d| Shape { n, from, to, d };
    let shapes =
        [shape(1, 1, 1, 8), shape(3, 5, 17, 24), shape(2, 16, 4, 33), shape(5, 50, 197, 64), shape(70, 2, 3, 7)];
    shapes.iter().try_for_each(|&shape| compare(case, shape))?;
    if case.full() { compare(case, shape(64, 50, 197, 512)) } else { Ok(()) }
}

/// `count` numbers below `end`, the last one among them.
fn numbers(case: &Case, name: &str, count: usize, end: usize) -> Vec<u32> {
    let mut stream = case.stream(name);
    let mut all: Vec<u32> = (0..count).map(|_| stream.below(end) as u32).collect();
    all[0] = end as u32 - 1;
    all
}

fn compare_take(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, Shape { n, from, to, d }) = (case.gpu(), shape);
    let (x, values) = case.bf16(&case.normal(&format!("x {shape:?}"), n * from * d, 1.0))?;
    let rows = numbers(case, "rows", n * to, from);
    let mut want = vec![0.0; n * to * d];
    take(&mut want, &values, &rows, shape);
    let y = gpu.upload(&vec![bf16::NAN; want.len()])?;
    cuda::take(gpu, y.view(), x.view(), gpu.upload(&rows)?.view(), shape)?;
    let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
    case.same(&format!("rows of {shape:?}"), &gpu.read(y.view())?, &want)
}

fn compare_place(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, Shape { n, from, to, d }) = (case.gpu(), shape);
    let (x, values) = case.bf16(&case.normal(&format!("x {shape:?}"), n * from * d, 1.0))?;
    let (fill, pos) = (case.normal("fill", d, 1.0), case.normal("pos", to * d, 1.0));
    let (rows, at) = (numbers(case, "rows", n * to, 2 * from), numbers(case, "at", n * to, to));
    let [on_fill, on_pos] = [case.f32(&fill)?, case.f32(&pos)?];
    let (on_rows, on_at) = (gpu.upload(&rows)?, gpu.upload(&at)?);
    for elsewhere in [false, true] {
        let mut want = vec![0.0; n * to * d];
        let places = Places { rows: &rows, at: elsewhere.then_some(&at) };
        place(&mut want, &values, &fill, &pos, places, shape);
        let y = gpu.upload(&vec![bf16::NAN; want.len()])?;
        let places = cuda::Places { rows: on_rows.view(), at: elsewhere.then_some(on_at.view()) };
        cuda::place(gpu, y.view(), x.view(), [on_fill.view(), on_pos.view()], places, shape)?;
        let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
        case.same(&format!("{shape:?}, positions elsewhere: {elsewhere}"), &gpu.read(y.view())?, &want)?;
    }
    Ok(())
}

fn compare_fill(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, Shape { n, from, to, d }) = (case.gpu(), shape);
    let (dy, values) = case.bf16(&case.normal(&format!("dy {shape:?}"), n * to * d, 1.0))?;
    let rows = numbers(case, "rows", n * to, 2 * from);
    let mut want = case.normal("dfill", d, 1.0);
    let dfill = case.f32(&want)?;
    fill_backward(&mut want, &values, &rows, shape);
    let scratch = gpu.upload(&vec![f32::NAN; scratch_len(shape)])?;
    cuda::fill_backward(gpu, dfill.view(), dy.view(), gpu.upload(&rows)?.view(), scratch.view(), shape)?;
    case.close(&format!("filler of {shape:?}"), &gpu.read(dfill.view())?, &want, Tolerance::f32())
}
