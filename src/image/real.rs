//! Resizing without rounding, to values from 0 to 255: Pillow's of single channels in floating point, and PyTorch's
//! plain interpolation.
//!
//! FLOPs: 2·taps per value written by each pass of [`resize_real`], 12 per value of [`interpolate`].

use super::Rgb8;
use super::resize::{Axis, Filter, check, columns_first};
use crate::error::Result;

/// `[height, width, 3]` as Pillow's `resize` makes it of each channel in mode F: antialiased, rounded to f32 between
/// the passes and nowhere else; a cubic may leave 0 to 255.
///
/// # Errors
/// `Usage` for sides that no picture is resized to.
pub fn resize_real(image: &Rgb8, width: usize, height: usize, filter: Filter) -> Result<Vec<f32>> {
    check(image, [0.0, 0.0, image.width as f64, image.height as f64], (width, height))?;
    let source: Vec<f32> = image.data.iter().map(|&v| f32::from(v)).collect();
    // A pass is a sum over one axis of `[outer, axis, inner]`.
    let along = |x: &[f32], rows: usize| pass(x, (rows, 3), Axis::whole(image.width, width), filter);
    let across = |x: &[f32], columns: usize| pass(x, (1, 3 * columns), Axis::whole(image.height, height), filter);
    Ok(match columns_first((image.width, image.height), (width, height)) {
        true => along(&across(&source, image.width), height),
        false => across(&along(&source, image.height), width),
    })
}

fn pass(x: &[f32], (outer, inner): (usize, usize), axis: Axis, filter: Filter) -> Vec<f32> {
    let (pixels, made) = (x.len() / outer / inner, axis.made());
    let mut y = vec![0.0; outer * made * inner];
    let mut sums = vec![0.0f64; inner];
    for i in 0..made {
        let ((first, end), center, shrink) = (axis.inputs(i, filter), axis.center(i), 1.0 / axis.stretch());
        let weights: Vec<f64> = (first..end).map(|x| filter.weight((x as f64 - center + 0.5) * shrink)).collect();
        let total: f64 = weights.iter().sum();
        for (x, y) in x.chunks_exact(pixels * inner).zip(y.chunks_exact_mut(made * inner)) {
            sums.fill(0.0);
            for (row, weight) in x[first * inner..].chunks_exact(inner).zip(&weights) {
                let weight = weight / total;
                sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v) * weight);
            }
            let y = &mut y[i * inner..(i + 1) * inner];
            y.iter_mut().zip(&sums).for_each(|(y, &sum)| *y = sum as f32);
        }
    }
    y
}

/// What place `at` of `to` is between where a side of `from` becomes one of `to`: two places, and the share of the
/// second (bilinear, corners not aligned).
pub fn between(at: usize, from: usize, to: usize) -> (usize, usize, f32) {
    let at = (from as f32 / to as f32 * (at as f32 + 0.5) - 0.5).max(0.0);
    let low = (at as usize).min(from - 1);
    (low, (low + 1).min(from - 1), at - low as f32)
}

/// `[height, width, 3]` as PyTorch's bilinear `interpolate` without antialias and aligned corners makes it: each value
/// from the four pixels around its place, however many lie between them and the next four.
pub fn interpolate(image: &Rgb8, width: usize, height: usize) -> Vec<f32> {
    let places = |from: usize, to: usize| (0..to).map(move |at| between(at, from, to));
    let columns: Vec<_> = places(image.width, width).collect();
    let mut out = Vec::with_capacity(3 * width * height);
    for (top, bottom, down) in places(image.height, height) {
        let (top, bottom) = (image.row(top), image.row(bottom));
        for &(left, right, along) in &columns {
            for c in 0..3 {
                let between =
                    |row: &[u8]| (1.0 - along) * f32::from(row[3 * left + c]) + along * f32::from(row[3 * right + c]);
                out.push((1.0 - down) * between(top) + down * between(bottom));
            }
        }
    }
    out
}
