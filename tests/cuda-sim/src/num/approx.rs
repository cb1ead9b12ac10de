//! The functions PTX only gives an error bound for.
//!
//! Each is computed in f64 and rounded once, so its error is half a unit in the last place (the bounds are 2^-22
//! relative and wider), and the same on every host for the functions of [`super::warp`]. `ftz` flushes operand and
//! result; NaNs are canonical.

use super::{NAN_F32, flush};

fn through_f64(x: f32, ftz: bool, f: impl Fn(f64) -> f64) -> f32 {
    let x = if ftz { flush(x) } else { x };
    let y = f(x as f64) as f32;
    match y.is_nan() {
        true => NAN_F32,
        false if ftz => flush(y),
        false => y,
    }
}

/// `rcp.approx`: bound 1 unit. ±0 gives ±∞.
pub fn reciprocal(x: f32, ftz: bool) -> f32 {
    through_f64(x, ftz, |x| 1.0 / x)
}

/// `rsqrt.approx`: bound 2^-22.9 relative. -0 gives -∞, negative numbers NaN.
pub fn rsqrt(x: f32, ftz: bool) -> f32 {
    through_f64(x, ftz, |x| if x == 0.0 { 1.0 / x } else { 1.0 / x.sqrt() })
}

/// `sqrt.approx`: bound 2^-23 relative.
pub fn sqrt(x: f32, ftz: bool) -> f32 {
    through_f64(x, ftz, f64::sqrt)
}

/// `div.approx` and `div.full`: bound 2 units; for |y| in (2^126, 2^128) `div.approx` returns 0 for finite x.
pub fn div(x: f32, y: f32, full: bool, ftz: bool) -> f32 {
    let (x, y) = if ftz { (flush(x), flush(y)) } else { (x, y) };
    if !full && y.is_finite() && y.abs() > f32::from_bits((126 + 127) << 23) {
        return if x.is_infinite() { NAN_F32 } else { 0f32.copysign(x * y.signum()) };
    }
    let q = x / y;
    match q.is_nan() {
        true => NAN_F32,
        false if ftz => flush(q),
        false => q,
    }
}

/// `sin.approx`: bound 2^-20.5 absolute within [-π, π]; infinities give NaN.
pub fn sin(x: f32, ftz: bool) -> f32 {
    through_f64(x, ftz, f64::sin)
}

/// `cos.approx`: bound 2^-20.5 absolute within [-π, π]; infinities give NaN.
pub fn cos(x: f32, ftz: bool) -> f32 {
    through_f64(x, ftz, f64::cos)
}

/// `lg2.approx`: bound 2^-22 absolute in [0.5, 2], 2 units elsewhere; ±0 gives -∞, negative numbers NaN.
pub fn lg2(x: f32, ftz: bool) -> f32 {
    through_f64(x, ftz, f64::log2)
}

/// `ex2.approx`: bound 2 units. See [`super::warp::ex2`] for 32 lanes.
pub fn ex2(x: f32, ftz: bool) -> f32 {
    super::warp::ex2_one(x, ftz)
}

/// `tanh.approx.f32`: bound 2^-11 relative. f16 and bf16 forms round this once more, within their bounds.
pub fn tanh(x: f32) -> f32 {
    through_f64(x, false, f64::tanh)
}

/// `rcp.approx.ftz.f64`: the result's upper 32 bits, the lower are zero.
pub fn reciprocal_f64(x: f64) -> f64 {
    upper_half(x, |x| 1.0 / x)
}

/// `rsqrt.approx.ftz.f64`: the result's upper 32 bits, the lower are zero.
pub fn rsqrt_f64(x: f64) -> f64 {
    upper_half(x, |x| if x == 0.0 { 1.0 / x } else { 1.0 / x.sqrt() })
}

fn upper_half(x: f64, f: impl Fn(f64) -> f64) -> f64 {
    let flush = |x: f64| if x.is_subnormal() { 0f64.copysign(x) } else { x };
    f64::from_bits(flush(f(flush(x))).to_bits() & !0 << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_operands() {
        let tiny = f32::from_bits(1);
        assert_eq!(reciprocal(-0.0, false), f32::NEG_INFINITY);
        assert_eq!(reciprocal(tiny, true), f32::INFINITY);
        assert_eq!(reciprocal(3e38, true), 0.0);
        assert_eq!(rsqrt(-0.0, false), f32::NEG_INFINITY);
        assert_eq!(rsqrt(-1.0, false).to_bits(), 0x7fff_ffff);
        assert_eq!(rsqrt(f32::INFINITY, false), 0.0);
        assert_eq!(lg2(0.0, false), f32::NEG_INFINITY);
        assert_eq!(lg2(8.0, false), 3.0);
        assert!(lg2(-1.0, false).is_nan() && sin(f32::INFINITY, false).is_nan());
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(sqrt(tiny, true), 0.0);
        assert_eq!(div(1.0, f32::MAX, false, false), 0.0);
        assert!(div(1.0, f32::MAX, true, false) > 0.0);
        assert_eq!(div(f32::INFINITY, f32::MAX, false, false).to_bits(), 0x7fff_ffff);
        assert_eq!(div(6.0, -3.0, false, true), -2.0);
        assert_eq!(reciprocal_f64(3.0).to_bits(), 0x3fd5_5555_0000_0000);
        assert_eq!(rsqrt_f64(4.0), 0.5);
    }
}
