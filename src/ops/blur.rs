//! Gaussian blur as Pillow approximates it: three box blurs of a fractional radius along the rows, then three along the
//! columns, each rounded to 8 bits (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
//! filtering", 2011).
//!
//! Integer operations: about 8 per value and pass, 6 passes, whatever the radius. Rows are blurred in the transposed
//! picture, so that all passes run over adjacent values.

use super::simd::vectorize;

/// Number of box blurs per direction.
const PASSES: usize = 3;

/// Weights are in 24 fractional bits.
const FRACTION: u32 = 24;

/// Memory that blurs reuse.
#[derive(Debug, Default)]
pub struct Scratch {
    turned: Vec<u8>,
    line: Vec<u8>,
    sums: Vec<u32>,
}

/// The boxes of a blur: whole radius, and the weights of a value inside and of one at either end, in 24 fractional
/// bits. `None` where they leave every value as it is.
pub fn boxes(sigma: f32) -> Option<(usize, u32, u32)> {
    let Kernel { radius, full, edge } = Kernel::new(box_radius(sigma));
    (radius > 0 || edge > 0).then_some((radius, full, edge))
}

/// Blurs `[height, width, 3]` in place with standard deviation `sigma` ≥ 0.
pub fn gaussian(pixels: &mut [u8], (width, height): (usize, usize), sigma: f32, scratch: &mut Scratch) {
    assert_eq!(pixels.len(), 3 * width * height, "blur: {} values for {width}×{height}", pixels.len());
    let Some((radius, full, edge)) = boxes(sigma).filter(|_| !pixels.is_empty()) else { return };
    let kernel = Kernel { radius, full, edge };
    let Scratch { turned, line, sums } = scratch;
    turned.resize(pixels.len(), 0);
    transpose(turned, pixels, (width, height));
    for _ in 0..PASSES {
        kernel.along_columns(turned, 3 * height, line, sums);
    }
    transpose(pixels, turned, (height, width));
    for _ in 0..PASSES {
        kernel.along_columns(pixels, 3 * width, line, sums);
    }
}

/// Radius of the box whose threefold convolution has the standard deviation `sigma`; single precision as in Pillow.
fn box_radius(sigma: f32) -> f32 {
    let variance = sigma * sigma / PASSES as f32;
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
    let rest = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    whole + rest / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)))
}

/// A box of `2·radius + 1` full weights with a fractional weight at either end.
struct Kernel {
    radius: usize,
    full: u32,
    edge: u32,
}

impl Kernel {
    fn new(radius: f32) -> Self {
        let one = 1u32 << FRACTION;
        let whole = radius as usize;
        let full = (one as f32 / (radius * 2.0 + 1.0)) as u32;
        let edge = (one - (2 * whole as u32 + 1) * full) / 2;
        Self { radius: whole, full, edge }
    }

    /// One box blur down the columns of `[rows, length]`; beyond the border the outermost row repeats.
    fn along_columns(&self, values: &mut [u8], length: usize, copy: &mut Vec<u8>, sums: &mut Vec<u32>) {
        copy.clear();
        copy.extend_from_slice(values);
        let rows = values.len() / length;
        let row = |y: isize| {
            let y = y.clamp(0, rows as isize - 1) as usize;
            &copy[y * length..(y + 1) * length]
        };
        let radius = self.radius as isize;
        sums.clear();
        sums.resize(length, 0);
        for y in -radius - 1..radius {
            add(sums, row(y));
        }
        let (full, edge, half) = (self.full, self.edge, 1u32 << (FRACTION - 1));
        for (y, out) in values.chunks_exact_mut(length).enumerate() {
            let y = y as isize;
            // `sums` holds rows y − radius − 1 ..= y + radius − 1; move it one on.
            let (before, entering, after) = (row(y - radius - 1), row(y + radius), row(y + radius + 1));
            vectorize(
                #[inline(always)]
                || {
                    let rows = before.iter().zip(entering).zip(after);
                    for ((out, sum), ((&before, &entering), &after)) in out.iter_mut().zip(sums.iter_mut()).zip(rows) {
                        *sum = *sum + u32::from(entering) - u32::from(before);
                        let ends = u32::from(before) + u32::from(after);
                        *out = ((*sum * full + ends * edge + half) >> FRACTION) as u8;
                    }
                },
            );
        }
    }
}

fn add(sums: &mut [u32], row: &[u8]) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += u32::from(value);
    }
}

/// `[height, width, 3]` → `[width, height, 3]`.
fn transpose(to: &mut [u8], from: &[u8], (width, height): (usize, usize)) {
    for (x, column) in to.chunks_exact_mut(3 * height).enumerate() {
        for (y, pixel) in column.chunks_exact_mut(3).enumerate() {
            let i = 3 * (y * width + x);
            pixel.copy_from_slice(&from[i..i + 3]);
        }
    }
}
