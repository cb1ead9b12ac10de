//! Channels left out against the CPU op, bit for bit.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks};
use crate::ops::drop_channels::{Shape, apply, cuda};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "channels left out bf16", run: every_shape }]);

/// One pixel, chunks of a block and more, channels that are vectors and that are not.
fn every_shape(case: &Case) -> Result<()> {
    let shape = |n, pixels, c| Shape { n, pixels, c };
    let shapes = [shape(1, 1, 8), shape(3, 4, 1), shape(2, 9, 33), shape(3, 25, 264), shape(2, 65, 24)];
    shapes.iter().try_for_each(|&shape| compare(case, shape))?;
    if case.full() { compare(case, shape(16, 128 * 128, 512)) } else { Ok(()) }
}

fn compare(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, mut stream) = (case.gpu(), case.stream(&format!("kept {shape:?}")));
    let (x, mut want) = case.bf16(&case.normal(&format!("x {shape:?}"), shape.len(), 1.0))?;
    let kept: Vec<u32> = (0..shape.n * shape.c).map(|_| u32::from(stream.below(4) > 0)).collect();
    apply(&mut want, &kept, 1.25, shape);
    cuda::apply(gpu, x.view(), gpu.upload(&kept)?.view(), 1.25, shape)?;
    let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
    case.same(&format!("{shape:?}"), &gpu.read(x.view())?, &want)
}
