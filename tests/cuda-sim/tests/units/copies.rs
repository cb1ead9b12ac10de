//! `cp.async`, bulk copies of ranges, and what completes them.

use cuda_sim::check::Kind;

use super::*;

#[test]
fn cp_async_in_groups_with_zero_fill() {
    // 32 lanes copy 16 bytes each; the second group reads only 4 of them.
    let mut program = kernel(
        "shl.b32 %r3, %r0, 4;
         cvt.u64.u32 %rd3, %r3;
         add.u64 %rd4, %rd1, %rd3;
         add.u32 %r4, %s, %r3;
         cp.async.cg.shared.global [%r4], [%rd4], 16;
         cp.async.commit_group;
         cp.async.ca.shared.global [%r4+512], [%rd4], 16, 4;
         cp.async.commit_group;
         cp.async.wait_group 1;
         ld.shared.u32 %r5, [%r4+8];
         cp.async.wait_all;
         ld.shared.u32 %r6, [%r4+512];
         ld.shared.u32 %r7, [%r4+516];
         add.u64 %rd5, %rd0, %rd3;
         st.global.v4.u32 [%rd5], {%r5, %r6, %r7, %r0};",
    );
    let input: Vec<u32> = (1..=128).collect();
    let (out, from) = (program.blank(512), program.upload(&input));
    runs(&mut program, &shape(32), &args(&[out, from], &[]));
    let words: Vec<u32> = program.download(out, 128);
    for lane in 0..32 {
        assert_eq!(words[4 * lane..][..4], [input[4 * lane + 2], input[4 * lane], 0, lane as u32]);
    }
}

#[test]
fn cp_async_arrives_at_an_mbarrier() {
    // 32 copies arrive one by one; the other warp reads what they brought.
    for noinc in [false, true] {
        let (suffix, count) = if noinc { (".noinc", 33) } else { ("", 1) };
        let mut program = kernel(&format!(
            "add.u32 %r90, %s, 8000;
             setp.eq.u32 %p1, %r0, 0;
             @%p1 mbarrier.init.shared::cta.b64 [%r90], {count};
             bar.sync 0;
             setp.eq.u32 %p2, %r2, 1;
             @%p2 bra $wait;
             shl.b32 %r3, %r0, 2;
             cvt.u64.u32 %rd3, %r3;
             add.u64 %rd4, %rd1, %rd3;
             add.u32 %r4, %s, %r3;
             cp.async.ca.shared.global [%r4], [%rd4], 4;
             cp.async.mbarrier.arrive{suffix}.shared::cta.b64 [%r90];
             @%p1 mbarrier.arrive.shared::cta.b64 _, [%r90];
             bra $end;
             $wait:
             mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r90], 0;
             @!%p3 bra $wait;
             sub.u32 %r0, %r0, 32;
             {WORDS_OUT}
             $end:"
        ));
        let input: Vec<u32> = (100..132).collect();
        let (out, from) = (program.blank(128), program.upload(&input));
        runs(&mut program, &shape(64), &args(&[out, from], &[]));
        assert_eq!(program.download::<u32>(out, 32), input);
    }
}

#[test]
fn bulk_load_store_and_reduction() {
    // In by mbarrier, changed by all threads, out as a copy and as a sum.
    let mut program = kernel(&format!(
        "{MBARRIER}
         @%p15 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 256;
         @%p15 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%rd1], 256, [%r90];
         {WAIT}
         shl.b32 %r3, %r0, 2;
         add.u32 %r4, %s, %r3;
         ld.shared.f32 %f1, [%r4];
         add.f32 %f1, %f1, 0f3f800000;
         st.shared.f32 [%r4], %f1;
         fence.proxy.async.shared::cta;
         bar.sync 0;
         @!%p15 bra $end;
         cp.async.bulk.global.shared::cta.bulk_group [%rd0], [%s], 256;
         cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd2], [%s], 256;
         cp.async.bulk.commit_group;
         cp.async.bulk.wait_group 0;
         $end:"
    ));
    let input: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let (out, from, sum) = (program.blank(256), program.upload(&input), program.upload(&[0.5f32; 64]));
    runs(&mut program, &shape(64), &args(&[out, from, sum], &[]));
    assert!(program.download::<f32>(out, 64).iter().enumerate().all(|(i, x)| *x == i as f32 + 1.0));
    // Six seeds added to it.
    assert!(program.download::<f32>(sum, 64).iter().enumerate().all(|(i, x)| *x == 0.5 + 6.0 * (i as f32 + 1.0)));
}

#[test]
fn bulk_copies_are_checked() {
    let load = |bytes: &str, to: &str, from: &str| {
        format!(
            "{MBARRIER}
             @%p15 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], {bytes};
             @%p15 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{to}], [{from}], {bytes}, [%r90];
             {WAIT}"
        )
    };
    let cases = [
        (load("24", "%s", "%rd1"), Kind::InvalidOperand),
        (load("32", "%s+8", "%rd1"), Kind::Misaligned),
        (load("32", "%s", "%rd1+4"), Kind::Misaligned),
        (load("512", "%s", "%rd1"), Kind::OutOfBounds),
        (load("256", "%s+8064", "%rd1"), Kind::OutOfBounds),
        (load("256", "%s", "%rd0"), Kind::UninitializedGlobal),
    ];
    for (body, kind) in cases {
        let mut program = kernel(&body);
        let (out, from) = (program.blank(256), program.upload(&[1u32; 64]));
        finds(&mut program, &shape(32), &args(&[out, from], &[]), kind);
    }
}
