//! Weights as the kernels read them: `[outputs, K]` row-major in the storage type, K = segments in order, taps
//! row-major within a segment, channels within a tap. Layers of the same input stand side by side as their rows do one
//! after the other.

use std::ops::Range;

use rayon::prelude::*;

use crate::device::cuda::{E4m3, Element, Half};

/// Version of the layout, for caches of packed weights.
pub const LAYOUT: u32 = 1;

/// Columns of values, then of gates, that follow each other in gated weights.
const BLOCK: usize = 8;

/// A segment's weights inside a tensor `[outputs, inputs, 3, 3]`, `[outputs, inputs, 1, 1]` or `[outputs, inputs]`.
#[derive(Clone, Debug)]
pub struct SegmentWeights<'a> {
    pub w: &'a [f32],
    /// Input channels of the tensor.
    pub inputs: usize,
    /// Those that the segment reads.
    pub channels: Range<usize>,
    /// 9 or 1.
    pub taps: usize,
}

impl<'a> SegmentWeights<'a> {
    /// A whole 3×3 convolution of `inputs` channels.
    pub fn conv(w: &'a [f32], inputs: usize) -> Self {
        Self { w, inputs, channels: 0..inputs, taps: 9 }
    }

    /// Channels `channels` of a linear layer or 1×1 convolution of `inputs` channels.
    pub fn linear(w: &'a [f32], inputs: usize, channels: Range<usize>) -> Self {
        Self { w, inputs, channels, taps: 1 }
    }

    fn k(&self) -> usize {
        self.channels.len() * self.taps
    }
}

/// Row of the source that row `row` of gated weights holds: the first half of the source's rows are values, the second
/// gates.
fn gated_row(row: usize, rows: usize) -> usize {
    let (pair, within) = (row / (2 * BLOCK), row % (2 * BLOCK));
    pair * BLOCK + within % BLOCK + within / BLOCK * (rows / 2)
}

/// Weights of one product. `gated`: the second half of the outputs are gates (GEGLU), brought beside their values.
///
/// # Panics
/// If a tensor's length does not fit, or gated outputs are no multiple of 16.
pub fn pack<T: Half>(segments: &[SegmentWeights<'_>], outputs: usize, gated: bool) -> Vec<T> {
    arrange(segments, outputs, gated, T::round)
}

/// Weights of one product in e4m3, laid out as by [`pack`], and a scale per row of them, `max|row| / 448`, by which
/// they are divided (1 for a row of zeros).
///
/// # Panics
/// As [`pack`].
pub fn pack_e4m3(segment: SegmentWeights<'_>, outputs: usize, gated: bool) -> (Vec<E4m3>, Vec<f32>) {
    let k = segment.k().max(1);
    let wide = arrange(&[segment], outputs, gated, |value| value);
    let mut packed = vec![E4m3::default(); wide.len()];
    let rows = packed.par_chunks_mut(k).zip(wide.par_chunks(k));
    let scales = rows.map(|(packed, wide)| {
        let most = wide.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        let scale = if most > 0.0 { most / E4m3::MAX } else { 1.0 };
        packed.iter_mut().zip(wide).for_each(|(to, &value)| *to = E4m3::round(value / scale));
        scale
    });
    let scales = scales.collect();
    (packed, scales)
}

fn arrange<P: Element>(
    segments: &[SegmentWeights<'_>],
    outputs: usize,
    gated: bool,
    round: impl Fn(f32) -> P + Sync,
) -> Vec<P> {
    for s in segments {
        assert!(
            s.w.len() == outputs * s.inputs * s.taps && s.channels.end <= s.inputs && matches!(s.taps, 1 | 9),
            "conv: weights {} for {outputs} × {} × {} (channels {:?})",
            s.w.len(),
            s.inputs,
            s.taps,
            s.channels
        );
    }
    assert!(!gated || outputs.is_multiple_of(2 * BLOCK), "conv: {outputs} gated outputs");
    let k: usize = segments.iter().map(SegmentWeights::k).sum();
    let mut packed = vec![P::zeroed(); outputs * k];
    packed.par_chunks_mut(k.max(1)).enumerate().for_each(|(row, packed)| {
        let row = if gated { gated_row(row, outputs) } else { row };
        let mut rest = packed;
        for s in segments {
            let (part, after) = rest.split_at_mut(s.k());
            rest = after;
            let source = &s.w[row * s.inputs * s.taps..][..s.inputs * s.taps];
            for (tap, part) in part.chunks_exact_mut(s.channels.len()).enumerate() {
                for (value, channel) in part.iter_mut().zip(s.channels.clone()) {
                    *value = round(source[channel * s.taps + tap]);
                }
            }
        }
    });
    packed
}

/// Rows and columns of the filter that fall on each of a phase's two: at parity 0 the pixel before and the pixel itself
/// (taps 1 and 2), at parity 1 the pixel itself (taps 0 and 1) and the one after.
const PHASE: [[Range<usize>; 2]; 2] = [[0..1, 1..3], [0..2, 2..3]];

/// Weights `[outputs, inputs, 3, 3]` of a convolution after an enlargement: as [`pack`], and after them the four phases
/// of a twofold one (parities of row and column of the output, row-major), `[outputs, 2, 2, inputs]` each.
pub fn pack_doubling<T: Half>(w: &[f32], inputs: usize, outputs: usize) -> Vec<T> {
    let mut packed = pack(&[SegmentWeights::conv(w, inputs)], outputs, false);
    let rows = (0..4 * outputs).into_par_iter().flat_map_iter(|row| {
        let (phase, output) = (row / outputs, row % outputs);
        let source = &w[output * inputs * 9..][..inputs * 9];
        (0..4 * inputs).map(move |k| {
            let (tap, channel) = (k / inputs, k % inputs);
            let (down, right) = (&PHASE[phase / 2][tap / 2], &PHASE[phase % 2][tap % 2]);
            let taps = down.clone().flat_map(|y| right.clone().map(move |x| source[channel * 9 + y * 3 + x]));
            T::round(taps.sum())
        })
    });
    packed.par_extend(rows);
    packed
}

/// A bias in the order of [`pack`]'s rows.
pub fn pack_bias(bias: &[f32], gated: bool) -> Vec<f32> {
    (0..bias.len()).map(|row| bias[if gated { gated_row(row, bias.len()) } else { row }]).collect()
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn taps_come_before_channels_and_segments_follow_each_other() {
        // Value = output·100 + channel·10 + tap; 3 channels, of which a segment takes two.
        let conv: Vec<f32> = (0..2 * 3 * 9).map(|i| (i / 27 * 100 + i / 9 % 3 * 10 + i % 9) as f32).collect();
        let linear: Vec<f32> = (0..2 * 2).map(|i| 1000.0 + i as f32).collect();
        let segments =
            [SegmentWeights { w: &conv, inputs: 3, channels: 1..3, taps: 9 }, SegmentWeights::linear(&linear, 2, 0..2)];
        let packed: Vec<f16> = pack(&segments, 2, false);
        let want: Vec<f32> = (0..2)
            .flat_map(|o| {
                let taps = (0..9).flat_map(move |tap| [1, 2].map(|c| (o * 100 + c * 10 + tap) as f32));
                taps.chain([1000.0 + (o * 2) as f32, 1001.0 + (o * 2) as f32])
            })
            .collect();
        assert_eq!(packed.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), want);
    }

    /// Every tap is in every phase once, and one output pixel's four products are its nine.
    #[test]
    fn phases_sum_the_taps_that_meet() {
        let w: Vec<f32> = (0..2 * 9).map(|i| (1 << (i % 9)) as f32).collect();
        let packed: Vec<f16> = pack_doubling(&w, 1, 2);
        let phases: Vec<f32> = packed[18..].iter().map(|v| v.to_f32()).collect();
        assert_eq!(phases.len(), 4 * 2 * 4);
        assert!(phases.chunks_exact(4).all(|taps| taps.iter().sum::<f32>() == 511.0));
        // Parity of row 0 and column 1: rows {0} and {1, 2}, columns {0, 1} and {2}.
        assert_eq!(phases[8..12], [3.0, 4.0, 8.0 + 16.0 + 64.0 + 128.0, 32.0 + 256.0]);
    }

    /// The row's largest is ±448, the others keep 3 bits of mantissa, zeros stay.
    #[test]
    fn rows_have_their_own_scales() {
        let w = [[0.5, -2.0, 0.03, 0.0], [1e-6, 3e-6, -7e-6, 0.0], [0.0; 4]];
        let (packed, scales) = pack_e4m3(SegmentWeights::linear(w.as_flattened(), 4, 0..4), 3, false);
        assert_eq!(scales, [2.0 / 448.0, 7e-6 / 448.0, 1.0]);
        for ((row, packed), scale) in w.iter().zip(packed.chunks(4)).zip(&scales) {
            assert!(row.iter().zip(packed).all(|(w, p)| (p.widen() * scale - w).abs() <= w.abs() / 16.0), "{row:?}");
        }
        assert_eq!([packed[1].widen(), packed[6].widen()], [-448.0; 2]);
    }

    #[test]
    fn gates_stand_beside_their_values() {
        let rows: Vec<f32> = (0..32).map(|i| i as f32).collect();
        let want: Vec<f32> = [0..8, 16..24, 8..16, 24..32].into_iter().flatten().map(|i| i as f32).collect();
        assert_eq!(pack_bias(&rows, true), want);
        let packed: Vec<f16> = pack(&[SegmentWeights::linear(&rows, 1, 0..1)], 32, true);
        assert_eq!(packed.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), want);
    }
}
