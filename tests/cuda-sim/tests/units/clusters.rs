//! Clusters: barriers, distributed shared memory, multicast.

use cuda_sim::check::Kind;

use super::*;

const ARRIVE: &str = "barrier.cluster.arrive.release.aligned;";
const WAIT_ALL: &str = "barrier.cluster.wait.acquire.aligned;";

/// Every thread writes 1000·rank + thread, then reads and stores what the next block's same thread wrote.
fn neighbours(sync: &str, last: &str) -> String {
    format!(
        "mov.u32 %r10, %cluster_ctarank;
         mov.u32 %r11, %cluster_nctarank;
         mad.lo.u32 %r12, %r10, 1000, %r0;
         shl.b32 %r3, %r0, 2;
         add.u32 %r4, %s, %r3;
         st.shared.u32 [%r4], %r12;
         {sync}
         add.u32 %r13, %r10, 1;
         rem.u32 %r13, %r13, %r11;
         mapa.shared::cluster.u32 %r14, %r4, %r13;
         ld.shared::cluster.u32 %r15, [%r14];
         mad.lo.u32 %r16, %r10, 64, %r0;
         mul.wide.u32 %rd3, %r16, 4;
         add.u64 %rd3, %rd3, %rd0;
         st.global.u32 [%rd3], %r15;
         {last}"
    )
}

#[test]
fn blocks_read_each_others_shared_memory() {
    let both = format!("{ARRIVE} {WAIT_ALL}");
    let mut program = kernel(&neighbours(&both, &both));
    let out = program.blank(4 * 64 * 4);
    runs(&mut program, &cluster(4, 64), &args(&[out], &[]));
    let got: Vec<u32> = program.download(out, 256);
    assert!(got.iter().enumerate().all(|(i, x)| *x as usize == (i / 64 + 1) % 4 * 1000 + i % 64), "{got:?}");
}

#[test]
fn cluster_barriers_missing_or_misused() {
    let both = format!("{ARRIVE} {WAIT_ALL}");
    let run = |body: &str, kinds: &[Kind]| {
        let mut program = kernel(body);
        let out = program.blank(1024);
        for seed in 0..6 {
            program.options.seed = seed;
            let finding = program.finds("k", &cluster(4, 64), &args(&[out], &[]));
            assert!(kinds.contains(&finding.kind), "{finding}");
        }
    };
    // Reads that are not ordered after the writes, or come before them.
    run(&neighbours("bar.sync 0;", &both), &[Kind::SharedRace, Kind::UninitializedShared]);
    run(
        &neighbours("barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;", &both),
        &[Kind::SharedRace],
    );
    run(&neighbours(&format!("{both} {WAIT_ALL}"), &both), &[Kind::BarrierMismatch]);
    run(&neighbours(&format!("{ARRIVE} {ARRIVE} {WAIT_ALL}"), &both), &[Kind::BarrierMismatch]);
    // One block waits for an mbarrier that nobody arrives at, the others for it.
    run(
        &format!(
            "{MBARRIER} mov.u32 %r10, %cluster_ctarank; setp.eq.u32 %p1, %r10, 3; @!%p1 bra $skip; {WAIT}
             $skip: {ARRIVE} {WAIT_ALL}"
        ),
        &[Kind::Deadlock],
    );
    run("mov.u32 %r10, 7; mapa.shared::cluster.u32 %r11, %s, %r10;", &[Kind::Cluster]);
}

#[test]
fn an_exited_block_has_no_shared_memory() {
    // Block 1 ends; the others come back to it later.
    let mut program = kernel(
        "mov.u32 %r10, %cluster_ctarank;
         st.shared.u32 [%s], %r10;
         barrier.cluster.arrive.release.aligned;
         barrier.cluster.wait.acquire.aligned;
         setp.eq.u32 %p1, %r10, 1;
         @%p1 bra $end;
         mov.u32 %r11, 1;
         mapa.shared::cluster.u32 %r12, %s, %r11;
         mov.u32 %r13, 0;
         $again:
         ld.volatile.shared::cluster.u32 %r14, [%r12];
         add.u32 %r13, %r13, 1;
         setp.lt.u32 %p2, %r13, 5000;
         @%p2 bra $again;
         $end:",
    );
    finds(&mut program, &cluster(2, 32), &args(&[], &[]), Kind::Cluster);
}

/// Block 0 sends a row of 32 words to the blocks in the mask; everybody waits at the own mbarrier and stores the words.
fn multicast(mask: u32) -> String {
    format!(
        "{MBARRIER}
         barrier.cluster.arrive.release.aligned;
         barrier.cluster.wait.acquire.aligned;
         mov.u32 %r10, %cluster_ctarank;
         @%p15 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 128;
         setp.eq.u32 %p1, %r10, 0;
         and.pred %p2, %p1, %p15;
         mov.b16 %h0, {mask};
         @%p2 cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%s], \
         [%rd30, {{32}}], [%r90], %h0;
         {WAIT}
         shl.b32 %r91, %r0, 2;
         add.u32 %r92, %s, %r91;
         ld.shared.u32 %r93, [%r92];
         mad.lo.u32 %r16, %r10, 32, %r0;
         mul.wide.u32 %rd3, %r16, 4;
         add.u64 %rd3, %rd3, %rd0;
         st.global.u32 [%rd3], %r93;
         barrier.cluster.arrive.release.aligned;
         barrier.cluster.wait.acquire.aligned;"
    )
}

#[test]
fn multicast_reaches_every_block_of_its_mask() {
    let mut program = kernel(&multicast(0b11));
    let input: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let (out, from) = (program.blank(256), program.upload(&input));
    let maps = [tiled(from, &[64], &[32], 0)];
    runs(&mut program, &cluster(2, 32), &args(&[out], &maps));
    assert_eq!(program.download::<f32>(out, 64), [&input[32..], &input[32..]].concat());
    // One block is left out and waits for ever; another is not there.
    for (mask, kind) in [(0b01, Kind::TransactionCount), (0b110, Kind::Cluster), (0, Kind::Cluster)] {
        let mut program = kernel(&multicast(mask));
        let (out, from) = (program.blank(256), program.upload(&input));
        finds(&mut program, &cluster(2, 32), &args(&[out], &[tiled(from, &[64], &[32], 0)]), kind);
    }
}

#[test]
fn a_block_sends_to_another_and_arrives_there() {
    // Block 0 fills its memory, copies it into block 1's and lets block 1's mbarrier count it; a plain remote arrival
    // too.
    let mut program = kernel(&format!(
        "add.u32 %r90, %s, 8000;
         setp.eq.u32 %p15, %r0, 0;
         @%p15 mbarrier.init.shared::cta.b64 [%r90], 2;
         @%p15 fence.mbarrier_init.release.cluster;
         mov.u32 %r10, %cluster_ctarank;
         shl.b32 %r3, %r0, 2;
         add.u32 %r4, %s, %r3;
         add.u32 %r5, %r0, 500;
         st.shared.u32 [%r4], %r5;
         fence.proxy.async;
         barrier.cluster.arrive.release.aligned;
         barrier.cluster.wait.acquire.aligned;
         setp.eq.u32 %p1, %r10, 1;
         @%p1 bra $receive;
         @!%p15 bra $end;
         mov.u32 %r11, 1;
         add.u32 %r12, %s, 1024;
         mapa.shared::cluster.u32 %r13, %r12, %r11;
         mapa.shared::cluster.u32 %r14, %r90, %r11;
         cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r13], [%s], 128, [%r14];
         mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r14];
         bra $end;
         $receive:
         @%p15 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 128;
         {WAIT}
         add.u32 %s, %s, 1024;
         {WORDS_OUT}
         $end:
         barrier.cluster.arrive.release.aligned;
         barrier.cluster.wait.acquire.aligned;"
    ));
    let out = program.blank(128);
    runs(&mut program, &cluster(2, 32), &args(&[out], &[]));
    assert!(program.download::<u32>(out, 32).iter().enumerate().all(|(i, x)| *x == i as u32 + 500));
}

/// Both blocks prepare an mbarrier and zeros; each runs `send` with the other's memory at `%r13` and mbarrier at
/// `%r14`, its own thread's word being `%r4` bytes in; each waits for `bytes` and stores its words.
fn exchange(send: &str, bytes: u32) -> String {
    format!(
        "{MBARRIER}
         shl.b32 %r4, %r0, 2;
         add.u32 %r5, %s, %r4;
         mov.u32 %r6, 0;
         st.shared.u32 [%r5], %r6;
         add.u32 %r7, %r5, 1024;
         add.u32 %r6, %r0, 40;
         st.shared.u32 [%r7], %r6;
         fence.proxy.async;
         @%p15 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], {bytes};
         barrier.cluster.arrive.release.aligned;
         barrier.cluster.wait.acquire.aligned;
         mov.u32 %r10, %cluster_ctarank;
         xor.b32 %r11, %r10, 1;
         mapa.shared::cluster.u32 %r13, %s, %r11;
         mapa.shared::cluster.u32 %r14, %r90, %r11;
         {send}
         {WAIT}
         mul.wide.u32 %rd3, %r10, 128;
         add.u64 %rd0, %rd0, %rd3;
         {WORDS_OUT}
         barrier.cluster.arrive.release.aligned;
         barrier.cluster.wait.acquire.aligned;"
    )
}

#[test]
fn registers_are_sent_to_another_block() {
    let answer = |send: &str, bytes: u32| -> Vec<u32> {
        let mut program = kernel(&exchange(send, bytes));
        let out = program.blank(256);
        runs(&mut program, &cluster(2, 32), &args(&[out], &[]));
        program.download(out, 64)
    };
    let signal = "shared::cluster.mbarrier::complete_tx::bytes";
    // Each thread a word: 1000 times the sender's rank, and its thread.
    let value = "mad.lo.u32 %r15, %r10, 1000, %r0; add.u32 %r16, %r13, %r4;";
    let words = answer(&format!("{value} st.async.weak.{signal}.u32 [%r16], %r15, [%r14];"), 128);
    assert!(words.iter().enumerate().all(|(i, w)| *w == (1 - i as u32 / 32) * 1000 + i as u32 % 32), "{words:?}");
    // One thread a vector.
    let vector = format!("@%p15 st.async.{signal}.v4.b32 [%r13], {{%r10, 5, 6, 7}}, [%r14];");
    let words = answer(&vector, 16);
    assert_eq!(words[..5], [1, 5, 6, 7, 0]);
    // All threads of the other block add to one word, and others take a maximum.
    let add = format!("red.async.relaxed.cluster.{signal}.add.u32 [%r13], %r0, [%r14];");
    let max = format!("red.async.relaxed.cluster.{signal}.max.s32 [%r13+4], %r0, [%r14];");
    let words = answer(&format!("{add}\n{max}"), 256);
    assert_eq!((words[0], words[1], words[32], words[33]), (496, 31, 496, 31));
    // A range of shared memory added to the other block's.
    let range = "add.u32 %r15, %s, 1024;
         @%p15 cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%r13], [%r15], \
         128, [%r14];";
    let words = answer(range, 128);
    assert!(words.iter().enumerate().all(|(i, w)| *w == i as u32 % 32 + 40), "{words:?}");
}

#[test]
fn what_is_sent_is_waited_for() {
    let signal = "shared::cluster.mbarrier::complete_tx::bytes";
    let value = "mad.lo.u32 %r15, %r10, 1000, %r0; add.u32 %r16, %r13, %r4;";
    let send = format!("{value} st.async.weak.{signal}.u32 [%r16], %r15, [%r14];");
    let finds = |body: String, kinds: &[Kind]| {
        let mut program = kernel(&body);
        let out = program.blank(256);
        for seed in 0..6 {
            program.options.seed = seed;
            let finding = program.finds("k", &cluster(2, 32), &args(&[out], &[]));
            assert!(kinds.contains(&finding.kind), "{finding}");
        }
    };
    // Read before the wait, by whichever block runs first; more and fewer bytes than announced.
    let early = format!("{send}\nadd.u32 %r17, %s, %r4;\nld.shared.u32 %r18, [%r17];");
    finds(exchange(&early, 128), &[Kind::AsyncNotWaited, Kind::SharedRace]);
    finds(exchange(&send, 132), &[Kind::TransactionCount]);
    finds(exchange(&send, 124), &[Kind::TransactionCount, Kind::AsyncNotWaited]);
}
