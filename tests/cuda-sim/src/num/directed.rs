//! f32 and f64 arithmetic in the directions the host's FPU is not set to: `.rz`, `.rm`, `.rp`.
//!
//! `.rn` is the host's own arithmetic; callers take that path first. NaNs come out as the device's canonical f32 NaN,
//! or as the host's f64 one.

use super::exact::{Exact, Rounding};
use super::format::Format;

/// Rounds the exact result unless an operand is special, where the nearest-rounded host result is exact already.
macro_rules! arithmetic {
    ($type:ident, $format:expr, $nan:expr) => {
        use super::*;

        type F = $type;
        type Bits = <F as FloatBits>::Bits;

        fn settle(host: F, exact: Option<Exact>, rounding: Rounding) -> F {
            match exact {
                None if host.is_nan() => $nan(host),
                None => host,
                Some(e) => F::from_bits(e.round($format, rounding, false) as Bits),
            }
        }

        fn exact(x: F) -> Exact {
            Exact::from_f64(x as f64)
        }

        pub fn add(a: F, b: F, rounding: Rounding) -> F {
            let finite = a.is_finite() && b.is_finite();
            settle(a + b, finite.then(|| exact(a).sum(exact(b), rounding)), rounding)
        }

        pub fn sub(a: F, b: F, rounding: Rounding) -> F {
            add(a, -b, rounding)
        }

        pub fn mul(a: F, b: F, rounding: Rounding) -> F {
            let finite = a.is_finite() && b.is_finite();
            settle(a * b, finite.then(|| exact(a).product(exact(b))), rounding)
        }

        /// `a·b + c` with one rounding.
        pub fn fma(a: F, b: F, c: F, rounding: Rounding) -> F {
            // A product of finite numbers is never infinite here, so it cannot cancel an infinite addend.
            let product = a.is_finite() && b.is_finite();
            let host = if product { c } else { a * b + c };
            let finite = product && c.is_finite();
            settle(host, finite.then(|| exact(a).product(exact(b)).sum(exact(c), rounding)), rounding)
        }

        pub fn div(a: F, b: F, rounding: Rounding) -> F {
            let finite = a.is_finite() && b.is_finite() && b != 0.0 && a != 0.0;
            settle(a / b, finite.then(|| exact(a).quotient(exact(b))), rounding)
        }

        pub fn sqrt(a: F, rounding: Rounding) -> F {
            let finite = a.is_finite() && a > 0.0;
            settle(a.sqrt(), finite.then(|| exact(a).sqrt()), rounding)
        }
    };
}

trait FloatBits {
    type Bits;
}
impl FloatBits for f32 {
    type Bits = u32;
}
impl FloatBits for f64 {
    type Bits = u64;
}

/// f32 operations. `.ftz` and `.sat` are the caller's: [`super::flush`] operands and result, [`super::saturate`] it.
pub mod single {
    arithmetic!(f32, Format::F32, |_| crate::num::NAN_F32);
}

/// f64 operations.
pub mod double {
    arithmetic!(f64, Format::F64, |host: f64| host);
}

/// f64 to f32 in any direction.
pub fn narrow(x: f64, rounding: Rounding) -> f32 {
    match x.is_finite() {
        true => f32::from_bits(Exact::from_f64(x).round(Format::F32, rounding, false) as u32),
        false if x.is_nan() => super::NAN_F32,
        false => x as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Rounding::*;

    struct Random(u64);

    impl Random {
        fn bits(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn single(&mut self) -> f32 {
            f32::from_bits(self.bits() as u32)
        }

        fn double(&mut self) -> f64 {
            // Near exponents half of the time, so that sums cancel and round.
            let bits = self.bits();
            f64::from_bits(if bits & 1 == 0 { bits & !(0x7ff << 52) | (1000 + (bits >> 58)) << 52 } else { bits })
        }
    }

    /// Nearest must equal the host's; down ≤ nearest ≤ up, at most one step apart and equal only when exact.
    macro_rules! agrees {
        ($host:expr, $op:expr) => {{
            let (host, op) = ($host, $op);
            let (near, down, up, zero) = (op(Rn), op(Rm), op(Rp), op(Rz));
            assert!(host == near || host.is_nan() && near.is_nan(), "{host} {near}");
            if near.is_finite() {
                assert!(down <= near && near <= up, "{down} {near} {up}");
                assert!(down == up || down.next_up() == up, "{down} {up}");
                assert!(near == down || near == up);
                assert_eq!(zero, if near > 0.0 || up > 0.0 { down } else { up });
            }
        }};
    }

    #[test]
    fn single_precision_brackets_the_host() {
        let mut r = Random(7);
        for _ in 0..20_000 {
            let (a, b, c) = (r.single(), r.single(), r.single());
            agrees!(a + b, |m| single::add(a, b, m));
            agrees!(a - b, |m| single::sub(a, b, m));
            agrees!(a * b, |m| single::mul(a, b, m));
            agrees!(a / b, |m| single::div(a, b, m));
            agrees!(a.mul_add(b, c), |m| single::fma(a, b, c, m));
            agrees!(a.abs().sqrt(), |m| single::sqrt(a.abs(), m));
        }
    }

    #[test]
    fn double_precision_brackets_the_host() {
        let mut r = Random(11);
        for _ in 0..20_000 {
            let (a, b, c) = (r.double(), r.double(), r.double());
            agrees!(a + b, |m| double::add(a, b, m));
            agrees!(a * b, |m| double::mul(a, b, m));
            agrees!(a / b, |m| double::div(a, b, m));
            agrees!(a.mul_add(b, c), |m| double::fma(a, b, c, m));
            agrees!(a.mul_add(b, -(a * b)), |m| double::fma(a, b, -(a * b), m));
            agrees!(a.abs().sqrt(), |m| double::sqrt(a.abs(), m));
            agrees!(a as f32, |m| narrow(a, m));
        }
    }

    #[test]
    fn known_answers() {
        let tiny = f32::from_bits(1);
        assert_eq!(single::add(1.0, tiny, Rp), 1.0f32.next_up());
        assert_eq!(single::add(1.0, tiny, Rz), 1.0);
        assert_eq!(single::mul(f32::MAX, 2.0, Rz), f32::MAX);
        assert_eq!(single::mul(f32::MAX, 2.0, Rp), f32::INFINITY);
        assert_eq!(single::mul(f32::MAX, -2.0, Rp), f32::MIN);
        assert_eq!(single::mul(tiny, 0.5, Rp), tiny);
        assert_eq!(single::mul(tiny, 0.5, Rz), 0.0);
        assert!(single::sub(1.0, 1.0, Rm).is_sign_negative());
        assert!(single::sub(1.0, 1.0, Rp).is_sign_positive());
        assert_eq!(single::add(f32::NAN, 1.0, Rz).to_bits(), 0x7fff_ffff);
        assert_eq!(double::div(1.0, 3.0, Rp), (1.0f64 / 3.0).next_up());
        assert_eq!(double::div(1.0, 0.0, Rz), f64::INFINITY);
        assert_eq!(double::fma(1.0, 1.0, -1.0 - f64::EPSILON, Rz), -f64::EPSILON);
    }
}
