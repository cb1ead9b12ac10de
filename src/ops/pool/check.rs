//! Pools and means of split maps against the CPU op.

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::conv2d::{Shape, Window};
use crate::ops::halves::{Columns, joined, split, words};
use crate::ops::pool::{Pool, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "largest under a window by halves", run: |case| every_shape(case, Pool::Max) },
    Check { name: "mean under a window by halves", run: |case| every_shape(case, Pool::Average) },
    Check { name: "means of maps by halves", run: means },
]);

/// One rounding of a result to two halves.
const TOLERANCE: Tolerance = Tolerance { difference: 1e-10, relative: 2e-5, of_rms: 1e-6 };

/// Windows that stay inside and that do not, of channels that fill pieces and that do not.
fn every_shape(case: &Case, pool: Pool) -> Result<()> {
    let windows = [Window::same(3, 3), Window::inside(3, 2), Window::inside(2, 2), Window::same(1, 5)];
    for (i, window) in windows.into_iter().enumerate() {
        let shape = Shape { n: 2, height: 7, width: 6, channels: [33, 64, 1, 100][i], window };
        compare(case, pool, shape, [0, 32, 64, 0][i])?;
    }
    let full = Shape { n: 16, height: 147, width: 147, channels: 64, window: Window::inside(3, 2) };
    if case.full() { compare(case, pool, full, 0) } else { Ok(()) }
}

fn compare(case: &Case, pool: Pool, shape: Shape, first: usize) -> Result<()> {
    let (gpu, c, name) = (case.gpu(), shape.channels, format!("{pool:?} {shape:?}"));
    let halves = split(&case.normal(&format!("x {name}"), shape.inputs(), 1.0), c);
    let mut x = joined(&halves, c);
    let on = gpu.upload(&halves)?;
    let mut want = vec![f32::NAN; shape.rows() * c];
    forward(&mut want, &x, pool, shape);
    let of = first + c;
    let y = gpu.upload(&vec![0u32; words(shape.rows(), of)])?;
    cuda::forward(gpu, Columns { rows: y.view(), of, first, channels: c }, on.view(), pool, shape)?;
    let own = |y: Vec<f32>| y.chunks_exact(of).flat_map(|row| row[first..].to_vec()).collect::<Vec<_>>();
    let got = own(joined(&gpu.read(y.view())?, of));
    match pool {
        Pool::Max => case.same(&name, &got, &want)?,
        Pool::Average => case.close(&name, &got, &want, TOLERANCE)?,
    }
    // What is no number stays none.
    x.iter_mut().step_by(37).for_each(|v| *v = f32::NAN);
    gpu.write(on.view(), &split(&x, c))?;
    forward(&mut want, &x, pool, shape);
    cuda::forward(gpu, Columns { rows: y.view(), of, first, channels: c }, on.view(), pool, shape)?;
    let none = |values: &[f32]| values.iter().map(|v| u8::from(v.is_nan())).collect::<Vec<_>>();
    case.same(&format!("{name}, what is no number"), &none(&own(joined(&gpu.read(y.view())?, of))), &none(&want))
}

fn means(case: &Case) -> Result<()> {
    for (images, pixels, c) in [(3, 64, 100), (1, 1, 1), (2, 5, 320)] {
        let gpu = case.gpu();
        let halves = split(&case.normal(&format!("x {c}"), images * pixels * c, 1.0), c);
        let (x, y) = (gpu.upload(&halves)?, gpu.upload(&vec![f32::NAN; images * c])?);
        cuda::mean(gpu, y.view(), x.view(), pixels, c)?;
        let maps = joined(&halves, c);
        let of = |at: usize| {
            let (image, channel) = (at / c, at % c);
            let sum: f64 = (0..pixels).map(|pixel| f64::from(maps[(image * pixels + pixel) * c + channel])).sum();
            (sum / pixels as f64) as f32
        };
        let want: Vec<f32> = (0..images * c).map(of).collect();
        case.close(&format!("[{images}, {pixels}, {c}]"), &gpu.read(y.view())?, &want, Tolerance::f32())?;
    }
    Ok(())
}
