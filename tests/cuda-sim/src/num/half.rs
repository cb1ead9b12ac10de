//! f16 and bf16 arithmetic, one rounding per operation.

use super::convert::{Cast, Saturation};
use super::exact::Rounding;
use super::format::{Format, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// The two 16-bit formats that have arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    F16,
    Bf16,
}

/// `.sat` or `.relu` on a result. `Ftz` flushes f16 subnormals of operands and result as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    pub ftz: bool,
    pub sat: bool,
    pub relu: bool,
}

impl Half {
    pub fn format(self) -> Format {
        match self {
            Half::F16 => Format::F16,
            Half::Bf16 => Format::BF16,
        }
    }

    #[inline(always)]
    pub fn widen(self, bits: u16) -> f32 {
        match self {
            Half::F16 => f16_to_f32(bits),
            Half::Bf16 => bf16_to_f32(bits),
        }
    }

    /// Nearest, ties to even, NaN canonical.
    #[inline(always)]
    pub fn narrow(self, x: f32) -> u16 {
        match self {
            Half::F16 => f32_to_f16(x),
            Half::Bf16 => f32_to_bf16(x),
        }
    }

    /// The modifiers on a rounded result.
    fn finish(self, bits: u16, m: Modifiers) -> u16 {
        let format = self.format();
        let (magnitude, negative) = (bits as u64 & format.nan(), bits >> 15 == 1);
        let nan = magnitude > format.infinity();
        if m.sat {
            let one = self.narrow(1.0);
            return if nan || negative { 0 } else { bits.min(one) };
        }
        if m.relu && negative && !nan {
            return 0;
        }
        self.flushed(bits, m)
    }

    fn flushed(self, bits: u16, m: Modifiers) -> u16 {
        if m.ftz && bits as u64 & self.format().infinity() == 0 { bits & 0x8000 } else { bits }
    }

    /// f32 holds more than twice the significand plus two bits, so rounding its sum, difference, product or quotient
    /// again is rounding once.
    #[inline(always)]
    fn through_f32(self, a: u16, b: u16, m: Modifiers, op: impl Fn(f32, f32) -> f32) -> u16 {
        let (a, b) = (self.widen(self.flushed(a, m)), self.widen(self.flushed(b, m)));
        self.finish(self.narrow(op(a, b)), m)
    }

    pub fn add(self, a: u16, b: u16, m: Modifiers) -> u16 {
        self.through_f32(a, b, m, |a, b| a + b)
    }

    pub fn sub(self, a: u16, b: u16, m: Modifiers) -> u16 {
        self.through_f32(a, b, m, |a, b| a - b)
    }

    pub fn mul(self, a: u16, b: u16, m: Modifiers) -> u16 {
        match self {
            Half::F16 => self.through_f32(a, b, m, |a, b| a * b),
            // bf16 has f32's exponents: a product below 2^-126 would be rounded by f32 already.
            Half::Bf16 => self.fma(a, b, 0x8000, m),
        }
    }

    /// `a·b + c` rounded once.
    pub fn fma(self, a: u16, b: u16, c: u16, m: Modifiers) -> u16 {
        let wide = |bits| self.widen(self.flushed(bits, m)) as f64;
        let (product, c) = (wide(a) * wide(b), wide(c)); // the product is exact: at most 22 bits
        let sum = product + c;
        let bits = if sum.is_finite() { self.round_once(product, c, sum) } else { self.narrow(sum as f32) };
        self.finish(bits, m)
    }

    /// Rounds `a + b`, whose f64 sum is given, as if the sum were exact: the error of the sum (Knuth's two-sum) makes
    /// an inexact even result odd, which keeps it on its side of every tie.
    fn round_once(self, a: f64, b: f64, sum: f64) -> u16 {
        let t = sum - a;
        let error = (a - (sum - t)) + (b - t);
        let mut bits = sum.to_bits();
        if error != 0.0 && bits & 1 == 0 {
            bits = if (error > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 };
        }
        Cast::NEAREST.f64(self.format(), f64::from_bits(bits)) as u16
    }

    /// `min`/`max`: of a NaN and a number the number, or with `.nan` the NaN; -0 is below +0.
    pub fn min_max(self, a: u16, b: u16, max: bool, nan_wins: bool, ftz: bool) -> u16 {
        let m = Modifiers { ftz, ..Modifiers::default() };
        let (a, b) = (self.flushed(a, m), self.flushed(b, m));
        let nan = |bits: u16| bits as u64 & self.format().nan() > self.format().infinity();
        match (nan(a), nan(b)) {
            (true, true) => self.format().nan() as u16,
            (true, false) | (false, true) if nan_wins => self.format().nan() as u16,
            (true, false) => b,
            (false, true) => a,
            // Sign and magnitude to two's complement: the order of the numbers.
            (false, false) => {
                let key = |bits: u16| if bits >> 15 == 1 { !(bits as i16 & 0x7fff) } else { bits as i16 };
                if (key(a) > key(b)) == max { a } else { b }
            }
        }
    }

    /// Applies an operation to both halves of packed registers.
    #[inline(always)]
    pub fn both(a: u32, b: u32, op: impl Fn(u16, u16) -> u16) -> u32 {
        (op((a >> 16) as u16, (b >> 16) as u16) as u32) << 16 | op(a as u16, b as u16) as u32
    }

    /// [`Half::fma`] on packed registers.
    pub fn fma2(self, a: u32, b: u32, c: u32, m: Modifiers) -> u32 {
        let high = self.fma((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16, m);
        (high as u32) << 16 | self.fma(a as u16, b as u16, c as u16, m) as u32
    }
}

/// A conversion with the given rounding and the modifiers of [`Modifiers`], for `cvt` to 16 bits.
pub fn cast(rounding: Rounding, m: Modifiers) -> Cast {
    Cast { rounding, relu: m.relu, saturation: if m.sat { Saturation::Unit } else { Saturation::None } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::Exact;

    const PLAIN: Modifiers = Modifiers { ftz: false, sat: false, relu: false };

    #[test]
    fn every_operation_rounds_the_exact_result_once() {
        let mut state = 3u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for half in [Half::F16, Half::Bf16] {
            let format = half.format();
            for _ in 0..200_000 {
                let r = next();
                // A third of the addends near the product: cancellation and ties.
                let (a, b) = (r as u16, (r >> 16) as u16);
                let c = if r >> 60 < 5 { half.mul(a, b, PLAIN) ^ (r >> 40 & 0x8007) as u16 } else { (r >> 32) as u16 };
                let [x, y, z] = [a, b, c].map(|v| half.widen(v) as f64);
                if !(x.is_finite() && y.is_finite() && z.is_finite()) {
                    continue;
                }
                let [ex, ey, ez] = [x, y, z].map(Exact::from_f64);
                let round = |e: Exact| e.round(format, Rounding::Rn, false) as u16;
                assert_eq!(
                    half.fma(a, b, c, PLAIN),
                    round(ex.product(ey).sum(ez, Rounding::Rn)),
                    "{a:#x} {b:#x} {c:#x}"
                );
                assert_eq!(half.mul(a, b, PLAIN), round(ex.product(ey)), "{a:#x} {b:#x}");
                assert_eq!(half.add(a, b, PLAIN), round(ex.sum(ey, Rounding::Rn)), "{a:#x} {b:#x}");
            }
        }
    }

    #[test]
    fn special_values() {
        let f = Half::F16;
        assert_eq!(f.add(0x7c00, 0xfc00, PLAIN), 0x7fff);
        assert_eq!(f.mul(0x7bff, 0x7bff, PLAIN), 0x7c00);
        assert_eq!(f.fma(0x3c00, 0x4000, 0xc500, Modifiers { relu: true, ..PLAIN }), 0); // 1·2 − 5
        assert_eq!(f.fma(0x3c00, 0x4000, 0x4500, Modifiers { sat: true, ..PLAIN }), 0x3c00);
        assert_eq!(f.add(0x0001, 0x0000, Modifiers { ftz: true, ..PLAIN }), 0);
        assert_eq!(f.min_max(0x8000, 0x0000, false, false, false), 0x8000);
        assert_eq!(f.min_max(0x8000, 0x0000, true, false, false), 0x0000);
        assert_eq!(f.min_max(0x7e00, 0x3c00, true, false, false), 0x3c00);
        assert_eq!(f.min_max(0x7e00, 0x3c00, true, true, false), 0x7fff);
        assert_eq!(f.min_max(0xc000, 0xbc00, true, false, false), 0xbc00);
        assert_eq!(Half::Bf16.mul(0x8000, 0x3f80, PLAIN), 0x8000);
        assert_eq!(Half::Bf16.mul(0x0000, 0x3f80, PLAIN), 0x0000);
    }
}
