//! `cvt` and `mov` between types.

use super::{all, d, f};

fn run(cases: &[(String, u32)]) {
    let cases: Vec<(&str, u32)> = cases.iter().map(|(b, v)| (b.as_str(), *v)).collect();
    all(&cases);
}

#[test]
fn integers() {
    all(&[
        ("cvt.u32.u8 %out, 0x1ff;", 0xff),
        ("cvt.s32.s8 %out, 0x80;", 0xffff_ff80),
        ("mov.u32 %r1, 0x12348001; cvt.u16.u32 %rs1, %r1; cvt.s32.s16 %out, %rs1;", 0xffff_8001),
        ("mov.u32 %r1, 0x12348001; cvt.u16.u32 %rs1, %r1; cvt.u32.u16 %out, %rs1;", 0x8001),
        ("mov.u32 %r1, -3; cvt.s64.s32 %rd1, %r1; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %out, %rd1;", u32::MAX),
        ("mov.u32 %r1, -3; cvt.u64.u32 %rd1, %r1; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %out, %rd1;", 0),
        ("mov.u32 %r1, 300; cvt.sat.u8.s32 %rs1, %r1; cvt.u32.u16 %out, %rs1;", 255),
        ("mov.u32 %r1, -300; cvt.sat.s8.s32 %rs1, %r1; cvt.s32.s16 %out, %rs1;", -128i32 as u32),
        ("mov.u32 %r1, -1; cvt.sat.u32.s32 %out, %r1;", 0),
        ("mov.u64 %rd1, 0x100000000; cvt.sat.u32.u64 %out, %rd1;", u32::MAX),
        ("mov.u32 %r1, 0x80; cvt.s16.s8 %rs1, %r1; cvt.u32.u16 %out, %rs1;", 0xff80),
    ]);
}

#[test]
fn floats_to_integers() {
    run(&[
        (format!("mov.f32 %f1, {}; cvt.rzi.s32.f32 %out, %f1;", f(-2.7)), -2i32 as u32),
        (format!("mov.f32 %f1, {}; cvt.rni.s32.f32 %out, %f1;", f(2.5)), 2),
        (format!("mov.f32 %f1, {}; cvt.rmi.s32.f32 %out, %f1;", f(-2.1)), -3i32 as u32),
        (format!("mov.f32 %f1, {}; cvt.rpi.s32.f32 %out, %f1;", f(2.1)), 3),
        (format!("mov.f32 %f1, {}; cvt.rzi.u32.f32 %out, %f1;", f(-5.0)), 0),
        (format!("mov.f32 %f1, {}; cvt.rzi.s32.f32 %out, %f1;", f(1e20)), i32::MAX as u32),
        (format!("mov.f32 %f1, {}; cvt.rzi.s32.f32 %out, %f1;", f(f32::NAN)), 0),
        (format!("mov.f32 %f1, {}; cvt.rzi.u8.f32 %rs1, %f1; cvt.u32.u16 %out, %rs1;", f(300.0)), 255),
        (format!("mov.f32 %f1, {}; cvt.rni.sat.u8.f32 %rs1, %f1; cvt.u32.u16 %out, %rs1;", f(-3.0)), 0),
        (format!("mov.f32 %f1, {}; cvt.rzi.s64.f32 %rd1, %f1; cvt.u32.u64 %out, %rd1;", f(-3.5)), -3i32 as u32),
        (format!("mov.f64 %fd1, {}; cvt.rzi.s32.f64 %out, %fd1;", d(-7.9)), -7i32 as u32),
        (format!("mov.f64 %fd1, {}; cvt.rni.u64.f64 %rd1, %fd1; cvt.u32.u64 %out, %rd1;", d(3.5)), 4),
        ("mov.b16 %rs1, 0x4100; cvt.rzi.s32.f16 %out, %rs1;".into(), 2),
    ]);
}

#[test]
fn integers_to_floats() {
    run(&[
        ("mov.u32 %r1, -3; cvt.rn.f32.s32 %f0, %r1; mov.b32 %out, %f0;".into(), (-3f32).to_bits()),
        ("mov.u32 %r1, -1; cvt.rn.f32.u32 %f0, %r1; mov.b32 %out, %f0;".into(), (u32::MAX as f32).to_bits()),
        ("mov.u32 %r1, 0x1000001; cvt.rz.f32.u32 %f0, %r1; mov.b32 %out, %f0;".into(), 16777216f32.to_bits()),
        ("mov.u32 %r1, 0x1000001; cvt.rp.f32.u32 %f0, %r1; mov.b32 %out, %f0;".into(), 16777218f32.to_bits()),
        ("mov.u64 %rd1, -5; cvt.rn.f32.s64 %f0, %rd1; mov.b32 %out, %f0;".into(), (-5f32).to_bits()),
        ("mov.b16 %rs1, 0xffff; cvt.rn.f32.s16 %f0, %rs1; mov.b32 %out, %f0;".into(), (-1f32).to_bits()),
        ("mov.b16 %rs1, 0xff; cvt.rn.f32.u8 %f0, %rs1; mov.b32 %out, %f0;".into(), 255f32.to_bits()),
        (
            "mov.u32 %r1, 7; cvt.rn.f64.s32 %fd1, %r1; cvt.rn.f32.f64 %f0, %fd1; mov.b32 %out, %f0;".into(),
            7f32.to_bits(),
        ),
        ("mov.u32 %r1, 3; cvt.rn.f16.s32 %rs1, %r1; cvt.u32.u16 %out, %rs1;".into(), 0x4200),
        ("mov.u32 %r1, 3; cvt.rn.bf16.u32 %rs1, %r1; cvt.u32.u16 %out, %rs1;".into(), 0x4040),
    ]);
}

#[test]
fn floats_to_floats() {
    let to16 = |op: &str, v: f32| format!("mov.f32 %f1, {}; {op} %rs1, %f1; cvt.u32.u16 %out, %rs1;", f(v));
    let pair = |op: &str, a: f32, b: f32| format!("{op} %out, {}, {};", f(a), f(b));
    run(&[
        (to16("cvt.rn.f16.f32", 1.0 / 3.0), 0x3555),
        (to16("cvt.rz.f16.f32", 2.0 / 3.0), 0x3955),
        (to16("cvt.rn.bf16.f32", 1.0 / 3.0), 0x3eab),
        (to16("cvt.rz.bf16.f32", 1.0 / 3.0), 0x3eaa),
        (to16("cvt.rn.relu.bf16.f32", -1.0), 0),
        (to16("cvt.rn.f16.f32", 1e6), 0x7c00),
        ("mov.b16 %rs1, 0x3555; cvt.f32.f16 %f0, %rs1; mov.b32 %out, %f0;".into(), 0x3eaa_a000),
        ("mov.b16 %rs1, 0x3eab; cvt.f32.bf16 %f0, %rs1; mov.b32 %out, %f0;".into(), 0x3eab_0000),
        (pair("cvt.rn.bf16x2.f32", 1.0, 2.0), 0x3f80_4000),
        (pair("cvt.rn.f16x2.f32", 1.0, 2.0), 0x3c00_4000),
        (pair("cvt.rn.relu.f16x2.f32", -1.0, 2.0), 0x0000_4000),
        (pair("cvt.rz.bf16x2.f32", 1.0 / 3.0, 1.0), 0x3eaa_3f80),
        (format!("cvt.rna.tf32.f32 %out, {};", f(1.0 / 3.0)), 0x3eaa_a000),
        (format!("cvt.rn.satfinite.e4m3x2.f32 %rs1, {}, {}; cvt.u32.u16 %out, %rs1;", f(1.0), f(1000.0)), 0x387e),
        (format!("cvt.rn.satfinite.e5m2x2.f32 %rs1, {}, {}; cvt.u32.u16 %out, %rs1;", f(1.0), f(-2.0)), 0x3cc0),
        ("mov.b16 %rs1, 0x3840; cvt.rn.f16x2.e4m3x2 %out, %rs1;".into(), 0x3c00_4000),
        ("mov.u32 %r1, 0x3c004000; cvt.rn.satfinite.e4m3x2.f16x2 %rs1, %r1; cvt.u32.u16 %out, %rs1;".into(), 0x3840),
        (format!("cvt.rni.f32.f32 %f0, {}; mov.b32 %out, %f0;", f(2.5)), 2f32.to_bits()),
        (format!("cvt.rpi.f32.f32 %f0, {}; mov.b32 %out, %f0;", f(2.1)), 3f32.to_bits()),
        (format!("cvt.sat.f32.f32 %f0, {}; mov.b32 %out, %f0;", f(2.5)), 1f32.to_bits()),
        (format!("cvt.ftz.f32.f32 %f0, {}; mov.b32 %out, %f0;", f(1e-40)), 0),
        (format!("mov.f64 %fd1, {}; cvt.rz.f32.f64 %f0, %fd1; mov.b32 %out, %f0;", d(1.0 / 3.0)), 0x3eaa_aaaa),
        (format!("mov.f64 %fd1, {}; cvt.rn.bf16.f64 %rs1, %fd1; cvt.u32.u16 %out, %rs1;", d(1.0 / 3.0)), 0x3eab),
        (format!("cvt.f64.f32 %fd1, {}; cvt.rzi.s32.f64 %out, %fd1;", f(-9.5)), -9i32 as u32),
    ]);
}

#[test]
fn packing() {
    all(&[
        ("mov.b16 %rs1, 0x1111; mov.b16 %rs2, 0x2222; mov.b32 %out, {%rs1, %rs2};", 0x2222_1111),
        ("mov.b32 {%rs1, %rs2}, 0x22221111; cvt.u32.u16 %out, %rs2;", 0x2222),
        ("mov.b64 %rd1, {%r0, 7}; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %out, %rd1;", 7),
        ("mov.b64 {%r1, %out}, 0x500000006;", 5),
        ("mov.b64 {_, %out}, 0x500000006;", 5),
        (
            "mov.b16 %rs1, 1; mov.b16 %rs2, 2; mov.b16 %rs3, 3; mov.b16 %rs4, 4; mov.b64 %rd1, {%rs1, %rs2, %rs3, %rs4}; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %out, %rd1;",
            0x0004_0003,
        ),
    ]);
}
