//! Conversions between floating point and integers.

use super::exact::{Exact, Rounding};
use super::format::Format;

/// `cvt.rni/rzi/rmi/rpi` to an integer of `bits` bits: rounds, clamps to its range, NaN to 0 (to 2^63 for 64 bits).
pub fn from_float(x: f64, rounding: Rounding, bits: u32, signed: bool) -> u64 {
    if x.is_nan() {
        return if bits == 64 { 1 << 63 } else { 0 };
    }
    let x = to_integral(x, rounding);
    let mask = u64::MAX >> (64 - bits);
    // `as` saturates at the 64-bit types' ends; clamp narrower types afterwards.
    match signed {
        true => {
            let (low, high) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
            (x as i64).clamp(low, high) as u64 & mask
        }
        false => (x as u64).min(mask),
    }
}

/// `cvt.rni.f32.f32` and its like: the integral value next to `x` in the direction given.
#[inline(always)]
pub fn to_integral(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Rn => x.round_ties_even(),
        Rounding::Rz => x.trunc(),
        Rounding::Rm => x.floor(),
        Rounding::Rp => x.ceil(),
        Rounding::Rna => x.round(),
    }
}

/// `cvt.f.{u,s}`: an integer rounded into a format.
pub fn to_float(x: i128, format: Format, rounding: Rounding) -> u64 {
    Exact::from_integer(x).round(format, rounding, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Rounding::*;

    #[test]
    fn to_integers() {
        assert_eq!(from_float(2.5, Rn, 32, true), 2);
        assert_eq!(from_float(-2.5, Rm, 32, true), (-3i32) as u32 as u64);
        assert_eq!(from_float(-2.5, Rz, 32, false), 0);
        assert_eq!(from_float(1e20, Rz, 32, true), i32::MAX as u64);
        assert_eq!(from_float(-1e20, Rz, 16, true), 0x8000);
        assert_eq!(from_float(300.0, Rz, 8, false), 255);
        assert_eq!(from_float(f64::NAN, Rz, 32, true), 0);
        assert_eq!(from_float(f64::INFINITY, Rz, 64, true), i64::MAX as u64);
        assert_eq!(from_float(2.2, Rp, 32, true), 3);
    }

    #[test]
    fn from_integers() {
        for x in [0i64, 1, -1, 16_777_217, -16_777_219, i64::MAX, i64::MIN, 123_456_789_012] {
            assert_eq!(to_float(x as i128, Format::F32, Rn) as u32, (x as f32).to_bits());
            assert_eq!(to_float(x as i128, Format::F64, Rn), (x as f64).to_bits());
        }
        assert_eq!(to_float(u64::MAX as i128, Format::F32, Rz) as u32, 0x5f7f_ffff);
        assert_eq!(to_float(70_000, Format::F16, Rn), 0x7c00);
        assert_eq!(to_float(16_777_217, Format::F32, Rp) as u32, 16_777_218f32.to_bits());
    }
}
