//! CLIP's learned scale of logits (Radford et al. 2021, arXiv 2103.00020): unit rows times e^s, so that products with
//! other unit rows are the scaled logits; the gradient of s; and its bounds after an update.
//!
//! FLOPs: 1 per value forward, 3 backward. Bytes: forward 8 and backward 16 per value.

use rayon::prelude::*;

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// Values per task.
const VALUES: usize = 1 << 14;
/// Where an update leaves s: between e^0 = 1 and e^(ln 100) = 100.
pub const BOUNDS: [f32; 2] = [0.0, 4.605_170_2];
/// Where s begins: ln(1/0.07).
pub const INITIAL: f32 = 2.659_26;

/// `y = e^s·x`.
pub fn forward(y: &mut [f32], x: &[f32], s: f32) {
    assert_eq!(y.len(), x.len(), "logit scale: y and x");
    let scale = s.exp();
    y.par_chunks_mut(VALUES).zip(x.par_chunks(VALUES)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = scale * x);
    });
}

/// `dx` (overwritten), and adds to `ds`, given the gradient `dy` of [`forward`]'s `y`.
pub fn backward(dx: &mut [f32], ds: &mut f32, dy: &[f32], y: &[f32], s: f32) {
    assert!(dx.len() == dy.len() && y.len() == dy.len(), "logit scale: dx, dy and y");
    let scale = s.exp();
    let pieces = dx.par_chunks_mut(VALUES).zip(dy.par_chunks(VALUES)).zip(y.par_chunks(VALUES));
    let sums: Vec<f64> = pieces
        .map(|((dx, dy), y)| {
            dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = scale * dy);
            y.iter().zip(dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum()
        })
        .collect();
    *ds += sums.iter().sum::<f64>() as f32;
}

/// Brings s back into its [`BOUNDS`].
pub fn clamp(s: &mut f32) {
    *s = s.clamp(BOUNDS[0], BOUNDS[1]);
}
