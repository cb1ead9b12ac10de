//! Runs a loop compiled for the widest vectors this processor has (AVX-512, AVX2 or the baseline).

/// Calls `f`, compiled once per instruction set, through run-time detection. Write the closure as `#[inline(always)] ||
/// …`: a large one is otherwise compiled on its own, for the baseline, where also every fused multiply-add is a call.
/// Keep the loop inside plain, so that the compiler vectorises it; reductions must be written with explicit lanes (see
/// [`sum`]).
#[inline(always)]
pub fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Lanes of the explicit reductions below: one 512-bit register of f32.
pub(super) const LANES: usize = 16;

/// Sum of `f(i)` over `0..n` in 16 lanes, combined in a fixed order. Call inside [`vectorize`].
#[inline(always)]
pub fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let body = n / LANES * LANES;
    let mut i = 0;
    while i < body {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += f(i + l);
        }
        i += LANES;
    }
    for (l, i) in (body..n).enumerate() {
        lanes[l] += f(i);
    }
    total(lanes)
}

/// Sum of the lanes, upper halves added to lower ones.
#[inline(always)]
pub(super) fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Maximum of `values` (NaN is ignored); `f32::NEG_INFINITY` when empty. Call inside [`vectorize`].
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (body, tail) = values.split_at(values.len() / LANES * LANES);
    for chunk in body.chunks_exact(LANES) {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(tail) {
        *lane = if v > *lane { v } else { *lane };
    }
    lanes.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_and_max_cover_every_length() {
        for n in 0..70 {
            let values: Vec<f32> = (0..n).map(|i| ((i * 7919) % 31) as f32 - 15.0).collect();
            assert_eq!(
                vectorize(
                    #[inline(always)]
                    || sum(n, |i| values[i])
                ),
                values.iter().sum::<f32>()
            );
            assert_eq!(
                vectorize(
                    #[inline(always)]
                    || max(&values)
                ),
                values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
        }
    }
}
