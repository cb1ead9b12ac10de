//! Integer arithmetic, logic, shifts, comparisons.

use super::all;
use super::common::lanes_of;

#[test]
fn arithmetic_of_32_bits() {
    all(&[
        ("add.u32 %out, 0xffffffff, 2;", 1),
        ("add.sat.s32 %out, 0x7fffffff, 2;", 0x7fff_ffff),
        ("sub.s32 %out, 3, 5;", -2i32 as u32),
        ("sub.sat.s32 %out, 0x80000000, 1;", 0x8000_0000),
        ("mul.lo.s32 %out, -3, 7;", -21i32 as u32),
        ("mul.hi.u32 %out, 0xffffffff, 0xffffffff;", 0xffff_fffe),
        ("mul.hi.s32 %out, -1, 2;", u32::MAX),
        ("mad.lo.s32 %out, 3, 4, 5;", 17),
        ("mad.hi.u32 %out, 0x80000000, 4, 1;", 3),
        ("mad.hi.s32 %out, 0x80000000, 2, 1;", 0),
        ("mad.hi.sat.s32 %out, 0x7fffffff, 0x7fffffff, 0x7fffffff;", 0x7fff_ffff),
        ("mul24.lo.u32 %out, 0x1000001, 3;", 3),
        ("mul24.hi.u32 %out, 0xffffff, 0xffffff;", 0xffff_fe00),
        ("mul24.lo.s32 %out, 0x00ffffff, 5;", -5i32 as u32),
        ("mad24.lo.s32 %out, 2, 3, 4;", 10),
        ("sad.u32 %out, 3, 10, 1;", 8),
        ("sad.s32 %out, -3, 4, 1;", 8),
        ("div.u32 %out, 100, 7;", 14),
        ("div.s32 %out, -100, 7;", -14i32 as u32),
        ("rem.u32 %out, 100, 7;", 2),
        ("rem.s32 %out, -100, 7;", -2i32 as u32),
        ("abs.s32 %out, -5;", 5),
        ("neg.s32 %out, 5;", -5i32 as u32),
        ("min.s32 %out, -1, 1;", u32::MAX),
        ("min.u32 %out, -1, 1;", 1),
        ("max.s32 %out, -1, 1;", 1),
        ("max.u32 %out, -1, 1;", u32::MAX),
        ("max.s32.relu %out, -1, -7;", 0),
        ("popc.b32 %out, 0xf0f0;", 8),
        ("clz.b32 %out, 0x00010000;", 15),
        ("clz.b32 %out, 0;", 32),
        ("brev.b32 %out, 1;", 0x8000_0000),
        ("bfind.u32 %out, 0x00010000;", 16),
        ("bfind.s32 %out, -1;", u32::MAX),
        ("bfind.s32 %out, -2;", 0),
        ("bfind.shiftamt.u32 %out, 0x00010000;", 15),
        ("bfe.u32 %out, 0xabcd1234, 8, 8;", 0x12),
        ("bfe.s32 %out, 0x0000f000, 8, 8;", 0xffff_fff0),
        ("bfe.s32 %out, 0x80000000, 31, 4;", u32::MAX),
        ("bfe.u32 %out, 0xffffffff, 40, 4;", 0),
        ("bfe.s32 %out, 0xffffffff, 0, 0;", 0),
        ("bfi.b32 %out, 0xff, 0x12345678, 8, 4;", 0x1234_5f78),
        ("bfi.b32 %out, 0xff, 0x12345678, 30, 8;", 0xd234_5678),
        ("fns.b32 %out, 0xaaaa, 3, 2;", 5),
        ("fns.b32 %out, 0xaaaa, 3, -1;", 3),
        ("fns.b32 %out, 0xaaaa, 4, -2;", 1),
        ("fns.b32 %out, 0xaaaa, 0, 9;", u32::MAX),
        ("szext.wrap.u32 %out, 0xffffffff, 36;", 15),
        ("szext.clamp.s32 %out, 0x8, 4;", 0xffff_fff8),
        ("bmsk.clamp.b32 %out, 4, 8;", 0xff0),
        ("bmsk.wrap.b32 %out, 36, 4;", 0xf0),
        ("dp4a.s32.s32 %out, 0xff020304, 0x01010101, 10;", 18),
        ("dp4a.u32.u32 %out, 0xff020304, 0x01010101, 10;", 274),
        ("dp2a.lo.s32.s32 %out, 0xffff0002, 0x04030201, 100;", 100),
        ("dp2a.hi.s32.s32 %out, 0xffff0002, 0x04030201, 100;", 102),
        ("add.u16x2 %out, 0xffff0001, 0x00010001;", 2),
        ("max.s16x2 %out, 0xffff0001, 0x00000000;", 1),
    ]);
}

#[test]
fn division_rounds_to_zero_and_wraps() {
    all(&[
        ("mov.u32 %r1, 0x80000000; mov.u32 %r2, -1; div.s32 %out, %r1, %r2;", 0x8000_0000),
        ("mov.u64 %rd1, -9; mov.u64 %rd2, 4; div.s64 %rd3, %rd1, %rd2; cvt.u32.u64 %out, %rd3;", -2i32 as u32),
        ("mov.u64 %rd1, -9; mov.u64 %rd2, 4; rem.s64 %rd3, %rd1, %rd2; cvt.u32.u64 %out, %rd3;", -1i32 as u32),
        ("mov.b16 %rs1, 1000; mov.b16 %rs2, 7; div.u16 %rs3, %rs1, %rs2; cvt.u32.u16 %out, %rs3;", 142),
    ]);
}

#[test]
fn wide_and_64_bits() {
    let low = |body: &str| format!("{body} cvt.u32.u64 %out, %rd0;");
    let high = |body: &str| format!("{body} shr.u64 %rd0, %rd0, 32; cvt.u32.u64 %out, %rd0;");
    let cases = [
        (high("mul.wide.u32 %rd0, 0xffffffff, 0xffffffff;"), 0xffff_fffe),
        (high("mul.wide.s32 %rd0, -1, 1;"), u32::MAX),
        (low("mad.wide.s32 %rd0, -2, 3, 10;"), 4),
        (high("mad.wide.u32 %rd0, 0x80000000, 4, 0x100000000;"), 3),
        (high("mul.lo.u64 %rd0, 0x100000001, 0x100000001;"), 2),
        (low("mul.hi.u64 %rd0, 0x8000000000000000, 6;"), 3),
        (low("mul.hi.s64 %rd0, -1, 6;"), u32::MAX),
        (low("mad.hi.u64 %rd0, 0x8000000000000000, 6, 1;"), 4),
        (high("shl.b64 %rd0, 1, 40;"), 256),
        (low("shr.s64 %rd0, 0x8000000000000000, 70;"), u32::MAX),
        (low("shl.b64 %rd0, 1, 64;"), 0),
        (high("brev.b64 %rd0, 1;"), 0x8000_0000),
        ("popc.b64 %out, 0xff00000000ff;".into(), 16),
        ("clz.b64 %out, 0x100000000;".into(), 31),
        ("bfind.u64 %out, 0x100000000;".into(), 32),
        (low("bfe.s64 %rd0, 0xf00000000, 32, 4;"), u32::MAX),
        (high("bfi.b64 %rd0, 0xff, 0, 32, 4;"), 15),
        (low("min.s64 %rd0, -1, 1;"), u32::MAX),
        (low("max.u64 %rd0, -1, 1;"), u32::MAX),
        (high("abs.s64 %rd0, 0xffffffff00000000;"), 1),
        (low("sad.u64 %rd0, 1, 10, 5;"), 14),
        ("mov.b16 %rs1, 0xffff; mul.wide.u16 %out, %rs1, %rs1;".into(), 0xfffe_0001),
        ("mov.b16 %rs1, 0xffff; mul.wide.s16 %out, %rs1, %rs1;".into(), 1),
        ("mov.b16 %rs1, 0xffff; mul.hi.u16 %rs2, %rs1, %rs1; cvt.u32.u16 %out, %rs2;".into(), 0xfffe),
        ("mov.b16 %rs1, 0x8000; neg.s16 %rs2, %rs1; cvt.s32.s16 %out, %rs2;".into(), 0xffff_8000),
        (
            "mov.b16 %rs1, 0xffff; add.s16 %rs1, %rs1, %rs1; shr.s16 %rs2, %rs1, 1; cvt.s32.s16 %out, %rs2;".into(),
            u32::MAX,
        ),
    ];
    let cases: Vec<(&str, u32)> = cases.iter().map(|(b, v)| (b.as_str(), *v)).collect();
    all(&cases);
}

#[test]
fn carries() {
    all(&[
        ("add.cc.u32 %r1, 0xffffffff, 1; addc.u32 %out, 0, 0;", 1),
        ("add.cc.u32 %r1, 1, 1; addc.u32 %out, 5, 0;", 5),
        ("add.cc.u32 %r1, 0xffffffff, 1; addc.cc.u32 %r2, 0xffffffff, 0; addc.u32 %out, 0, 0;", 1),
        ("sub.cc.u32 %r1, 0, 1; subc.u32 %out, 5, 0;", 4),
        ("mad.lo.cc.u32 %r1, 0x10000, 0x10000, 0; madc.hi.u32 %out, 0x10000, 0x10000, 0;", 1),
        ("mad.lo.cc.u32 %r1, 0xffff, 0x10001, 1; madc.hi.u32 %out, 0xffff, 0x10001, 7;", 8),
    ]);
}

#[test]
fn bits() {
    all(&[
        ("and.b32 %out, 0xff00ff00, 0x0ff00ff0;", 0x0f00_0f00),
        ("or.b32 %out, 0xf0, 0x0f;", 0xff),
        ("xor.b32 %out, 0xff, 0x0f;", 0xf0),
        ("not.b32 %out, 0;", u32::MAX),
        ("cnot.b32 %out, 0;", 1),
        ("cnot.b32 %out, 9;", 0),
        ("mov.b16 %rs1, 0; not.b16 %rs1, %rs1; cvt.u32.u16 %out, %rs1;", 0xffff),
        ("shl.b32 %out, 1, 31;", 0x8000_0000),
        ("shl.b32 %out, 1, 32;", 0),
        ("shr.u32 %out, 0x80000000, 31;", 1),
        ("shr.s32 %out, 0x80000000, 99;", u32::MAX),
        ("shf.l.wrap.b32 %out, 0x80000000, 1, 33;", 3),
        ("shf.l.clamp.b32 %out, 0x80000000, 1, 33;", 0x8000_0000),
        ("shf.r.wrap.b32 %out, 0x80000000, 1, 4;", 0x1800_0000),
        ("shf.r.clamp.b32 %out, 0x80000000, 1, 40;", 1),
        ("lop3.b32 %out, 0xff00ff00, 0xf0f0f0f0, 0xcccccccc, 0x96;", 0xff00_ff00 ^ 0xf0f0_f0f0 ^ 0xcccc_cccc),
        ("lop3.b32 %out, 0xff00ff00, 0xf0f0f0f0, 0xcccccccc, 0xe8;", 0xfcc0_fcc0),
        // With a predicate: whether the result is not 0, and or or with another.
        ("lop3.or.b32 %r1|%p1, 0xf0, 0x0f, 0, 0xc0, %p0; selp.u32 %out, 1, 0, %p1;", 0),
        ("lop3.or.b32 %r1|%p1, 0xff, 0x0f, 0, 0xc0, %p0; selp.u32 %out, %r1, 0, %p1;", 0x0f),
        ("setp.eq.u32 %p0, 1, 1; lop3.or.b32 %r1|%p1, 0xf0, 0x0f, 0, 0xc0, %p0; selp.u32 %out, 1, 0, %p1;", 1),
        ("lop3.and.b32 _|%p1, 0xff, 0x0f, 0, 0xc0, !%p0; selp.u32 %out, 7, 0, %p1;", 7),
        ("lop3.and.b32 _|%p1, 0xff, 0x0f, 0, 0xc0, %p0; selp.u32 %out, 7, 3, %p1;", 3),
        ("prmt.b32 %out, 0x33221100, 0x77665544, 0x7531;", 0x7755_3311),
        ("prmt.b32 %out, 0x000000f0, 0, 0x8888;", u32::MAX),
        ("prmt.b32.f4e %out, 0x33221100, 0x77665544, 1;", 0x4433_2211),
        ("prmt.b32.b4e %out, 0x33221100, 0x77665544, 1;", 0x6677_0011),
        ("prmt.b32.rc8 %out, 0x33221100, 0x77665544, 2;", 0x2222_2222),
        ("prmt.b32.ecl %out, 0x33221100, 0x77665544, 1;", 0x3322_1111),
        ("prmt.b32.ecr %out, 0x33221100, 0x77665544, 1;", 0x1111_1100),
        ("prmt.b32.rc16 %out, 0x33221100, 0x77665544, 1;", 0x3322_3322),
    ]);
}

#[test]
fn comparisons() {
    all(&[
        ("setp.lt.s32 %p1, -1, 1; selp.u32 %out, 1, 0, %p1;", 1),
        ("setp.lt.u32 %p1, -1, 1; selp.u32 %out, 1, 0, %p1;", 0),
        ("setp.lo.u32 %p1, 1, 2; selp.u32 %out, 1, 0, %p1;", 1),
        ("setp.hs.u32 %p1, 1, 2; selp.u32 %out, 1, 0, %p1;", 0),
        ("setp.ne.s64 %p1, 1, 0x100000001; selp.u32 %out, 1, 0, %p1;", 1),
        ("setp.eq.s32 %p1|%p2, 1, 1; selp.u32 %out, 1, 0, %p2;", 0),
        (
            "setp.eq.s32 %p3, 1, 1; setp.lt.and.s32 %p1|%p2, 1, 2, !%p3; selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; or.b32 %out, %r1, %r2;",
            0,
        ),
        ("setp.eq.s32 %p3, 1, 1; setp.gt.or.s32 %p1, 1, 2, %p3; selp.u32 %out, 1, 0, %p1;", 1),
        ("setp.eq.s32 %p3, 1, 1; setp.lt.xor.s32 %p1, 1, 2, %p3; selp.u32 %out, 1, 0, %p1;", 0),
        ("set.lt.u32.s32 %out, -1, 1;", u32::MAX),
        ("set.lt.f32.s32 %f1, -1, 1; mov.b32 %out, %f1;", 0x3f80_0000),
        ("slct.u32.s32 %out, 5, 6, -1;", 6),
        ("slct.u32.s32 %out, 5, 6, 0;", 5),
        (
            "setp.eq.s32 %p1, 0, 0; not.pred %p2, %p1; and.pred %p3, %p1, %p2; or.pred %p4, %p3, %p1; xor.pred %p5, %p4, %p1; mov.pred %p6, %p4; selp.u32 %r1, 1, 0, %p5; selp.u32 %r2, 2, 0, %p6; or.b32 %out, %r1, %r2;",
            2,
        ),
        ("mov.b16 %rs1, 0xffff; mov.b16 %rs2, 1; setp.lt.s16 %p1, %rs1, %rs2; selp.u32 %out, 1, 0, %p1;", 1),
    ]);
}

#[test]
fn guards_leave_other_lanes_alone() {
    let lanes =
        lanes_of("mov.u32 %out, 7; setp.lt.u32 %p1, %r0, 16; @%p1 mov.u32 %out, 1; @!%p1 add.u32 %out, %out, %r0;");
    assert!((0..32).all(|l| lanes[l] == if l < 16 { 1 } else { 7 + l as u32 }), "{lanes:?}");
    let wide = lanes_of("mov.u64 %rd1, 5; setp.gt.u32 %p1, %r0, 2; @%p1 mov.u64 %rd1, 9; cvt.u32.u64 %out, %rd1;");
    assert!((0..32).all(|l| wide[l] == if l > 2 { 9 } else { 5 }));
}
