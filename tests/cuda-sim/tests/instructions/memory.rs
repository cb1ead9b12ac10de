//! Loads, stores and atomics in every state space.

use super::common::{Arg, Program, Shape, lanes_of};

/// A kernel of one warp with a pointer to data and one to results; `%r0` is the lane.
fn kernel(declarations: &str, body: &str) -> Program {
    Program::new(&format!(
        "{declarations}\n.visible .entry k(.param .u64 k_in, .param .u64 k_out, .param .align 16 .b8 k_block[32])\n{{\n\
         .reg .b32 %r<64>;\n.reg .b64 %rd<64>;\n.reg .f32 %f<64>;\n.reg .f64 %fd<8>;\n.reg .b16 %rs<64>;\n.reg .pred %p<16>;\n\
         mov.u32 %r0, %tid.x;\nld.param.u64 %rd0, [k_in];\nld.param.u64 %rd1, [k_out];\n{body}\nret;\n}}\n"
    ))
}

fn run(program: &Program, input: &[u32], results: usize) -> Vec<u32> {
    let (a, b) = (program.upload(input), program.upload(&vec![0u32; results]));
    program.run("k", &Shape::new(1, 32), &[Arg::U64(a), Arg::U64(b), Arg::U64(0x1122_3344_5566_7788)]);
    program.download(b, results)
}

/// `out[lane] = %r1`.
const STORE: &str = "mul.wide.u32 %rd60, %r0, 4;\nadd.s64 %rd60, %rd1, %rd60;\nst.global.u32 [%rd60], %r1;";

#[test]
fn widths_and_signs() {
    let load = |ty: &str, reg: &str| {
        let body = format!("ld.global.{ty} {reg}, [%rd0+4];\n{STORE}");
        run(&kernel("", &body), &[0, 0x8182_8384, 5], 32)[0]
    };
    assert_eq!(load("u8", "%r1"), 0x84);
    assert_eq!(load("s8", "%r1"), 0xffff_ff84);
    assert_eq!(load("u16", "%r1"), 0x8384);
    assert_eq!(load("s16", "%r1"), 0xffff_8384);
    assert_eq!(load("b32", "%r1"), 0x8182_8384);
    let body = format!("ld.global.s8 %rd5, [%rd0+4];\nshr.u64 %rd5, %rd5, 32;\ncvt.u32.u64 %r1, %rd5;\n{STORE}");
    assert_eq!(run(&kernel("", &body), &[0, 0x80], 32)[0], u32::MAX);
    let body =
        format!("st.global.u8 [%rd1+256], %r0;\nld.global.nc.u8 %rs1, [%rd0+1];\ncvt.u32.u16 %r1, %rs1;\n{STORE}");
    assert_eq!(run(&kernel("", &body), &[0x1234, 0], 65)[0], 0x12);
}

#[test]
fn vectors() {
    let body = "mul.wide.u32 %rd2, %r0, 16;\nadd.s64 %rd3, %rd0, %rd2;\nadd.s64 %rd4, %rd1, %rd2;\n\
                ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd3];\nld.global.v2.f32 {%f1, %f2}, [%rd3+8];\n\
                mov.b32 %r5, %f1;\nst.global.v4.b32 [%rd4], {%r4, %r5, %r2, %r1};";
    let input: Vec<u32> = (0..128).collect();
    let out = run(&kernel("", body), &input, 128);
    assert!((0..32).all(|l| (0..4).all(|i| out[4 * l + i] == (4 * l + 3 - i) as u32)), "{out:?}");
    // Gathered, partly masked.
    let body = format!(
        "xor.b32 %r2, %r0, 5;\nmul.wide.u32 %rd2, %r2, 8;\nadd.s64 %rd3, %rd0, %rd2;\nmov.u32 %r1, 0;\n\
         setp.lt.u32 %p1, %r0, 20;\n@%p1 ld.global.v2.u32 {{_, %r1}}, [%rd3];\n{STORE}"
    );
    let out = run(&kernel("", &body), &input, 32);
    assert!((0..32u32).all(|l| out[l as usize] == if l < 20 { 2 * (l ^ 5) + 1 } else { 0 }), "{out:?}");
}

#[test]
fn shared_local_constant_parameters() {
    let body = format!(
        "shl.b32 %r2, %r0, 2;\nmov.u32 %r3, tile;\nadd.s32 %r4, %r3, %r2;\nst.shared.u32 [%r4], %r0;\nbar.sync 0;\n\
         mov.u32 %r5, 31;\nsub.s32 %r6, %r5, %r0;\nshl.b32 %r6, %r6, 2;\nadd.s32 %r6, %r3, %r6;\nld.shared.u32 %r1, [%r6];\n{STORE}"
    );
    let out = run(&kernel(".shared .align 4 .b8 tile[128];", &body), &[0], 32);
    assert!((0..32).all(|l| out[l] == 31 - l as u32));
    // Through generic addresses, 64-bit shared addresses and named offsets.
    let body = format!(
        "mov.u64 %rd5, tile;\ncvta.shared.u64 %rd6, %rd5;\nst.u32 [%rd6+4], 77;\nbar.warp.sync -1;\nld.shared.u32 %r1, [tile+4];\n\
         cvta.to.shared.u64 %rd7, %rd6;\nld.shared.u32 %r2, [%rd7+4];\nadd.u32 %r1, %r1, %r2;\nisspacep.shared %p1, %rd6;\n\
         @%p1 add.u32 %r1, %r1, 1;\nisspacep.global %p2, %rd6;\n@%p2 add.u32 %r1, %r1, 1000;\n{STORE}"
    );
    assert_eq!(run(&kernel(".shared .align 8 .b8 tile[16];", &body), &[0], 32)[3], 155);
    let body = format!(
        "mov.u64 %rd5, depot;\ncvta.local.u64 %rd6, %rd5;\nmul.lo.u32 %r2, %r0, 3;\nst.u32 [%rd6+8], %r2;\n\
         ld.local.u32 %r1, [depot+8];\n{STORE}"
    );
    let body = format!(".local .align 8 .b8 depot[16];\n{body}");
    let out = run(&kernel("", &body), &[0], 32);
    assert!((0..32).all(|l| out[l] == 3 * l as u32));
    let body = format!(
        "and.b32 %r2, %r0, 3;\nmul.wide.u32 %rd5, %r2, 4;\nmov.u64 %rd6, table;\nadd.s64 %rd7, %rd6, %rd5;\nld.const.u32 %r1, [%rd7];\n{STORE}"
    );
    let out = run(&kernel(".const .align 4 .u32 table[4] = {10, 20, 30, 40};", &body), &[0], 32);
    assert_eq!(out[..5], [10, 20, 30, 40, 10]);
    let body = format!(
        "mov.b64 %rd5, k_block;\ncvta.param.u64 %rd6, %rd5;\nld.u32 %r1, [%rd6+4];\nld.param.u32 %r2, [k_block];\nxor.b32 %r1, %r1, %r2;\n{STORE}"
    );
    assert_eq!(run(&kernel("", &body), &[0], 32)[0], 0x1122_3344 ^ 0x5566_7788);
    let body = format!("ld.global.u64 %rd5, [pointers+8];\nld.global.u32 %r1, [%rd5];\n{STORE}");
    let globals = ".global .align 4 .u32 seven = 7;\n.global .align 4 .u32 eight = 8;\n.global .align 8 .u64 pointers[2] = {seven, generic(eight)};";
    assert_eq!(run(&kernel(globals, &body), &[0], 32)[0], 8);
}

#[test]
fn dynamic_shared_memory_follows_the_static() {
    let body = format!(
        "mov.u32 %r3, dynamic;\nmov.u32 %r4, fixed;\nsub.u32 %r1, %r3, %r4;\nst.shared.u32 [%r3+252], 1;\nand.b32 %r2, %r3, 127;\nadd.u32 %r1, %r1, %r2;\n{STORE}"
    );
    let program = kernel(".extern .shared .align 128 .b8 dynamic[];\n.shared .align 4 .b8 fixed[12];", &body);
    let (a, b) = (program.upload(&[0u32]), program.upload(&[0u32; 32]));
    let shape = Shape { shared: 256, ..Shape::new(1, 32) };
    program.run("k", &shape, &[Arg::U64(a), Arg::U64(b), Arg::U64(0)]);
    assert_eq!(program.download::<u32>(b, 1), [128]);
}

#[test]
fn atomics_of_global_memory() {
    let out = |op: &str, start: u32, value: &str| {
        let program = kernel("", &format!("add.u32 %r2, %r0, {value};\n{op}"));
        let (a, b) = (program.upload(&[start, 0]), program.upload(&[0u32; 32]));
        program.run("k", &Shape::new(1, 32), &[Arg::U64(a), Arg::U64(b), Arg::U64(0)]);
        program.download::<u32>(a, 1)[0]
    };
    assert_eq!(out("red.global.add.u32 [%rd0], %r2;", 5, "0"), 5 + 496);
    assert_eq!(out("atom.global.max.u32 %r3, [%rd0], %r2;", 5, "0"), 31);
    assert_eq!(out("atom.global.min.s32 %r3, [%rd0], %r2;", 5, "-3"), -3i32 as u32);
    assert_eq!(out("atom.global.or.b32 %r3, [%rd0], %r2;", 32, "0"), 63);
    assert_eq!(out("atom.global.inc.u32 %r3, [%rd0], 9;", 0, "0"), 2);
    assert_eq!(out("atom.global.dec.u32 %r3, [%rd0], 9;", 0, "0"), 8);
    assert_eq!(out("atom.global.cas.b32 %r3, [%rd0], %r0, %r2;", 0, "1"), 32);
    assert_eq!(out("mov.b32 %f1, 0f3F000000;\nred.relaxed.gpu.global.add.f32 [%rd0], %f1;", 0, "0"), 16f32.to_bits());
    assert_eq!(out("mov.u32 %r4, 0x3f803f80;\natom.global.add.noftz.bf16x2 %r3, [%rd0], %r4;", 0, "0"), 0x4200_4200);
    assert_eq!(out("mov.b32 %f1, 0f3F800000;\nred.global.v2.f32.add [%rd0], {%f1, %f1};", 0, "0"), 32f32.to_bits());
}

#[test]
fn atomics_of_shared_memory() {
    let body = format!(
        "setp.eq.u32 %p1, %r0, 0;\n@%p1 st.shared.u32 [cell], 100;\nbar.warp.sync -1;\natom.shared.add.u32 %r2, [cell], %r0;\n\
         red.shared.add.u32 [cell], 1;\nbar.sync 0;\nld.shared.u32 %r1, [cell];\n{STORE}"
    );
    assert_eq!(run(&kernel(".shared .align 4 .u32 cell;", &body), &[0], 32)[7], 100 + 496 + 32);
}

#[test]
fn a_lock_between_lanes_makes_progress() {
    // Each lane takes a lock, counts, releases: needs lanes that are scheduled on their own.
    let body = "mov.u64 %rd5, %rd0;\nLOOP:\natom.global.cas.b32 %r2, [%rd5], 0, 1;\nsetp.ne.u32 %p1, %r2, 0;\n@%p1 bra LOOP;\n\
                ld.volatile.global.u32 %r3, [%rd1];\nadd.u32 %r3, %r3, 1;\nst.volatile.global.u32 [%rd1], %r3;\nmembar.gl;\n\
                atom.global.exch.b32 %r4, [%rd5], 0;";
    assert_eq!(run(&kernel("", body), &[0], 1)[0], 32);
}

#[test]
fn active_lanes() {
    let lanes = lanes_of("mov.u32 %out, 0; setp.lt.u32 %p1, %r0, 8; @!%p1 bra $E;\nactivemask.b32 %out;\n$E:");
    assert!((0..32).all(|l| lanes[l] == if l < 8 { 0xff } else { 0 }));
}
