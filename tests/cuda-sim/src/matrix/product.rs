//! The one loop behind every matrix instruction: D += A·B on f32 tiles.

use super::narrow;

/// How an instruction adds its products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// In order of k, with one rounding to f32 per addition.
    F32,
    /// As `narrow.rs` says.
    Narrow,
}

/// `d[rows][n] += a[rows][k] · b[k][n]`, all row-major; `rows` a multiple of 4, `n` of 8, `k` at most 32. The result is
/// the same whatever instructions the host has.
pub fn accumulate(sums: Sums, a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    match sums {
        Sums::F32 => dispatch::<false>(a, b, d, k, n),
        Sums::Narrow => dispatch::<true>(a, b, d, k, n),
    }
}

fn dispatch<const NARROW: bool>(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    debug_assert!(k <= 32);
    debug_assert!(n.is_multiple_of(8) && a.len().is_multiple_of(4 * k) && b.len() == k * n);
    debug_assert_eq!(d.len(), a.len() / k * n);
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just found present.
            return unsafe { accumulate_avx512::<NARROW>(a, b, d, k, n) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just found present.
            return unsafe { accumulate_avx2::<NARROW>(a, b, d, k, n) };
        }
    }
    tiles::<NARROW>(a, b, d, k, n);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn accumulate_avx512<const NARROW: bool>(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    tiles::<NARROW>(a, b, d, k, n);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn accumulate_avx2<const NARROW: bool>(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    tiles::<NARROW>(a, b, d, k, n);
}

/// Tiles of 4 rows by 32 columns, then by 8: accumulators stay in vector registers over all of k.
#[inline(always)]
fn tiles<const NARROW: bool>(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    for (a, d) in a.chunks_exact(4 * k).zip(d.chunks_exact_mut(4 * n)) {
        let mut column = 0;
        while column + 32 <= n {
            tile::<32, NARROW>(a, b, d, k, n, column);
            column += 32;
        }
        while column < n {
            tile::<8, NARROW>(a, b, d, k, n, column);
            column += 8;
        }
    }
}

#[inline(always)]
fn tile<const COLUMNS: usize, const NARROW: bool>(
    a: &[f32],
    b: &[f32],
    d: &mut [f32],
    k: usize,
    n: usize,
    column: usize,
) {
    if NARROW {
        for (a, d) in a.chunks_exact(k).zip(d.chunks_exact_mut(n)) {
            let sums = (&mut d[column..column + COLUMNS]).try_into().expect("a slice of that length");
            narrow::row::<COLUMNS>(a, b, sums, n, column);
        }
        return;
    }
    let mut sums = [[0f32; COLUMNS]; 4];
    for (row, sums) in sums.iter_mut().enumerate() {
        sums.copy_from_slice(&d[row * n + column..][..COLUMNS]);
    }
    for (step, b) in b.chunks_exact(n).enumerate() {
        let b: &[f32; COLUMNS] = b[column..column + COLUMNS].try_into().expect("a slice of that length");
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = a[row * k + step];
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += x * b;
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        d[row * n + column..][..COLUMNS].copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One element of the product, by its definition.
    type Element = fn(sum: f32, a: &[f32], b: &[f32]) -> f32;

    fn plain(sum: f32, a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).fold(sum, |sum, (a, b)| sum + a * b)
    }

    /// In f64, where the 33 terms, their quotients by a power of two and the sum are exact.
    fn narrow(sum: f32, a: &[f32], b: &[f32]) -> f32 {
        let terms: Vec<f64> =
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).chain([f64::from(sum)]).collect();
        let largest = terms.iter().fold(0.0, |m: f64, t| m.max(t.abs()));
        if largest == 0.0 {
            return 0.0;
        }
        let unit = (largest.log2().floor() - 13.0).exp2();
        terms.iter().map(|t| (t / unit).trunc() * unit).sum::<f64>() as f32
    }

    /// Against the definition, on tiles of every width, by this host's best instructions and by the portable path.
    fn check(sums: Sums, element: Element, value: impl Fn(usize) -> f32) {
        for (rows, k, n) in [(4, 1, 8), (16, 16, 8), (64, 16, 136), (64, 32, 256), (8, 5, 40)] {
            let a: Vec<f32> = (0..rows * k).map(&value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 31)).collect();
            let start: Vec<f32> = (0..rows * n).map(|i| 30.0 * value(i + 77)).collect();
            let want: Vec<f32> = (0..rows * n)
                .map(|at| {
                    let column: Vec<f32> = (0..k).map(|step| b[step * n + at % n]).collect();
                    element(start[at], &a[at / n * k..][..k], &column)
                })
                .collect();
            let mut d = start.clone();
            accumulate(sums, &a, &b, &mut d, k, n);
            assert_eq!(d, want, "{sums:?} {rows} × {k} × {n}");
            d.copy_from_slice(&start);
            match sums {
                Sums::F32 => tiles::<false>(&a, &b, &mut d, k, n),
                Sums::Narrow => tiles::<true>(&a, &b, &mut d, k, n),
            }
            assert_eq!(d, want, "{sums:?} {rows} × {k} × {n}, portably");
        }
    }

    #[test]
    fn equals_the_plain_sum_bit_for_bit() {
        check(Sums::F32, plain, |i| ((i * 7919 % 1009) as f32 - 504.0) / 37.0);
    }

    /// Of e4m3's range, 2^-9 to 448, where a row's small products fall below the unit of its large ones.
    #[test]
    fn equals_the_narrow_sum_bit_for_bit() {
        let value = |i: usize| {
            let (mantissa, exponent) = (i * 7919 % 1009 % 15, i * 104_729 % 887 % 16);
            (mantissa as f32 - 7.0) * (exponent as f32 - 9.0).exp2()
        };
        check(Sums::Narrow, narrow, value);
        check(Sums::Narrow, narrow, |_| 0.0);
    }

    /// 64 products of 1 beside one of 2^14: the unit is 2, every 1 is cut off. Of 3, a third is.
    #[test]
    fn small_terms_are_cut_off() {
        let sum = |large: f32, small: f32| {
            let (mut a, mut b, mut d) = ([0.0; 4 * 32], [small; 32 * 8], [0.0; 4 * 8]);
            a[..32].fill(1.0);
            b[..8].fill(large);
            accumulate(Sums::Narrow, &a, &b, &mut d, 32, 8);
            d[0]
        };
        assert_eq!(sum(16384.0, 1.0), 16384.0);
        assert_eq!(sum(16384.0, -1.0), 16384.0);
        assert_eq!(sum(-16384.0, 3.0), -16384.0 + 31.0 * 2.0);
        assert_eq!(sum(8192.0, 1.0), 8192.0 + 31.0);
    }

    /// An accumulator with all bits of f32 is cut off too, and what is not finite stays so.
    #[test]
    fn accumulators_are_cut_off_or_not_finite() {
        for (start, want) in [
            (1.0 + 2f32.powi(-13), 1.0 + 2f32.powi(-13)),
            (-1.0 - 2f32.powi(-14), -1.0),
            (f32::MIN_POSITIVE / 2.0, 0.0),
            (f32::MAX, f32::from_bits(0x7f7f_fc00)),
            (f32::INFINITY, f32::INFINITY),
        ] {
            let mut d = [start; 32];
            accumulate(Sums::Narrow, &[0.0; 128], &[0.0; 256], &mut d, 32, 8);
            assert_eq!(d, [want; 32]);
        }
        let mut d = [0.0; 32];
        let mut b = [1.0; 256];
        b[8] = f32::NAN;
        accumulate(Sums::Narrow, &[1.0; 128], &b, &mut d, 32, 8);
        assert!(d[0].is_nan() && d[24].is_nan() && d[1] == 32.0 && d[31] == 32.0);
    }
}
