//! One step of a sampler with classifier-free guidance, fused: guided output, multistep update, noise, the next call's
//! input.
//!
//! Every sampler here is linear in what it has seen, but for the bound that DDIM may put on the predicted image:
//!
//! ```text
//! e  = u + w·(c − u)                      guided model output
//! d  = within ±limit: α·x + β·e           what a multistep sampler remembers (e, or the predicted clean image)
//! x' = a·x + b·e + f·d + Σ_k g_k·h_k + s·z
//! h_keep = d                              one of the slots of the history
//! y  = r·x'                               what the network is given next
//! ```
//!
//! so a sampler is a table of [`Step`]s, one per call of the network, and the history never moves: the table says which
//! slot is written.
//!
//! FLOPs per value: 9, and 2 per slot. Bytes: reads x, c, u and the slots in use; writes x, input and perhaps a slot.

use super::simd::vectorize;
use crate::rng::{Domain, Stream};

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// Outputs that are remembered at most; Adams–Bashforth of order 4 takes three besides the newest.
pub const SLOTS: usize = 3;

/// Coefficients of one step; see the formula above. A coefficient of 0 leaves its operand unread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// α and β: what of the latent x and of the output e is remembered as d.
    pub d: (f32, f32),
    /// Bound of |d|; infinite where nothing is clipped.
    pub limit: f32,
    /// a: what of the latent stays.
    pub x: f32,
    /// b: what of the output is added.
    pub e: f32,
    /// f: what of d is added.
    pub now: f32,
    /// g: what of each slot h of the history is added, before d is put into one.
    pub kept: [f32; SLOTS],
    /// The slot that d is put into.
    pub keep: Option<usize>,
    /// s: the standard deviation of the noise z that is added.
    pub noise: f32,
    /// r: the factor from the new latent to the network's next input y.
    pub input: f32,
}

impl Step {
    /// `x' = a·x + b·e`, and x' is the next input.
    pub fn linear(a: f32, b: f32) -> Self {
        Self {
            d: (0.0, 1.0),
            limit: f32::INFINITY,
            x: a,
            e: b,
            now: 0.0,
            kept: [0.0; SLOTS],
            keep: None,
            noise: 0.0,
            input: 1.0,
        }
    }
}

/// What a sampler's noise for one image is keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseKey {
    pub seed: u64,
    /// Id of the caption.
    pub caption: u32,
    /// Index among the caption's images.
    pub image: u32,
}

impl NoiseKey {
    /// Fills `z [h, w, C]` with the noise of call `step`.
    pub fn draw(self, step: u32, z: &mut [f32]) {
        Stream::new(self.seed, Domain::SamplerNoise, [self.caption, self.image, step]).fill_normal(z);
    }
}

/// What a step changes and reads besides the model's outputs. All of one length, but for the history: `[slots, len]`.
#[derive(Debug, Default)]
pub struct State<'a> {
    /// Latents, NHWC.
    pub x: &'a mut [f32],
    /// Receives the network's next input; may be empty.
    pub input: &'a mut [f32],
    /// As many slots as the table uses.
    pub history: &'a mut [f32],
    /// Standard normal; may be empty for a step without noise.
    pub noise: &'a [f32],
}

/// Values worked on at once: all operands of a block stay in the L1 cache.
const BLOCK: usize = 1024;

/// Advances `state`. `unconditional` is the model output without the caption and the guidance scale w; without it e =
/// c.
///
/// # Panics
/// If lengths differ, or the step uses a slot or noise that `state` has not.
pub fn advance(state: State<'_>, conditional: &[f32], unconditional: Option<(&[f32], f32)>, step: &Step) {
    let State { x, input, history, noise } = state;
    let len = x.len();
    let used = (0..SLOTS).filter(|&k| step.kept[k] != 0.0 || step.keep == Some(k)).max().map_or(0, |last| last + 1);
    assert!(
        conditional.len() == len && unconditional.is_none_or(|(u, _)| u.len() == len),
        "sampler step: x {len} and {}",
        conditional.len()
    );
    assert!(input.is_empty() || input.len() == len, "sampler step: x {len}, input {}", input.len());
    assert!(history.len() >= used * len, "sampler step: {used} slots of {len}, history {}", history.len());
    assert!(step.noise == 0.0 || noise.len() == len, "sampler step: x {len}, noise {}", noise.len());
    for start in (0..len).step_by(BLOCK) {
        let part = start..(start + BLOCK).min(len);
        let n = part.len();
        let slot = |k: usize| k * len + start..k * len + start + n;
        let (x, c) = (&mut x[part.clone()], &conditional[part.clone()]);
        let (mut e, mut d) = ([0.0; BLOCK], [0.0; BLOCK]);
        let (e, d) = (&mut e[..n], &mut d[..n]);
        vectorize(
            #[inline(always)]
            || {
                match unconditional {
                    None => e.copy_from_slice(c),
                    Some((u, w)) => {
                        for ((e, &c), &u) in e.iter_mut().zip(c).zip(&u[part.clone()]) {
                            *e = u + w * (c - u);
                        }
                    }
                }
                if step.now != 0.0 || step.keep.is_some() {
                    for ((d, &x), &e) in d.iter_mut().zip(&*x).zip(&*e) {
                        *d = (step.d.0 * x + step.d.1 * e).clamp(-step.limit, step.limit);
                    }
                }
                for (x, &e) in x.iter_mut().zip(&*e) {
                    *x = step.x * *x + step.e * e;
                }
                if step.now != 0.0 {
                    add(x, step.now, d);
                }
                for (k, &coefficient) in step.kept.iter().enumerate() {
                    if coefficient != 0.0 {
                        add(x, coefficient, &history[slot(k)]);
                    }
                }
                if let Some(k) = step.keep {
                    history[slot(k)].copy_from_slice(d);
                }
                if step.noise != 0.0 {
                    add(x, step.noise, &noise[part.clone()]);
                }
                if !input.is_empty() {
                    for (input, &x) in input[part.clone()].iter_mut().zip(&*x) {
                        *input = step.input * x;
                    }
                }
            },
        );
    }
}

/// x += c·y.
#[inline(always)]
fn add(x: &mut [f32], c: f32, y: &[f32]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x += c * y;
    }
}
