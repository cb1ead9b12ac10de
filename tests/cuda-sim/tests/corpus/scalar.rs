//! Scalar programs with known answers: one instruction each, over values that include its corners. The expected values
//! are computed here, in Rust, from the meaning that the PTX manual gives.

use std::fmt::Write;

use crate::machine::{Arg, Machine, Plain, kernel, load};

/// Types a program loads and stores: PTX name, register.
#[derive(Clone, Copy)]
enum Ty {
    U16,
    B16,
    U32,
    S32,
    B32,
    F32,
    U64,
    F64,
}

impl Ty {
    fn name(self) -> &'static str {
        ["u16", "b16", "u32", "s32", "b32", "f32", "u64", "f64"][self as usize]
    }

    fn register(self, n: usize) -> String {
        match self {
            Ty::U16 | Ty::B16 => format!("%h{n}"),
            Ty::U32 | Ty::S32 | Ty::B32 => format!("%r{}", 10 + n),
            Ty::F32 => format!("%f{n}"),
            Ty::U64 => format!("%rd{}", 30 + n),
            Ty::F64 => format!("%fd{n}"),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Ty::U16 | Ty::B16 => 2,
            Ty::U32 | Ty::S32 | Ty::B32 | Ty::F32 => 4,
            Ty::U64 | Ty::F64 => 8,
        }
    }
}

/// Runs `code`, in which `{d}`, `{a}`, `{b}`, `{c}` stand for registers of the given types, once for each element, and
/// returns the bytes of all `d`.
fn run(code: &str, d: Ty, inputs: &[(Ty, Vec<u8>)]) -> Vec<u8> {
    let count = inputs[0].1.len() / inputs[0].0.bytes();
    let mut text = String::new();
    let mut code = code.replace("{d}", &d.register(0));
    for (i, (ty, _)) in inputs.iter().enumerate() {
        let register = ty.register(i + 1);
        let _ = writeln!(text, "\tmul.wide.u32 %rd20, %r1, {};\n\tadd.s64 %rd20, %rd20, %rd{};", ty.bytes(), i + 1);
        let _ = writeln!(text, "\tld.global.{} {register}, [%rd20];", ty.name());
        code = code.replace(["{a}", "{b}", "{c}"][i], &register);
    }
    let out = inputs.len() + 1;
    let _ = writeln!(text, "{code}\n\tmul.wide.u32 %rd20, %r1, {};\n\tadd.s64 %rd20, %rd20, %rd{out};", d.bytes());
    let _ = write!(text, "\tst.global.{} [%rd20], {};", d.name(), d.register(0));
    let machine = Machine::new();
    let module = load(&machine, &kernel(out, &text));
    let mut args: Vec<Arg> = inputs.iter().map(|(_, bytes)| Arg::Ptr(machine.upload(bytes))).collect();
    let result = machine.alloc(count * d.bytes());
    args.push(Arg::Ptr(result));
    let ran = machine.run(&module, [1; 3], [count as u32, 1, 1], &args);
    ran.unwrap_or_else(|finding| panic!("{code}: {finding}"));
    machine.download(result, count * d.bytes())
}

fn bytes<T: Plain>(values: &[T]) -> Vec<u8> {
    values.iter().flat_map(|v| v.bytes()).collect()
}

fn values<T: Plain>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks(size_of::<T>()).map(T::from_bytes).collect()
}

/// All pairs of `values`.
fn pairs<T: Copy>(values: &[T]) -> (Vec<T>, Vec<T>) {
    let all = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b)));
    all.unzip()
}

const U32: [u32; 12] = [0, 1, 2, 3, 7, 31, 32, 0x0001_0000, 0x1234_5678, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
const U64: [u64; 9] = [0, 1, 5, 63, 64, 0x1234_5678_9abc_def0, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, u64::MAX];
const F32: [f32; 14] =
    [0.0, -0.0, 1.0, -1.5, 0.1, 3.0, 1e-40, -1e-40, 1e30, -2.5, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

/// Two operands of one type, every pair of its values.
fn binary<T: Plain, R: Plain>(code: &str, ty: (Ty, Ty), operands: &[T], expected: impl Fn(T, T) -> R) {
    let (a, b) = pairs(operands);
    let got: Vec<R> = values(&run(code, ty.0, &[(ty.1, bytes(&a)), (ty.1, bytes(&b))]));
    for ((&a, &b), &got) in a.iter().zip(&b).zip(&got) {
        let want = expected(a, b);
        assert!(got.same(want), "{code} of {a:?}, {b:?}: {got:?}, not {want:?}");
    }
}

fn u32s(code: &str, expected: impl Fn(u32, u32) -> u32) {
    binary(code, (Ty::U32, Ty::U32), &U32, expected);
}

fn u64s(code: &str, expected: impl Fn(u64, u64) -> u64) {
    binary(code, (Ty::U64, Ty::U64), &U64, expected);
}

fn f32s(code: &str, expected: impl Fn(f32, f32) -> f32) {
    binary(code, (Ty::F32, Ty::F32), &F32, expected);
}

#[test]
fn integer_32_bit() {
    u32s("add.u32 {d}, {a}, {b};", u32::wrapping_add);
    u32s("sub.s32 {d}, {a}, {b};", u32::wrapping_sub);
    u32s("mul.lo.u32 {d}, {a}, {b};", u32::wrapping_mul);
    u32s("mul.hi.u32 {d}, {a}, {b};", |a, b| ((a as u64 * b as u64) >> 32) as u32);
    u32s("mul.hi.s32 {d}, {a}, {b};", |a, b| ((a as i32 as i64 * b as i32 as i64) >> 32) as u32);
    u32s("mad.lo.s32 {d}, {a}, {b}, {a};", |a, b| a.wrapping_mul(b).wrapping_add(a));
    u32s("mad.hi.u32 {d}, {a}, {b}, {b};", |a, b| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(b));
    u32s("min.s32 {d}, {a}, {b};", |a, b| (a as i32).min(b as i32) as u32);
    u32s("max.u32 {d}, {a}, {b};", u32::max);
    u32s("and.b32 {d}, {a}, {b};", |a, b| a & b);
    u32s("or.b32 {d}, {a}, {b};", |a, b| a | b);
    u32s("xor.b32 {d}, {a}, {b};", |a, b| a ^ b);
    u32s("not.b32 {d}, {a};", |a, _| !a);
    u32s("neg.s32 {d}, {a};", |a, _| a.wrapping_neg());
    u32s("abs.s32 {d}, {a};", |a, _| (a as i32).wrapping_abs() as u32);
    u32s("popc.b32 {d}, {a};", |a, _| a.count_ones());
    u32s("clz.b32 {d}, {a};", |a, _| a.leading_zeros());
    u32s("brev.b32 {d}, {a};", |a, _| a.reverse_bits());
    u32s("bfind.u32 {d}, {a};", |a, _| if a == 0 { u32::MAX } else { a.ilog2() });
    u32s("bfind.shiftamt.u32 {d}, {a};", |a, _| if a == 0 { u32::MAX } else { 31 - a.ilog2() });
    u32s("selp.b32 {d}, {a}, {b}, 1;", |a, _| a);
    u32s("sad.u32 {d}, {a}, {b}, 7;", |a, b| a.abs_diff(b).wrapping_add(7));
    let nonzero = |a: u32| if a == 0 { 1 } else { a };
    u32s("max.u32 {b}, {b}, 1;\n\tdiv.u32 {d}, {a}, {b};", |a, b| a / nonzero(b));
    u32s("max.u32 {b}, {b}, 1;\n\trem.u32 {d}, {a}, {b};", |a, b| a % nonzero(b));
    u32s("max.u32 {b}, {b}, 1;\n\tdiv.s32 {d}, {a}, {b};", |a, b| (a as i32).wrapping_div(nonzero(b) as i32) as u32);
    u32s("max.u32 {b}, {b}, 1;\n\trem.s32 {d}, {a}, {b};", |a, b| (a as i32).wrapping_rem(nonzero(b) as i32) as u32);
}

#[test]
fn shifts_clamp_their_amount() {
    u32s("shl.b32 {d}, {a}, {b};", |a, b| a.checked_shl(b).unwrap_or(0));
    u32s("shr.u32 {d}, {a}, {b};", |a, b| a.checked_shr(b).unwrap_or(0));
    u32s("shr.s32 {d}, {a}, {b};", |a, b| ((a as i32) >> b.min(31)) as u32);
    u32s("shf.l.wrap.b32 {d}, {a}, {b}, 8;", |a, b| (b << 8) | (a >> 24));
    u32s("shf.r.wrap.b32 {d}, {a}, {b}, 36;", |a, b| (a >> 4) | (b << 28));
    u32s("shf.l.clamp.b32 {d}, {a}, {b}, 40;", |a, _| a);
    u32s("shf.r.clamp.b32 {d}, {a}, {b}, 40;", |_, b| b);
    binary("cvt.u32.u64 %r20, {b};\n\tshl.b64 {d}, {a}, %r20;", (Ty::U64, Ty::U64), &U64, |a: u64, b: u64| {
        a.checked_shl(b as u32).unwrap_or(0)
    });
    binary("cvt.u32.u64 %r20, {b};\n\tshr.s64 {d}, {a}, %r20;", (Ty::U64, Ty::U64), &U64, |a: u64, b: u64| {
        ((a as i64) >> (b as u32).min(63)) as u64
    });
}

#[test]
fn bit_fields_permutations_and_logic_tables() {
    u32s("bfe.u32 {d}, {a}, 4, 8;", |a, _| (a >> 4) & 0xff);
    u32s("bfe.s32 {d}, {a}, 28, 8;", |a, _| ((a as i32) >> 28) as u32);
    u32s("bfe.s32 {d}, {a}, 0, 4;", |a, _| (((a << 28) as i32) >> 28) as u32);
    u32s("bfi.b32 {d}, {a}, {b}, 8, 4;", |a, b| (b & !0xf00) | ((a & 0xf) << 8));
    u32s("bfi.b32 {d}, {a}, {b}, 28, 16;", |a, b| (b & 0x0fff_ffff) | (a << 28));
    let bytes_of = |a: u32, b: u32| (a as u64 | (b as u64) << 32).to_le_bytes();
    u32s("prmt.b32 {d}, {a}, {b}, 0x7531;", |a, b| {
        let s = bytes_of(a, b);
        u32::from_le_bytes([s[1], s[3], s[5], s[7]])
    });
    u32s("prmt.b32 {d}, {a}, {b}, 0xfb04;", |a, b| {
        // The high bit of a selector spreads the sign of its byte.
        let s = bytes_of(a, b);
        let sign = |x: u8| if x & 0x80 != 0 { 0xff } else { 0 };
        u32::from_le_bytes([s[4], s[0], sign(s[3]), sign(s[7])])
    });
    u32s("lop3.b32 {d}, {a}, {b}, 0x0f0f0f0f, 0xe8;", |a, b| {
        let c = 0x0f0f_0f0f;
        (a & b) | (a & c) | (b & c)
    });
    u32s("lop3.b32 {d}, {a}, {b}, 0x12345678, 0x96;", |a, b| a ^ b ^ 0x1234_5678);
    u32s("dp4a.s32.s32 {d}, {a}, {b}, 5;", |a, b| {
        let dot: i32 = (0..4).map(|i| (a >> (8 * i)) as i8 as i32 * ((b >> (8 * i)) as i8 as i32)).sum();
        dot.wrapping_add(5) as u32
    });
}

#[test]
fn integer_64_and_16_bit() {
    u64s("add.s64 {d}, {a}, {b};", u64::wrapping_add);
    u64s("sub.s64 {d}, {a}, {b};", u64::wrapping_sub);
    u64s("mul.lo.s64 {d}, {a}, {b};", u64::wrapping_mul);
    u64s("mul.hi.u64 {d}, {a}, {b};", |a, b| ((a as u128 * b as u128) >> 64) as u64);
    u64s("mul.hi.s64 {d}, {a}, {b};", |a, b| ((a as i64 as i128 * b as i64 as i128) >> 64) as u64);
    u64s("mad.lo.s64 {d}, {a}, {b}, {b};", |a, b| a.wrapping_mul(b).wrapping_add(b));
    u64s("max.s64 {d}, {a}, {b};", |a, b| (a as i64).max(b as i64) as u64);
    u64s("xor.b64 {d}, {a}, {b};", |a, b| a ^ b);
    u64s("max.u64 {b}, {b}, 1;\n\tdiv.u64 {d}, {a}, {b};", |a, b| a / b.max(1));
    u64s("max.u64 {b}, {b}, 1;\n\trem.u64 {d}, {a}, {b};", |a, b| a % b.max(1));
    binary("popc.b64 {d}, {a};", (Ty::U32, Ty::U64), &U64, |a: u64, _| a.count_ones());
    binary("clz.b64 {d}, {a};", (Ty::U32, Ty::U64), &U64, |a: u64, _| a.leading_zeros());
    binary("mul.wide.u32 {d}, {a}, {b};", (Ty::U64, Ty::U32), &U32, |a: u32, b: u32| a as u64 * b as u64);
    binary("mul.wide.s32 {d}, {a}, {b};", (Ty::U64, Ty::U32), &U32, |a: u32, b: u32| {
        (a as i32 as i64 * b as i32 as i64) as u64
    });
    binary("mad.wide.u32 {d}, {a}, {b}, 9;", (Ty::U64, Ty::U32), &U32, |a: u32, b: u32| {
        (a as u64 * b as u64).wrapping_add(9)
    });
    const U16: [u16; 6] = [0, 1, 255, 0x7fff, 0x8000, 0xffff];
    binary("add.u16 {d}, {a}, {b};", (Ty::U16, Ty::U16), &U16, u16::wrapping_add);
    binary("mul.lo.u16 {d}, {a}, {b};", (Ty::U16, Ty::U16), &U16, u16::wrapping_mul);
    binary("max.s16 {d}, {a}, {b};", (Ty::U16, Ty::U16), &U16, |a: u16, b: u16| (a as i16).max(b as i16) as u16);
    binary("mul.wide.u16 {d}, {a}, {b};", (Ty::U32, Ty::U16), &U16, |a: u16, b: u16| a as u32 * b as u32);
    binary("mul.wide.s16 {d}, {a}, {b};", (Ty::U32, Ty::U16), &U16, |a: u16, b: u16| {
        (a as i16 as i32 * b as i16 as i32) as u32
    });
}

#[test]
fn carries_and_packing() {
    // 64-bit addition of (a, b) and itself, by halves.
    u32s("add.cc.u32 %r30, {a}, {a};\n\taddc.u32 {d}, {b}, {b};", |a, b| {
        let wide = a as u64 | (b as u64) << 32;
        (wide.wrapping_add(wide) >> 32) as u32
    });
    u32s("sub.cc.u32 %r30, {a}, {b};\n\tsubc.u32 {d}, {b}, 0;", |a, b| b.wrapping_sub((a < b) as u32));
    u32s("mov.b64 %rd40, {{a}, {b}};\n\tshr.u64 %rd40, %rd40, 16;\n\tcvt.u32.u64 {d}, %rd40;", |a, b| {
        (a >> 16) | (b << 16)
    });
    u32s("mov.b32 {%h20, %h21}, {a};\n\tmov.b32 {d}, {%h21, %h20};", |a, _| a.rotate_left(16));
}

#[test]
fn comparisons() {
    let set = |ty: &str, op: &str| format!("setp.{op}.{ty} %p1, {{a}}, {{b}};\n\tselp.u32 {{d}}, 1, 0, %p1;");
    u32s(&set("u32", "lt"), |a, b| (a < b) as u32);
    u32s(&set("s32", "ge"), |a, b| (a as i32 >= b as i32) as u32);
    u32s(&set("u32", "hi"), |a, b| (a > b) as u32);
    u32s(&set("b32", "ne"), |a, b| (a != b) as u32);
    u32s("setp.lt.and.u32 %p1|%p2, {a}, {b}, 1;\n\tselp.u32 {d}, 1, 0, %p2;", |a, b| (a >= b) as u32);
    u32s("set.lt.u32.u32 {d}, {a}, {b};", |a, b| if a < b { u32::MAX } else { 0 });
    let floats = |op: &str, expected: fn(f32, f32) -> bool| {
        let code = set("f32", op);
        binary(&code, (Ty::U32, Ty::F32), &F32, |a: f32, b: f32| expected(a, b) as u32);
    };
    floats("eq", |a, b| a == b);
    floats("ne", |a, b| a != b && !a.is_nan() && !b.is_nan());
    floats("lt", |a, b| a < b);
    floats("ge", |a, b| a >= b);
    floats("equ", |a, b| a == b || a.is_nan() || b.is_nan());
    floats("neu", |a, b| a != b);
    floats("ltu", |a, b| a < b || a.is_nan() || b.is_nan());
    floats("gtu", |a, b| a > b || a.is_nan() || b.is_nan());
    floats("num", |a, b| !a.is_nan() && !b.is_nan());
    floats("nan", |a, b| a.is_nan() || b.is_nan());
    // Flushing makes the subnormals zeros.
    let flushed = |x: f32| if x.is_subnormal() { 0.0 * x } else { x };
    binary(&set("f32", "eq").replace("eq.f32", "eq.ftz.f32"), (Ty::U32, Ty::F32), &F32, |a: f32, b: f32| {
        (flushed(a) == flushed(b)) as u32
    });
}

#[test]
fn float_32() {
    let flushed = |x: f32| if x.is_subnormal() { 0.0 * x } else { x };
    f32s("add.f32 {d}, {a}, {b};", |a, b| a + b);
    f32s("add.ftz.f32 {d}, {a}, {b};", |a, b| flushed(flushed(a) + flushed(b)));
    f32s("sub.rn.f32 {d}, {a}, {b};", |a, b| a - b);
    f32s("mul.f32 {d}, {a}, {b};", |a, b| a * b);
    f32s("mul.ftz.f32 {d}, {a}, {b};", |a, b| flushed(flushed(a) * flushed(b)));
    f32s("fma.rn.f32 {d}, {a}, {b}, {a};", |a, b| a.mul_add(b, a));
    f32s("div.rn.f32 {d}, {a}, {b};", |a, b| a / b);
    f32s("sqrt.rn.f32 {d}, {a};", |a, _| a.sqrt());
    f32s("rcp.rn.f32 {d}, {a};", |a, _| 1.0 / a);
    // A NaN loses against a number, and -0 is below +0.
    let least = |a: f32, b: f32| match (a, b) {
        (0.0, 0.0) => f32::from_bits(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    };
    f32s("min.f32 {d}, {a}, {b};", least);
    f32s("max.f32 {d}, {a}, {b};", |a, b| -least(-a, -b));
    f32s("max.NaN.f32 {d}, {a}, {b};", |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { -least(-a, -b) });
    f32s("neg.f32 {d}, {a};", |a, _| -a);
    f32s("abs.f32 {d}, {a};", |a, _| a.abs());
    f32s("add.sat.f32 {d}, {a}, {b};", |a, b| if (a + b).is_nan() { 0.0 } else { (a + b).clamp(0.0, 1.0) + 0.0 });
    f32s("copysign.f32 {d}, {a}, {b};", |a, b| b.copysign(a));
}

#[test]
fn directed_rounding() {
    // 1 + 2^-30 lies between 1 and its successor.
    let next = f32::from_bits(1f32.to_bits() + 1);
    let before = f32::from_bits((-1f32).to_bits() + 1);
    for (mode, up, down) in [("rz", 1.0, -1.0), ("rp", next, -1.0), ("rm", 1.0, before), ("rn", 1.0, -1.0)] {
        let a = [1f32, -1.0];
        let tiny = [2f32.powi(-30), -(2f32.powi(-30))];
        let code = format!("add.{mode}.f32 {{d}}, {{a}}, {{b}};");
        let got: Vec<f32> = values(&run(&code, Ty::F32, &[(Ty::F32, bytes(&a)), (Ty::F32, bytes(&tiny))]));
        assert_eq!(got, [up, down], "{mode}");
        let code = format!("fma.{mode}.f32 {{d}}, {{a}}, 0f3f800000, {{b}};");
        let got: Vec<f32> = values(&run(&code, Ty::F32, &[(Ty::F32, bytes(&a)), (Ty::F32, bytes(&tiny))]));
        assert_eq!(got, [up, down], "fma {mode}");
    }
}

#[test]
fn approximations_stay_within_their_bounds() {
    let inputs: Vec<f32> = (1..200).map(|i| i as f32 * 0.037).collect();
    let check = |code: &str, exact: fn(f64) -> f64, relative: f64, absolute: f64| {
        let got: Vec<f32> = values(&run(code, Ty::F32, &[(Ty::F32, bytes(&inputs))]));
        for (&x, &got) in inputs.iter().zip(&got) {
            let want = exact(x as f64);
            let error = (got as f64 - want).abs();
            assert!(error <= want.abs() * relative + absolute, "{code} of {x}: {got}, not {want}");
        }
    };
    let ulp = 2f64.powi(-23);
    check("ex2.approx.ftz.f32 {d}, {a};", f64::exp2, 2.0 * ulp, 0.0);
    check("lg2.approx.f32 {d}, {a};", f64::log2, 4.0 * ulp, 2f64.powi(-22));
    check("rcp.approx.f32 {d}, {a};", |x| 1.0 / x, ulp, 0.0);
    check("rsqrt.approx.f32 {d}, {a};", |x| 1.0 / x.sqrt(), 2f64.powf(-22.4), 0.0);
    check("sqrt.approx.f32 {d}, {a};", f64::sqrt, 2f64.powi(-22), 0.0);
    check("sin.approx.f32 {d}, {a};", f64::sin, 0.0, 2f64.powi(-20));
    check("cos.approx.f32 {d}, {a};", f64::cos, 0.0, 2f64.powi(-20));
    check("tanh.approx.f32 {d}, {a};", f64::tanh, 2f64.powi(-10), 0.0);
    check("div.approx.f32 {d}, {a}, 0f40400000;", |x| x / 3.0, 2.0 * ulp, 0.0);
    check("div.full.f32 {d}, {a}, 0f40400000;", |x| x / 3.0, 2.0 * ulp, 0.0);
}

#[test]
fn float_64() {
    const F64: [f64; 8] = [0.0, -0.0, 1.0, -2.5, 0.1, 1e300, 5e-324, f64::INFINITY];
    let same = |code: &str, expected: fn(f64, f64) -> f64| {
        binary(code, (Ty::F64, Ty::F64), &F64, expected);
    };
    same("fma.rn.f64 {d}, {a}, 0d3FE0000000000000, 0d3FF0000000000000;", |a, _| a.mul_add(0.5, 1.0));
    same("min.f64 {d}, {a}, {b};", |a, b| if a == b { f64::from_bits(a.to_bits() | b.to_bits()) } else { a.min(b) });
    same("sqrt.rn.f64 {d}, {a};\n\tabs.f64 {d}, {a};", |a, _| a.abs());
    same("add.f64 {d}, {a}, 0d3FF0000000000000;", |a, _| a + 1.0);
    same("mul.f64 {d}, {a}, 0d4008000000000000;", |a, _| a * 3.0);
    same("div.rn.f64 {d}, {a}, 0d4008000000000000;", |a, _| a / 3.0);
}

#[test]
fn half_precision() {
    // 1.5, -2, 0.333, 65504 in f16; the same in bf16 but the last.
    let halves = [0x3e00u16, 0xc000, 0x3555, 0x7bff];
    let got: Vec<f32> = values(&run("cvt.f32.f16 {d}, {a};", Ty::F32, &[(Ty::B16, bytes(&halves))]));
    assert_eq!(got, [1.5, -2.0, 0.33325195, 65504.0]);
    let got: Vec<u16> = values(&run("fma.rn.f16 {d}, {a}, {a}, {a};", Ty::B16, &[(Ty::B16, bytes(&halves))]));
    assert_eq!(got, [0x4380, 0x4000, 0x371c, 0x7c00]); // 3.75, 2, 0.4443, infinity
    let brains = [0x3fc0u16, 0xc000, 0x3eaa];
    let got: Vec<f32> = values(&run("cvt.f32.bf16 {d}, {a};", Ty::F32, &[(Ty::B16, bytes(&brains))]));
    assert_eq!(got, [1.5, -2.0, 0.33203125]);
    let got: Vec<u16> = values(&run("fma.rn.bf16 {d}, {a}, {a}, {a};", Ty::B16, &[(Ty::B16, bytes(&brains))]));
    assert_eq!(got, [0x4070, 0x4000, 0x3ee2]); // 3.75, 2, 0.4423
    let both = [0x3e00_c000u32, 0x3c00_4000];
    let got: Vec<u32> =
        values(&run("add.f16x2 {d}, {a}, {b};", Ty::B32, &[(Ty::B32, bytes(&both)), (Ty::B32, bytes(&both))]));
    assert_eq!(got, [0x4200_c400, 0x4000_4400]);
    let got: Vec<u32> = values(&run(
        "mul.bf16x2 {d}, {a}, {b};",
        Ty::B32,
        &[(Ty::B32, bytes(&[0x3fc0_c000u32])), (Ty::B32, bytes(&[0x4000_4000u32]))],
    ));
    assert_eq!(got, [0x4040_c080]);
    let got: Vec<u32> = values(&run(
        "max.f16x2 {d}, {a}, {b};",
        Ty::B32,
        &[(Ty::B32, bytes(&[0x3c00_c000u32])), (Ty::B32, bytes(&[0xbc00_4000u32]))],
    ));
    assert_eq!(got, [0x3c00_4000]);
}

#[test]
fn conversions() {
    let floats = [0.5f32, 1.5, 2.5, -0.5, -1.5, 1e20, -1e20, f32::NAN, 255.9, -129.0];
    let to = |code: &str, expected: [i64; 10]| {
        let got: Vec<u32> = values(&run(code, Ty::U32, &[(Ty::F32, bytes(&floats))]));
        let want: Vec<u32> = expected.iter().map(|&x| x as u32).collect();
        assert_eq!(got, want, "{code}");
    };
    let (max, min) = (i32::MAX as i64, i32::MIN as i64);
    to("cvt.rni.s32.f32 {d}, {a};", [0, 2, 2, 0, -2, max, min, 0, 256, -129]);
    to("cvt.rzi.s32.f32 {d}, {a};", [0, 1, 2, 0, -1, max, min, 0, 255, -129]);
    to("cvt.rmi.s32.f32 {d}, {a};", [0, 1, 2, -1, -2, max, min, 0, 255, -129]);
    to("cvt.rpi.s32.f32 {d}, {a};", [1, 2, 3, 0, -1, max, min, 0, 256, -129]);
    to("cvt.rzi.u32.f32 {d}, {a};", [0, 1, 2, 0, 0, u32::MAX as i64, 0, 0, 255, 0]);
    to("cvt.rzi.sat.u8.f32 {d}, {a};", [0, 1, 2, 0, 0, 255, 0, 0, 255, 0]);
    to("cvt.rzi.sat.s8.f32 {d}, {a};", [0, 1, 2, 0, -1, 127, -128, 0, 127, -128]);
    let rounded: Vec<f32> = values(&run("cvt.rni.f32.f32 {d}, {a};", Ty::F32, &[(Ty::F32, bytes(&floats[..5]))]));
    assert_eq!(rounded, [0.0, 2.0, 2.0, -0.0, -2.0]);
    let ints = [16_777_217u32, 0x8000_0001, 5, u32::MAX];
    let got: Vec<f32> = values(&run("cvt.rn.f32.u32 {d}, {a};", Ty::F32, &[(Ty::U32, bytes(&ints))]));
    assert_eq!(got, [16_777_216.0, 2_147_483_648.0, 5.0, 4_294_967_296.0]);
    let got: Vec<f32> = values(&run("cvt.rz.f32.u32 {d}, {a};", Ty::F32, &[(Ty::U32, bytes(&ints))]));
    assert_eq!(got, [16_777_216.0, 2_147_483_648.0, 5.0, 4_294_967_040.0]);
    let got: Vec<f32> = values(&run("cvt.rn.f32.s32 {d}, {a};", Ty::F32, &[(Ty::U32, bytes(&ints))]));
    assert_eq!(got, [16_777_216.0, -2_147_483_648.0, 5.0, -1.0]);
    let got: Vec<u32> = values(&run("cvt.s32.s8 {d}, {a};", Ty::U32, &[(Ty::U32, bytes(&[0x80u32, 0x17f, 0xff]))]));
    assert_eq!(got, [0xffff_ff80, 0x7f, u32::MAX]);
    let got: Vec<u64> = values(&run("cvt.s64.s32 {d}, {a};", Ty::U64, &[(Ty::U32, bytes(&[5u32, 0x8000_0000]))]));
    assert_eq!(got, [5, 0xffff_ffff_8000_0000]);
    let got: Vec<u32> = values(&run("cvt.sat.u8.s32 {d}, {a};", Ty::U32, &[(Ty::S32, bytes(&[-5i32, 77, 300]))]));
    assert_eq!(got, [0, 77, 255]);
}

#[test]
fn conversions_to_short_floats() {
    let floats = [1.0f32, -2.5, 65520.0, 1.0 / 3.0, 1e-8];
    let short = |code: &str| -> Vec<u16> { values(&run(code, Ty::B16, &[(Ty::F32, bytes(&floats))])) };
    assert_eq!(short("cvt.rn.f16.f32 {d}, {a};"), [0x3c00, 0xc100, 0x7c00, 0x3555, 0]);
    assert_eq!(short("cvt.rz.f16.f32 {d}, {a};"), [0x3c00, 0xc100, 0x7bff, 0x3555, 0]);
    assert_eq!(short("cvt.rn.bf16.f32 {d}, {a};"), [0x3f80, 0xc020, 0x4780, 0x3eab, 0x322c]);
    assert_eq!(short("cvt.rn.relu.bf16.f32 {d}, {a};"), [0x3f80, 0, 0x4780, 0x3eab, 0x322c]);
    let two = |code: &str| -> Vec<u32> {
        values(&run(code, Ty::B32, &[(Ty::F32, bytes(&[1.0f32, 0.5])), (Ty::F32, bytes(&[-2.0f32, 3.0]))]))
    };
    // The first source goes to the upper half.
    assert_eq!(two("cvt.rn.bf16x2.f32 {d}, {a}, {b};"), [0x3f80_c000, 0x3f00_4040]);
    assert_eq!(two("cvt.rn.f16x2.f32 {d}, {a}, {b};"), [0x3c00_c000, 0x3800_4200]);
    let got: Vec<u16> = values(&run(
        "cvt.rn.satfinite.e4m3x2.f32 {d}, {a}, {b};",
        Ty::B16,
        &[(Ty::F32, bytes(&[1.0f32, 1000.0])), (Ty::F32, bytes(&[-2.0f32, 0.4375]))],
    ));
    assert_eq!(got, [0x38c0, 0x7e2e]);
    let got: Vec<u32> = values(&run("cvt.rna.tf32.f32 {d}, {a};", Ty::B32, &[(Ty::F32, bytes(&[1.0f32, 1.0 / 3.0]))]));
    assert_eq!(got, [0x3f80_0000, 0x3eaa_a000]);
}
