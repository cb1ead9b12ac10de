//! Kernels with one planted mistake each, of the kinds that need no Hopper hardware. Every one must be reported, for
//! every seed, with the right kind, kernel, thread and line. Lines that may be named are marked `// HERE`.

use std::collections::BTreeSet;

use crate::machine::{Arg, HEADER, Machine, REGISTERS, kernel, load, numbered};
use cuda_sim::check::{Finding, Kind};
use cuda_sim::ptx::Module;

const SEEDS: u64 = 8;

fn marked(text: &str) -> BTreeSet<u32> {
    (1..).zip(text.lines()).filter(|(_, line)| line.contains("// HERE")).map(|(n, _)| n).collect()
}

/// A kernel of one pointer with 4 KiB of shared memory called `tile`, whose address is in `%r20`; `%r2` is the address
/// of the thread's own word of it.
fn shared(body: &str) -> String {
    let start = "\tmov.u32 %r20, tile;\n\tshl.b32 %r2, %r1, 2;\n\tadd.u32 %r2, %r20, %r2;\n";
    let tile = format!("{REGISTERS}\t.shared .align 16 .b8 tile[4096];\n");
    kernel(1, &format!("{start}{body}")).replace(REGISTERS, &tile)
}

/// What a launch of one block finds, for each seed; the argument is 256 words that were written.
fn found(text: &str, threads: u32, kind: Kind) -> Vec<Finding> {
    found_with(text, kind, |machine, module| {
        let words = machine.upload(&[1u32; 256]);
        machine.run(module, [1; 3], [threads, 1, 1], &[Arg::Ptr(words)]).err()
    })
}

fn found_with(text: &str, kind: Kind, run: impl Fn(&mut Machine, &Module) -> Option<Box<Finding>>) -> Vec<Finding> {
    let lines = marked(text);
    let all = (0..SEEDS).map(|seed| {
        let mut machine = Machine::with_seed(seed);
        let module = load(&machine, text);
        let Some(finding) = run(&mut machine, &module) else {
            panic!("seed {seed}: nothing found\n{}", numbered(text))
        };
        let shown = format!("{finding}\n{}", numbered(text));
        assert_eq!(finding.kind, kind, "{shown}");
        assert_eq!(finding.kernel, "k", "{shown}");
        assert_eq!(finding.seed, seed, "{shown}");
        if !lines.is_empty() {
            assert!(lines.contains(&finding.ptx_line), "{shown}");
            assert!(shown.contains(&format!("PTX line {}", finding.ptx_line)), "{shown}");
        }
        *finding
    });
    all.collect()
}

/// All findings are of this thread.
fn of_thread(findings: Vec<Finding>, thread: u32) {
    assert!(findings.iter().all(|f| f.thread == Some([thread, 0, 0])), "{findings:?}");
}

// --- Global memory --------------------------------------------------------------------------------------------------

#[test]
fn read_past_the_end() {
    let text = kernel(
        1,
        "\tadd.u32 %r2, %r1, 250;\n\tmul.wide.u32 %rd20, %r2, 4;\n\tadd.s64 %rd20, %rd1, %rd20;\n\
         \tld.global.u32 %r3, [%rd20]; // HERE",
    );
    of_thread(found(&text, 32, Kind::OutOfBounds), 6);
}

#[test]
fn write_before_the_start() {
    let text = kernel(
        1,
        "\tsub.u32 %r2, %r1, 3;\n\tmul.wide.s32 %rd20, %r2, 4;\n\tadd.s64 %rd20, %rd1, %rd20;\n\
         \tst.global.u32 [%rd20], %r1; // HERE",
    );
    of_thread(found(&text, 32, Kind::OutOfBounds), 0);
}

#[test]
fn vector_that_crosses_the_end() {
    let text = kernel(1, "\tld.global.v2.u64 {%rd5, %rd6}, [%rd1+1008]; // HERE");
    found_with(&text, Kind::OutOfBounds, |machine, module| {
        let words = machine.upload(&[1u32; 254]);
        machine.run(module, [1; 3], [1; 3], &[Arg::Ptr(words)]).err()
    });
}

#[test]
fn misaligned_word() {
    let text =
        kernel(1, "\tcvt.u64.u32 %rd20, %r1;\n\tadd.s64 %rd20, %rd1, %rd20;\n\tld.global.u32 %r3, [%rd20]; // HERE");
    of_thread(found(&text, 4, Kind::Misaligned), 1);
}

#[test]
fn misaligned_vector() {
    let text = kernel(1, "\tld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+8]; // HERE");
    of_thread(found(&text, 1, Kind::Misaligned), 0);
}

#[test]
fn read_of_freed_memory() {
    let text = kernel(1, "\tld.global.u32 %r3, [%rd1+4]; // HERE");
    found_with(&text, Kind::UseAfterFree, |machine, module| {
        let words = machine.upload(&[1u32; 256]);
        machine.memory.free(words).unwrap();
        machine.run(module, [1; 3], [32, 1, 1], &[Arg::Ptr(words)]).err()
    });
}

#[test]
fn read_of_unwritten_global_memory() {
    let text = kernel(
        1,
        "\tmul.wide.u32 %rd20, %r1, 4;\n\tadd.s64 %rd20, %rd1, %rd20;\n\tst.global.u16 [%rd20], %h1;\n\
         \tld.global.u32 %r3, [%rd20]; // HERE",
    );
    let text = text.replace("\tst.global.u16", "\tmov.u16 %h1, 3;\n\tst.global.u16");
    found_with(&text, Kind::UninitializedGlobal, |machine, module| {
        let words = machine.alloc(1024);
        machine.run(module, [1; 3], [32, 1, 1], &[Arg::Ptr(words)]).err()
    });
}

#[test]
fn write_to_a_constant() {
    let text = kernel(1, "\tmov.u64 %rd5, table;\n\tcvta.const.u64 %rd5, %rd5;\n\tst.u32 [%rd5], %r1; // HERE");
    let text = text.replace(HEADER, &format!("{HEADER}.const .align 4 .b8 table[16] = {{1}};\n"));
    found(&text, 1, Kind::ReadOnly);
}

#[test]
fn null_pointer() {
    let text = kernel(1, "\tmov.u64 %rd5, 0;\n\tld.global.u32 %r3, [%rd5]; // HERE");
    found(&text, 32, Kind::OutOfBounds);
}

// --- Shared and local memory ----------------------------------------------------------------------------------------

#[test]
fn shared_memory_past_the_end() {
    let text = shared("\tst.shared.u32 [%r2+4092], %r1; // HERE");
    of_thread(found(&text, 32, Kind::OutOfBounds), 1);
}

#[test]
fn dynamic_shared_memory_past_what_the_launch_gave() {
    let text = kernel(
        1,
        "\tmov.u32 %r20, room;\n\tshl.b32 %r2, %r1, 2;\n\tadd.u32 %r2, %r20, %r2;\n\tst.shared.u32 [%r2], %r1; // HERE",
    );
    let text = text.replace(HEADER, &format!("{HEADER}.extern .shared .align 16 .b8 room[];\n"));
    let findings = found_with(&text, Kind::OutOfBounds, |machine, module| {
        let words = machine.upload(&[1u32; 4]);
        machine.run_shared(module, [1; 3], [32, 1, 1], 64, &[Arg::Ptr(words)]).err()
    });
    of_thread(findings, 16);
}

#[test]
fn read_of_unwritten_shared_memory() {
    let text = shared(
        "\tsetp.eq.u32 %p1, %r1, 5;\n\t@%p1 bra SKIP;\n\tst.shared.u32 [%r2], %r1;\nSKIP:\n\tbar.sync 0;\n\
         \tld.shared.u32 %r3, [%r2]; // HERE",
    );
    of_thread(found(&text, 64, Kind::UninitializedShared), 5);
}

#[test]
fn read_of_unwritten_local_memory() {
    let text = kernel(1, "\tmov.u64 %rd5, frame;\n\tld.local.u32 %r3, [%rd5+4]; // HERE");
    let text = text.replace(REGISTERS, &format!("{REGISTERS}\t.local .align 4 .b8 frame[16];\n"));
    found(&text, 32, Kind::UninitializedLocal);
}

#[test]
fn local_memory_past_the_end() {
    let text = kernel(1, "\tmov.u64 %rd5, frame;\n\tst.local.u32 [%rd5+16], %r1; // HERE");
    let text = text.replace(REGISTERS, &format!("{REGISTERS}\t.local .align 4 .b8 frame[16];\n"));
    found(&text, 32, Kind::OutOfBounds);
}

// --- Races ----------------------------------------------------------------------------------------------------------

#[test]
fn missing_barrier_between_write_and_read() {
    let text =
        shared("\tst.shared.u32 [%r2], %r1; // HERE\n\txor.b32 %r3, %r2, 128;\n\tld.shared.u32 %r4, [%r3]; // HERE");
    // Where the reader comes first there is nothing to read yet: both reports are of the same mistake.
    for seed in 0..SEEDS {
        let machine = Machine::with_seed(seed);
        let module = load(&machine, &text);
        let words = machine.upload(&[1u32; 256]);
        let finding = machine.run(&module, [1; 3], [64, 1, 1], &[Arg::Ptr(words)]).expect_err("a race");
        assert!(matches!(finding.kind, Kind::SharedRace | Kind::UninitializedShared), "{finding}");
        assert!(marked(&text).contains(&finding.ptx_line), "{finding}");
    }
}

#[test]
fn missing_barrier_before_the_next_write() {
    // Written and read in turn, with a barrier after the write only.
    let text = shared(
        "\tmov.u32 %r5, 0;\nLOOP:\n\tst.shared.u32 [%r2], %r5; // HERE\n\tbar.sync 0;\n\txor.b32 %r3, %r2, 128;\n\
         \tld.shared.u32 %r4, [%r3]; // HERE\n\tadd.u32 %r5, %r5, 1;\n\tsetp.lt.u32 %p1, %r5, 4;\n\t@%p1 bra LOOP;",
    );
    found(&text, 64, Kind::SharedRace);
}

#[test]
fn two_warps_write_one_word() {
    let text = shared(
        "\tand.b32 %r3, %r1, 31;\n\tshl.b32 %r3, %r3, 2;\n\tadd.u32 %r3, %r3, %r20;\n\tst.shared.u32 [%r3], %r1; // HERE",
    );
    found(&text, 64, Kind::SharedRace);
}

#[test]
fn two_lanes_write_one_word() {
    let text = shared("\tst.shared.u32 [%r20+64], %r1; // HERE");
    found(&text, 32, Kind::SharedRace);
}

#[test]
fn missing_warp_synchronisation() {
    // Lanes of one warp exchange through shared memory after they diverged, without bar.warp.sync.
    let text = shared(
        "\tst.shared.u32 [%r2], %r1;\n\tbar.warp.sync -1;\n\tsetp.lt.u32 %p1, %r1, 16;\n\t@!%p1 bra OTHER;\n\
         \tst.shared.u32 [%r2], %r1; // HERE\n\tbra.uni DONE;\nOTHER:\n\tld.shared.u32 %r4, [%r2+-64]; // HERE\nDONE:",
    );
    found(&text, 32, Kind::SharedRace);
}

#[test]
fn plain_write_against_an_atomic() {
    let text = shared(
        "\tst.shared.u32 [%r2], %r1;\n\tbar.sync 0;\n\tsetp.lt.u32 %p1, %r1, 32;\n\tsetp.ge.u32 %p2, %r1, 32;\n\
         \t@%p1 st.shared.u32 [%r2], %r1; // HERE\n\tsub.u32 %r3, %r2, 128;\n\
         \t@%p2 atom.shared.exch.b32 %r4, [%r3], 5; // HERE",
    );
    found(&text, 64, Kind::SharedRace);
}

// --- Barriers and warps ---------------------------------------------------------------------------------------------

#[test]
fn barrier_in_one_branch() {
    let text =
        kernel(1, "\tsetp.lt.u32 %p1, %r1, 16;\n\t@!%p1 bra DONE;\n\tbar.sync 0; // HERE\nDONE:\n\tbar.warp.sync -1;");
    found(&text, 32, Kind::Divergence);
}

#[test]
fn barrier_with_two_thread_counts() {
    let text = kernel(
        1,
        "\tsetp.lt.u32 %p1, %r1, 32;\n\t@%p1 bra FIRST;\n\tbar.sync 1, 96; // HERE\n\tbra.uni DONE;\n\
         FIRST:\n\tbar.sync 1, 64; // HERE\nDONE:",
    );
    found(&text, 96, Kind::BarrierMismatch);
}

#[test]
fn barrier_that_nobody_else_reaches() {
    let text = kernel(1, "\tsetp.lt.u32 %p1, %r1, 32;\n\t@%p1 bra DONE;\n\tbar.sync 3, 64; // HERE\nDONE:");
    found(&text, 64, Kind::Deadlock);
}

#[test]
fn two_barriers_in_the_wrong_order() {
    let text = kernel(
        1,
        "\tsetp.lt.u32 %p1, %r1, 32;\n\t@%p1 bra FIRST;\n\tbar.sync 1, 64; // HERE\n\tbar.sync 2, 64;\n\tbra.uni DONE;\n\
         FIRST:\n\tbar.sync 2, 64; // HERE\n\tbar.sync 1, 64;\nDONE:",
    );
    found(&text, 64, Kind::Deadlock);
}

#[test]
fn shuffle_of_lanes_that_are_not_there() {
    let text = kernel(
        1,
        "\tsetp.lt.u32 %p1, %r1, 16;\n\t@!%p1 bra DONE;\n\tshfl.sync.idx.b32 %r3, %r1, 20, 31, -1; // HERE\nDONE:\n\tbar.warp.sync -1;",
    );
    found(&text, 32, Kind::Divergence);
}

#[test]
fn endless_loop() {
    let text = kernel(1, "LOOP:\n\tld.volatile.global.u32 %r3, [%rd1];\n\tsetp.ne.u32 %p1, %r3, 0;\n\t@%p1 bra LOOP;");
    found_with(&text, Kind::Timeout, |machine, module| {
        machine.options.budget = 10_000;
        let words = machine.upload(&[1u32; 4]);
        machine.run(module, [1; 3], [32, 1, 1], &[Arg::Ptr(words)]).err()
    });
}

#[test]
fn trap() {
    let text = kernel(1, "\tsetp.eq.u32 %p1, %r1, 9;\n\t@%p1 trap; // HERE");
    found(&text, 32, Kind::Trap);
}

// --- Asynchronous copies of the Ampere kind -------------------------------------------------------------------------

const COPY: &str = "\tmul.wide.u32 %rd20, %r1, 4;\n\tadd.s64 %rd20, %rd1, %rd20;\n\
                    \tcp.async.ca.shared.global [%r2], [%rd20], 4;\n\tcp.async.commit_group;\n";

#[test]
fn copy_used_before_its_wait() {
    let text = shared(&format!("{COPY}\tld.shared.u32 %r3, [%r2]; // HERE\n\tcp.async.wait_all;"));
    found(&text, 32, Kind::AsyncNotWaited);
}

#[test]
fn wait_that_leaves_the_group_pending() {
    let text = shared(&format!("{COPY}\tcp.async.wait_group 1;\n\tld.shared.u32 %r3, [%r2]; // HERE"));
    found(&text, 32, Kind::AsyncNotWaited);
}

#[test]
fn wait_without_commit() {
    let copy = COPY.replace("\tcp.async.commit_group;\n", "");
    let text = shared(&format!("{copy}\tcp.async.wait_group 0;\n\tld.shared.u32 %r3, [%r2]; // HERE"));
    found(&text, 32, Kind::AsyncNotWaited);
}

#[test]
fn destination_overwritten_while_the_copy_is_under_way() {
    let text = shared(&format!("{COPY}\tst.shared.u32 [%r2], %r1; // HERE\n\tcp.async.wait_all;"));
    found(&text, 32, Kind::AsyncNotWaited);
}

#[test]
fn copy_of_another_warp_without_a_barrier() {
    let text =
        shared(&format!("{COPY}\tcp.async.wait_all;\n\txor.b32 %r3, %r2, 128;\n\tld.shared.u32 %r4, [%r3]; // HERE"));
    for seed in 0..SEEDS {
        let machine = Machine::with_seed(seed);
        let module = load(&machine, &text);
        let words = machine.upload(&[1u32; 256]);
        let finding = machine.run(&module, [1; 3], [64, 1, 1], &[Arg::Ptr(words)]).expect_err("a race");
        let kinds = [Kind::SharedRace, Kind::AsyncNotWaited, Kind::UninitializedShared];
        assert!(kinds.contains(&finding.kind), "{finding}");
    }
}

#[test]
fn copy_from_beyond_the_source() {
    let text = shared("\tcp.async.cg.shared.global [%r20], [%rd1+1024], 16; // HERE\n\tcp.async.wait_all;");
    found(&text, 1, Kind::OutOfBounds);
}

// --- Launches -------------------------------------------------------------------------------------------------------

#[test]
fn parameter_block_of_the_wrong_size() {
    let text = kernel(2, "\tst.global.u32 [%rd1], %r1;");
    let machine = Machine::new();
    let module = load(&machine, &text);
    let finding = cuda_sim::exec::launch(&cuda_sim::exec::Launch {
        kernel: &module.kernels[0],
        grid: [1; 3],
        block: [32, 1, 1],
        cluster: [1; 3],
        dynamic_shared: 0,
        params: &[0; 8],
        memory: &machine.memory,
        device: &machine.device,
        options: &machine.options,
    })
    .expect_err("8 of 16 bytes");
    assert_eq!(finding.kind, Kind::InvalidLaunch, "{finding}");
    assert_eq!(finding.kernel, "k", "{finding}");
}

#[test]
fn block_larger_than_the_kernel_allows() {
    let text = kernel(1, "\tst.global.u32 [%rd1], %r1;").replace(")\n{", ")\n.maxntid 128, 1, 1\n{");
    found(&text, 256, Kind::InvalidLaunch);
}
