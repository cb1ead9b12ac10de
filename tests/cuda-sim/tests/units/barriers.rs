//! Mbarriers by threads alone.

use cuda_sim::check::Kind;

use super::*;

#[test]
fn arrivals_of_all_threads_publish_their_words() {
    // 64 threads write a word each, arrive, wait for the token's phase and read their neighbour's.
    let mut program = kernel(
        "add.u32 %r90, %s, 8000;
         setp.eq.u32 %p1, %r0, 0;
         @%p1 mbarrier.init.shared::cta.b64 [%r90], 64;
         bar.sync 0;
         shl.b32 %r3, %r0, 2;
         add.u32 %r4, %s, %r3;
         mul.lo.u32 %r5, %r0, 3;
         st.shared.u32 [%r4], %r5;
         mbarrier.arrive.shared::cta.b64 %rd3, [%r90];
         $spin:
         mbarrier.test_wait.shared::cta.b64 %p2, [%r90], %rd3;
         @!%p2 bra $spin;
         xor.b32 %r6, %r3, 128;
         add.u32 %r6, %r6, %s;
         ld.shared.u32 %r7, [%r6];
         cvt.u64.u32 %rd4, %r3;
         add.u64 %rd4, %rd4, %rd0;
         st.global.u32 [%rd4], %r7;",
    );
    let out = program.blank(256);
    runs(&mut program, &shape(64), &args(&[out], &[]));
    let words: Vec<u32> = program.download(out, 64);
    assert!(words.iter().enumerate().all(|(i, w)| *w == (i as u32 ^ 32) * 3));
}

#[test]
fn counts_tokens_and_drops() {
    // Three arrivals: two at once, then one that leaves for good; the next phase needs two.
    let mut program = kernel(
        "add.u32 %r90, %s, 8000;
         mbarrier.init.shared::cta.b64 [%r90], 3;
         mbarrier.arrive.shared::cta.b64 %rd3, [%r90], 2;
         mbarrier.pending_count.b64 %r3, %rd3;
         mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r90], 0;
         selp.u32 %r4, 1, 0, %p1;
         mbarrier.arrive_drop.shared::cta.b64 _, [%r90];
         mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r90], 0;
         selp.u32 %r5, 1, 0, %p1;
         mbarrier.arrive.shared::cta.b64 _, [%r90], 2;
         mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r90], 1;
         selp.u32 %r6, 1, 0, %p1;
         mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r90], 16;
         mbarrier.arrive.shared::cta.b64 _, [%r90], 2;
         mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r90], 0;
         selp.u32 %r7, 1, 0, %p1;
         mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r90], 16;
         mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r90], 0;
         selp.u32 %r8, 1, 0, %p1;
         mbarrier.inval.shared::cta.b64 [%r90];
         st.global.v4.u32 [%rd0], {%r3, %r4, %r5, %r6};
         st.global.v2.u32 [%rd0+16], {%r7, %r8};",
    );
    let out = program.blank(32);
    runs(&mut program, &shape(1), &args(&[out], &[]));
    assert_eq!(program.download::<u32>(out, 6), [3, 0, 1, 1, 0, 1]);
}

#[test]
fn misuse() {
    let mistakes = [
        ("mbarrier.arrive.shared::cta.b64 _, [%r90];", Kind::Mbarrier),
        ("mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r90], 0;", Kind::Mbarrier),
        ("mbarrier.init.shared::cta.b64 [%r90+4], 1;", Kind::Misaligned),
        ("mbarrier.init.shared::cta.b64 [%r90+192], 1;", Kind::OutOfBounds),
        ("mbarrier.init.shared::cta.b64 [%r90], 0;", Kind::Mbarrier),
        ("mbarrier.init.shared::cta.b64 [%r90], 1; mbarrier.init.shared::cta.b64 [%r90], 1;", Kind::Mbarrier),
        ("mbarrier.init.shared::cta.b64 [%r90], 1; mbarrier.arrive.shared::cta.b64 _, [%r90], 2;", Kind::Mbarrier),
        (
            "mbarrier.init.shared::cta.b64 [%r90], 2; mbarrier.arrive.noComplete.shared::cta.b64 %rd3, [%r90], 1; \
             mbarrier.arrive.noComplete.shared::cta.b64 %rd3, [%r90], 1;",
            Kind::Mbarrier,
        ),
        (
            "mbarrier.init.shared::cta.b64 [%r90], 1; st.shared.u32 [%r90+4], %r0; \
             mbarrier.arrive.shared::cta.b64 _, [%r90];",
            Kind::Mbarrier,
        ),
        (
            "mbarrier.init.shared::cta.b64 [%r90], 1; $w: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r90], 0; \
             @!%p1 bra $w;",
            Kind::Deadlock,
        ),
        (
            "mbarrier.init.shared::cta.b64 [%r90], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 64; \
             $w: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r90], 0; @!%p1 bra $w;",
            Kind::TransactionCount,
        ),
        (
            "mbarrier.init.shared::cta.b64 [%r90], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 64;",
            Kind::TransactionCount,
        ),
    ];
    for (body, kind) in mistakes {
        let mut program = kernel(&format!("add.u32 %r90, %s, 8000;\n{body}"));
        finds(&mut program, &shape(1), &args(&[], &[]), kind);
    }
}

#[test]
fn use_before_the_initialisation_is_ordered() {
    let mut program = kernel(
        "add.u32 %r90, %s, 8000;
         setp.eq.u32 %p1, %r0, 0;
         @%p1 mbarrier.init.shared::cta.b64 [%r90], 64;
         mbarrier.arrive.shared::cta.b64 _, [%r90];",
    );
    for seed in 0..6 {
        program.options.seed = seed;
        let finding = program.finds("k", &shape(64), &args(&[], &[]));
        // Whichever warp runs first.
        assert!(matches!(finding.kind, Kind::SharedRace | Kind::Mbarrier), "{finding}");
    }
}

#[test]
fn arrivals_that_promise_not_to_complete() {
    // Three of four so; the last one may complete.
    let mut program = kernel(
        "add.u32 %r90, %s, 8000;
         mbarrier.init.shared::cta.b64 [%r90], 4;
         mbarrier.arrive.noComplete.shared::cta.b64 %rd3, [%r90], 2;
         mbarrier.arrive_drop.noComplete.release.cta.shared::cta.b64 %rd3, [%r90], 1;
         mbarrier.pending_count.b64 %r3, %rd3;
         mbarrier.arrive.shared::cta.b64 _, [%r90];
         mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r90], 0;
         selp.u32 %r4, 1, 0, %p1;
         mbarrier.arrive.shared::cta.b64 %rd3, [%r90];
         mbarrier.pending_count.b64 %r5, %rd3;
         mov.u32 %r6, 9;
         st.global.v4.u32 [%rd0], {%r3, %r4, %r5, %r6};",
    );
    let out = program.blank(16);
    runs(&mut program, &shape(1), &args(&[out], &[]));
    assert_eq!(program.download::<u32>(out, 4), [2, 1, 3, 9]);
}
