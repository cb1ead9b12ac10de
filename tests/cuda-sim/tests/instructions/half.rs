//! f16, bf16 and their pairs. 1.0 is 0x3c00 and 0x3f80, 2.0 is 0x4000 in both.

use super::all;

#[test]
fn pairs() {
    all(&[
        ("add.f16x2 %out, 0x3c004000, 0x3c003c00;", 0x4000_4200),
        ("add.rn.bf16x2 %out, 0x3f804000, 0x3f803f80;", 0x4000_4040),
        ("sub.f16x2 %out, 0x3c004000, 0x3c003c00;", 0x0000_3c00),
        ("mul.bf16x2 %out, 0x40004040, 0x40004000;", 0x4080_40c0),
        ("fma.rn.f16x2 %out, 0x40004000, 0x40004000, 0x3c00bc00;", 0x4500_4200),
        ("fma.rn.relu.bf16x2 %out, 0x4000c000, 0x40004000, 0x3f803f80;", 0x40a0_0000),
        ("min.f16x2 %out, 0x3c004000, 0x40003c00;", 0x3c00_3c00),
        ("max.bf16x2 %out, 0x3f804000, 0x40003f80;", 0x4000_4000),
        ("max.NaN.bf16x2 %out, 0x7fc04000, 0x40003f80;", 0x7fff_4000),
        ("max.bf16x2 %out, 0x7fc04000, 0x40003f80;", 0x4000_4000),
        ("neg.f16x2 %out, 0x3c00bc00;", 0xbc00_3c00),
        ("abs.bf16x2 %out, 0xbf80bf80;", 0x3f80_3f80),
        ("ex2.approx.f16x2 %out, 0x3c000000;", 0x4000_3c00),
        ("ex2.approx.ftz.bf16x2 %out, 0x3f800000;", 0x4000_3f80),
        ("tanh.approx.bf16x2 %out, 0x00000000;", 0),
        ("add.sat.f16x2 %out, 0x3c004000, 0x3c003c00;", 0x3c00_3c00),
    ]);
}

#[test]
fn single() {
    let one = |body: &str| format!("mov.b16 %rs1, 0x4000; mov.b16 %rs2, 0x3f80; {body} cvt.u32.u16 %out, %rs3;");
    let cases = [
        (one("add.bf16 %rs3, %rs1, %rs2;"), 0x4040),
        (one("sub.bf16 %rs3, %rs1, %rs2;"), 0x3f80),
        (one("mul.bf16 %rs3, %rs1, %rs1;"), 0x4080),
        (one("fma.rn.bf16 %rs3, %rs1, %rs1, %rs2;"), 0x40a0),
        (one("neg.bf16 %rs3, %rs1;"), 0xc000),
        (one("add.f16 %rs3, %rs1, %rs1;"), 0x4400),
        (one("max.f16 %rs3, %rs1, %rs2;"), 0x4000),
        (one("ex2.approx.f16 %rs3, %rs1;"), 0x4400),
        (one("setp.gt.bf16 %p1, %rs1, %rs2; selp.b16 %rs3, %rs1, %rs2, %p1;"), 0x4000),
    ];
    let cases: Vec<(&str, u32)> = cases.iter().map(|(b, v)| (b.as_str(), *v)).collect();
    all(&cases);
}

#[test]
fn comparisons_of_pairs() {
    all(&[
        (
            "setp.gt.f16x2 %p1|%p2, 0x40003c00, 0x3c004000; selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; or.b32 %out, %r1, %r2;",
            2,
        ),
        ("set.gt.f16x2.f16x2 %out, 0x40003c00, 0x3c004000;", 0x3c00_0000),
        ("set.lt.u32.bf16x2 %out, 0x40003f80, 0x3f804000;", 0x0000_ffff),
    ]);
}
