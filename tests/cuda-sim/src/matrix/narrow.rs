//! How tensor cores that multiply 8-bit floats natively (Ada's `mma.sync`, Hopper's `wgmma`) add the products: in fewer
//! bits than f32 has.
//!
//! Each instruction aligns its products and the accumulator to the largest of them, keeps 13 bits behind that one's
//! leading bit, cuts off the rest, and adds what is left without further loss. So found by others on H100, H200 and
//! RTX 4090: DeepSeek-V3's report (§3.5.2) and SageAttention2 give 1 + 8 + 13 bits. Not published, so assumed: that all
//! products of an instruction are aligned at once, and that the sum itself is not rounded.

/// Bits kept behind the leading bit of the largest term.
const FRACTION: u32 = 13;

/// An f32 without its sign, as bits: larger for larger magnitudes, infinities and then NaNs above all numbers.
const MAGNITUDE: u32 = 0x7fff_ffff;
const INFINITE: u32 = 0x7f80_0000;

/// One row of `COLUMNS` columns: `sums += a · b`, `b` in rows of `n` from column `column` on. Where an operand or a sum
/// is not finite, the sum is the plain one.
#[inline(always)]
pub fn row<const COLUMNS: usize>(a: &[f32], b: &[f32], sums: &mut [f32; COLUMNS], n: usize, column: usize) {
    let columns = |step: usize| -> &[f32; COLUMNS] {
        b[step * n + column..][..COLUMNS].try_into().expect("a slice of that length")
    };
    let mut largest = [0; COLUMNS];
    for (largest, sum) in largest.iter_mut().zip(&*sums) {
        *largest = sum.to_bits() & MAGNITUDE;
    }
    for (step, x) in a.iter().enumerate() {
        for (largest, b) in largest.iter_mut().zip(columns(step)) {
            *largest = (*largest).max((x * b).to_bits() & MAGNITUDE);
        }
    }
    let (mut scales, mut units, mut finite) = ([0.0; COLUMNS], [0.0; COLUMNS], true);
    for ((scale, unit), largest) in scales.iter_mut().zip(&mut units).zip(&largest) {
        // 2^(13 − e) and its inverse as f32. Below 2^-113, far under any product, the unit shrinks no further.
        let exponent = (largest >> 23).clamp(FRACTION + 1, 254);
        *scale = f32::from_bits((2 * 127 + FRACTION - exponent) << 23);
        *unit = f32::from_bits((exponent - FRACTION) << 23);
        finite &= *largest < INFINITE;
    }
    if !finite {
        for (step, x) in a.iter().enumerate() {
            sums.iter_mut().zip(columns(step)).for_each(|(sum, b)| *sum += x * b);
        }
        return;
    }
    // Whole numbers below 2^14 each, so 33 of them add exactly in f32.
    for (sum, scale) in sums.iter_mut().zip(&scales) {
        *sum = (*sum * scale).trunc();
    }
    for (step, x) in a.iter().enumerate() {
        for ((sum, b), scale) in sums.iter_mut().zip(columns(step)).zip(&scales) {
            *sum += (x * b * scale).trunc();
        }
    }
    for (sum, unit) in sums.iter_mut().zip(&units) {
        *sum *= unit;
    }
}
