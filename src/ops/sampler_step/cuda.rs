//! Launches of `kernels/sampler_step.cu`.

use super::{NoiseKey, SLOTS, Step};
use crate::device::cuda::kernels::sampler_step::THREADS;
use crate::device::cuda::{Gpu, Half, Launch, View, kernels};
use crate::error::Result;
use crate::rng::{Domain, Stream};

/// Values of a thread.
const VALUES: usize = 4;

/// Numbers per call in the table.
pub const ROW: usize = kernels::sampler_step::ROW;

/// The table in device memory, `[calls, ROW]`, for guidance scale w (any number where there is one branch).
pub fn table(steps: &[Step], w: f32) -> Vec<f32> {
    steps.iter().flat_map(|step| row(step, w)).collect()
}

fn row(step: &Step, w: f32) -> [f32; ROW] {
    let [a, b, c] = step.kept;
    // Bits of a whole number: the kernel takes them as they are.
    let keep = f32::from_bits(step.keep.map_or(u32::MAX, |slot| slot as u32));
    let (d_x, d_e) = step.d;
    [d_x, d_e, step.limit, step.x, step.e, step.now, a, b, c, step.noise, step.input, w, keep, 0.0, 0.0, 0.0]
}

/// `keys [N, 4]` in device memory.
pub fn keys(keys: &[NoiseKey]) -> Vec<u32> {
    let words = |key: &NoiseKey| {
        let [low, high] = Stream::key(key.seed, Domain::SamplerNoise);
        [low, high, key.caption, key.image]
    };
    keys.iter().flat_map(words).collect()
}

/// What a step changes: `x`, `input` `[N, V]`, `history [slots, N, V]`.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<T: Half> {
    pub x: View<f32>,
    pub input: View<T>,
    pub history: Option<View<f32>>,
}

/// Where a step finds its coefficients: [`table`], and the counter of the call, one number, which this op counts on.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub table: View<f32>,
    pub step: View<u32>,
}

/// A thread per four values of an image.
fn plan(images: usize, values: usize) -> Launch {
    Launch::grid([values.div_ceil(THREADS * VALUES), images, 1], THREADS as u32)
}

/// As [`super::advance`] with the bits of the CPU (noise: but for the last place), at the call that the counter tells;
/// then counts on. `eps [N, V]`, or `[2N, V]` with the branch without caption behind; `keys` of N images, needed where
/// the table has noise.
///
/// # Panics
/// If lengths do not fit, V is no multiple of 4, or an address is not aligned to 16 bytes (input: 8).
pub fn advance<T: Half>(
    gpu: &Gpu,
    buffers: Buffers<T>,
    eps: View<f32>,
    schedule: Schedule,
    keys: Option<View<u32>>,
    images: usize,
) -> Result<()> {
    let Buffers { x, input, history } = buffers;
    let Schedule { table, step } = schedule;
    let len = x.len();
    assert!(images > 0 && len.is_multiple_of(images * VALUES), "sampler step: {len} values of {images} images");
    assert!(
        input.len() == len && (eps.len() == len || eps.len() == 2 * len),
        "sampler step: x {len}, eps {}",
        eps.len()
    );
    assert!(history.is_none_or(|h| h.len().is_multiple_of(len) && h.len() <= SLOTS * len), "sampler step: history");
    assert!(keys.is_none_or(|keys| keys.len() == 4 * images && keys.is_aligned(16)), "sampler step: keys");
    assert!(table.len().is_multiple_of(ROW) && step.len() == 1, "sampler step: table {}", table.len());
    assert!(
        [Some(x), Some(eps), Some(table), history].iter().flatten().all(|view| view.is_aligned(16))
            && input.is_aligned(8),
        "sampler step: buffers begin at multiples of 16 bytes"
    );
    let values = len / images;
    let (at, guided) = (plan(images, values), u32::from(eps.len() > len));
    let values = values as u32;
    kernels::SamplerStep { x, input, history, eps, table, step, keys, values, guided }.launch(gpu, at)?;
    kernels::SamplerNext { step }.launch(gpu, Launch::new(1, 1))
}

/// From unit noise `x` to the first latent, in place, and the first input: `x' = initial·x`, `input = first·x'`.
///
/// # Panics
/// If lengths differ or are no multiple of 4.
pub fn start<T: Half>(gpu: &Gpu, x: View<f32>, input: View<T>, initial: f32, first: f32) -> Result<()> {
    let len = x.len();
    assert!(input.len() == len && len.is_multiple_of(VALUES), "sampler start: {len} and {}", input.len());
    assert!(x.is_aligned(16) && input.is_aligned(8), "sampler start: buffers begin at multiples of 16 bytes");
    let at = Launch::new(len.div_ceil(THREADS * VALUES), THREADS as u32);
    kernels::SamplerStart { x, input, len: len as u64, initial, first }.launch(gpu, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_one_thread() {
        for (images, values) in [(1, 4), (3, 64), (2, 1020), (2, 1024), (2, 1028), (32, 16_384)] {
            let Launch { grid: [x, y, z], block, .. } = plan(images, values);
            let (blocks, per_block) = (x as usize, block[0] as usize * VALUES);
            assert!(
                (y as usize, z) == (images, 1) && blocks * per_block >= values && (blocks - 1) * per_block < values
            );
        }
    }

    #[test]
    fn rows_hold_what_the_kernel_reads() {
        let step = Step {
            d: (1.0, 2.0),
            limit: 3.0,
            x: 4.0,
            e: 5.0,
            now: 6.0,
            kept: [7.0, 8.0, 9.0],
            keep: Some(2),
            noise: 10.0,
            input: 11.0,
        };
        let table = table(&[step, Step { keep: None, ..step }], 12.0);
        assert_eq!(table[..12], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
        assert_eq!((table[12].to_bits(), table[ROW + 12].to_bits()), (2, u32::MAX));
    }
}
