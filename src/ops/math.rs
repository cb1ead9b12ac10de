//! Special functions as short branch-free polynomials, so that loops over them vectorise.
//!
//! libm calls do not vectorise and cost 5–20 ns each; these cost about 1 ns per value with AVX2.

/// ln 2 in two parts: n·LN2_HI is exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5·2^23 rounds to nearest: `round` is a libm call on the baseline target.
const MAGIC: f32 = 12_582_912.0;

/// e^r for |r| ≤ ln2/2: the Cephes degree-5 polynomial.
#[inline(always)]
fn exp_reduced(r: f32) -> f32 {
    let p = 1.987_569_2e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    p.mul_add(r * r, r) + 1.0
}

/// e^x within 2 ulp for |x| ≤ 87; 0 below −87.3, +inf above 88.7; NaN stays NaN.
/// Range reduction x = n·ln2 + r, then `exp_reduced`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let n = (x * std::f32::consts::LOG2_E).clamp(-150.0, 150.0);
    let n = (n + MAGIC) - MAGIC;
    let r = (-n).mul_add(LN2_LO, (-n).mul_add(LN2_HI, x));
    let y = exp_reduced(r);
    // 2^n as two factors, so that n = 128 does not overflow the exponent field.
    let n = n as i32;
    let half = n >> 1;
    let scale = |k: i32| f32::from_bits(((k + 127).clamp(0, 254) as u32) << 23);
    let y = y * scale(half) * scale(n - half);
    let y = if x < -87.336_54 { 0.0 } else { y };
    let y = if x > 88.722_84 { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

/// e^x within 2 ulp for −87 ≤ x ≤ 0 (rounding above 0 does no harm), e^−87 ≈ 2e-38 below; NaN stays NaN. Half the work
/// of [`exp`]: with nothing to overflow, 2^n is one addition to the exponent field.
#[inline(always)]
pub fn exp_nonpositive(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let y = exp_reduced((-n).mul_add(LN2_LO, (-n).mul_add(LN2_HI, x)));
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// e^x within 2 ulp of f64 for −708 ≤ x ≤ 0, e^−708 ≈ 3e-308 below; NaN stays NaN. As [`exp_nonpositive`], with e^r by
/// its Taylor polynomial of degree 13.
#[inline(always)]
pub fn exp_nonpositive_f64(x: f64) -> f64 {
    // 1.5·2^52 rounds to whole numbers; n times the upper part of ln 2 is exact.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const UPPER: f64 = 0.693_147_180_369_123_8;
    const LOWER: f64 = 1.908_214_929_270_587_7e-10;
    const FACTORIALS: [f64; 12] = [
        6_227_020_800.0,
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
    ];
    let x = if x < -708.0 { -708.0 } else { x };
    let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = (-n).mul_add(LOWER, (-n).mul_add(UPPER, x));
    let mut p = 0.0f64;
    for factorial in FACTORIALS {
        p = p.mul_add(r, 1.0 / factorial);
    }
    p.mul_add(r * r, r + 1.0) * f64::from_bits((shifted.to_bits() << 52).wrapping_add(0x3ff0_0000_0000_0000))
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_in_f64_is_the_librarys() {
        for i in 0..=708_000 {
            let x = f64::from(i) * -1e-3;
            let (got, want) = (exp_nonpositive_f64(x), x.exp());
            assert!((got - want).abs() <= 2.0 * f64::EPSILON * want, "{x}: {got:e} {want:e}");
        }
        assert_eq!(exp_nonpositive_f64(0.0), 1.0);
        assert!(exp_nonpositive_f64(f64::NEG_INFINITY) < 4e-308 && exp_nonpositive_f64(f64::NAN).is_nan());
    }

    #[test]
    fn exp_matches_f64() {
        let mut worst = 0.0f64;
        for i in -870_000..=870_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - want).abs() / want);
            if x <= 0.0 {
                worst = worst.max((f64::from(exp_nonpositive(x)) - want).abs() / want);
            }
        }
        assert!(worst < 2.4e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(88.7).is_finite());
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert!(exp_nonpositive(-1000.0) < 2e-38 && exp_nonpositive(f32::NEG_INFINITY) < 2e-38);
        assert!((exp_nonpositive(1e-6) - 1.0).abs() < 2e-6 && exp_nonpositive(f32::NAN).is_nan());
    }
}
