//! What the lines of the instruction table are written with.

use crate::num::half::Half;
use crate::num::{self, Format, NAN_F32, integer};
use crate::ptx::modes::Modes;

/// NaN results are the device's canonical one.
#[inline(always)]
pub fn nan_f32(x: f32) -> f32 {
    if x.is_nan() { NAN_F32 } else { x }
}

/// Applies an operation to both 16-bit halves.
#[inline(always)]
pub fn pair16(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

#[inline(always)]
pub fn funnel_left(a: u32, b: u32, n: u32) -> u32 {
    (((u64::from(b) << 32 | u64::from(a)) << n) >> 32) as u32
}

#[inline(always)]
pub fn funnel_right(a: u32, b: u32, n: u32) -> u32 {
    ((u64::from(b) << 32 | u64::from(a)) >> n) as u32
}

/// Any function of three bits, by its truth table: bit `a·4 + b·2 + c` of `table`.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, table: u32) -> u32 {
    let pick = |bit: u32, x: u32| if table >> bit & 1 == 1 { x } else { 0 };
    pick(7, a & b & c)
        | pick(6, a & b & !c)
        | pick(5, a & !b & c)
        | pick(4, a & !b & !c)
        | pick(3, !a & b & c)
        | pick(2, !a & b & !c)
        | pick(1, !a & !b & c)
        | pick(0, !a & !b & !c)
}

/// Byte permutation; `mode` 0 takes four selectors from `c`, the others are the named modes.
#[inline(always)]
pub fn prmt(a: u32, b: u32, c: u32, mode: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let n = c & 3;
    let selector = match mode {
        0 => c,
        1 => [0x3210, 0x4321, 0x5432, 0x6543][n as usize],
        2 => [0x5670, 0x6701, 0x7012, 0x0123][n as usize],
        3 => [0x0000, 0x1111, 0x2222, 0x3333][n as usize],
        4 => [0x3210, 0x3211, 0x3222, 0x3333][n as usize],
        5 => [0x0000, 0x1110, 0x2210, 0x3210][n as usize],
        _ => [0x1010, 0x3232, 0x1010, 0x3232][n as usize],
    };
    let mut out = 0;
    for i in 0..4 {
        let s = selector >> (4 * i) & 15;
        let byte = (bytes >> (8 * (s & 7))) as u32 & 0xff;
        let byte = if mode == 0 && s & 8 != 0 { if byte & 0x80 != 0 { 0xff } else { 0 } } else { byte };
        out |= byte << (8 * i);
    }
    out
}

/// Position of the highest set bit of a value of `top + 1` bits, or the shift that brings it up there; !0 for none.
#[inline(always)]
pub fn bfind(bits: u64, top: u32, shift_amount: u32) -> u32 {
    if bits == 0 {
        return u32::MAX;
    }
    let position = 63 - bits.leading_zeros();
    if shift_amount != 0 { top - position } else { position }
}

/// Bits `position..position + length` of a value of `width` bits, sign-extended on request.
#[inline(always)]
pub fn bfe(a: u64, position: u32, length: u32, width: u32, signed: bool) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    let sign_at = (position + length).saturating_sub(1).min(width - 1);
    let sign = signed && length > 0 && a >> sign_at & 1 == 1;
    let value = if position >= width { 0 } else { a >> position };
    let kept = length.min(width.saturating_sub(position));
    let mask = if kept >= 64 { u64::MAX } else { (1 << kept) - 1 };
    value & mask | if sign { !mask } else { 0 }
}

/// `b` with the low bits of `a` inserted; `packed` holds position and length.
#[inline(always)]
pub fn bfi(a: u64, b: u64, packed: u32, width: u32) -> u64 {
    let (position, length) = (packed & 0xff, packed >> 8 & 0xff);
    if position >= width || length == 0 {
        return b;
    }
    let mask = if length >= 64 { u64::MAX } else { (1 << length) - 1 } << position;
    b & !mask | a << position & mask
}

/// Position of the n-th set bit from `base`, upwards for positive `offset`; !0 for none.
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    if offset == 0 {
        return if base < 32 && mask >> base & 1 == 1 { base } else { u32::MAX };
    }
    let mut left = offset.unsigned_abs();
    let mut at = base as i64;
    while (0..32).contains(&at) {
        if mask >> at & 1 == 1 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += i64::from(offset.signum());
    }
    u32::MAX
}

/// Extends from bit `n - 1`.
#[inline(always)]
pub fn szext(a: u32, n: u32, wrap: u32, signed: bool) -> u32 {
    let n = if wrap != 0 { n & 31 } else { n.min(32) };
    if n == 0 {
        return 0;
    }
    let up = 32 - n;
    if signed { ((a << up) as i32 >> up) as u32 } else { a << up >> up }
}

/// `b` ones from bit `a`.
#[inline(always)]
pub fn bmsk(a: u32, b: u32, wrap: u32) -> u32 {
    let (a, b) = if wrap != 0 { (a & 31, b & 31) } else { (a.min(32), b.min(32)) };
    ((((1u64 << b) - 1) << a) & 0xffff_ffff) as u32
}

fn byte(x: u32, i: u32, signed: bool) -> i32 {
    let b = (x >> (8 * i)) as u8;
    if signed { i32::from(b as i8) } else { i32::from(b) }
}

/// Sum of four products of bytes; `imm`: signedness of `a`, of `b`.
pub fn dp4a(a: u32, b: u32, c: u32, imm: u32) -> u32 {
    (0..4).fold(c, |sum, i| sum.wrapping_add((byte(a, i, imm & 1 != 0) * byte(b, i, imm & 2 != 0)) as u32))
}

/// Sum of two products of 16-bit halves with bytes 0, 1 of `b`, or 2, 3.
pub fn dp2a(a: u32, b: u32, c: u32, imm: u32) -> u32 {
    let first = if imm & 4 != 0 { 2 } else { 0 };
    (0..2).fold(c, |sum, i| {
        let half = (a >> (16 * i)) as u16;
        let half = if imm & 1 != 0 { i32::from(half as i16) } else { i32::from(half) };
        sum.wrapping_add(half.wrapping_mul(byte(b, first + i, imm & 2 != 0)) as u32)
    })
}

macro_rules! min_max {
    ($($min:ident, $max:ident, $t:ty, $nan:expr;)*) => {$(
        /// Of a NaN and a number the number; -0 is below +0.
        #[inline(always)]
        pub fn $min(a: $t, b: $t) -> $t {
            if a.is_nan() {
                return if b.is_nan() { $nan } else { b };
            }
            if b.is_nan() || a < b || a == b && a.is_sign_negative() { a } else { b }
        }

        #[inline(always)]
        pub fn $max(a: $t, b: $t) -> $t {
            if a.is_nan() {
                return if b.is_nan() { $nan } else { b };
            }
            if b.is_nan() || a > b || a == b && a.is_sign_positive() { a } else { b }
        }
    )*};
}
min_max! {
    min_f32, max_f32, f32, NAN_F32;
    min_f64, max_f64, f64, f64::NAN;
}

/// `min` or `max` with `.NaN`: a NaN wins.
#[inline(always)]
pub fn nan_wins(a: f32, b: f32, otherwise: f32) -> f32 {
    if a.is_nan() || b.is_nan() { NAN_F32 } else { otherwise }
}

/// The magnitude with the exclusive or of both signs.
#[inline(always)]
pub fn xor_sign(a: f32, b: f32, magnitude: f32) -> f32 {
    f32::from_bits(magnitude.to_bits() & 0x7fff_ffff | (a.to_bits() ^ b.to_bits()) & 0x8000_0000)
}

/// `testp`, by the number of its property.
pub fn testp(a: f64, subnormal: bool, normal: bool, property: u32) -> u32 {
    u32::from(match property {
        0 => a.is_finite(),
        1 => a.is_infinite(),
        2 => !a.is_nan(),
        3 => a.is_nan(),
        4 => normal,
        _ => subnormal,
    })
}

/// An operation on one half or both.
#[inline(always)]
pub fn half2(a: u32, b: u32, imm: u32, f: impl Fn(Half, u16, u16, Modes) -> u16) -> u32 {
    let modes = Modes(imm);
    let half = modes.half();
    let low = u32::from(f(half, a as u16, b as u16, modes));
    if modes.packed() { low | u32::from(f(half, (a >> 16) as u16, (b >> 16) as u16, modes)) << 16 } else { low }
}

#[inline(always)]
pub fn half_fma(a: u32, b: u32, c: u32, modes: Modes) -> u32 {
    let (half, m) = (modes.half(), modes.half_modifiers());
    if modes.packed() { half.fma2(a, b, c, m) } else { u32::from(half.fma(a as u16, b as u16, c as u16, m)) }
}

/// Clamps to the range of an integer type.
pub fn saturate_int(a: i128, modes: Modes) -> i64 {
    let bits = modes.bits();
    let (low, high) =
        if modes.signed() { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
    a.clamp(low, high) as i64
}

pub fn int_to_half(a: u64, modes: Modes) -> u32 {
    let value = if modes.signed() { i128::from(a as i64) } else { i128::from(a) };
    integer::to_float(value, modes.format(), modes.rounding()) as u32
}

pub fn float_to_int(a: f64, modes: Modes) -> u64 {
    let a = if modes.ftz() && a.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { a };
    let bits = integer::from_float(a, modes.rounding(), modes.bits(), modes.signed());
    // Narrow results keep only their own bits in the row, but an s8 fills its 16-bit register.
    match modes.bits() {
        8 if modes.signed() => u64::from(i16::from(bits as u8 as i8) as u16),
        8 => bits & 0xff,
        16 => bits & 0xffff,
        32 => bits & 0xffff_ffff,
        _ => bits,
    }
}

/// Both halves to the fp8 format of `modes`, high to high.
pub fn f16x2_to_fp8x2(a: u32, modes: Modes) -> u32 {
    let (low, high) = (num::f16_to_f32(a as u16), num::f16_to_f32((a >> 16) as u16));
    debug_assert!(modes.format() == Format::E4M3 || modes.format() == Format::E5M2);
    modes.cast().pair(modes.format(), high, low)
}
