//! One step of a deterministic sampler with classifier-free guidance, fused: `e = u + w·(c − u)`, then x from x and e.
//!
//! FLOPs per value: about 8. Bytes: reads x, c, u; writes x.

use super::simd::vectorize;

/// Coefficients of a step as products of x and the guided model output e.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// `x' = a·x + b·e`.
    Linear { a: f32, b: f32 },
    /// `x' = clean·clamp(x0, −limit, limit) + noise·eps` with `x0 = x0.0·x + x0.1·e` and `eps = eps.0·x + eps.1·e`: the predicted image is
    /// clipped before it is used, so the step is not linear.
    Clipped { x0: (f32, f32), eps: (f32, f32), clean: f32, noise: f32, limit: f32 },
}

/// Advances `x` in place. `unconditional` is the model output without the caption and the guidance scale w; without it e = c.
pub fn advance(x: &mut [f32], conditional: &[f32], unconditional: Option<(&[f32], f32)>, step: Step) {
    assert!(
        conditional.len() == x.len() && unconditional.is_none_or(|(u, _)| u.len() == x.len()),
        "sampler step: x {} and {}",
        x.len(),
        conditional.len()
    );
    vectorize(
        #[inline(always)]
        || match unconditional {
            None => {
                for (x, &c) in x.iter_mut().zip(conditional) {
                    *x = next(*x, c, step);
                }
            }
            Some((unconditional, w)) => {
                for ((x, &c), &u) in x.iter_mut().zip(conditional).zip(unconditional) {
                    *x = next(*x, u + w * (c - u), step);
                }
            }
        },
    );
}

#[inline(always)]
fn next(x: f32, e: f32, step: Step) -> f32 {
    match step {
        Step::Linear { a, b } => a * x + b * e,
        Step::Clipped { x0, eps, clean, noise, limit } => {
            let predicted = (x0.0 * x + x0.1 * e).clamp(-limit, limit);
            clean * predicted + noise * (eps.0 * x + eps.1 * e)
        }
    }
}
