//! f32 and f64 arithmetic and functions.

use super::{all, d, f, floats};

fn f32_cases(cases: &[(String, f32)]) {
    let cases: Vec<(&str, f32)> = cases.iter().map(|(b, v)| (b.as_str(), *v)).collect();
    floats(&cases);
}

#[test]
fn arithmetic() {
    let (tiny, small) = (f(1e-40), f(f32::MIN_POSITIVE));
    f32_cases(&[
        (format!("add.f32 %f0, {}, {};", f(1.5), f(2.25)), 3.75),
        (format!("sub.rn.f32 %f0, {}, {};", f(1.5), f(2.25)), -0.75),
        (format!("mul.f32 %f0, {}, {};", f(1.5), f(-2.0)), -3.0),
        (
            format!("fma.rn.f32 %f0, {}, {}, {};", f(1.0 + f32::EPSILON), f(1.0 - f32::EPSILON), f(-1.0)),
            -(f32::EPSILON * f32::EPSILON),
        ),
        (format!("mad.rn.f32 %f0, {}, {}, {};", f(2.0), f(3.0), f(4.0)), 10.0),
        (format!("add.rz.f32 %f0, {}, {};", f(1.0), f(1e-10)), 1.0),
        (format!("add.rp.f32 %f0, {}, {};", f(1.0), f(1e-10)), 1.0 + f32::EPSILON),
        (format!("add.rm.f32 %f0, {}, {};", f(-1.0), f(-1e-10)), -1.0 - f32::EPSILON),
        (format!("mul.rz.f32 %f0, {}, {};", f(1.0 + f32::EPSILON), f(1.0 + f32::EPSILON)), 1.0 + 2.0 * f32::EPSILON),
        (format!("add.ftz.f32 %f0, {tiny}, {tiny};"), 0.0),
        (format!("add.f32 %f0, {tiny}, {tiny};"), 1e-40 + 1e-40),
        (format!("mul.ftz.f32 %f0, {small}, {};", f(0.5)), 0.0),
        (format!("add.sat.f32 %f0, {}, {};", f(1.5), f(2.25)), 1.0),
        (format!("fma.rn.sat.f32 %f0, {}, {}, {};", f(-2.0), f(3.0), f(4.0)), 0.0),
        (format!("min.f32 %f0, {}, {};", f(1.0), f(f32::NAN)), 1.0),
        (format!("max.f32 %f0, {}, {};", f(-0.0), f(0.0)), 0.0),
        (format!("min.f32 %f0, {}, {};", f(0.0), f(-0.0)), -0.0),
        (format!("max.xorsign.abs.f32 %f0, {}, {};", f(-3.0), f(2.0)), -3.0),
        (format!("neg.f32 %f0, {};", f(1.0)), -1.0),
        (format!("abs.f32 %f0, {};", f(-1.0)), 1.0),
        (format!("abs.ftz.f32 %f0, {};", f(-1e-40)), 0.0),
        (format!("copysign.f32 %f0, {}, {};", f(-1.0), f(3.0)), -3.0),
    ]);
    all(&[
        (&format!("max.NaN.f32 %f0, {}, {}; mov.b32 %out, %f0;", f(1.0), f(f32::NAN)), 0x7fff_ffff),
        (&format!("add.f32 %f0, {}, {}; mov.b32 %out, %f0;", f(f32::INFINITY), f(f32::NEG_INFINITY)), 0x7fff_ffff),
    ]);
}

#[test]
fn division_and_roots() {
    f32_cases(&[
        (format!("div.rn.f32 %f0, {}, {};", f(1.0), f(3.0)), 1.0 / 3.0),
        (format!("div.rz.f32 %f0, {}, {};", f(2.0), f(3.0)), f32::from_bits((2.0f32 / 3.0).to_bits() - 1)),
        (format!("div.approx.f32 %f0, {}, {};", f(6.0), f(3.0)), 2.0),
        (format!("div.full.f32 %f0, {}, {};", f(1.0), f(4.0)), 0.25),
        (format!("div.rn.f32 %f0, {}, {};", f(1.0), f(0.0)), f32::INFINITY),
        (format!("rcp.rn.f32 %f0, {};", f(3.0)), 1.0 / 3.0),
        (format!("rcp.approx.ftz.f32 %f0, {};", f(4.0)), 0.25),
        (format!("sqrt.rn.f32 %f0, {};", f(2.0)), 2f32.sqrt()),
        (format!("sqrt.approx.f32 %f0, {};", f(9.0)), 3.0),
        (format!("rsqrt.approx.f32 %f0, {};", f(16.0)), 0.25),
        (format!("ex2.approx.f32 %f0, {};", f(3.0)), 8.0),
        (format!("ex2.approx.ftz.f32 %f0, {};", f(f32::NEG_INFINITY)), 0.0),
        (format!("lg2.approx.f32 %f0, {};", f(8.0)), 3.0),
        (format!("sin.approx.f32 %f0, {};", f(0.0)), 0.0),
        (format!("cos.approx.f32 %f0, {};", f(0.0)), 1.0),
        (format!("tanh.approx.f32 %f0, {};", f(0.0)), 0.0),
    ]);
}

#[test]
fn doubles() {
    let high = |body: String| format!("{body} shr.u64 %rd0, %rd0, 32; cvt.u32.u64 %out, %rd0;");
    let top = |v: f64| (v.to_bits() >> 32) as u32;
    let bits = |op: &str, a: f64, b: f64| high(format!("{op} %fd0, {}, {}; mov.b64 %rd0, %fd0;", d(a), d(b)));
    let cases = [
        (bits("add.f64", 1.5, 2.0), top(3.5)),
        (bits("sub.f64", 1.5, 2.0), top(-0.5)),
        (bits("mul.f64", 1.5, 2.0), top(3.0)),
        (bits("div.rn.f64", 1.0, 3.0), top(1.0 / 3.0)),
        (bits("min.f64", 1.0, f64::NAN), top(1.0)),
        (bits("max.f64", 1.0, 3.0), top(3.0)),
        (bits("copysign.f64", -1.0, 3.0), top(-3.0)),
        (high(format!("fma.rn.f64 %fd0, {}, {}, {}; mov.b64 %rd0, %fd0;", d(2.0), d(3.0), d(4.0))), top(10.0)),
        (high(format!("sqrt.rn.f64 %fd0, {}; mov.b64 %rd0, %fd0;", d(9.0))), top(3.0)),
        (high(format!("rcp.rn.f64 %fd0, {}; mov.b64 %rd0, %fd0;", d(8.0))), top(0.125)),
        (high(format!("neg.f64 %fd0, {}; mov.b64 %rd0, %fd0;", d(8.0))), top(-8.0)),
        (high(format!("abs.f64 %fd0, {}; mov.b64 %rd0, %fd0;", d(-8.0))), top(8.0)),
        (high(format!("rcp.approx.ftz.f64 %fd0, {}; mov.b64 %rd0, %fd0;", d(8.0))), top(0.125)),
        (high(format!("rsqrt.approx.ftz.f64 %fd0, {}; mov.b64 %rd0, %fd0;", d(16.0))), top(0.25)),
        (format!("add.rp.f64 %fd0, {}, {}; mov.b64 %rd0, %fd0; cvt.u32.u64 %out, %rd0;", d(1.0), d(1e-30)), 1),
        (
            format!(
                "mul.rz.f64 %fd0, {}, {}; mov.b64 %rd0, %fd0; cvt.u32.u64 %out, %rd0;",
                d(1.0 + f64::EPSILON),
                d(1.0 + f64::EPSILON)
            ),
            2,
        ),
    ];
    let cases: Vec<(&str, u32)> = cases.iter().map(|(b, v)| (b.as_str(), *v)).collect();
    all(&cases);
}

#[test]
fn comparisons_with_nan() {
    let nan = f(f32::NAN);
    let case = |op: &str, a: &str, b: &str| format!("setp.{op}.f32 %p1, {a}, {b}; selp.u32 %out, 1, 0, %p1;");
    let one = f(1.0);
    let cases = [
        (case("eq", &one, &one), 1),
        (case("ne", &one, &nan), 0),
        (case("neu", &one, &nan), 1),
        (case("equ", &one, &nan), 1),
        (case("ltu", &nan, &one), 1),
        (case("lt", &nan, &one), 0),
        (case("geu", &one, &one), 1),
        (case("num", &one, &one), 1),
        (case("num", &one, &nan), 0),
        (case("nan", &one, &nan), 1),
        (format!("setp.eq.ftz.f32 %p1, {}, {}; selp.u32 %out, 1, 0, %p1;", f(1e-40), f(0.0)), 1),
        (format!("setp.gt.f64 %p1, {}, {}; selp.u32 %out, 1, 0, %p1;", d(2.0), d(1.0)), 1),
        (format!("testp.notanumber.f32 %p1, {nan}; selp.u32 %out, 1, 0, %p1;"), 1),
        (format!("testp.infinite.f32 %p1, {}; selp.u32 %out, 1, 0, %p1;", f(f32::INFINITY)), 1),
        (format!("testp.subnormal.f32 %p1, {}; selp.u32 %out, 1, 0, %p1;", f(1e-40)), 1),
        (format!("testp.normal.f64 %p1, {}; selp.u32 %out, 1, 0, %p1;", d(1e-40)), 1),
    ];
    let cases: Vec<(&str, u32)> = cases.iter().map(|(b, v)| (b.as_str(), *v)).collect();
    all(&cases);
}
