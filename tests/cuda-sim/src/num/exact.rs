//! Exact binary values and the one rounding that turns them into a format's bits.

use super::format::Format;

/// IEEE rounding directions, and `Rna` (nearest, ties away from zero) which PTX has for tf32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// `.rn`: nearest, ties to even.
    Rn,
    /// `.rz`: towards zero.
    Rz,
    /// `.rm`: towards minus infinity.
    Rm,
    /// `.rp`: towards plus infinity.
    Rp,
    /// `.rna`: nearest, ties away from zero.
    Rna,
}

/// `±magnitude · 2^exponent`. Where a result does not fit 128 bits the dropped part is kept as a set bit 0 ("sticky"),
/// far below any bit a format keeps, so that a rounding still sees on which side of a tie the value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    pub negative: bool,
    pub exponent: i32,
    pub magnitude: u128,
}

impl Exact {
    /// The value of a finite number.
    pub fn from_f64(x: f64) -> Exact {
        debug_assert!(x.is_finite());
        let bits = x.to_bits();
        let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
        let (exponent, magnitude) = if field == 0 { (-1074, fraction) } else { (field - 1075, fraction | 1 << 52) };
        Exact { negative: bits >> 63 == 1, exponent, magnitude: magnitude as u128 }
    }

    pub fn from_integer(x: i128) -> Exact {
        Exact { negative: x < 0, exponent: 0, magnitude: x.unsigned_abs() }
    }

    /// The product. Operands carry at most 64 significant bits each.
    pub fn product(self, other: Exact) -> Exact {
        Exact {
            negative: self.negative != other.negative,
            exponent: self.exponent + other.exponent,
            magnitude: self.magnitude * other.magnitude,
        }
    }

    /// The sum, of operands with at most 107 significant bits; `rounding` decides the sign of an exact zero.
    pub fn sum(self, other: Exact, rounding: Rounding) -> Exact {
        let zero = |negative| Exact { negative, exponent: 0, magnitude: 0 };
        match (self.magnitude == 0, other.magnitude == 0) {
            (true, true) if self.negative == other.negative => return zero(self.negative),
            (true, true) => return zero(rounding == Rounding::Rm),
            (true, false) => return other,
            (false, true) => return self,
            _ => {}
        }
        let (mut large, mut small) = (self.normalised(), other.normalised());
        if (small.exponent, small.magnitude) > (large.exponent, large.magnitude) {
            std::mem::swap(&mut large, &mut small);
        }
        // Normalised to bit 125, an operand of 107 bits has 19 zeros below it: a shift that loses bits is one of 20 or
        // more, after which a subtraction cancels at most one leading bit, so the sticky bit stays below every format.
        let shift = (large.exponent - small.exponent) as u32;
        let aligned = match shift {
            0..=127 => {
                let kept = small.magnitude >> shift;
                kept | (kept << shift != small.magnitude) as u128
            }
            _ => 1,
        };
        if large.negative == small.negative {
            return Exact { magnitude: large.magnitude + aligned, ..large };
        }
        match large.magnitude - aligned {
            0 => zero(rounding == Rounding::Rm),
            magnitude => Exact { magnitude, ..large },
        }
    }

    /// The quotient of values with at most 54 significant bits, the divisor not zero.
    pub fn quotient(self, other: Exact) -> Exact {
        let (a, b) = (self.normalised(), other.trimmed());
        let (quotient, rest) = (a.magnitude / b.magnitude, a.magnitude % b.magnitude);
        Exact {
            negative: self.negative != other.negative,
            exponent: a.exponent - b.exponent,
            magnitude: quotient | (rest != 0) as u128,
        }
    }

    /// The square root of a value that is not negative.
    pub fn sqrt(self) -> Exact {
        if self.magnitude == 0 {
            return self;
        }
        let mut a = self.normalised();
        if a.exponent & 1 != 0 {
            a = Exact { exponent: a.exponent + 1, magnitude: a.magnitude >> 1, ..a };
        }
        let root = a.magnitude.isqrt();
        Exact { negative: false, exponent: a.exponent / 2, magnitude: root | (root * root != a.magnitude) as u128 }
    }

    /// The same value with its leading one at bit 125, which leaves room for one carry.
    fn normalised(self) -> Exact {
        if self.magnitude == 0 {
            return self;
        }
        let up = self.magnitude.leading_zeros() as i32 - 2;
        debug_assert!(up >= 0, "an operand carries at most 126 bits");
        Exact { exponent: self.exponent - up, magnitude: self.magnitude << up, ..self }
    }

    /// The same value without trailing zeros.
    fn trimmed(self) -> Exact {
        let down = self.magnitude.trailing_zeros();
        Exact { exponent: self.exponent + down as i32, magnitude: self.magnitude >> down, ..self }
    }

    /// Rounds once into `format`. `finite` replaces an overflow by the largest finite number (`.satfinite`); otherwise
    /// it becomes an infinity, or in directions that point back to zero the largest finite number, or, in a format
    /// without infinities, its NaN.
    pub fn round(self, format: Format, rounding: Rounding, finite: bool) -> u64 {
        let sign = (self.negative as u64) << (format.width() - 1);
        if self.magnitude == 0 {
            return sign;
        }
        let m = format.mantissa_bits as i32;
        let lowest = 1 - format.bias() - m; // exponent of the last bit of a subnormal
        let leading = 127 - self.magnitude.leading_zeros() as i32;
        let quantum = (leading + self.exponent - m).max(lowest);
        let drop = quantum - self.exponent;
        let (mut kept, inexact, half) = match drop {
            ..=0 => (self.magnitude << -drop, false, std::cmp::Ordering::Less),
            1..=127 => {
                let rest = self.magnitude & ((1 << drop) - 1);
                (self.magnitude >> drop, rest != 0, rest.cmp(&(1 << (drop - 1))))
            }
            128 => (0, true, self.magnitude.cmp(&(1 << 127))),
            _ => (0, true, std::cmp::Ordering::Less),
        };
        kept += match rounding {
            Rounding::Rn => half.is_gt() || half.is_eq() && kept & 1 == 1,
            Rounding::Rna => half.is_ge() && inexact,
            Rounding::Rz => false,
            Rounding::Rm => inexact && self.negative,
            Rounding::Rp => inexact && !self.negative,
        } as u128;
        // `kept` holds the implicit one, which is what adds one to the exponent field of a normal number; a carry out
        // of the mantissa does the same.
        let steps = (quantum - lowest) as u128;
        let bits = (steps << m) + kept;
        let largest = format.largest();
        if bits <= largest as u128 {
            return sign | bits as u64;
        }
        let towards_zero = match rounding {
            Rounding::Rn | Rounding::Rna => false,
            Rounding::Rz => true,
            Rounding::Rm => !self.negative,
            Rounding::Rp => self.negative,
        };
        match finite || towards_zero {
            true => sign | largest,
            false if format.infinities => sign | format.infinity(),
            false => sign | format.nan(),
        }
    }
}
