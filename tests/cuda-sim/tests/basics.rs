//! Kernels of the simplest kind: does anything run at all.

mod common;

use common::{Arg, Program, Shape, expect, lanes_of, value_of};
use cuda_sim::check::Kind;

const SAXPY: &str = "
.visible .entry saxpy(.param .u64 saxpy_x, .param .u64 saxpy_y, .param .f32 saxpy_a, .param .u32 saxpy_n)
{
	.reg .pred %p<2>;
	.reg .f32 %f<5>;
	.reg .b32 %r<6>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [saxpy_x];
	ld.param.u64 %rd2, [saxpy_y];
	ld.param.f32 %f1, [saxpy_a];
	ld.param.u32 %r2, [saxpy_n];
	mov.u32 %r3, %ctaid.x;
	mov.u32 %r4, %ntid.x;
	mov.u32 %r5, %tid.x;
	mad.lo.s32 %r1, %r3, %r4, %r5;
	setp.ge.s32 %p1, %r1, %r2;
	@%p1 bra $L__done;
	cvta.to.global.u64 %rd3, %rd1;
	mul.wide.s32 %rd4, %r1, 4;
	add.s64 %rd5, %rd3, %rd4;
	ld.global.f32 %f2, [%rd5];
	cvta.to.global.u64 %rd6, %rd2;
	add.s64 %rd7, %rd6, %rd4;
	ld.global.f32 %f3, [%rd7];
	fma.rn.f32 %f4, %f2, %f1, %f3;
	st.global.f32 [%rd7], %f4;
$L__done:
	ret;
}
";

#[test]
fn saxpy_of_any_length() {
    for n in [1, 31, 32, 33, 1000] {
        let program = Program::new(SAXPY);
        let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let y = vec![1f32; n];
        let (dx, dy) = (program.upload(&x), program.upload(&y));
        let args = [Arg::U64(dx), Arg::U64(dy), Arg::F32(2.0), Arg::U32(n as u32)];
        let stats = program.run("saxpy", &Shape::new((n as u32).div_ceil(128), 128), &args);
        assert!(stats.lane_instructions > 10 * n as u64);
        let out: Vec<f32> = program.download(dy, n);
        assert!(out.iter().enumerate().all(|(i, v)| *v == 2.0 * i as f32 + 1.0), "{n}: {out:?}");
    }
}

#[test]
fn out_of_bounds_names_the_thread() {
    let program = Program::new(SAXPY);
    let (dx, dy) = (program.upload(&[1f32; 100]), program.upload(&[1f32; 100]));
    let args = [Arg::U64(dx), Arg::U64(dy), Arg::F32(2.0), Arg::U32(101)];
    let finding = program.finds("saxpy", &Shape::new(2, 64), &args);
    expect(&finding, Kind::OutOfBounds);
    assert_eq!((finding.block, finding.thread, finding.ptx_line), ([1, 0, 0], Some([36, 0, 0]), 24));
}

#[test]
fn warp_instructions() {
    let up = lanes_of("shfl.sync.up.b32 %out|%p1, %r0, 1, 0, -1;");
    assert!((1..32).all(|l| up[l] == l as u32 - 1) && up[0] == 0);
    let bfly = lanes_of("shfl.sync.bfly.b32 %out, %r0, 16, 31, -1;");
    assert!((0..32).all(|l| bfly[l] == l as u32 ^ 16));
    let segments = lanes_of("mov.u32 %r1, 7; shfl.sync.idx.b32 %out, %r0, %r1, 0x181f, -1;");
    assert!((0..32).all(|l| segments[l] == (l as u32 & 24) + 7), "{segments:?}");
    let down = lanes_of("shfl.sync.down.b32 %out, %r0, 4, 31, -1;");
    assert!((0..32).all(|l| down[l] == if l < 28 { l as u32 + 4 } else { l as u32 }));
    let ballot = lanes_of("setp.lt.u32 %p1, %r0, 5; vote.sync.ballot.b32 %out, %p1, -1;");
    assert_eq!(ballot, [31; 32]);
    assert_eq!(value_of("redux.sync.add.u32 %out, %r0, -1;"), 496);
    assert_eq!(value_of("mov.u32 %r1, 0; sub.u32 %r1, %r1, %r0; redux.sync.min.s32 %out, %r1, -1;"), -31i32 as u32);
    let matched = lanes_of("and.b32 %r1, %r0, 3; match.any.sync.b32 %out, %r1, -1;");
    assert_eq!(matched[1], 0x2222_2222);
    let leader = lanes_of("elect.sync %r1|%p1, -1; selp.b32 %out, 7, 9, %p1;");
    assert_eq!((leader[0], leader[1]), (7, 9));
}

#[test]
fn lanes_diverge_and_meet() {
    let loops = lanes_of(
        "mov.u32 %r1, 0; mov.u32 %r2, 0;\nLOOP:\nsetp.ge.u32 %p1, %r1, %r0;\n@%p1 bra DONE;\nadd.u32 %r2, %r2, %r1;\n\
         add.u32 %r1, %r1, 1;\nbra LOOP;\nDONE:\nshfl.sync.idx.b32 %r3, %r2, 31, 31, -1;\nadd.u32 %out, %r2, %r3;",
    );
    assert!((0..32u32).all(|l| loops[l as usize] == l * l.saturating_sub(1) / 2 + 465), "{loops:?}");
}
