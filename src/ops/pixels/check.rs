//! Pictures from the decoder, and their resizing, against the CPU's bits.

use crate::error::Result;
use crate::image::{self, Filter, Rgb8};
use crate::ops::check::{Case, Check, Checks};
use crate::ops::pixels::cuda::{NOT_CONSTANT, NOT_FINITE, Resize, Tables, resize, to_u8};
use crate::ops::pixels::{self};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "pixels to 8 bits", run: levels },
    Check { name: "pixels, flags of degenerate pictures", run: flags },
    Check { name: "pixels resized", run: resized },
    Check { name: "pixels at full size", run: full_size },
]);

fn convert(case: &Case, values: &[f32], n: usize, offset: usize) -> Result<(Vec<u8>, Vec<u32>)> {
    let gpu = case.gpu();
    let mut shifted = vec![0.0; offset];
    shifted.extend_from_slice(values);
    let (x, flags) = (gpu.upload(&shifted)?, gpu.zeros(n)?);
    let y = gpu.upload(&vec![0x5au8; values.len()])?;
    to_u8(gpu, y.view(), flags.view(), x.view().slice(offset..shifted.len()))?;
    Ok((gpu.read(y.view())?, gpu.read(flags.view())?))
}

/// Every border between two levels and its neighbours, values beyond, and random ones; whole vectors, odd sizes, odd
/// addresses.
fn levels(case: &Case) -> Result<()> {
    let mut edges: Vec<f32> = (0..=255).map(|level| level as f32 / 255.0 * 2.0 - 1.0).collect();
    edges.extend(edges.clone().iter().flat_map(|v| [v.next_up(), v.next_down()]));
    edges.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN, 1e-40, -1e-40]);
    for (n, pixels, offset) in [(1, 1, 0), (2, 3, 0), (3, 40 * 56, 0), (2, 1025, 0), (1, 4096, 1)] {
        let mut values = case.normal(&format!("x {pixels}"), 3 * n * pixels, 0.7);
        for (value, edge) in values.iter_mut().step_by(2).zip(&edges) {
            *value = *edge;
        }
        let (got, _) = convert(case, &values, n, offset)?;
        let mut want = vec![0; values.len()];
        pixels::to_u8(&mut want, &values);
        case.same(&format!("{n} pictures of {pixels} pixels + {offset}"), &got, &want)?;
    }
    Ok(())
}

fn flags(case: &Case) -> Result<()> {
    for pixels in [1, 5, 64, 3000] {
        let picture = |edit: &dyn Fn(&mut [f32])| {
            // All pixels of one colour, as 8 bits go: the values differ.
            let mut values: Vec<f32> =
                (0..3 * pixels).map(|i| [-0.5, 0.1, 2.0][i % 3] + 1e-4 * (i % 7) as f32).collect();
            edit(&mut values);
            values
        };
        let last = 3 * pixels - 1;
        let pictures = [
            (picture(&|_| {}), 0),
            (picture(&|x| x[last] = -1.0), if pixels > 1 { NOT_CONSTANT } else { 0 }),
            (picture(&|x| x[last] = f32::INFINITY), NOT_FINITE),
            (picture(&|x| x[last - 1] = f32::NAN), NOT_FINITE | if pixels > 1 { NOT_CONSTANT } else { 0 }),
            (picture(&|x| x[0] = 0.3), if pixels > 1 { NOT_CONSTANT } else { 0 }),
            (picture(&|x| x.fill(f32::NEG_INFINITY)), NOT_FINITE),
        ];
        let values: Vec<f32> = pictures.iter().flat_map(|(values, _)| values.clone()).collect();
        let (_, got) = convert(case, &values, pictures.len(), 0)?;
        case.same(&format!("flags at {pixels} pixels"), &got, &pictures.map(|(_, flags)| flags))?;
    }
    Ok(())
}

fn compare(case: &Case, n: usize, from: (usize, usize), to: (usize, usize), filter: Filter) -> Result<()> {
    let gpu = case.gpu();
    // Hard edges and saturated colours: the filters overshoot.
    let noise = case.normal(&format!("picture {from:?}"), 3 * n * from.0 * from.1, 200.0);
    let bytes: Vec<u8> = noise.iter().map(|v| (128.0 + v).clamp(0.0, 255.0) as u8).collect();
    let shape = Resize { n, from, to, columns_first: image::columns_first(from, to) };
    let along = gpu.upload(&image::weight_table(from.0, to.0, filter))?;
    let across = gpu.upload(&image::weight_table(from.1, to.1, filter))?;
    let tables = Tables { along: along.view(), across: across.view() };
    let between = gpu.upload(&vec![0x5au8; shape.between_len().max(1)])?;
    let y = gpu.upload(&vec![0x5au8; 3 * n * to.0 * to.1])?;
    resize(gpu, y.view(), between.view(), gpu.upload(&bytes)?.view(), tables, shape)?;
    let mut want = Vec::new();
    for data in bytes.chunks_exact(3 * from.0 * from.1) {
        let picture = Rgb8 { width: from.0, height: from.1, data: data.to_vec() };
        want.extend(image::resize(&picture, to.0, to.1, filter)?.data);
    }
    case.same(&format!("{n} pictures {from:?} → {to:?}, {filter:?}"), &gpu.read(y.view())?, &want)
}

/// Half the size, odd sizes, columns first, one axis alone, enlarged, nothing to do.
fn resized(case: &Case) -> Result<()> {
    let bicubic = Filter::Bicubic;
    compare(case, 3, (56, 40), (28, 20), bicubic)?;
    compare(case, 2, (32, 32), (16, 16), bicubic)?;
    compare(case, 2, (33, 47), (20, 28), bicubic)?;
    compare(case, 2, (31, 200), (29, 40), bicubic)?;
    compare(case, 1, (30, 20), (30, 13), bicubic)?;
    compare(case, 1, (30, 20), (11, 20), bicubic)?;
    compare(case, 1, (7, 5), (13, 21), bicubic)?;
    compare(case, 2, (9, 4), (9, 4), bicubic)?;
    compare(case, 1, (65, 64), (1, 1), bicubic)?;
    compare(case, 1, (40, 40), (17, 17), Filter::Lanczos)?;
    compare(case, 1, (40, 40), (20, 20), Filter::Box)
}

fn full_size(case: &Case) -> Result<()> {
    if !case.full() {
        return Ok(());
    }
    compare(case, 8, (512, 512), (256, 256), Filter::Bicubic)?;
    compare(case, 3, (768, 512), (384, 256), Filter::Bicubic)
}
