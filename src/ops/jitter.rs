//! Colour changes with the bits of Pillow's `ImageEnhance` and of torchvision's hue shift. Pictures are `[_, 3]` u8,
//! changed in place.
//!
//! Bytes: 6 per pixel and op. Bound by arithmetic: the hue shift takes about 10 ns per pixel.

use super::simd::vectorize;

/// Luma of Pillow's mode L: ITU-R 601 weights in 16 fractional bits.
#[inline(always)]
fn luma(pixel: &[u8]) -> u8 {
    ((19_595 * u32::from(pixel[0]) + 38_470 * u32::from(pixel[1]) + 7_471 * u32::from(pixel[2]) + 0x8000) >> 16) as u8
}

/// Pillow's blend: `from + factor·(to − from)`, truncated; saturating, which changes nothing for factors in [0, 1].
#[inline(always)]
pub(super) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

/// Replaces every value by its entry in a table: blends with a constant depend on the value alone.
fn blend_with(pixels: &mut [u8], from: u8, factor: f32) {
    let table: [u8; 256] = std::array::from_fn(|v| blend(from, v as u8, factor));
    for value in pixels {
        *value = table[usize::from(*value)];
    }
}

/// Blend with black.
pub fn brightness(pixels: &mut [u8], factor: f32) {
    blend_with(pixels, 0, factor);
}

/// Blend with the rounded mean luma.
pub fn contrast(pixels: &mut [u8], factor: f32) {
    let sum: u64 = vectorize(
        #[inline(always)]
        || pixels.chunks_exact(3).map(|p| u64::from(luma(p))).sum(),
    );
    let mean = sum as f64 / (pixels.len() / 3) as f64;
    blend_with(pixels, (mean + 0.5) as u8, factor);
}

/// Blend with the luma.
pub fn saturation(pixels: &mut [u8], factor: f32) {
    vectorize(
        #[inline(always)]
        || {
            for pixel in pixels.chunks_exact_mut(3) {
                let gray = luma(pixel);
                for value in pixel {
                    *value = blend(gray, *value, factor);
                }
            }
        },
    );
}

/// Replaces every pixel by its luma.
pub fn grayscale(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(3) {
        pixel.fill(luma(pixel));
    }
}

/// Pixels that the hue shift works on at a time.
const LANES: usize = 16;

/// Steps of 1/255 turn in a `shift` of the hue.
pub fn hue_steps(shift: f32) -> i32 {
    (f64::from(shift) * 255.0) as i32
}

/// Turns the hue by `shift` of a circle, in steps of 1/255 turn counted in a byte that wraps at 256 (as torchvision
/// does on Pillow's HSV).
pub fn hue(pixels: &mut [u8], shift: f32) {
    let steps = hue_steps(shift);
    vectorize(
        #[inline(always)]
        || {
            for block in pixels.chunks_mut(3 * LANES) {
                let mut planes = [[0u8; LANES]; 3];
                for (i, pixel) in block.chunks_exact(3).enumerate() {
                    (planes[0][i], planes[1][i], planes[2][i]) = (pixel[0], pixel[1], pixel[2]);
                }
                let [r, g, b] = &mut planes;
                for ((r, g), b) in r.iter_mut().zip(g.iter_mut()).zip(b.iter_mut()) {
                    (*r, *g, *b) = turned(i32::from(*r), i32::from(*g), i32::from(*b), steps);
                }
                for (i, pixel) in block.chunks_exact_mut(3).enumerate() {
                    (pixel[0], pixel[1], pixel[2]) = (planes[0][i], planes[1][i], planes[2][i]);
                }
            }
        },
    );
}

/// Pillow's RGB → HSV (8 bits each), `steps` added to the hue, and back. Without branches, so that it vectorises; sums
/// are in f64 and rounded to f32 where Pillow's C does so.
#[inline(always)]
fn turned(r: i32, g: i32, b: i32, steps: i32) -> (u8, u8, u8) {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    // A gray pixel has saturation 0, with which every hue gives it back.
    let range = (most - least).max(1) as f32;
    let part = |v: i32| f64::from((most - v) as f32 / range);
    let (pr, pg, pb) = (part(r), part(g), part(b));
    let from_blue = 4.0 + pg - pr;
    let hue = if g == most { 2.0 + pr - pb } else { from_blue };
    let hue = if r == most { pb - pg } else { hue };
    let turn = f64::from(hue as f32) / 6.0 + 1.0;
    let turn = if turn >= 1.0 { turn - 1.0 } else { turn };
    let h = ((f64::from(turn as f32) * 255.0) as i32 + steps) & 255;
    let s = (f64::from((most - least) as f32 / most.max(1) as f32) * 255.0) as i32;

    let sixth = f64::from(h) * 6.0 / 255.0;
    let sector = sixth as i32;
    let fraction = f64::from((sixth - f64::from(sector)) as f32);
    let (value, saturation) = (f64::from(most), f64::from(s) / 255.0);
    let round = |x: f64| (x + 0.5) as i32;
    let p = round(value * (1.0 - saturation));
    let q = round(value * (1.0 - saturation * fraction));
    let t = round(value * (1.0 - saturation * (1.0 - fraction)));
    let pick = |choices: [i32; 6]| {
        let mut chosen = choices[0];
        for (i, &choice) in choices.iter().enumerate().skip(1) {
            chosen = if sector == i as i32 { choice } else { chosen };
        }
        chosen as u8
    };
    let v = most;
    (pick([v, q, p, p, t, v]), pick([t, v, v, q, p, p]), pick([p, p, t, v, v, q]))
}
