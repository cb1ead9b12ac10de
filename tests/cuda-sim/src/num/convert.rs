//! `cvt` between floating-point formats, with every rounding and clamp PTX gives it.

use super::exact::{Exact, Rounding};
use super::format::Format;

/// What a conversion does with values outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saturation {
    None,
    /// `.satfinite`: overflow and infinities become the largest finite number; NaN stays NaN.
    Finite,
    /// `.sat`: clamps to [0, 1], NaN to +0.
    Unit,
}

/// The modifiers of one `cvt` to a narrower (or equal) floating-point format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    pub rounding: Rounding,
    /// `.relu`: negative results become +0.
    pub relu: bool,
    pub saturation: Saturation,
}

impl Cast {
    pub const NEAREST: Cast = Cast { rounding: Rounding::Rn, relu: false, saturation: Saturation::None };

    /// Bits of `x` in `format`; NaN becomes the canonical NaN. tf32 results fill the upper 19 bits, as in registers.
    pub fn f64(&self, format: Format, x: f64) -> u64 {
        let place = if format == Format::TF32 { 13 } else { 0 };
        if x.is_nan() {
            return if self.saturation == Saturation::Unit { 0 } else { nan(format) << place };
        }
        if self.relu && x.is_sign_negative() {
            return 0;
        }
        let x = match self.saturation {
            Saturation::Unit if x > 0.0 => x.min(1.0),
            Saturation::Unit => 0.0,
            _ => x,
        };
        let finite = self.saturation == Saturation::Finite;
        let bits = if x.is_infinite() {
            let sign = (x.is_sign_negative() as u64) << (format.width() - 1);
            sign | match (finite, format.infinities) {
                (true, _) => format.largest(),
                (false, true) => format.infinity(),
                (false, false) => format.nan(),
            }
        } else {
            Exact::from_f64(x).round(format, self.rounding, finite)
        };
        bits << place
    }

    /// As [`Cast::f64`] from an f32 register.
    pub fn f32(&self, format: Format, x: f32) -> u32 {
        debug_assert!(format.width() <= 32);
        self.f64(format, x as f64) as u32
    }

    /// `cvt…x2`: `high` in the upper half of the result, `low` in the lower; 16-bit formats fill 32 bits, fp8 formats
    /// 16.
    pub fn pair(&self, format: Format, high: f32, low: f32) -> u32 {
        debug_assert!(matches!(format.width(), 8 | 16));
        self.f32(format, high) << format.width() | self.f32(format, low)
    }
}

/// tf32's canonical NaN is f32's with the bits below its mantissa cut.
fn nan(format: Format) -> u64 {
    if format == Format::F64 { 0x7ff8 << 48 } else { format.nan() }
}

/// An e4m3x2 or e5m2x2 register half as f16x2 (`cvt.rn.f16x2.e4m3x2`); exact, every fp8 value is an f16.
pub fn fp8x2_to_f16x2(format: Format, pair: u16, relu: bool) -> u32 {
    debug_assert_eq!(format.width(), 8);
    let cast = Cast { relu, ..Cast::NEAREST };
    let one = |byte: u8| cast.f64(Format::F16, format.decode(byte as u64)) as u32;
    one((pair >> 8) as u8) << 16 | one(pair as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Rounding::*;

    /// The neighbours of `x` among all finite values of `format`, by search: (largest ≤ x, smallest ≥ x).
    fn neighbours(format: Format, x: f64) -> (f64, f64) {
        let values = (0..=format.largest()).flat_map(|b| [format.decode(b), -format.decode(b)]);
        let (mut below, mut above) = (f64::NEG_INFINITY, f64::INFINITY);
        for v in values {
            if v <= x {
                below = below.max(v);
            }
            if v >= x {
                above = above.min(v);
            }
        }
        (below, above)
    }

    #[test]
    fn fp8_roundings_are_the_neighbours_found_by_search() {
        let mut state = 1u64;
        for format in [Format::E4M3, Format::E5M2] {
            for i in 0..4000 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let exponent = (state >> 40) as i32 % 36 - 20;
                let mantissa = 1.0 + (state >> 11 & 0x3f) as f64 / 64.0; // ties among them
                let x = if i % 2 == 0 { 1.0 } else { -1.0 } * mantissa * 2f64.powi(exponent);
                let (below, above) = neighbours(format, x);
                let cast = |rounding| {
                    let bits = Cast { rounding, relu: false, saturation: Saturation::Finite }.f64(format, x);
                    format.decode(bits)
                };
                if below.is_infinite() || above.is_infinite() {
                    assert_eq!(cast(Rn).abs(), format.decode(format.largest()));
                    continue;
                }
                assert_eq!((cast(Rm), cast(Rp)), (below, above), "{x}");
                assert_eq!(cast(Rz), if x < 0.0 { above } else { below }, "{x}");
                let nearest = cast(Rn);
                assert!((nearest - x).abs() <= (x - below).min(above - x), "{x} {nearest}");
                let away = cast(Rna);
                if x - below == above - x && below != above {
                    assert_eq!(away, if x < 0.0 { below } else { above });
                    let even = |v: f64| Cast::NEAREST.f64(format, v) & 1 == 0;
                    assert!(even(nearest), "{x} {nearest}");
                }
            }
        }
    }

    #[test]
    fn clamps() {
        let cast = |relu, saturation| Cast { rounding: Rn, relu, saturation };
        let finite = cast(false, Saturation::Finite);
        assert_eq!(finite.f32(Format::E4M3, 1e9), 0x7e);
        assert_eq!(finite.f32(Format::E4M3, f32::NEG_INFINITY), 0xfe);
        assert_eq!(finite.f32(Format::E4M3, f32::NAN), 0x7f);
        assert_eq!(finite.f32(Format::E5M2, 1e9), 0x7b);
        assert_eq!(Cast::NEAREST.f32(Format::E5M2, 1e9), 0x7c);
        assert_eq!(finite.f32(Format::F16, 1e9), 0x7bff);
        assert_eq!(cast(true, Saturation::None).f32(Format::BF16, -3.0), 0);
        assert_eq!(cast(true, Saturation::None).f32(Format::BF16, f32::NAN), 0x7fff);
        assert_eq!(cast(false, Saturation::Unit).f32(Format::F16, 3.0), 0x3c00);
        assert_eq!(cast(false, Saturation::Unit).f32(Format::F16, f32::NAN), 0);
        assert_eq!(Cast { rounding: Rz, ..Cast::NEAREST }.f32(Format::F16, 1e9), 0x7bff);
    }

    #[test]
    fn packing_puts_the_first_operand_above() {
        assert_eq!(Cast::NEAREST.pair(Format::BF16, 1.0, 2.0), 0x3f80_4000);
        assert_eq!(Cast::NEAREST.pair(Format::E4M3, 1.0, 2.0), 0x3840);
        assert_eq!(fp8x2_to_f16x2(Format::E4M3, 0x3840, false), 0x3c00_4000);
        assert_eq!(fp8x2_to_f16x2(Format::E5M2, 0xbc7f, true), 0x0000_7fff);
    }

    #[test]
    fn tf32_keeps_nineteen_bits_in_place() {
        let up = Cast { rounding: Rna, ..Cast::NEAREST };
        let tie = f32::from_bits(0x3f80_1000); // 1 + half a tf32 step
        assert_eq!(up.f32(Format::TF32, tie), 0x3f80_2000);
        assert_eq!(Cast::NEAREST.f32(Format::TF32, tie), 0x3f80_0000);
        assert_eq!(up.f32(Format::TF32, f32::NAN) & 0x1fff, 0);
    }
}
