//! Branches, tables, calls, special registers, and what is refused.

use super::common::{Arg, HEAD, Program, Shape, expect, lanes_of};
use cuda_sim::check::Kind;
use cuda_sim::ptx::Module;

#[test]
fn tables_of_branches() {
    let lanes = lanes_of(
        "mov.u32 %out, 99;\nand.b32 %r1, %r0, 3;\n$T: .branchtargets $A, $B, $C, $C;\nbrx.idx %r1, $T;\n\
         $A:\nmov.u32 %out, 1;\nbra $E;\n$B:\nmov.u32 %out, 2;\nbra $E;\n$C:\nmov.u32 %out, 3;\n$E:",
    );
    assert!((0..32).all(|l| lanes[l] == [1, 2, 3, 3][l % 4]), "{lanes:?}");
}

/// The upper lanes hold a 32-bit value behind the loop while the lower ones still do 64-bit work in it: a row of the
/// one must not be half of a row pair of the other.
#[test]
fn widths_do_not_mix_between_lanes() {
    let lanes = lanes_of(
        "mov.u32 %r1, 0;\nLOOP:\nmul.wide.u32 %rd5, %r0, 0x10001;\nadd.u64 %rd6, %rd5, %rd5;\ncvt.u32.u64 %r5, %rd6;\n\
         add.u32 %r6, %r5, 7;\nadd.u32 %r7, %r5, 1;\nadd.u32 %r8, %r5, 2;\nadd.u32 %r9, %r5, 3;\n\
         add.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, %r0, 16;\nsetp.lt.and.u32 %p2, %r1, 5, %p1;\n@%p2 bra LOOP;\n\
         add.u32 %r10, %r6, %r7;\nadd.u32 %r11, %r8, %r9;\nadd.u32 %out, %r10, %r11;",
    );
    assert!((0..32u32).all(|l| lanes[l as usize] == 4 * l * 0x20002 + 13), "{lanes:?}");
}

#[test]
fn labels_of_blocks_are_their_own() {
    let lanes = lanes_of(
        "mov.u32 %out, 0;\n{\n.reg .pred p;\nsetp.lt.u32 p, %r0, 8;\n@p bra DONE;\nadd.u32 %out, %out, 1;\nDONE:\n}\n\
         {\n.reg .pred p;\nsetp.lt.u32 p, %r0, 16;\n@p bra DONE;\nadd.u32 %out, %out, 2;\nDONE:\n}",
    );
    assert!((0..32).all(|l| lanes[l] == u32::from(l >= 8) + 2 * u32::from(l >= 16)), "{lanes:?}");
}

const CALLS: &str = "
.func (.param .b32 square_result) square(.param .b32 square_x, .param .align 4 .b8 square_pair[8])
{
	.reg .b32 %r<5>;
	.reg .pred %p<2>;
	ld.param.u32 %r1, [square_x];
	ld.param.u32 %r2, [square_pair+4];
	setp.gt.u32 %p1, %r1, 20;
	@%p1 bra $L_big;
	mad.lo.u32 %r3, %r1, %r1, %r2;
	st.param.b32 [square_result+0], %r3;
	ret;
$L_big:
	mov.u32 %r4, 0;
	st.param.b32 [square_result+0], %r4;
	ret;
}
.visible .entry calls(.param .u64 calls_out)
{
	.reg .b32 %r<6>;
	.reg .b64 %rd<4>;
	.reg .pred %p<2>;
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, 777;
	setp.ne.u32 %p1, %r1, 5;
	@!%p1 bra $L_skip;
	{
	.param .b32 param0;
	st.param.b32 [param0+0], %r1;
	.param .align 4 .b8 param1[8];
	st.param.b32 [param1+0], 1;
	st.param.b32 [param1+4], 100;
	.param .b32 retval0;
	call.uni (retval0), square, (param0, param1);
	ld.param.b32 %r2, [retval0+0];
	}
$L_skip:
	ld.param.u64 %rd1, [calls_out];
	mul.wide.u32 %rd2, %r1, 4;
	add.s64 %rd3, %rd1, %rd2;
	st.global.u32 [%rd3], %r2;
	ret;
}
";

#[test]
fn device_functions() {
    let program = Program::new(CALLS);
    let out = program.blank(128);
    program.run("calls", &Shape::new(1, 32), &[Arg::U64(out)]);
    let values: Vec<u32> = program.download(out, 32);
    let expected = |i: u32| match i {
        5 => 777,
        i if i > 20 => 0,
        i => i * i + 100,
    };
    assert!((0..32).all(|i| values[i as usize] == expected(i)), "{values:?}");
}

#[test]
fn inline_assembly_may_be_terse() {
    super::all(&[
        ("{.reg.b32 a,b;mov.b32 a,7;\n add.u32 b,a,a;mov.b32 %out,b;}", 14),
        ("mov.u32 %out, WARP_SZ;", 32),
        ("add.u32 %out, %r0, WARP_SZ;", 32),
    ]);
}

#[test]
fn special_registers() {
    let program = Program::new(
        ".visible .entry where(.param .u64 where_out)\n{\n.reg .b32 %r<20>;\n.reg .b64 %rd<5>;\n\
         mov.u32 %r1, %tid.x;\nmov.u32 %r2, %tid.y;\nmov.u32 %r3, %ntid.x;\nmov.u32 %r4, %ntid.y;\n\
         mov.u32 %r5, %ctaid.x;\nmov.u32 %r6, %ctaid.y;\nmov.u32 %r7, %nctaid.x;\n\
         mad.lo.u32 %r8, %r6, %r7, %r5;\nmul.lo.u32 %r9, %r3, %r4;\nmad.lo.u32 %r10, %r2, %r3, %r1;\n\
         mad.lo.u32 %r11, %r8, %r9, %r10;\nmov.u32 %r12, %laneid;\nmov.u32 %r13, %warpid;\n\
         mad.lo.u32 %r14, %r13, 32, %r12;\nmov.u32 %r15, %lanemask_lt;\npopc.b32 %r16, %r15;\n\
         sub.u32 %r17, %r16, %r12;\nmad.lo.u32 %r18, %r17, 1000, %r14;\n\
         ld.param.u64 %rd1, [where_out];\nmul.wide.u32 %rd2, %r11, 4;\nadd.s64 %rd3, %rd1, %rd2;\n\
         st.global.u32 [%rd3], %r18;\nret;\n}\n",
    );
    let out = program.blank(4 * 6 * 40);
    let shape = Shape { grid: [3, 2, 1], block: [8, 5, 1], cluster: [1; 3], shared: 0 };
    program.run("where", &shape, &[Arg::U64(out)]);
    let values: Vec<u32> = program.download(out, 240);
    assert!(values.iter().enumerate().all(|(i, v)| *v == i as u32 % 40), "{values:?}");
}

#[test]
fn clocks_go_forward() {
    let lanes = lanes_of(
        "mov.u64 %rd1, %clock64; mov.u64 %rd2, %clock64; setp.gt.u64 %p1, %rd2, %rd1; selp.u32 %out, 1, 0, %p1;",
    );
    assert_eq!(lanes[0], 1);
}

#[test]
fn traps_and_assertions() {
    let program = Program::new(
        ".visible .entry t()\n{\n.reg .pred %p<2>;\n.reg .b32 %r<2>;\nmov.u32 %r1, %tid.x;\nsetp.eq.u32 %p1, %r1, 9;\n@%p1 trap;\nret;\n}\n",
    );
    let finding = program.finds("t", &Shape::new(1, 32), &[]);
    expect(&finding, Kind::Trap);
    let program = Program::new(
        ".extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);\n\
         .global .align 1 .b8 msg[3] = {110, 62, 0};\n.visible .entry t()\n{\n.reg .b64 %rd<3>;\nmov.u64 %rd1, msg;\n\
         cvta.global.u64 %rd2, %rd1;\n{\n.param .b64 p0;\nst.param.b64 [p0], %rd2;\n.param .b64 p1;\nst.param.b64 [p1], %rd2;\n\
         .param .b32 p2;\nst.param.b32 [p2], 12;\n.param .b64 p3;\nst.param.b64 [p3], %rd2;\n.param .b64 p4;\nst.param.b64 [p4], 1;\n\
         call.uni __assertfail, (p0, p1, p2, p3, p4);\n}\nret;\n}\n",
    );
    let finding = program.finds("t", &Shape::new(1, 1), &[]);
    expect(&finding, Kind::Assert);
    assert!(finding.text.contains("`n>`"), "{finding}");
}

#[test]
fn unknown_text_is_refused_with_its_line() {
    for (body, what) in [
        ("frobnicate.u32 %r1, %r1;", "frobnicate"),
        ("add.u32.sideways %r1, %r1, %r1;", ".sideways"),
        ("add.u32 %r1, %r1, %r9;", "%r9"),
        ("add.u64 %rd1, %r1, %rd1;", "%r1"),
        ("bra $nowhere;", "$nowhere"),
        ("add.u32 %r1, %r1, %r1, %r1;", "operands"),
        ("mov.u32 %r1, %pm0;", "%pm0"),
        ("ld.global.f16x3 %r1, [%rd1];", "f16x3"),
        ("lop3.b32 %r1, %r1, %r1, %r1, %r1;", "immediate"),
        ("shfl.down.b32 %r1, %r1, 1, 31;", ".sync"),
        ("tcgen05.alloc.cta_group::1.sync.aligned.b32 [%r1], 32;", "tcgen05"),
        ("tex.2d.v4.f32.f32 {%r1, %r1, %r1, %r1}, [%rd1, {%r1, %r1}];", "tex"),
    ] {
        let text = format!("{HEAD}.visible .entry k()\n{{\n.reg .b32 %r<4>;\n.reg .b64 %rd<4>;\n{body}\nret;\n}}\n");
        let error = Module::parse(&text).expect_err(body);
        assert!(error.what.contains(what) && error.line == 8, "{body}: {error}");
    }
    assert!(Module::parse("\u{7f}ELF").is_err());
    assert!(
        Module::parse(".version 9.0\n.target sm_100a\n.address_size 64\n").expect_err("newer").what.contains("sm_100a")
    );
}
