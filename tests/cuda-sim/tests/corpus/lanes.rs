//! Races between lanes of one warp. Each program is right as it stands and wrong without its synchronisation, the line
//! `SYNC`: right, no seed may report it; wrong, every seed must, at a line marked `// HERE`.

use crate::machine::{Arg, Machine, REGISTERS, kernel, load, numbered};
use cuda_sim::check::{Finding, Kind};

const SEEDS: u64 = 20;

/// 4 KiB of shared memory `tile`, its address in `%r20`, the thread's own word of it at `%r2`, its lane in `%r3`; an
/// mbarrier `mbar` for one arrival, ready for everybody and its address in `%r21`.
fn program(body: &str) -> String {
    let start = "\tmov.u32 %r20, tile;\n\tmov.u32 %r21, mbar;\n\tshl.b32 %r2, %r1, 2;\n\tadd.u32 %r2, %r20, %r2;\n\
                 \tmov.u32 %r3, %laneid;\n\tsetp.eq.u32 %p15, %r1, 0;\n\t@%p15 mbarrier.init.shared.b64 [%r21], 1;\n\
                 \tfence.mbarrier_init.release.cluster;\n\tbar.sync 0;\n";
    let memory = format!("{REGISTERS}\t.shared .align 16 .b8 tile[4096];\n\t.shared .align 8 .b64 mbar;\n");
    kernel(1, &format!("{start}{body}")).replace(REGISTERS, &memory)
}

fn run(text: &str, threads: u32, seed: u64) -> Result<(), Box<Finding>> {
    let machine = Machine::with_seed(seed);
    let module = load(&machine, text);
    let words = machine.upload(&[7u32; 1024]);
    machine.run(&module, [1; 3], [threads, 1, 1], &[Arg::Ptr(words)]).map(|_| ())
}

/// Runs the program with `sync` in place of `SYNC`, which must be right.
fn right(body: &str, threads: u32, sync: &str) {
    let text = program(body).replace("SYNC", sync);
    for seed in 0..SEEDS {
        run(&text, threads, seed).unwrap_or_else(|finding| panic!("{finding}\n{}", numbered(&text)));
    }
}

/// Runs the program with `sync` in place of `SYNC`, which must be reported as one of these kinds.
fn wrong(body: &str, threads: u32, sync: &str, kinds: &[Kind]) {
    let text = program(body).replace("SYNC", sync);
    for seed in 0..SEEDS {
        let Err(finding) = run(&text, threads, seed) else { panic!("seed {seed}: nothing found\n{}", numbered(&text)) };
        let shown = format!("{finding}\n{}", numbered(&text));
        assert!(kinds.contains(&finding.kind), "{shown}");
        let line = text.lines().nth(finding.ptx_line as usize - 1).unwrap_or("");
        assert!(line.contains("// HERE"), "{shown}");
    }
}

/// `bar.warp.sync` is needed, and enough.
fn needs_sync(body: &str, threads: u32, kind: Kind) {
    right(body, threads, "bar.warp.sync -1;");
    wrong(body, threads, "", &[kind]);
}

/// The neighbour's word: `%r4`.
const NEIGHBOUR: &str = "\txor.b32 %r4, %r2, 4;\n";

#[test]
fn read_after_another_lanes_write() {
    let body = format!("{NEIGHBOUR}\tst.shared.u32 [%r2], %r1;\n\tSYNC\n\tld.shared.u32 %r5, [%r4]; // HERE");
    needs_sync(&body, 64, Kind::SharedRace);
    // Whatever makes all lanes meet between them is enough.
    for sync in [
        "bar.sync 0;",
        "shfl.sync.bfly.b32 %r6, %r1, 1, 31, -1;",
        "vote.sync.any.pred %p1, %p15, -1;",
        "redux.sync.add.u32 %r6, %r1, -1;",
        "match.any.sync.b32 %r6, %r1, -1;",
        "elect.sync %r6|%p1, -1;",
        "barrier.cluster.arrive; barrier.cluster.wait;",
    ] {
        right(&body, 64, sync);
    }
    // That the lanes happen to run together is not, nor are fences of memory, nor is what others synchronise.
    for sync in [
        "membar.cta;",
        "activemask.b32 %r6;",
        "bar.arrive 1, 64;",
        "setp.lt.u32 %p1, %r3, 2; @%p1 bra PAIR; bra.uni REST; PAIR: bar.warp.sync 3; REST:",
    ] {
        wrong(&body, 64, sync, &[Kind::SharedRace]);
    }
}

#[test]
fn write_after_another_lanes_read() {
    let body = format!(
        "{NEIGHBOUR}\tst.shared.u32 [%r2], %r1;\n\tbar.sync 0;\n\tld.shared.u32 %r5, [%r4];\n\tSYNC\n\
         \tst.shared.u32 [%r2], %r5; // HERE"
    );
    needs_sync(&body, 64, Kind::SharedRace);
}

#[test]
fn two_lanes_write_one_after_the_other() {
    let body = "\tsetp.eq.u32 %p1, %r3, 3;\n\tsetp.eq.u32 %p2, %r3, 9;\n\t@%p1 st.shared.u32 [%r20], %r1;\n\tSYNC\n\
                \t@%p2 st.shared.u32 [%r20], %r1; // HERE";
    needs_sync(body, 32, Kind::SharedRace);
}

#[test]
fn lanes_that_left_a_branch_are_not_in_step() {
    let body = "\tsetp.lt.u32 %p1, %r3, 16;\n\t@%p1 bra LOW;\n\tbra.uni ON;\nLOW:\n\tst.shared.u32 [%r2], %r1;\nON:\n\
                \tSYNC\n\txor.b32 %r4, %r2, 64;\n\t@!%p1 ld.shared.u32 %r5, [%r4]; // HERE";
    needs_sync(body, 32, Kind::SharedRace);
}

#[test]
fn many_lanes_read_what_one_then_writes() {
    let body = "\t@%p15 st.shared.u32 [%r20], %r1;\n\tbar.sync 0;\n\tld.shared.u32 %r5, [%r20];\n\tSYNC\n\
                \t@%p15 st.shared.u32 [%r20], %r5; // HERE";
    needs_sync(body, 32, Kind::SharedRace);
}

#[test]
fn halves_of_a_word_belong_to_different_lanes() {
    let own = "\tshl.b32 %r2, %r1, 1;\n\tadd.u32 %r2, %r20, %r2;\n\txor.b32 %r4, %r2, 2;\n\tcvt.u16.u32 %h1, %r1;\n";
    let body = format!("{own}\tst.shared.u16 [%r2], %h1;\n\tSYNC\n\tld.shared.u16 %h2, [%r4]; // HERE");
    needs_sync(&body, 64, Kind::SharedRace);
    // In place, each lane its own half: nothing to synchronise.
    let own = format!(
        "{own}\tst.shared.u16 [%r2], %h1;\n\tld.shared.u16 %h2, [%r2];\n\tadd.u16 %h2, %h2, 1;\n\
         \tst.shared.u16 [%r2], %h2;\n\tld.shared.u16 %h2, [%r2];\n\tst.shared.u16 [%r2], %h2;"
    );
    right(&own, 64, "");
}

#[test]
fn words_of_their_own_need_nothing() {
    let body = "\t@%p15 st.shared.u32 [%r20+2048], %r1;\n\tbar.sync 0;\n\tst.shared.u32 [%r2], %r1;\n\
                \tld.shared.u32 %r5, [%r2];\n\tst.shared.u32 [%r2], %r5;\n\tatom.shared.add.u32 %r6, [%r20+2048], 1;\n\tatom.shared.add.u32 %r6, [%r20+2048], 1;\n\
                \tst.volatile.shared.u32 [%r20+2560], 3;\n\tld.volatile.shared.u32 %r6, [%r20+2560];\n\
                \tst.shared.u32 [%r20+3072], 5;\n\tld.shared.u32 %r6, [%r20+3072];";
    // Without stores of one word by two warps.
    right(body, 32, "");
}

#[test]
fn plain_read_of_what_lanes_add_up() {
    let body = "\t@%p15 st.shared.u32 [%r20], 0;\n\tbar.sync 0;\n\tred.shared.add.u32 [%r20], 1;\n\tSYNC\n\
                \t@%p15 ld.shared.u32 %r5, [%r20]; // HERE";
    needs_sync(body, 32, Kind::SharedRace);
}

#[test]
fn half_warps_synchronise_alone() {
    // Exchanges within half warps, then across: the first needs no more than the half warp.
    let body = "\tsetp.lt.u32 %p1, %r3, 16;\n\tselp.b32 %r6, 0xffff, 0xffff0000, %p1;\n\txor.b32 %r4, %r2, 4;\n\
                \tst.shared.u32 [%r2], %r1;\n\t@%p1 bra LOW;\n\tbar.warp.sync %r6;\n\tbra.uni ON;\nLOW:\n\
                \tbar.warp.sync %r6;\nON:\n\tld.shared.u32 %r5, [%r4];\n\tbar.warp.sync %r6;\n\
                \tst.shared.u32 [%r2], %r5;\n\tSYNC\n\txor.b32 %r4, %r2, 64;\n\tld.shared.u32 %r5, [%r4]; // HERE";
    needs_sync(body, 32, Kind::SharedRace);
    wrong(body, 32, "bar.warp.sync %r6;", &[Kind::SharedRace]);
}

/// Warp 0 does `first`, then one lane arrives; warp 1 waits and does `then`.
fn handed_over(first: &str, then: &str) -> String {
    format!(
        "\tsetp.lt.u32 %p1, %r1, 32;\n\t@!%p1 bra OTHER;\n{first}\n\tSYNC\n\
         \t@%p15 mbarrier.arrive.shared.b64 _, [%r21];\n\tbra.uni DONE;\nOTHER:\n\
         \tmbarrier.try_wait.parity.shared.b64 %p2, [%r21], 0;\n\t@!%p2 bra OTHER;\n{then}\nDONE:"
    )
}

#[test]
fn one_lane_arrives_for_the_warps_writes() {
    let (first, then) = ("\tst.shared.u32 [%r2], %r1;", "\tld.shared.u32 %r5, [%r2+-128]; // HERE");
    needs_sync(&handed_over(first, then), 64, Kind::SharedRace);
    // Its own write needs nobody.
    right(&handed_over("\t@%p15 st.shared.u32 [%r20], %r1;", "\tld.shared.u32 %r5, [%r20];"), 64, "");
}

#[test]
fn one_lane_arrives_for_the_warps_reads() {
    let before = "\tst.shared.u32 [%r2], %r1;\n\tbar.sync 0;\n";
    let (first, then) = ("\tld.shared.u32 %r5, [%r2];", "\tst.shared.u32 [%r2+-128], %r1; // HERE");
    needs_sync(&format!("{before}{}", handed_over(first, then)), 64, Kind::SharedRace);
}

#[test]
fn every_lane_arrives_for_itself() {
    let body = "\t@%p15 mbarrier.init.shared.b64 [%r20+1024], 32;\n\
                \tfence.mbarrier_init.release.cluster;\n\tbar.sync 0;\n\tsetp.lt.u32 %p1, %r1, 32;\n\t@!%p1 bra OTHER;\n\
                \tst.shared.u32 [%r2], %r1;\n\tmbarrier.arrive.shared.b64 _, [%r20+1024];\nOTHER:\n\
                \tmbarrier.try_wait.parity.shared.b64 %p2, [%r20+1024], 0;\n\t@!%p2 bra OTHER;\n\
                \txor.b32 %r4, %r2, 4;\n\tand.b32 %r4, %r4, 0xffffff7f;\n\tld.shared.u32 %r5, [%r4];";
    right(body, 64, "");
}

#[test]
fn lanes_of_one_warp_meet_at_an_mbarrier() {
    // Lane 0 writes and arrives; the others of its warp wait, all with nothing but the mbarrier.
    let body = "\t@%p15 st.shared.u32 [%r20], %r1;\n\t@%p15 mbarrier.arrive.shared.b64 _, [%r21];\nAGAIN:\n\
                \tmbarrier.try_wait.parity.shared.b64 %p2, [%r21], 0;\n\t@!%p2 bra AGAIN;\n\tld.shared.u32 %r5, [%r20];";
    right(body, 64, "");
    // The mbarrier says nothing of what lane 1 wrote.
    let body =
        body.replace("\t@%p15 st", "\tsetp.eq.u32 %p3, %r1, 1;\n\t@%p3 st").replace("[%r20];", "[%r20]; // HERE");
    wrong(&body, 32, "", &[Kind::SharedRace]);
}

#[test]
fn copies_of_another_lane() {
    let body = format!(
        "{NEIGHBOUR}\tmul.wide.u32 %rd20, %r1, 4;\n\tadd.s64 %rd20, %rd20, %rd1;\n\
         \tcp.async.ca.shared.global [%r2], [%rd20], 4;\n\tcp.async.wait_all;\n\tld.shared.u32 %r5, [%r2];\n\tSYNC\n\
         \tld.shared.u32 %r5, [%r4]; // HERE"
    );
    needs_sync(&body, 64, Kind::AsyncNotWaited);
    // Half a warp alone, the rest of which has nothing to do with it.
    let half = body.replacen("xor", "setp.gt.u32 %p1, %r3, 15;\n\t@%p1 exit;\n\txor", 1);
    right(&half, 64, "bar.warp.sync 0xffff;");
    wrong(&half, 64, "", &[Kind::AsyncNotWaited]);
}

#[test]
fn one_lane_copies_what_all_wrote() {
    let body = "\tst.shared.u32 [%r2], %r1;\n\tfence.proxy.async;\n\tSYNC\n\
                \t@%p15 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r20], 128; // HERE\n\
                \t@%p15 cp.async.bulk.commit_group;\n\t@%p15 cp.async.bulk.wait_group 0;";
    needs_sync(body, 32, Kind::SharedRace);
}

#[test]
fn one_lane_waits_for_the_copy_that_all_overwrite() {
    let body = "\tst.shared.u32 [%r2], %r1;\n\tfence.proxy.async;\n\tbar.warp.sync -1;\n\
                \t@%p15 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r20], 128;\n\
                \t@%p15 cp.async.bulk.commit_group;\n\t@%p15 cp.async.bulk.wait_group.read 0;\n\tSYNC\n\
                \tst.shared.u32 [%r2], 3; // HERE";
    needs_sync(body, 32, Kind::AsyncNotWaited);
}

#[test]
fn one_lane_loads_over_what_all_read() {
    let body = "\tst.shared.u32 [%r2], %r1;\n\tfence.proxy.async;\n\tbar.sync 0;\n\tld.shared.u32 %r5, [%r2];\n\tSYNC\n\
                \t@%p15 mbarrier.arrive.expect_tx.shared.b64 _, [%r21], 128;\n\
                \t@%p15 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd1], 128, [%r21]; // HERE\n\
                AGAIN:\n\tmbarrier.try_wait.parity.shared.b64 %p2, [%r21], 0;\n\t@!%p2 bra AGAIN;\n\
                \tld.shared.u32 %r5, [%r2];";
    needs_sync(body, 32, Kind::SharedRace);
}

#[test]
fn matrices_of_rows_that_others_wrote() {
    let body = "\tshl.b32 %r5, %r1, 4;\n\tadd.u32 %r5, %r20, %r5;\n\tst.shared.v4.u32 [%r5], {%r1, %r1, %r1, %r1};\n\
                \txor.b32 %r5, %r5, 16;\n\tSYNC\n\
                \tldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r6, %r7, %r8, %r9}, [%r5]; // HERE";
    needs_sync(body, 32, Kind::SharedRace);
    let body = "\tshl.b32 %r5, %r1, 4;\n\tadd.u32 %r5, %r20, %r5;\n\
                \tstmatrix.sync.aligned.m8n8.x4.shared.b16 [%r5], {%r1, %r1, %r1, %r1};\n\
                \txor.b32 %r5, %r5, 16;\n\tSYNC\n\tld.shared.v4.u32 {%r6, %r7, %r8, %r9}, [%r5]; // HERE";
    needs_sync(body, 32, Kind::SharedRace);
}
