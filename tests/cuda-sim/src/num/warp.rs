//! The hot functions over the 32 lanes of a register, written so that the compiler vectorises them.

use super::format::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::{NAN_F32, flush};

/// One 32-bit register of a warp.
pub type Lanes = [u32; 32];

/// `cvt.rn.bf16x2.f32`: `high` fills the upper half.
pub fn cvt_bf16x2(out: &mut Lanes, high: &Lanes, low: &Lanes) {
    for l in 0..32 {
        out[l] = (f32_to_bf16(f32::from_bits(high[l])) as u32) << 16 | f32_to_bf16(f32::from_bits(low[l])) as u32;
    }
}

/// `cvt.rn.f16x2.f32`: `high` fills the upper half.
pub fn cvt_f16x2(out: &mut Lanes, high: &Lanes, low: &Lanes) {
    for l in 0..32 {
        out[l] = (f32_to_f16(f32::from_bits(high[l])) as u32) << 16 | f32_to_f16(f32::from_bits(low[l])) as u32;
    }
}

/// `cvt.rn.bf16.f32`.
pub fn narrow_bf16(out: &mut Lanes, x: &Lanes) {
    for l in 0..32 {
        out[l] = f32_to_bf16(f32::from_bits(x[l])) as u32;
    }
}

/// `cvt.f32.bf16`.
pub fn widen_bf16(out: &mut Lanes, x: &Lanes) {
    for l in 0..32 {
        out[l] = bf16_to_f32(x[l] as u16).to_bits();
    }
}

/// `cvt.f32.f16`.
pub fn widen_f16(out: &mut Lanes, x: &Lanes) {
    for l in 0..32 {
        out[l] = f16_to_f32(x[l] as u16).to_bits();
    }
}

/// `ex2.approx.f32`.
pub fn ex2(out: &mut Lanes, x: &Lanes, ftz: bool) {
    for l in 0..32 {
        out[l] = ex2_one(f32::from_bits(x[l]), ftz).to_bits();
    }
}

/// 2^x: the integer part goes into the exponent, 2^f for |f| ≤ 1/2 is its Taylor polynomial of degree 8, whose error is
/// below 2^-35. No branch, no library call: 32 of these vectorise.
#[inline(always)]
pub(super) fn ex2_one(x: f32, ftz: bool) -> f32 {
    const C: [f64; 9] = [
        1.0,
        std::f64::consts::LN_2,
        0.240_226_506_959_100_7,
        0.055_504_108_664_821_58,
        0.009_618_129_107_628_477,
        0.001_333_355_814_642_844_3,
        0.000_154_035_303_933_816_1,
        0.000_015_252_733_804_059_84,
        0.000_001_321_548_679_014_431,
    ];
    // Adding 1.5·2^52 rounds to an integer, found in the low bits. Beyond ±200 the result is infinite or zero anyway.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let clamped = (if ftz { flush(x) } else { x } as f64).clamp(-200.0, 200.0);
    let shifted = clamped + ROUND;
    let f = clamped - (shifted - ROUND);
    let mut p = C[8];
    for c in C[..8].iter().rev() {
        p = p * f + c;
    }
    // NaN has passed through every step; its exponent bits need no care.
    let scale = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    let y = (p * scale) as f32;
    let y = if ftz { flush(y) } else { y };
    if x.is_nan() { NAN_F32 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::{Cast, Format};

    #[test]
    fn ex2_is_within_a_unit_everywhere() {
        let mut x = -151.0f32;
        while x < 129.0 {
            let want = (x as f64).exp2();
            let got = ex2_one(x, false) as f64;
            let unit = ((want as f32).next_up() - want as f32) as f64;
            assert!((got - want).abs() <= unit * 0.51 || want >= f32::MAX as f64, "{x} {got} {want}");
            x += 0.00917;
        }
        for n in -149..128 {
            assert_eq!(ex2_one(n as f32, false) as f64, (n as f64).exp2());
        }
        assert_eq!(ex2_one(f32::INFINITY, false), f32::INFINITY);
        assert_eq!(ex2_one(f32::NEG_INFINITY, false), 0.0);
        assert_eq!(ex2_one(1e9, true), f32::INFINITY);
        assert_eq!(ex2_one(-127.0, true), 0.0);
        assert_eq!(ex2_one(f32::NAN, true).to_bits(), 0x7fff_ffff);
    }

    #[test]
    fn whole_registers_equal_the_scalar_conversions() {
        let x: Lanes = std::array::from_fn(|l| (l as f32 * 1.7 - 20.1).exp2().to_bits());
        let y: Lanes = std::array::from_fn(|l| (3.3 - l as f32).to_bits());
        let mut out = [0; 32];
        let at = |v: &Lanes, l: usize| f32::from_bits(v[l]);
        cvt_bf16x2(&mut out, &x, &y);
        assert!((0..32).all(|l| out[l] == Cast::NEAREST.pair(Format::BF16, at(&x, l), at(&y, l))));
        cvt_f16x2(&mut out, &x, &y);
        assert!((0..32).all(|l| out[l] == Cast::NEAREST.pair(Format::F16, at(&x, l), at(&y, l))));
        narrow_bf16(&mut out, &y);
        let narrow = out;
        widen_bf16(&mut out, &narrow);
        assert!((0..32).all(|l| (at(&out, l) - at(&y, l)).abs() <= at(&y, l).abs() / 256.0));
    }
}
