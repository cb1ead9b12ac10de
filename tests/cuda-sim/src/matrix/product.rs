//! The one loop behind every matrix instruction: D += A·B on f32 tiles.

/// `d[rows][n] += a[rows][k] · b[k][n]`, all row-major; `rows` a multiple of 4, `n` of 8. Every element accumulates in
/// order of k with one rounding per addition, whatever instructions the host has.
pub fn accumulate(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    debug_assert!(n.is_multiple_of(8) && a.len().is_multiple_of(4 * k) && b.len() == k * n);
    debug_assert_eq!(d.len(), a.len() / k * n);
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just found present.
            return unsafe { accumulate_avx512(a, b, d, k, n) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just found present.
            return unsafe { accumulate_avx2(a, b, d, k, n) };
        }
    }
    tiles(a, b, d, k, n);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn accumulate_avx512(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    tiles(a, b, d, k, n);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn accumulate_avx2(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    tiles(a, b, d, k, n);
}

/// Tiles of 4 rows by 32 columns, then by 8: accumulators stay in vector registers over all of k.
#[inline(always)]
fn tiles(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize) {
    for (a, d) in a.chunks_exact(4 * k).zip(d.chunks_exact_mut(4 * n)) {
        let mut column = 0;
        while column + 32 <= n {
            tile::<32>(a, b, d, k, n, column);
            column += 32;
        }
        while column < n {
            tile::<8>(a, b, d, k, n, column);
            column += 8;
        }
    }
}

#[inline(always)]
fn tile<const COLUMNS: usize>(a: &[f32], b: &[f32], d: &mut [f32], k: usize, n: usize, column: usize) {
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

    #[test]
    fn equals_the_plain_sum_bit_for_bit() {
        let value = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) / 37.0;
        for (rows, k, n) in [(4, 1, 8), (16, 16, 8), (64, 16, 136), (64, 32, 256), (8, 5, 40)] {
            let a: Vec<f32> = (0..rows * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 31)).collect();
            let mut d: Vec<f32> = (0..rows * n).map(|i| value(i + 77)).collect();
            let mut want = d.clone();
            for i in 0..rows {
                for j in 0..n {
                    for step in 0..k {
                        want[i * n + j] += a[i * k + step] * b[step * n + j];
                    }
                }
            }
            accumulate(&a, &b, &mut d, k, n);
            assert_eq!(d, want);
            d.iter_mut().zip(&want).for_each(|(d, w)| *d = *w);
            tiles(&a, &b, &mut d, k, n); // the portable path gives the same bits as the host's best
            accumulate(&a, &b, &mut want, k, n);
            assert_eq!(d, want);
        }
    }
}
