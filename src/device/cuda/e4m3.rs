//! The 8-bit storage type of the generator's quantised layers.

use bytemuck::{Pod, Zeroable};

/// A floating-point number of 8 bits: sign, 4 bits of exponent (bias 7), 3 of mantissa; ±448 at most, steps of 2⁻⁹
/// below 2⁻⁶, no infinities, one NaN of each sign (OCP 8-bit floating point, "e4m3fn").
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct E4m3(u8);

impl E4m3 {
    /// The largest number.
    pub const MAX: f32 = 448.0;
    const NAN: u8 = 0x7f;
    /// Bits of an f32's mantissa that are dropped.
    const DROPPED: u32 = 20;

    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// To nearest, ties to even; beyond ±448, infinities too, ±448. A NaN becomes the positive one, as in the
    /// hardware's conversion.
    pub fn round(value: f32) -> Self {
        let (sign, size) = ((value.to_bits() >> 24) as u8 & 0x80, value.abs());
        if value.is_nan() {
            return Self(Self::NAN);
        }
        if size >= Self::MAX {
            return Self(sign | (Self::NAN - 1));
        }
        // Below the smallest exponent steps are 2⁻⁹: 2²³·2⁻⁹ has them as its own, so adding it rounds to them.
        const STEPS: f32 = (1 << 14) as f32;
        if size < 1.0 / 64.0 {
            return Self(sign | ((size + STEPS).to_bits() - STEPS.to_bits()) as u8);
        }
        let bits = size.to_bits();
        let odd = bits >> Self::DROPPED & 1;
        // Exponents are 127 − 7 apart; a carry out of the mantissa goes into the exponent, as it should.
        let rounded = (bits + (1 << (Self::DROPPED - 1)) - 1 + odd) >> Self::DROPPED;
        Self(sign | (rounded - (120 << 3)) as u8)
    }

    pub fn widen(self) -> f32 {
        let (exponent, mantissa) = (u32::from(self.0 >> 3 & 15), u32::from(self.0 & 7));
        let size = match (exponent, mantissa) {
            (15, 7) => f32::NAN,
            (0, steps) => steps as f32 / 512.0,
            _ => f32::from_bits((exponent + 120) << 23 | mantissa << Self::DROPPED),
        };
        if self.0 & 0x80 == 0 { size } else { -size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number comes back, every midpoint goes to the even neighbour, and what is next to it to the nearer one.
    #[test]
    fn rounds_to_the_nearest() {
        for bits in (0..0x7e).chain(0x80..0xfe) {
            let (low, high) = (E4m3(bits), E4m3(bits + 1));
            assert_eq!(E4m3::round(low.widen()), low);
            let middle = 0.5 * (low.widen() + high.widen());
            let (inner, outer) = (f32::from_bits(middle.to_bits() - 1), f32::from_bits(middle.to_bits() + 1));
            let even = if bits.is_multiple_of(2) { low } else { high };
            assert_eq!([inner, middle, outer].map(E4m3::round), [low, even, high], "{bits:#x}");
        }
    }

    #[test]
    fn saturates() {
        let largest = [448.0, 449.0, 465.0, 1e30, f32::INFINITY];
        assert!(largest.iter().all(|&x| E4m3::round(x).0 == 0x7e && E4m3::round(-x).0 == 0xfe));
        assert!(E4m3::round(f32::NAN).widen().is_nan() && E4m3(0xff).widen().is_nan());
        assert_eq!([0.0, -0.0, 1e-30, -1e-30].map(|x| E4m3::round(x).0), [0, 0x80, 0, 0x80]);
    }
}
