//! The loss of removed patches against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::augment::Normalize;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::patch_loss::{Shape, cuda, loss, mean};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "loss of removed patches and its gradient", run: compare }]);

/// Patches of one pixel, of no whole number of warps, of ViT-B/16's size; one kept, all but one, none.
fn compare(case: &Case) -> Result<()> {
    let shape = |n, side, patch, kept| Shape { n, of: n, side, patch, kept };
    let part = Shape { of: 7, ..shape(2, 12, 4, 3) };
    for shape in
        [part, shape(1, 2, 1, 3), shape(3, 32, 8, 4), shape(2, 28, 14, 1), shape(5, 12, 4, 0), shape(1, 48, 16, 2)]
    {
        let name = |what: &str| format!("{what} of {shape:?}");
        let (n, count, gpu) = (shape.n, shape.rows(), case.gpu());
        let mut stream = case.stream(&name("pixels"));
        // The first image is of one colour: its patches have no variance.
        let flat = if n > 1 { shape.image_len() } else { 0 };
        let pixel = |i: usize| if i < flat { 90 } else { stream.next_u32() as u8 };
        let bytes: Vec<u8> = (0..n * shape.image_len()).map(pixel).collect();
        let mut images = vec![0.0; bytes.len()];
        Normalize::default().apply(&mut images, &bytes);
        // The class token comes first; `kept` patches follow it in any order.
        let rows: Vec<u32> = (0..n)
            .flat_map(|image| {
                let mut rows: Vec<u32> = (1..count as u32).collect();
                case.stream(&format!("{image} {shape:?}")).shuffle(&mut rows);
                [0].into_iter().chain(rows)
            })
            .collect();
        let (on_gpu, predictions) =
            case.bf16(&case.normal(&name("predictions"), n * count * shape.patch_len(), 1.0))?;
        let (mut d, mut losses) = (vec![0.0; predictions.len()], vec![0.0; n * count]);
        loss(&mut d, &mut losses, &predictions, &images, &rows, shape);
        let (got_d, got) = (gpu.upload(&vec![bf16::NAN; d.len()])?, gpu.upload(&vec![f32::NAN; losses.len()])?);
        let (total, at) = (gpu.upload(&[f32::NAN])?, gpu.upload(&rows)?);
        let images = gpu.upload(&bytes)?;
        cuda::loss(gpu, got_d.view(), got.view(), on_gpu.view(), images.view(), at.view(), shape)?;
        case.close(&name("losses"), &gpu.read(got.view())?, &losses, Tolerance::f32())?;
        cuda::mean(gpu, total.view(), got.view())?;
        case.close(&name("loss"), &gpu.read(total.view())?, &[mean(&losses) as f32], Tolerance::f32())?;
        case.close(&name("gradient"), &case.read_bf16(got_d.view())?, &d, Tolerance::bf16())?;
    }
    Ok(())
}
