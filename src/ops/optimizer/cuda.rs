//! Launches of `kernels/optimizer.cu`.

use half::bf16;

use super::{AdamW, Group};
use crate::device::cuda::kernels::optimizer::{FOLLOW_VALUES, SGD_VALUES, THREADS, VALUES};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// Numbers of [`AdamW::settings`].
pub const SETTINGS: usize = 7;

/// Settings by which nothing changes: neither parameters nor moments.
pub const NOTHING: [f32; SETTINGS] = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0];

impl AdamW {
    /// What the kernel reads from device memory at every step, computed as for [`AdamW::update`].
    pub fn settings(&self) -> [f32; SETTINGS] {
        let c = self.coefficients();
        [c.step_size, c.shrink, c.lerp, c.beta2, c.rest2, c.correction, c.eps]
    }
}

/// One bit per value of a flat buffer of `len`, the lowest of a byte first: whether it decays.
///
/// # Panics
/// If a group reaches beyond the buffer.
pub fn decay_mask(groups: &[Group], len: usize) -> Vec<u8> {
    let mut mask = vec![0u8; len.div_ceil(8)];
    for group in groups.iter().filter(|group| group.decay) {
        assert!(group.range.end <= len, "{group:?} of {len} values");
        for i in group.range.clone() {
            mask[i / 8] |= 1 << (i % 8);
        }
    }
    mask
}

/// The flat buffers that AdamW changes.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    pub p: View<f32>,
    /// First and second moments.
    pub m: View<f32>,
    pub v: View<f32>,
    /// The copy of `p` that the network computes with.
    pub rounded: Option<View<bf16>>,
}

/// Numbers in device memory on which the update depends: it changes nothing unless both are finite.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Of the gradient, from [`crate::ops::reduce::cuda::sum_of_squares`].
    pub sum_of_squares: View<f64>,
    pub loss: Option<View<f32>>,
}

/// One update with gradient `g`, with the bits of [`AdamW::update`]; `settings` holds [`AdamW::settings`], `decay` the
/// [`decay_mask`]. `clear` sets the gradient to zero in the same pass (not when the update is withheld).
///
/// # Panics
/// If lengths differ or a buffer is not aligned to 16 bytes.
pub fn adamw(
    gpu: &Gpu,
    buffers: Buffers,
    g: View<f32>,
    decay: View<u8>,
    settings: View<f32>,
    guard: Guard,
    clear: bool,
) -> Result<()> {
    let Buffers { p, m, v, rounded } = buffers;
    let len = p.len();
    assert!(len > 0 && [m, v, g].iter().all(|b| b.len() == len) && decay.len() == len.div_ceil(8), "adamw: {len}");
    assert!(rounded.is_none_or(|r| r.len() == len && r.is_aligned(8)), "adamw: the bf16 copy of {len}");
    assert!([p, m, v, g].iter().all(|b| b.is_aligned(16)), "adamw: buffers begin at multiples of 16 bytes");
    assert!(settings.len() == SETTINGS && guard.sum_of_squares.len() == 1, "adamw: settings {}", settings.len());
    assert!(guard.loss.is_none_or(|loss| loss.len() == 1), "adamw: one loss");
    let at = Launch::new(len.div_ceil(THREADS * VALUES), THREADS as u32);
    let Guard { sum_of_squares, loss } = guard;
    let (len, clear) = (len as u64, clear.into());
    kernels::OptimizerAdamw { p, m, v, g, rounded, decay, settings, sum_of_squares, loss, len, clear }.launch(gpu, at)
}

/// One step of the momentum copy `slow` (and its rounding) towards `fast`, with the bits of [`super::follow`]; `rate
/// [1]` is in device memory. Withheld with the update of `fast` that `guard` withheld.
///
/// # Panics
/// If lengths differ or a buffer is not aligned to 16 bytes.
pub fn follow(
    gpu: &Gpu,
    slow: View<f32>,
    rounded: View<bf16>,
    fast: View<f32>,
    rate: View<f32>,
    guard: Guard,
) -> Result<()> {
    let (len, Guard { sum_of_squares, loss }) = (slow.len(), guard);
    assert!(len > 0 && fast.len() == len && rounded.len() == len && rate.len() == 1, "follow: {len} values");
    assert!(slow.is_aligned(16) && fast.is_aligned(16) && rounded.is_aligned(8), "follow: alignment of {len} values");
    let at = Launch::new(len.div_ceil(THREADS * FOLLOW_VALUES), THREADS as u32);
    kernels::OptimizerFollow { slow, rounded, fast, rate, sum_of_squares, loss, len: len as u64 }.launch(gpu, at)
}

/// Linear heads side by side, as SGD sees them: all of one head's values stand together, head after head.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub weight: View<f32>,
    pub velocity: View<f32>,
    /// The copy that products read.
    pub rounded: Option<View<bf16>>,
    /// Read, and cleared for the next one.
    pub gradient: View<f32>,
}

/// One step of SGD, each head at its learning rate of `lrs` times `schedule [1]`: v ← momentum·v + g, w ← w −
/// lr·schedule·v.
///
/// # Panics
/// If lengths do not fit.
pub fn sgd(gpu: &Gpu, heads: Heads, lrs: View<f32>, schedule: View<f32>, momentum: f32) -> Result<()> {
    let Heads { weight, velocity, rounded, gradient } = heads;
    let len = weight.len();
    assert!(len > 0 && len < 1 << 31 && len.is_multiple_of(lrs.len()), "sgd: {len} values of {} heads", lrs.len());
    assert!(velocity.len() == len && gradient.len() == len && schedule.len() == 1, "sgd: {len} values");
    assert!(rounded.is_none_or(|r| r.len() == len), "sgd: the bf16 copy of {len}");
    let at = Launch::new(len.div_ceil(THREADS * SGD_VALUES), THREADS as u32);
    let (per_head, len) = ((len / lrs.len()) as u32, len as u32);
    kernels::OptimizerSgd { weight, velocity, rounded, gradient, lrs, schedule, len, per_head, momentum }
        .launch(gpu, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_holds_one_bit_per_decayed_value() {
        let groups = [(0..3, true), (3..9, false), (9..20, true)].map(|(range, decay)| Group::new(range, decay));
        let mask = decay_mask(&groups, 20);
        for i in 0..20 {
            assert_eq!(mask[i / 8] >> (i % 8) & 1 == 1, !(3..9).contains(&i), "{i}");
        }
    }
}
