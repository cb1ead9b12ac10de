//! Small whole kernels with known answers: control flow, warps, shared memory, barriers, atomics, asynchronous copies
//! of the Ampere kind, memory spaces. Each runs over several seeds: none may be flagged.

use crate::machine::{Arg, HEADER, Machine, Plain, REGISTERS, kernel, load};

const SEEDS: u64 = 20;

/// Runs a kernel of one output over `threads` threads and returns `count` values of it, the same for all seeds.
fn run<T: Plain>(text: &str, threads: u32, count: usize) -> Vec<T> {
    run_with(text, [1; 3], [threads, 1, 1], 0, &[] as &[u32], count)
}

/// The kernel's arguments are the output and, unless it is empty, an input. The output starts as zeros.
fn run_with<I: Plain, T: Plain>(
    text: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    input: &[I],
    count: usize,
) -> Vec<T> {
    let mut answer: Option<Vec<T>> = None;
    for seed in 0..SEEDS {
        let machine = Machine::with_seed(seed);
        let module = load(&machine, text);
        let out = machine.upload(&vec![0u8; count * size_of::<T>()]);
        let mut args = vec![Arg::Ptr(out)];
        if !input.is_empty() {
            args.push(Arg::Ptr(machine.upload(input)));
        }
        let ran = machine.run_shared(&module, grid, block, shared, &args);
        ran.unwrap_or_else(|finding| panic!("{finding}\n{}", crate::machine::numbered(text)));
        let got: Vec<T> = machine.download(out, count);
        if let Some(answer) = &answer {
            assert!(answer.iter().zip(&got).all(|(a, b)| a.same(*b)), "seed {seed} changes the result");
        }
        answer = Some(got);
    }
    answer.unwrap()
}

/// Stores `%r0` of each thread.
fn each(code: &str) -> String {
    kernel(
        1,
        &format!("{code}\n\tmul.wide.u32 %rd20, %r1, 4;\n\tadd.s64 %rd20, %rd20, %rd1;\n\tst.global.u32 [%rd20], %r0;"),
    )
}

fn lanes(f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(f).collect()
}

// --- Control flow ---------------------------------------------------------------------------------------------------

#[test]
fn divergent_branches_rejoin() {
    let text = each(
        "\tand.b32 %r2, %r1, 1;\n\tsetp.eq.u32 %p1, %r2, 0;\n\t@%p1 bra EVEN;\n\tmul.lo.u32 %r0, %r1, 3;\n\tbra.uni DONE;\n\
         EVEN:\n\tadd.u32 %r0, %r1, 100;\nDONE:\n\tadd.u32 %r0, %r0, 1;",
    );
    assert_eq!(run::<u32>(&text, 32, 32), lanes(|i| if i % 2 == 0 { i + 101 } else { 3 * i + 1 }));
}

#[test]
fn loops_of_different_lengths() {
    // Collatz: steps to 1, with a branch inside a loop whose length differs by lane.
    let text = each(
        "\tadd.u32 %r2, %r1, 1;\n\tmov.u32 %r0, 0;\nLOOP:\n\tsetp.eq.u32 %p1, %r2, 1;\n\t@%p1 bra DONE;\n\
         \tand.b32 %r3, %r2, 1;\n\tsetp.eq.u32 %p2, %r3, 0;\n\t@%p2 bra HALF;\n\tmad.lo.u32 %r2, %r2, 3, 1;\n\tbra.uni NEXT;\n\
         HALF:\n\tshr.u32 %r2, %r2, 1;\nNEXT:\n\tadd.u32 %r0, %r0, 1;\n\tbra.uni LOOP;\nDONE:",
    );
    let steps = |i: u32| {
        let mut n = i + 1;
        let mut steps = 0;
        while n != 1 {
            n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
            steps += 1;
        }
        steps
    };
    assert_eq!(run::<u32>(&text, 32, 32), lanes(steps));
}

#[test]
fn predicated_instructions_and_early_exits() {
    let text = each(
        "\tmov.u32 %r0, 7;\n\tsetp.gt.u32 %p1, %r1, 10;\n\t@%p1 mov.u32 %r0, 9;\n\t@!%p1 add.u32 %r0, %r0, %r1;\n\
         \tsetp.ge.u32 %p2, %r1, 20;\n\t@%p2 ret;",
    );
    let expected = lanes(|i| {
        if i >= 20 {
            0
        } else if i > 10 {
            9
        } else {
            7 + i
        }
    });
    assert_eq!(run::<u32>(&text, 32, 32), expected);
}

#[test]
fn branch_tables() {
    let text = each(
        "\tand.b32 %r2, %r1, 3;\n\tTABLE: .branchtargets A, B, C, D;\n\tbrx.idx %r2, TABLE;\nA:\n\tmov.u32 %r0, 10;\n\tbra.uni E;\n\
         B:\n\tmov.u32 %r0, 20;\n\tbra.uni E;\nC:\n\tmov.u32 %r0, 30;\n\tbra.uni E;\nD:\n\tmov.u32 %r0, 40;\nE:",
    );
    assert_eq!(run::<u32>(&text, 32, 32), lanes(|i| 10 * (i % 4 + 1)));
}

#[test]
fn partial_warps_and_several_dimensions() {
    let text = kernel(
        1,
        "\tmov.u32 %r2, %tid.y;\n\tmov.u32 %r3, %tid.z;\n\tmov.u32 %r4, %ntid.x;\n\tmov.u32 %r5, %ntid.y;\n\
         \tmad.lo.u32 %r6, %r3, %r5, %r2;\n\tmad.lo.u32 %r6, %r6, %r4, %r1;\n\tmov.u32 %r7, %ctaid.x;\n\tmov.u32 %r8, %ctaid.y;\n\
         \tmov.u32 %r9, %nctaid.x;\n\tmad.lo.u32 %r10, %r8, %r9, %r7;\n\tmad.lo.u32 %r11, %r10, 42, %r6;\n\
         \tmul.wide.u32 %rd20, %r11, 4;\n\tadd.s64 %rd20, %rd20, %rd1;\n\tadd.u32 %r11, %r11, 5;\n\tst.global.u32 [%rd20], %r11;",
    );
    let got: Vec<u32> = run_with(&text, [3, 2, 1], [7, 3, 2], 0, &[] as &[u32], 42 * 6);
    assert_eq!(got, (5..42 * 6 + 5).collect::<Vec<_>>());
}

// --- Warps ----------------------------------------------------------------------------------------------------------

#[test]
fn shuffles() {
    let shuffled = |code: &str| run::<u32>(&each(&format!("\tmul.lo.u32 %r2, %r1, 10;\n{code}")), 32, 32);
    assert_eq!(shuffled("\tshfl.sync.idx.b32 %r0, %r2, 5, 31, -1;"), lanes(|_| 50));
    assert_eq!(shuffled("\tshfl.sync.bfly.b32 %r0, %r2, 3, 31, -1;"), lanes(|i| 10 * (i ^ 3)));
    assert_eq!(shuffled("\tshfl.sync.down.b32 %r0, %r2, 4, 31, -1;"), lanes(|i| 10 * if i < 28 { i + 4 } else { i }));
    assert_eq!(shuffled("\tshfl.sync.up.b32 %r0, %r2, 4, 0, -1;"), lanes(|i| 10 * if i >= 4 { i - 4 } else { i }));
    // Groups of eight: the clamp's upper half is the mask of the group.
    assert_eq!(
        shuffled("\tshfl.sync.down.b32 %r0, %r2, 4, 0x1807, -1;"),
        lanes(|i| 10 * if i % 8 < 4 { i + 4 } else { i })
    );
    // The predicate says whether the source was in range.
    let text = "\tshfl.sync.down.b32 %r0|%p1, %r2, 1, 31, -1;\n\tselp.u32 %r0, 1, 0, %p1;";
    assert_eq!(shuffled(text), lanes(|i| (i < 31).into()));
}

#[test]
fn votes_matches_and_reductions() {
    let voted = |code: &str| run::<u32>(&each(code), 32, 32);
    let odd = "\tand.b32 %r2, %r1, 1;\n\tsetp.eq.u32 %p1, %r2, 1;\n";
    assert_eq!(voted(&format!("{odd}\tvote.sync.ballot.b32 %r0, %p1, -1;")), lanes(|_| 0xaaaa_aaaa));
    let any = format!("{odd}\tvote.sync.any.pred %p2, %p1, -1;\n\tselp.u32 %r0, 1, 0, %p2;");
    assert_eq!(voted(&any), lanes(|_| 1));
    let all = format!("{odd}\tvote.sync.all.pred %p2, %p1, -1;\n\tselp.u32 %r0, 1, 0, %p2;");
    assert_eq!(voted(&all), lanes(|_| 0));
    let third = "\trem.u32 %r2, %r1, 3;\n";
    let groups = lanes(|i| (0..32).filter(|j| j % 3 == i % 3).fold(0, |m, j| m | 1 << j));
    assert_eq!(voted(&format!("{third}\tmatch.any.sync.b32 %r0, %r2, -1;")), groups);
    assert_eq!(voted("\tmov.u32 %r2, 4;\n\tmatch.all.sync.b32 %r0|%p1, %r2, -1;"), lanes(|_| u32::MAX));
    assert_eq!(voted("\tredux.sync.add.s32 %r0, %r1, -1;"), lanes(|_| 496));
    assert_eq!(voted("\tredux.sync.max.u32 %r0, %r1, -1;"), lanes(|_| 31));
    assert_eq!(voted("\tredux.sync.or.b32 %r0, %r1, -1;"), lanes(|_| 31));
    assert_eq!(voted("\tactivemask.b32 %r0;"), lanes(|_| u32::MAX));
    assert_eq!(voted("\tmov.u32 %r0, %laneid;"), lanes(|i| i));
    assert_eq!(voted("\tmov.u32 %r0, %lanemask_lt;"), lanes(|i| (1u32 << i) - 1));
    assert_eq!(voted("\telect.sync %r2|%p1, -1;\n\tselp.u32 %r0, 1, 0, %p1;").iter().sum::<u32>(), 1);
}

#[test]
fn collectives_of_half_a_warp() {
    let text = each(
        "\tmov.u32 %r0, 1000;\n\tsetp.ge.u32 %p1, %r1, 16;\n\t@%p1 bra DONE;\n\tredux.sync.add.s32 %r0, %r1, 0xffff;\n\
         \tshfl.sync.bfly.b32 %r2, %r1, 1, 31, 0xffff;\n\tadd.u32 %r0, %r0, %r2;\nDONE:\n\tbar.warp.sync -1;",
    );
    assert_eq!(run::<u32>(&text, 32, 32), lanes(|i| if i < 16 { 120 + (i ^ 1) } else { 1000 }));
}

// --- Shared memory and barriers -------------------------------------------------------------------------------------

/// A block of 256 threads reverses its values through shared memory.
fn reverse(shared: &str) -> String {
    let body = "\tmov.u32 %r20, tile;\n\tshl.b32 %r21, %r1, 2;\n\tadd.u32 %r22, %r20, %r21;\n\tmul.lo.u32 %r2, %r1, 7;\n\
         \tst.shared.u32 [%r22], %r2;\n\tbar.sync 0;\n\tmov.u32 %r3, 255;\n\tsub.u32 %r3, %r3, %r1;\n\tshl.b32 %r3, %r3, 2;\n\
         \tadd.u32 %r3, %r20, %r3;\n\tld.shared.u32 %r0, [%r3];";
    let text = each(body);
    if shared.contains("extern") {
        text.replace(HEADER, &format!("{HEADER}{shared}\n"))
    } else {
        text.replace(REGISTERS, &format!("{REGISTERS}\t{shared}\n"))
    }
}

#[test]
fn static_and_dynamic_shared_memory() {
    let expected: Vec<u32> = (0..256).rev().map(|i| i * 7).collect();
    let fixed = reverse(".shared .align 4 .b8 tile[1024];");
    assert_eq!(run::<u32>(&fixed, 256, 256), expected);
    let dynamic = reverse(".extern .shared .align 16 .b8 tile[];");
    assert_eq!(run_with::<u32, u32>(&dynamic, [1; 3], [256, 1, 1], 1024, &[], 256), expected);
}

#[test]
fn block_reduction() {
    // Sum of 0..1024 over 32 warps: shuffles, shared partial sums, shuffles again.
    let body = "\tmov.u32 %r0, %r1;\n\tshfl.sync.bfly.b32 %r2, %r0, 16, 31, -1;\n\tadd.u32 %r0, %r0, %r2;\n\
         \tshfl.sync.bfly.b32 %r2, %r0, 8, 31, -1;\n\tadd.u32 %r0, %r0, %r2;\n\tshfl.sync.bfly.b32 %r2, %r0, 4, 31, -1;\n\
         \tadd.u32 %r0, %r0, %r2;\n\tshfl.sync.bfly.b32 %r2, %r0, 2, 31, -1;\n\tadd.u32 %r0, %r0, %r2;\n\
         \tshfl.sync.bfly.b32 %r2, %r0, 1, 31, -1;\n\tadd.u32 %r0, %r0, %r2;\n\tshr.u32 %r3, %r1, 5;\n\tand.b32 %r4, %r1, 31;\n\
         \tmov.u32 %r20, sums;\n\tshl.b32 %r5, %r3, 2;\n\tadd.u32 %r5, %r20, %r5;\n\tsetp.eq.u32 %p1, %r4, 0;\n\
         \t@%p1 st.shared.u32 [%r5], %r0;\n\tbar.sync 0;\n\tshl.b32 %r6, %r4, 2;\n\tadd.u32 %r6, %r20, %r6;\n\
         \tld.shared.u32 %r0, [%r6];\n\tredux.sync.add.s32 %r0, %r0, -1;";
    let text = each(body).replace(REGISTERS, &format!("{REGISTERS}\t.shared .align 4 .b8 sums[128];\n"));
    assert_eq!(run::<u32>(&text, 1024, 1024), vec![1023 * 1024 / 2; 1024]);
}

#[test]
fn named_barriers_of_two_groups() {
    // Two pairs of warps hand a value over through barriers of their own; then producers arrive and consumers wait.
    let body = "\tshr.u32 %r2, %r1, 6;\n\tadd.u32 %r3, %r2, 1;\n\tmov.u32 %r20, tile;\n\tshl.b32 %r4, %r1, 2;\n\
         \tadd.u32 %r4, %r20, %r4;\n\tst.shared.u32 [%r4], %r1;\n\tbar.sync %r3, 64;\n\txor.b32 %r5, %r1, 32;\n\
         \tshl.b32 %r5, %r5, 2;\n\tadd.u32 %r5, %r20, %r5;\n\tld.shared.u32 %r0, [%r5];\n\tbar.sync 0;\n\
         \tsetp.ge.u32 %p1, %r1, 64;\n\t@%p1 bra CONSUMER;\n\tmul.lo.u32 %r6, %r1, 5;\n\tst.shared.u32 [%r4], %r6;\n\
         \tbar.arrive 4, 128;\n\tbra.uni DONE;\nCONSUMER:\n\tbar.sync 4, 128;\n\tld.shared.u32 %r7, [%r4+-256];\n\
         \tadd.u32 %r0, %r0, %r7;\nDONE:";
    let text = each(body).replace(REGISTERS, &format!("{REGISTERS}\t.shared .align 4 .b8 tile[512];\n"));
    let expected: Vec<u32> = (0..128).map(|i: u32| (i ^ 32) + if i >= 64 { 5 * (i - 64) } else { 0 }).collect();
    assert_eq!(run::<u32>(&text, 128, 128), expected);
}

#[test]
fn barriers_that_reduce() {
    let body = "\tsetp.lt.u32 %p1, %r1, 70;\n\tbar.red.popc.u32 %r0, 0, %p1;\n\tbar.red.or.pred %p2, 0, %p1;\n\
         \tbar.red.and.pred %p3, 0, %p1;\n\tselp.u32 %r2, 1000, 0, %p2;\n\tselp.u32 %r3, 5000, 0, %p3;\n\tadd.u32 %r0, %r0, %r2;\n\
         \tadd.u32 %r0, %r0, %r3;";
    assert_eq!(run::<u32>(&each(body), 96, 96), vec![1070; 96]);
}

#[test]
fn warp_synchronous_exchange() {
    let body = "\tmov.u32 %r20, tile;\n\tshl.b32 %r2, %r1, 2;\n\tadd.u32 %r2, %r20, %r2;\n\tst.shared.u32 [%r2], %r1;\n\
         \tbar.warp.sync -1;\n\txor.b32 %r3, %r1, 5;\n\tshl.b32 %r3, %r3, 2;\n\tadd.u32 %r3, %r20, %r3;\n\tld.shared.u32 %r0, [%r3];";
    let text = each(body).replace(REGISTERS, &format!("{REGISTERS}\t.shared .align 4 .b8 tile[256];\n"));
    assert_eq!(run::<u32>(&text, 64, 64), (0..64).map(|i: u32| i ^ 5).collect::<Vec<_>>());
}

// --- Atomics --------------------------------------------------------------------------------------------------------

#[test]
fn global_atomics() {
    let apply = |code: &str, start: u32| -> u32 {
        let text = kernel(2, &format!("\tadd.u32 %r2, %r1, 3;\n{code}"));
        let machine = Machine::new();
        let module = load(&machine, &text);
        let place = machine.upload(&[start]);
        let out = machine.upload(&[0u32]);
        machine.run(&module, [4, 1, 1], [64, 1, 1], &[Arg::Ptr(place), Arg::Ptr(out)]).unwrap();
        machine.download::<u32>(place, 1)[0]
    };
    assert_eq!(apply("\tatom.global.add.u32 %r3, [%rd1], %r2;", 7), 7 + 4 * (63 * 64 / 2 + 3 * 64));
    assert_eq!(apply("\tred.global.add.u32 [%rd1], %r2;", 0), 4 * (63 * 64 / 2 + 3 * 64));
    assert_eq!(apply("\tatom.global.max.u32 %r3, [%rd1], %r2;", 7), 66);
    assert_eq!(apply("\tatom.global.min.s32 %r3, [%rd1], %r2;", 7), 3);
    assert_eq!(apply("\tatom.global.or.b32 %r3, [%rd1], %r2;", 0), 127);
    assert_eq!(apply("\tatom.global.and.b32 %r3, [%rd1], %r2;", u32::MAX), 0);
    assert_eq!(apply("\tatom.global.inc.u32 %r3, [%rd1], 9;", 0), 256 % 10);
    assert_eq!(apply("\tatom.global.dec.u32 %r3, [%rd1], 9;", 0), 4); // 25 times round 10, and 6 down
    assert_eq!(apply("\tmov.u32 %r4, 5;\n\tatom.global.cas.b32 %r3, [%rd1], 7, %r4;", 7), 5);
    assert_eq!(apply("\tatom.global.exch.b32 %r3, [%rd1], 77;", 7), 77);
    let half = f32::to_bits(0.5);
    let sum = apply(&format!("\tmov.b32 %f1, 0f{half:08x};\n\tred.global.add.f32 [%rd1], %f1;"), 0);
    assert_eq!(f32::from_bits(sum), 128.0);
}

#[test]
fn every_old_value_is_seen_once() {
    let text = each("\tadd.s64 %rd5, %rd1, 4096;\n\tatom.global.add.u32 %r0, [%rd5], 1;");
    let mut machine_order: Vec<u32> = {
        let machine = Machine::with_seed(3);
        let module = load(&machine, &text);
        let out = machine.upload(&vec![0u32; 1025]);
        machine.run(&module, [1; 3], [1024, 1, 1], &[Arg::Ptr(out)]).unwrap();
        machine.download(out, 1024)
    };
    machine_order.sort_unstable();
    assert_eq!(machine_order, (0..1024).collect::<Vec<_>>());
}

#[test]
fn shared_and_wide_atomics() {
    let body = "\tmov.u32 %r20, count;\n\tsetp.eq.u32 %p1, %r1, 0;\n\tmov.u64 %rd30, 0;\n\t@%p1 st.shared.u64 [%r20], %rd30;\n\tbar.sync 0;\n\
         \tcvt.u64.u32 %rd31, %r1;\n\tatom.shared.add.u64 %rd32, [%r20], %rd31;\n\tbar.sync 0;\n\tld.shared.u64 %rd33, [%r20];\n\
         \tcvt.u32.u64 %r0, %rd33;";
    let text = each(body).replace(REGISTERS, &format!("{REGISTERS}\t.shared .align 8 .b8 count[8];\n"));
    assert_eq!(run::<u32>(&text, 128, 128), vec![127 * 128 / 2; 128]);
    // A compare-and-swap loop: float maximum.
    let body = "\tcvt.rn.f32.u32 %f1, %r1;\n\tld.global.u32 %r2, [%rd1];\nLOOP:\n\tmov.b32 %f2, %r2;\n\tmax.f32 %f3, %f2, %f1;\n\
         \tmov.b32 %r3, %f3;\n\tatom.global.cas.b32 %r4, [%rd1], %r2, %r3;\n\tsetp.ne.u32 %p1, %r4, %r2;\n\tmov.u32 %r2, %r4;\n\
         \t@%p1 bra LOOP;";
    assert_eq!(run::<f32>(&kernel(1, body), 256, 1), [255.0]);
}

#[test]
fn packed_atomics() {
    let text = kernel(1, "\tmov.u32 %r2, 0x3c004000;\n\tatom.global.add.noftz.f16x2 %r3, [%rd1], %r2;");
    assert_eq!(run::<u32>(&text, 32, 1), [0x5000_5400]); // 32 and 64
    let text = kernel(1, "\tmov.u32 %r2, 0x3f804000;\n\tred.global.add.noftz.bf16x2 [%rd1], %r2;");
    assert_eq!(run::<u32>(&text, 32, 1), [0x4200_4280]);
}

// --- Memory ---------------------------------------------------------------------------------------------------------

#[test]
fn vectors_and_narrow_accesses() {
    let body = "\tmul.wide.u32 %rd20, %r1, 16;\n\tadd.s64 %rd21, %rd2, %rd20;\n\tadd.s64 %rd22, %rd1, %rd20;\n\
         \tld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd21];\n\tst.global.v2.u32 [%rd22], {%r5, %r4};\n\
         \tld.global.u8 %r6, [%rd21+5];\n\tld.global.s8 %r7, [%rd21+6];\n\tst.global.u16 [%rd22+8], %h1;\n\
         \tst.global.u8 [%rd22+10], %r6;\n\tst.global.u8 [%rd22+11], %r7;\n\tst.global.u32 [%rd22+12], %r7;";
    let body = format!("\tmov.u16 %h1, 0xbeef;\n{body}");
    let input: Vec<u8> = (0..64).map(|i| 0x7c + i).collect();
    let got: Vec<u8> = run_with(&kernel(2, &body), [1; 3], [4, 1, 1], 0, &input, 64);
    for (to, from) in got.chunks(16).zip(input.chunks(16)) {
        assert_eq!(to[..4], from[12..]);
        assert_eq!(to[4..8], from[8..12]);
        assert_eq!(to[8..12], [0xef, 0xbe, from[5], from[6]]);
        assert_eq!(to[12..], (from[6] as i8 as i32).to_le_bytes());
    }
}

#[test]
fn constants_and_variables() {
    let text = kernel(
        1,
        "\tshl.b32 %r2, %r1, 2;\n\tcvt.u64.u32 %rd5, %r2;\n\tmov.u64 %rd6, table;\n\tadd.s64 %rd6, %rd6, %rd5;\n\
         \tld.const.u32 %r3, [%rd6];\n\tld.global.u32 %r4, [bias];\n\tadd.u32 %r0, %r3, %r4;\n\tadd.s64 %rd7, %rd1, %rd5;\n\
         \tst.global.u32 [%rd7], %r0;",
    );
    let text = text.replace(
        HEADER,
        &format!("{HEADER}.const .align 4 .b8 table[16] = {{10, 0, 0, 0, 20, 0, 0, 0, 30, 0, 0, 0, 0, 1}};\n.global .align 4 .u32 bias = 5;\n"),
    );
    assert_eq!(run::<u32>(&text, 4, 4), [15, 25, 35, 261]);
}

#[test]
fn local_arrays_and_generic_addresses() {
    // Each thread fills an array of its own and reads it back through a generic address; shared memory the same way.
    let body = "\tmov.u64 %rd5, frame;\n\tcvta.local.u64 %rd6, %rd5;\n\tmov.u32 %r2, 0;\nFILL:\n\tmul.wide.u32 %rd7, %r2, 4;\n\
         \tadd.s64 %rd8, %rd5, %rd7;\n\tmad.lo.u32 %r3, %r1, 100, %r2;\n\tst.local.u32 [%rd8], %r3;\n\tadd.u32 %r2, %r2, 1;\n\
         \tsetp.lt.u32 %p1, %r2, 8;\n\t@%p1 bra FILL;\n\tand.b32 %r4, %r1, 7;\n\tmul.wide.u32 %rd9, %r4, 4;\n\tadd.s64 %rd10, %rd6, %rd9;\n\
         \tld.u32 %r0, [%rd10];\n\tmov.u64 %rd11, tile;\n\tcvta.shared.u64 %rd12, %rd11;\n\tmul.wide.u32 %rd13, %r1, 4;\n\
         \tadd.s64 %rd12, %rd12, %rd13;\n\tst.u32 [%rd12], %r0;\n\tcvta.to.shared.u64 %rd14, %rd12;\n\tld.shared.u32 %r0, [%rd14];";
    let text = each(body).replace(
        REGISTERS,
        &format!("{REGISTERS}\t.local .align 4 .b8 frame[32];\n\t.shared .align 4 .b8 tile[128];\n"),
    );
    assert_eq!(run::<u32>(&text, 32, 32), lanes(|i| 100 * i + i % 8));
}

#[test]
fn device_functions() {
    let function = ".func (.param .b32 result) square_plus(.param .b32 x, .param .b32 y)\n{\n\t.reg .b32 %r<4>;\n\
         \tld.param.u32 %r1, [x];\n\tld.param.u32 %r2, [y];\n\tmad.lo.u32 %r3, %r1, %r1, %r2;\n\tst.param.b32 [result], %r3;\n\tret;\n}\n";
    let body = "\t{\n\t.param .b32 p0;\n\tst.param.b32 [p0], %r1;\n\t.param .b32 p1;\n\tst.param.b32 [p1], 9;\n\t.param .b32 back;\n\
         \tcall.uni (back), square_plus, (p0, p1);\n\tld.param.b32 %r0, [back];\n\t}";
    let text = each(body).replace(HEADER, &format!("{HEADER}{function}"));
    assert_eq!(run::<u32>(&text, 32, 32), lanes(|i| i * i + 9));
}

// --- Asynchronous copies of the Ampere kind -------------------------------------------------------------------------

#[test]
fn asynchronous_copies_to_shared_memory() {
    // 16 bytes a thread, two groups, waited for one after the other; then with a source shorter than the copy.
    let body = "\tmov.u32 %r20, tile;\n\tshl.b32 %r2, %r1, 4;\n\tadd.u32 %r3, %r20, %r2;\n\tmul.wide.u32 %rd20, %r1, 16;\n\
         \tadd.s64 %rd21, %rd2, %rd20;\n\tcp.async.cg.shared.global [%r3], [%rd21], 16;\n\tcp.async.commit_group;\n\
         \tcp.async.ca.shared.global [%r3+1024], [%rd21+1024], 8, 4;\n\tcp.async.commit_group;\n\tcp.async.wait_group 1;\n\tbar.sync 0;\n\
         \txor.b32 %r4, %r2, 16;\n\tadd.u32 %r4, %r20, %r4;\n\tld.shared.u32 %r5, [%r4+4];\n\tcp.async.wait_group 0;\n\tbar.sync 0;\n\
         \tld.shared.v2.u32 {%r6, %r7}, [%r4+1024];\n\tadd.u32 %r0, %r5, %r6;\n\tadd.u32 %r0, %r0, %r7;\n\
         \tmul.wide.u32 %rd22, %r1, 4;\n\tadd.s64 %rd22, %rd22, %rd1;\n\tst.global.u32 [%rd22], %r0;";
    let text = kernel(2, body).replace(REGISTERS, &format!("{REGISTERS}\t.shared .align 16 .b8 tile[2048];\n"));
    let input: Vec<u32> = (0..512).collect();
    let got: Vec<u32> = run_with(&text, [1; 3], [64, 1, 1], 0, &input, 64);
    // The second copy reads 4 bytes and fills the other 4 with zeros.
    assert_eq!(got, (0..64).map(|i: u32| 4 * (i ^ 1) + 1 + 256 + 4 * (i ^ 1)).collect::<Vec<_>>());
}
