//! Group normalisation of NHWC images (Wu & He 2018), optionally followed by SiLU:
//! `y = (x − mean)·rstd·gamma + beta` with mean and biased variance over the pixels and channels of a group.
//!
//! Statistics: every `PIXELS` pixels, the mean and the sum of squared deviations of each group in two passes over
//! cached values; these are merged in pixel order in f64 (Chan et al. 1979). Nothing depends on the batch or the thread
//! count.
//!
//! FLOPs per value: 8 (with SiLU about 30). Memory-bound: two reads of x, one write of y.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::gemm::Threads;
use super::math::sigmoid;
use super::simd::vectorize;

/// Pixels per partial statistic, and per task.
const PIXELS: usize = 64;

/// Parameters `[C]` and the number of groups.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub groups: usize,
    pub eps: f32,
}

impl GroupNorm {
    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.gamma.len()
    }

    /// `y [N, pixels, C] = norm(x)`, then SiLU if `silu`.
    pub fn forward(&self, y: &mut [f32], x: &[f32], pixels: usize, silu: bool, threads: Threads) {
        let (c, groups) = (self.channels(), self.groups);
        let image = pixels * c;
        assert!(
            y.len() == x.len()
                && image > 0
                && x.len().is_multiple_of(image)
                && c.is_multiple_of(groups)
                && self.beta.len() == c,
            "groupnorm: x {} y {} do not fit {pixels} pixels of {c} channels in {groups} groups",
            x.len(),
            y.len()
        );
        for (y, x) in y.chunks_exact_mut(image).zip(x.chunks_exact(image)) {
            let (scale, shift) = self.scale_and_shift(x, pixels, threads);
            let finish = |y: &mut [f32], x: &[f32]| {
                vectorize(
                    #[inline(always)]
                    || apply(y, x, &scale, &shift, silu),
                )
            };
            match threads {
                Threads::One => finish(y, x),
                Threads::All => {
                    y.par_chunks_mut(PIXELS * c).zip(x.par_chunks(PIXELS * c)).for_each(|(y, x)| finish(y, x));
                }
            }
        }
    }

    /// Per channel, `gamma·rstd` and `beta − mean·gamma·rstd` of one image.
    fn scale_and_shift(&self, x: &[f32], pixels: usize, threads: Threads) -> (Vec<f32>, Vec<f32>) {
        let (c, groups) = (self.channels(), self.groups);
        let width = c / groups;
        let statistics = |x: &[f32]| {
            let mut scratch = vec![0.0f32; 2 * c];
            vectorize(
                #[inline(always)]
                || chunk_statistics(x, groups, &mut scratch),
            )
        };
        let mut total: Vec<Moments> = vec![Moments::default(); groups];
        let mut merge = |partial: Vec<Moments>| total.iter_mut().zip(partial).for_each(|(t, p)| t.merge(p));
        match threads {
            Threads::One => x.chunks(PIXELS * c).for_each(|x| merge(statistics(x))),
            Threads::All => {
                let partials: Vec<Vec<Moments>> = x.par_chunks(PIXELS * c).map(statistics).collect();
                partials.into_iter().for_each(merge);
            }
        }
        let (mut scale, mut shift) = (vec![0.0; c], vec![0.0; c]);
        for (g, moments) in total.iter().enumerate() {
            let variance = moments.squares / (pixels * width) as f64;
            let rstd = 1.0 / (variance + f64::from(self.eps)).sqrt();
            for i in g * width..(g + 1) * width {
                let a = f64::from(self.gamma[i]) * rstd;
                scale[i] = a as f32;
                shift[i] = (f64::from(self.beta[i]) - moments.mean * a) as f32;
            }
        }
        (scale, shift)
    }
}

/// Count, mean, and sum of squared deviations from the mean.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn merge(&mut self, other: Self) {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.mean += delta * other.count / count;
        self.squares += other.squares + delta * delta * self.count * other.count / count;
        self.count = count;
    }
}

/// Moments of each group over a few pixels. `scratch`: two rows of channels.
#[inline(always)]
fn chunk_statistics(x: &[f32], groups: usize, scratch: &mut [f32]) -> Vec<Moments> {
    let c = scratch.len() / 2;
    let (sums, means) = scratch.split_at_mut(c);
    for x in x.chunks_exact(c) {
        for (s, &x) in sums.iter_mut().zip(x) {
            *s += x;
        }
    }
    let width = c / groups;
    let count = (x.len() / groups) as f64;
    let mut moments = vec![Moments::default(); groups];
    for ((moments, sums), means) in moments.iter_mut().zip(sums.chunks_exact(width)).zip(means.chunks_exact_mut(width))
    {
        let mean = sums.iter().map(|&s| f64::from(s)).sum::<f64>() / count;
        // Deviations are from the mean rounded to f32: that adds count·(rounding)² to the squares, below their own
        // rounding.
        *moments = Moments { count, mean, squares: 0.0 };
        means.fill(mean as f32);
    }
    sums.fill(0.0);
    for x in x.chunks_exact(c) {
        for ((s, &x), &m) in sums.iter_mut().zip(x).zip(&*means) {
            *s += (x - m) * (x - m);
        }
    }
    for (moments, sums) in moments.iter_mut().zip(sums.chunks_exact(width)) {
        moments.squares = sums.iter().map(|&s| f64::from(s)).sum();
    }
    moments
}

#[inline(always)]
fn apply(y: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32], silu: bool) {
    let c = scale.len();
    for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
        let values = y.iter_mut().zip(x).zip(scale.iter().zip(shift));
        if silu {
            for ((y, &x), (&a, &b)) in values {
                let z = x * a + b;
                *y = z * sigmoid(z);
            }
        } else {
            for ((y, &x), (&a, &b)) in values {
                *y = x * a + b;
            }
        }
    }
}

/// FLOPs over `values`, with or without SiLU.
pub fn flops(values: usize, silu: bool) -> f64 {
    (if silu { 30.0 } else { 8.0 }) * values as f64
}

/// Bytes read and written over `values`.
pub fn bytes(values: usize) -> f64 {
    12.0 * values as f64
}
