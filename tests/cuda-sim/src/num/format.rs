//! The floating-point formats: their bits, and the conversions that kernels use most.

/// A binary format with a sign, `exponent_bits` and `mantissa_bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub exponent_bits: u32,
    pub mantissa_bits: u32,
    /// False for e4m3, whose top binade holds numbers, and one NaN pattern.
    pub infinities: bool,
}

impl Format {
    pub const F64: Format = Format { exponent_bits: 11, mantissa_bits: 52, infinities: true };
    pub const F32: Format = Format { exponent_bits: 8, mantissa_bits: 23, infinities: true };
    pub const F16: Format = Format { exponent_bits: 5, mantissa_bits: 10, infinities: true };
    pub const BF16: Format = Format { exponent_bits: 8, mantissa_bits: 7, infinities: true };
    /// 19 bits, which registers hold in the upper bits of an f32.
    pub const TF32: Format = Format { exponent_bits: 8, mantissa_bits: 10, infinities: true };
    pub const E4M3: Format = Format { exponent_bits: 4, mantissa_bits: 3, infinities: false };
    pub const E5M2: Format = Format { exponent_bits: 5, mantissa_bits: 2, infinities: true };

    pub const fn width(self) -> u32 {
        1 + self.exponent_bits + self.mantissa_bits
    }

    pub const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// Bits of the largest finite number: 448 for e4m3, 57,344 for e5m2, 65,504 for f16.
    pub const fn largest(self) -> u64 {
        match self.infinities {
            true => self.infinity() - 1,
            false => self.nan() - 1,
        }
    }

    pub const fn infinity(self) -> u64 {
        ((1 << self.exponent_bits) - 1) << self.mantissa_bits
    }

    /// Bits of the canonical NaN: all ones below the sign.
    pub const fn nan(self) -> u64 {
        (1 << (self.exponent_bits + self.mantissa_bits)) - 1
    }

    /// The value of `bits`, exactly. Formats up to f32 fit f64; any NaN becomes f64's.
    pub fn decode(self, bits: u64) -> f64 {
        if self == Format::F64 {
            return f64::from_bits(bits);
        }
        let m = self.mantissa_bits;
        let (field, fraction) = (bits >> m & ((1 << self.exponent_bits) - 1), bits & ((1 << m) - 1));
        let negative = bits >> (self.width() - 1) & 1 == 1;
        let top = field == (1 << self.exponent_bits) - 1;
        let magnitude = if top && self.infinities {
            if fraction == 0 { f64::INFINITY } else { f64::NAN }
        } else if !self.infinities && bits & self.nan() == self.nan() {
            f64::NAN
        } else {
            let (exponent, significand) = if field == 0 { (1, fraction) } else { (field as i32, fraction | 1 << m) };
            significand as f64 * power_of_two(exponent - self.bias() - m as i32)
        };
        if negative { -magnitude } else { magnitude }
    }
}

/// 2^`e`, exactly, for exponents in f64's normal range.
pub(super) fn power_of_two(e: i32) -> f64 {
    debug_assert!((-1022..=1023).contains(&e));
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// Exact. A NaN keeps its payload, as the device's widening does.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// Exact.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    // Put exponent and mantissa where f32 has them, then scale by 2^112, the difference of the biases: one
    // multiplication is exact for subnormals too. Infinities and NaNs come out 2^16 or above and get f32's exponent.
    let sign = ((bits & 0x8000) as u32) << 16;
    let scaled = f32::from_bits(((bits & 0x7fff) as u32) << 13) * f32::from_bits((127 + 112) << 23);
    let special = if scaled >= 65536.0 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | special | sign)
}

/// A tf32 operand: matrix instructions read the upper 19 bits of the register.
#[inline(always)]
pub fn tf32_to_f32(bits: u32) -> f32 {
    f32::from_bits(bits & 0xffff_e000)
}

/// Exact; 0x7f and 0xff are NaN.
#[inline(always)]
pub fn e4m3_to_f32(bits: u8) -> f32 {
    let sign = ((bits & 0x80) as u32) << 24;
    let magnitude = (bits & 0x7f) as u32;
    let scaled = f32::from_bits(magnitude << 20) * f32::from_bits((127 + 120) << 23);
    f32::from_bits(if magnitude == 0x7f { 0x7fff_ffff } else { scaled.to_bits() } | sign)
}

/// Exact: e5m2 is the upper half of f16.
#[inline(always)]
pub fn e5m2_to_f32(bits: u8) -> f32 {
    f16_to_f32((bits as u16) << 8)
}

/// Nearest, ties to even; any NaN becomes 0x7fff.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fff } else { rounded }
}

/// Nearest, ties to even; any NaN becomes 0x7fff.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let (sign, magnitude) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
    // Normal results: shift the bias by 112 and round the 13 dropped bits; a carry may run into infinity, as it should.
    let normal = (magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13) as u16;
    // Below 2^-14 the result's last bit is worth 2^-24: adding 0.5, whose last bit is worth the same, rounds there.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits()) as u16;
    let finite = if magnitude < 113 << 23 { subnormal } else { normal };
    let overflowed = if magnitude > 0x7f80_0000 { 0x7fff } else { 0x7c00 | sign };
    if magnitude >= 143 << 23 { overflowed } else { finite | sign }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::{Cast, Rounding, Saturation};

    #[test]
    fn every_16_bit_pattern_widens_to_its_value() {
        for bits in 0..=u16::MAX {
            for (fast, format) in [(f16_to_f32(bits), Format::F16), (bf16_to_f32(bits), Format::BF16)] {
                let value = format.decode(bits as u64);
                assert!(
                    fast as f64 == value && fast.is_sign_negative() == (bits >> 15 == 1)
                        || fast.is_nan() && value.is_nan()
                );
            }
        }
    }

    #[test]
    fn every_8_bit_pattern_widens_to_its_value() {
        for bits in 0..=u8::MAX {
            for (fast, format) in [(e4m3_to_f32(bits), Format::E4M3), (e5m2_to_f32(bits), Format::E5M2)] {
                let value = format.decode(bits as u64);
                assert!(fast as f64 == value || fast.is_nan() && value.is_nan(), "{bits:#x} {fast} {value}");
            }
        }
        assert_eq!((e4m3_to_f32(0x7e), e4m3_to_f32(0x01), e4m3_to_f32(0x38)), (448.0, 1.0 / 512.0, 1.0));
        assert_eq!((e5m2_to_f32(0x7b), e5m2_to_f32(0x01), e5m2_to_f32(0x3c)), (57344.0, 1.0 / 65536.0, 1.0));
    }

    #[test]
    fn fast_narrowing_is_the_exact_rounding() {
        // Every sign, exponent and leading mantissa bits, with the tails that decide ties.
        let nearest = Cast { rounding: Rounding::Rn, relu: false, saturation: Saturation::None };
        for top in 0..=u16::MAX as u32 {
            for tail in [0u32, 1, 0x0fff, 0x1000, 0x1001, 0x3000, 0x7fff, 0x8000, 0x8001, 0xb000, 0xffff] {
                let x = f32::from_bits(top << 16 | tail);
                assert_eq!(f32_to_bf16(x) as u32, nearest.f32(Format::BF16, x), "{:#x}", x.to_bits());
                assert_eq!(f32_to_f16(x) as u32, nearest.f32(Format::F16, x), "{:#x}", x.to_bits());
            }
        }
    }
}
