//! The gradient of rows that ask for keys and are asked for by them: what images and texts of CLIP (Radford et al.
//! 2021) do to each other.
//!
//! With `L = f₀·L(x → y) + f₁·L(y → x)` of rows `x [R, d]` and keys `y [K, d]`,
//! `dx_i = 1/τ·Σ_j (α(a_i·q_ij − p_ij) + β(a_j·q_ji − p_ji))·y_j`, α = f₀/R, β = f₁/K: one walk over the logits for
//! both. A walk has one factor for both sums, α; that β is another lies in what is known of the keys: `γ·e^(s − l)` is
//! `e^(s − (l − ln γ))`, with γ = β/α.

use super::Batch;
use crate::ops::contrastive::gradient;

/// γ of `factors` f₀ and f₁ for `rows` and `keys`.
pub(super) fn ratio(factors: [f32; 2], rows: usize, keys: usize) -> f32 {
    factors[1] * rows as f32 / (factors[0] * keys as f32)
}

/// `drows [R, d]` (overwritten) of `f₀·L(rows → keys) + f₁·L(keys → rows)`; `known` are the log-sum-exps and weights
/// that [`super::forward`] gave in either direction.
pub fn backward(drows: &mut [f32], known: [(&[f32], &[f32]); 2], factors: [f32; 2], batch: Batch) {
    let [there, (lse, weight)] = known;
    let ratio = ratio(factors, there.0.len(), lse.len());
    let lse: Vec<f32> = lse.iter().map(|lse| lse - ratio.ln()).collect();
    let weight: Vec<f32> = weight.iter().map(|weight| weight * ratio).collect();
    gradient(drows, [there, (&lse, &weight)], batch.sides(), factors[0] * batch.scale());
}
