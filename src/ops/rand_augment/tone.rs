//! Changes of values by a table of each channel, and sharpness, with the bits of Pillow's `ImageOps` and
//! `ImageEnhance`.

use crate::ops::jitter::blend;

type Table = [u8; 256];

fn identity() -> Table {
    std::array::from_fn(|value| value as u8)
}

/// Replaces the values of each channel by those of its table, which `of` makes of how often each value comes.
fn by_histogram(pixels: &mut [u8], of: impl Fn(&[u64; 256]) -> Table) {
    let mut counts = [[0u64; 256]; 3];
    for pixel in pixels.chunks_exact(3) {
        for (counts, &value) in counts.iter_mut().zip(pixel) {
            counts[usize::from(value)] += 1;
        }
    }
    let tables = counts.map(|counts| of(&counts));
    for pixel in pixels.chunks_exact_mut(3) {
        for (table, value) in tables.iter().zip(pixel) {
            *value = table[usize::from(*value)];
        }
    }
}

/// The darkest value of each channel to 0 and the lightest to 255.
pub(super) fn auto_contrast(pixels: &mut [u8]) {
    by_histogram(pixels, |counts| {
        let (low, high) = (counts.iter().position(|&n| n > 0), counts.iter().rposition(|&n| n > 0));
        let (Some(low), Some(high)) = (low, high) else { return identity() };
        if high <= low {
            return identity();
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        std::array::from_fn(|value| (value as f64 * scale + offset) as u8)
    });
}

/// Every value about as often as any other.
pub(super) fn equalize(pixels: &mut [u8]) {
    by_histogram(pixels, |counts| {
        let all: u64 = counts.iter().sum();
        let last = counts.iter().rfind(|&&n| n > 0).copied().unwrap_or(0);
        let step = (all - last) / 255;
        if step == 0 {
            return identity();
        }
        let mut n = step / 2;
        std::array::from_fn(|value| {
            let new = n / step;
            n += counts[value];
            new.min(255) as u8
        })
    });
}

/// Keeps the highest `bits` of each value; none leaves black.
pub(super) fn posterize(pixels: &mut [u8], bits: u32) {
    let mask = !(0xFFu32 >> bits) as u8;
    pixels.iter_mut().for_each(|value| *value &= mask);
}

/// Inverts values from `from` on.
pub(super) fn solarize(pixels: &mut [u8], from: u32) {
    pixels.iter_mut().filter(|value| u32::from(**value) >= from).for_each(|value| *value = 255 - *value);
}

/// Adds to values below 128.
pub(super) fn solarize_add(pixels: &mut [u8], add: u32) {
    for value in pixels.iter_mut().filter(|value| **value < 128) {
        *value = (u32::from(*value) + add).min(255) as u8;
    }
}

/// Blend with the picture smoothed by [1 1 1; 1 5 1; 1 1 1]/13, whose border is as it was.
pub(super) fn sharpness(pixels: &mut [u8], (width, height): (usize, usize), factor: f32, smooth: &mut Vec<u8>) {
    smooth.clear();
    smooth.extend_from_slice(pixels);
    let line = 3 * width;
    for y in 1..height.saturating_sub(1) {
        for i in y * line + 3..(y + 1) * line - 3 {
            let around: u32 = [i - line, i, i + line]
                .into_iter()
                .flat_map(|at| [at - 3, at, at + 3])
                .map(|at| u32::from(pixels[at]))
                .sum();
            // Rounded: 13 is odd, so no sum lies in the middle.
            smooth[i] = ((2 * (around + 4 * u32::from(pixels[i])) + 13) / 26) as u8;
        }
    }
    pixels.iter_mut().zip(smooth.iter()).for_each(|(value, &smooth)| *value = blend(smooth, *value, factor));
}
