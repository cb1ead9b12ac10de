//! Cross-entropy of rows against keys: which of K keys belong to a row?
//!
//! With unit rows `x [R, d]`, unit keys `y [K, d]` and a label for each, logits `s_ij = x_i·y_j/τ`, `q_i =
//! softmax(s_i)`, `p_ij = 1/P_i` on the `P_i` keys of row i's label, `L = mean_i −Σ_j p_ij·log q_ij`. A row without a
//! key contributes 0. One key each is MoCo v3's loss (arXiv 2104.02057, Algorithm 1, without its factor 2τ); several
//! are the multi-positive loss between two sets of rows that do not hold each other, such as texts and images.
//!
//! Gradients: `dx_i = 1/(R·τ)·Σ_j (a_i·q_ij − p_ij)·y_j` with `a_i = 1` if `P_i > 0`, else 0, and
//! `dy_j = 1/(R·τ)·Σ_i (a_i·q_ij − p_ij)·x_i`. The same walk over blocks of logits as [`super::contrastive`], which
//! these are one-sided halves of.
//!
//! FLOPs: forward 2·R·K·d, each gradient 4·R·K·d.

use super::contrastive::{Queue, Sides, gradient, losses};

#[cfg(cuda_kernels)]
pub mod bench;
pub mod both;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// What the loss looks at.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub rows: &'a [f32],
    pub keys: &'a [f32],
    /// Of the rows, of the keys.
    pub labels: [&'a [u32]; 2],
    pub temperature: f32,
}

impl<'a> Batch<'a> {
    fn sides(self) -> Sides<'a> {
        let Self { rows, keys, labels, temperature } = self;
        Sides { anchors: rows, candidates: keys, labels, queue: Queue::default(), same: false, temperature }
    }

    fn scale(self) -> f32 {
        1.0 / (self.labels[0].len() as f32 * self.temperature)
    }
}

/// The loss, in f64. Keeps for the gradients the log-sum-exp of each row and `1/P_i` (0 without a key), `[R]` each.
pub fn forward(lse: &mut [f32], weight: &mut [f32], batch: Batch) -> f64 {
    losses(lse, weight, batch.sides()) / batch.labels[0].len() as f64
}

/// `drows [R, d]` (overwritten), times `factor`.
pub fn backward_rows(drows: &mut [f32], lse: &[f32], weight: &[f32], factor: f32, batch: Batch) {
    let keys = batch.labels[1].len();
    let (infinite, zeros) = (vec![f32::INFINITY; keys], vec![0.0; keys]);
    gradient(drows, [(lse, weight), (&infinite, &zeros)], batch.sides(), factor * batch.scale());
}

/// FLOPs of forward and of one gradient.
pub fn flops(rows: usize, keys: usize, d: usize) -> (f64, f64) {
    let product = 2.0 * (rows * keys * d) as f64;
    (product, 2.0 * product)
}

/// Bytes forward and gradient must move at least: both sides once, and the gradient.
pub fn bytes(rows: usize, keys: usize, d: usize) -> (f64, f64) {
    let sides = 4.0 * ((rows + keys) * d) as f64;
    (sides, sides + 4.0 * (rows * d) as f64)
}
