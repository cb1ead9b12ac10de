//! Two adjacent values of a reduction, rounded to bf16: what products in bf16 multiply.

use crate::ops::simd::vectorize;

/// Two values in bf16 as one word, the first in its lower half, as `vdpbf16ps` reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pair(u32);

/// The nearest bf16, of two equally near ones the even one, as the upper half of a word.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    // What is not a number stays none, whatever its lower half was.
    let odd = (bits >> 16) & 1;
    if value.is_nan() { bits | 0x40_0000 } else { bits.wrapping_add(0x7fff + odd) }
}

impl Pair {
    /// Both rounded.
    #[inline(always)]
    pub fn new(first: f32, second: f32) -> Self {
        Self((rounded(first) >> 16) | (rounded(second) & 0xffff_0000))
    }

    /// The word.
    #[inline(always)]
    pub fn bits(self) -> i32 {
        self.0.cast_signed()
    }

    /// Both, widened.
    #[inline(always)]
    pub fn widened(self) -> [f32; 2] {
        [f32::from_bits(self.0 << 16), f32::from_bits(self.0 & 0xffff_0000)]
    }

    /// Of all pairs in a row of `to`, from twice as many values.
    pub fn round(to: &mut [Self], values: &[f32]) {
        assert_eq!(2 * to.len(), values.len(), "pairs of {} values", values.len());
        vectorize(
            #[inline(always)]
            || {
                for (pair, [first, second]) in to.iter_mut().zip(values.as_chunks().0) {
                    *pair = Self::new(*first, *second);
                }
            },
        );
    }

    /// Of every row of `[_, k]`: `[_, ⌈k/2⌉]`, with 0 beyond an odd row's end.
    pub fn round_rows(to: &mut [Self], values: &[f32], k: usize) {
        if k.is_multiple_of(2) {
            return Self::round(to, values);
        }
        for (to, row) in to.chunks_exact_mut(k.div_ceil(2)).zip(values.chunks_exact(k)) {
            Self::round(&mut to[..k / 2], &row[..k - 1]);
            to[k / 2] = Self::new(row[k - 1], 0.0);
        }
    }

    /// Of rows `2l` and `2l + 1` of `[K, n]`, as `[⌈K/2⌉, n]`; 0 beyond the last row.
    pub fn across_rows(to: &mut [Self], values: &[f32], n: usize) {
        assert_eq!(to.len(), values.len().div_ceil(2 * n) * n, "pairs of rows of {n}");
        vectorize(
            #[inline(always)]
            || {
                for (to, rows) in to.chunks_exact_mut(n).zip(values.chunks(2 * n)) {
                    let (first, second) = rows.split_at(n);
                    if second.is_empty() {
                        to.iter_mut().zip(first).for_each(|(to, &first)| *to = Self::new(first, 0.0));
                    } else {
                        for ((to, &first), &second) in to.iter_mut().zip(first).zip(second) {
                            *to = Self::new(first, second);
                        }
                    }
                }
            },
        );
    }

    /// [`Pair::across_rows`], in a place of its own.
    pub fn of_rows(values: &[f32], n: usize) -> Vec<Self> {
        let mut pairs = vec![Self::default(); values.len().div_ceil(2 * n) * n];
        Self::across_rows(&mut pairs, values, n);
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_round_to_the_nearest() {
        let near = [0.0, -0.0, 1.0, 1.003_9, 1.001_95, 1.001_953_1, 1.005_859_4, 3e38, 3.4e38, -1e-40, f32::INFINITY];
        for first in near {
            for second in near {
                let want = [first, second].map(|value| half::bf16::from_f32(value).to_f32().to_bits());
                assert_eq!(Pair::new(first, second).widened().map(f32::to_bits), want, "{first} {second}");
            }
        }
        let [first, second] = Pair::new(f32::NAN, f32::from_bits(0x7f80_0001)).widened();
        assert!(first.is_nan() && second.is_nan());
        let rows = Pair::of_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2);
        assert_eq!(
            rows.iter().map(|p| p.widened()).collect::<Vec<_>>(),
            [[1.0, 3.0], [2.0, 4.0], [5.0, 0.0], [6.0, 0.0]]
        );
    }
}
