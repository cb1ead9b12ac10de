//! Planted mistakes of copies and their completion.

use cuda_sim::check::Kind;

use super::*;

/// A load of 64 words into `s`, in parts that can be left out.
const ANNOUNCE: &str = "@%p15 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], 256;";
const LOAD: &str = "@%p15 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%rd1], 256, [%r90];";

/// Runs bodies for 64 threads with 256 bytes out and 256 bytes in; each must find its kind. In some orders of the two
/// warps the same mistake shows otherwise: nothing is there to read yet, or a copy clashes with the other warp's access
/// before that clashes with the copy.
fn all(cases: &[(String, Kind)]) {
    for (body, kind) in cases {
        let mut program = kernel(body);
        let (out, from) = (program.blank(256), program.upload(&[1u32; 64]));
        let mut kinds = vec![];
        for seed in 0..6 {
            program.options.seed = seed;
            let finding = program.finds("k", &shape(64), &args(&[out, from], &[]));
            let clash = |kind| matches!(kind, Kind::SharedRace | Kind::AsyncNotWaited);
            let same = finding.kind == *kind || clash(finding.kind) && clash(*kind);
            assert!(same || finding.kind == Kind::UninitializedShared, "{kind:?}, not {finding}");
            assert!(finding.ptx_line > 0, "{finding}");
            kinds.push(finding.kind);
        }
        assert!(kinds.contains(kind), "{kind:?} never found in\n{body}");
    }
}

#[test]
fn the_whole_is_right() {
    let mut program = kernel(&format!("{MBARRIER} {ANNOUNCE} {LOAD} {WAIT} {WORDS_OUT}"));
    let (out, from) = (program.blank(256), program.upload(&[1u32; 64]));
    runs(&mut program, &shape(64), &args(&[out, from], &[]));
}

#[test]
fn loads() {
    all(&[
        // Read without waiting, or waiting for the phase before.
        (format!("{MBARRIER} {ANNOUNCE} {LOAD} {WORDS_OUT} {WAIT}"), Kind::AsyncNotWaited),
        (format!("{MBARRIER} {ANNOUNCE} {LOAD} {} {WORDS_OUT}", WAIT.replace(", 0;", ", 1;")), Kind::AsyncNotWaited),
        // Only one thread waits; the others are not ordered after it.
        (format!("{MBARRIER} {ANNOUNCE} {LOAD} @!%p15 bra $go; {WAIT} $go: {WORDS_OUT}"), Kind::AsyncNotWaited),
        // Written by threads while the copy is on its way.
        (format!("{MBARRIER} {ANNOUNCE} {LOAD} @%p15 st.shared.u32 [%s+64], 1; {WAIT}"), Kind::AsyncNotWaited),
        // Two copies to one place.
        (format!("{MBARRIER} {} {LOAD} {LOAD} {WAIT}", ANNOUNCE.replace("256", "512")), Kind::AsyncNotWaited),
        // Over what threads may still read.
        (
            format!(
                "shl.b32 %r91, %r0, 2; add.u32 %r92, %s, %r91; st.shared.u32 [%r92], 1; {MBARRIER} fence.proxy.async; bar.sync 0; ld.shared.u32 %r93, [%s]; {ANNOUNCE} {LOAD} {WAIT}"
            ),
            Kind::SharedRace,
        ),
        // Over what threads wrote, with no proxy fence.
        (
            format!("@!%p15 st.shared.u32 [%s], 1; {MBARRIER} {ANNOUNCE} {LOAD} {WAIT}").replace("@!%p15 st", "st"),
            Kind::SharedRace,
        ),
        // The mbarrier is not there, or not yet for copies.
        (
            format!(
                "{} {ANNOUNCE} {LOAD} {WAIT}",
                MBARRIER.replace("@%p15 mbarrier.init.shared::cta.b64 [%r90], 1;", "")
            ),
            Kind::Mbarrier,
        ),
        (
            format!("{} {ANNOUNCE} {LOAD} {WAIT}", MBARRIER.replace("@%p15 fence.mbarrier_init.release.cluster;", "")),
            Kind::ProxyFence,
        ),
        // Never announced, so the next phase has received too much; announced and never sent.
        (
            format!(
                "{MBARRIER} @%p15 mbarrier.arrive.shared::cta.b64 _, [%r90]; {LOAD} {WAIT} {}",
                WAIT.replace("$wait", "$next").replace(", 0;", ", 1;")
            ),
            Kind::TransactionCount,
        ),
        (format!("{MBARRIER} {ANNOUNCE} {WAIT}"), Kind::TransactionCount),
        // Left behind at the end.
        (format!("{MBARRIER} {ANNOUNCE} {LOAD}"), Kind::AsyncNotWaited),
    ]);
}

#[test]
fn stores() {
    let fill = "shl.b32 %r91, %r0, 2; add.u32 %r92, %s, %r91; st.shared.u32 [%r92], %r0;";
    let fence = "fence.proxy.async.shared::cta;";
    let store = "setp.eq.u32 %p15, %r0, 0; @%p15 cp.async.bulk.global.shared::cta.bulk_group [%rd0], [%s], 256; @%p15 cp.async.bulk.commit_group;";
    let wait = "@%p15 cp.async.bulk.wait_group.read 0;";
    let mut program = kernel(&format!("{fill} {fence} bar.sync 0; {store} {wait} bar.sync 0; {fill}"));
    let out = program.blank(256);
    runs(&mut program, &shape(64), &args(&[out], &[]));
    all(&[
        (format!("{fill} bar.sync 0; {store} {wait}"), Kind::ProxyFence),
        (format!("{fill} {fence} {store} {wait} bar.sync 0;"), Kind::SharedRace),
        (format!("{fill} {fence} bar.sync 0; {store} bar.sync 0; {fill} {wait}"), Kind::AsyncNotWaited),
        (
            format!("{fill} {fence} bar.sync 0; {store} {} bar.sync 0; {fill}", wait.replace("read 0", "read 1")),
            Kind::AsyncNotWaited,
        ),
        (
            format!(
                "{fill} {fence} bar.sync 0; {}",
                store.replace("@%p15 cp.async.bulk.commit_group;", "@%p15 cp.async.bulk.wait_group 0;")
            ),
            Kind::AsyncNotWaited,
        ),
        (
            format!("{fill} {fence} bar.sync 0; {} {wait}", store.replace("[%s], 256", "[%s+128], 256")),
            Kind::UninitializedShared,
        ),
        (format!("{fill} {fence} bar.sync 0; {} {wait}", store.replace("[%rd0]", "[%rd1+16]")), Kind::OutOfBounds),
    ]);
}

#[test]
fn cp_async() {
    let copy = "shl.b32 %r91, %r0, 2; add.u32 %r92, %s, %r91; cvt.u64.u32 %rd3, %r91; add.u64 %rd3, %rd3, %rd1;
        cp.async.ca.shared.global [%r92], [%rd3], 4; cp.async.commit_group;";
    let read = "ld.shared.u32 %r93, [%r92];";
    let other = "xor.b32 %r91, %r91, 128; add.u32 %r92, %s, %r91; ld.shared.u32 %r93, [%r92];";
    let mut program = kernel(&format!("{copy} cp.async.wait_group 0; {read} bar.sync 0; {other}"));
    let from = program.upload(&[1u32; 64]);
    runs(&mut program, &shape(64), &args(&[0, from], &[]));
    all(&[
        (format!("{copy} {read}"), Kind::AsyncNotWaited),
        (format!("{copy} cp.async.wait_group 1; {read}"), Kind::AsyncNotWaited),
        (format!("{} cp.async.wait_group 0; {read}", copy.replace("cp.async.commit_group;", "")), Kind::AsyncNotWaited),
        // Waited for after the barrier.
        (format!("{copy} bar.sync 0; cp.async.wait_group 0; {other}"), Kind::AsyncNotWaited),
        (
            format!("{} cp.async.wait_group 0;", copy.replace("[%r92], [%rd3], 4", "[%r92+2], [%rd3], 4")),
            Kind::Misaligned,
        ),
        (
            format!("{} cp.async.wait_group 0;", copy.replace("[%r92], [%rd3], 4", "[%r92+8064], [%rd3], 4")),
            Kind::OutOfBounds,
        ),
        (
            format!("{} cp.async.wait_group 0;", copy.replace("[%r92], [%rd3], 4", "[%r92], [%rd3+4], 4")),
            Kind::OutOfBounds,
        ),
    ]);
}

#[test]
fn a_report_names_both_places_and_replays() {
    let mut program = kernel(&format!("{MBARRIER} {ANNOUNCE} {LOAD} {WORDS_OUT} {WAIT}"));
    let (out, from) = (program.blank(256), program.upload(&[1u32; 64]));
    program.options.seed = 41;
    let once = program.finds("k", &shape(32), &args(&[out, from], &[]));
    let again = program.finds("k", &shape(32), &args(&[out, from], &[]));
    assert_eq!(once.to_string(), again.to_string());
    assert_eq!(once.seed, 41);
    let (read, load) = (once.ptx_line, once.text.split("PTX line ").nth(1).and_then(|n| n.parse::<u32>().ok()));
    let load = load.unwrap_or_else(|| panic!("no second line in: {once}"));
    assert!(load < read, "{once}");
}
