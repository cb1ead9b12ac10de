//! Colour changes with the bits of Pillow's `ImageEnhance` and of torchvision's hue shift. Pictures are `[_, 3]` u8, changed in place.
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
fn blend(from: u8, to: u8, factor: f32) -> u8 {
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
    let sum: u64 = vectorize(|| pixels.chunks_exact(3).map(|p| u64::from(luma(p))).sum());
    let mean = sum as f64 / (pixels.len() / 3) as f64;
    blend_with(pixels, (mean + 0.5) as u8, factor);
}

/// Blend with the luma.
pub fn saturation(pixels: &mut [u8], factor: f32) {
    vectorize(|| {
        for pixel in pixels.chunks_exact_mut(3) {
            let gray = luma(pixel);
            for value in pixel {
                *value = blend(gray, *value, factor);
            }
        }
    });
}

/// Replaces every pixel by its luma.
pub fn grayscale(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(3) {
        pixel.fill(luma(pixel));
    }
}

/// Turns the hue by `shift` of a circle, in steps of 1/255 turn counted in a byte that wraps at 256 (as torchvision does on Pillow's HSV).
pub fn hue(pixels: &mut [u8], shift: f32) {
    let steps = (f64::from(shift) * 255.0) as i32 as u8;
    vectorize(|| {
        for pixel in pixels.chunks_exact_mut(3) {
            let [h, s, v] = hsv(pixel[0], pixel[1], pixel[2]);
            pixel.copy_from_slice(&rgb(h.wrapping_add(steps), s, v));
        }
    });
}

/// Pillow's RGB → HSV, 8 bits each.
#[inline(always)]
fn hsv(r: u8, g: u8, b: u8) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let part = |v: u8| f32::from(most - v) / range;
    // Sums in f64 and rounded to f32 where Pillow's C does so.
    let hue = if r == most {
        part(b) - part(g)
    } else if g == most {
        (2.0 + f64::from(part(r)) - f64::from(part(b))) as f32
    } else {
        (4.0 + f64::from(part(g)) - f64::from(part(r))) as f32
    };
    let turn = f64::from(hue) / 6.0 + 1.0;
    let turn = (turn - turn.floor()) as f32;
    [(f64::from(turn) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// Pillow's HSV → RGB.
#[inline(always)]
fn rgb(h: u8, s: u8, v: u8) -> [u8; 3] {
    if s == 0 {
        return [v, v, v];
    }
    let sixth = f32::from(h) * 6.0 / 255.0;
    let sector = sixth.floor();
    let fraction = f64::from(sixth - sector);
    let (value, saturation) = (f64::from(v), f64::from(s) / 255.0);
    let round = |x: f64| (x + 0.5) as u8;
    let p = round(value * (1.0 - saturation));
    let q = round(value * (1.0 - saturation * fraction));
    let t = round(value * (1.0 - saturation * (1.0 - fraction)));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
