//! A Hopper matrix product as nvcc compiles it: right over many seeds without a finding, and every planted mistake
//! found.

mod common;

use common::{Arg, Program, Shape, expect};
use cuda_sim::check::{Finding, Kind};
use cuda_sim::exec::Stats;
use cuda_sim::num::{bf16_to_f32, f32_to_bf16};
use cuda_sim::tensor::{TensorMap, TiledArgs};

const GEMM: &str = include_str!("fixtures/gemm_sm90.ptx");
/// What the kernel's shared memory takes.
const SHARED: u32 = 3 * 32768 + 32768 + 64;

/// A bf16 matrix of `rows` × `columns`, boxes of 64 columns.
fn map(address: u64, columns: u64, rows: u64, box_rows: u32, swizzle: u32) -> [u8; 128] {
    let map = TensorMap::encode_tiled(&TiledArgs {
        data_type: 9,
        rank: 2,
        address,
        global_dim: &[columns, rows],
        global_strides: &[columns * 2],
        box_dim: &[64, box_rows],
        element_strides: &[1, 1],
        interleave: 0,
        swizzle,
        l2_promotion: 0,
        oob_fill: 0,
    });
    map.unwrap_or_else(|refusal| panic!("{refusal}")).to_bytes()
}

/// Small integers, so that sums are exact.
fn matrix(rows: u64, columns: u64, salt: u64) -> Vec<u16> {
    (0..rows * columns).map(|i| f32_to_bf16(((i * 7 + i / columns * salt) % 9) as f32 - 4.0)).collect()
}

struct Case {
    m: u64,
    n: u64,
    k: u64,
    seed: u64,
    shared: u32,
    swizzle_a: u32,
}

impl Case {
    fn new(m: u64, n: u64, k: u64) -> Case {
        Case { m, n, k, seed: 0, shared: SHARED, swizzle_a: 3 }
    }

    /// Runs the product and returns how many results are wrong.
    fn run(&self, text: &str) -> Result<(Stats, usize), Box<Finding>> {
        let Case { m, n, k, .. } = *self;
        let mut program = Program::whole(text);
        program.options.seed = self.seed;
        let (a, b) = (matrix(m, k, 5), matrix(n, k, 3));
        let (da, db) = (program.upload(&a), program.upload(&b));
        let d = program.blank((m * n * 2) as usize);
        let shape = Shape {
            grid: [n.div_ceil(128) as u32, m.div_ceil(128) as u32, 1],
            block: [384, 1, 1],
            cluster: [1; 3],
            shared: self.shared,
        };
        let maps = [map(da, k, m, 128, self.swizzle_a), map(db, k, n, 128, 3), map(d, n, m, 64, 3)];
        let [ma, mb, md] = maps.map(Arg::Map);
        let stats = program.launch("gemm", &shape, &[ma, mb, md, Arg::I32(k as i32)])?;
        let got: Vec<u16> = program.download(d, (m * n) as usize);
        let value = |v: &[u16], i: u64| bf16_to_f32(v[i as usize]);
        let wrong = (0..m * n).filter(|i| {
            let dot: f32 = (0..k).map(|s| value(&a, i / n * k + s) * value(&b, i % n * k + s)).sum();
            got[*i as usize] != f32_to_bf16(dot)
        });
        Ok((stats, wrong.count()))
    }

    fn is_right(&self, text: &str) -> Stats {
        let (stats, wrong) = self.run(text).unwrap_or_else(|finding| panic!("{finding}"));
        assert_eq!(wrong, 0, "wrong elements of {}×{}×{}, seed {}", self.m, self.n, self.k, self.seed);
        stats
    }
}

#[test]
fn right_over_twenty_seeds() {
    for seed in 0..20 {
        Case { seed, ..Case::new(128, 128, 320) }.is_right(GEMM);
    }
}

#[test]
fn right_for_several_blocks_and_edges() {
    let stats = Case::new(256, 256, 128).is_right(GEMM);
    assert_eq!(stats.wgmma, 4 * 2 * 2 * 4); // blocks, warpgroups, rounds, steps
    assert_eq!(stats.bulk_bytes, 4 * (2 * 32768 + 32768));
    Case::new(200, 72, 136).is_right(GEMM);
    Case::new(8, 8, 8).is_right(GEMM);
}

/// The kernel with one text in place of another, which must be there.
fn planted(from: &str, to: &str) -> String {
    assert!(GEMM.contains(from), "the kernel has no {from:?}");
    GEMM.replace(from, to)
}

/// The kernel without the lines that contain a text.
fn without(text: &str) -> String {
    assert!(GEMM.contains(text), "the kernel has no {text:?}");
    GEMM.lines().filter(|line| !line.contains(text)).flat_map(|line| [line, "\n"]).collect()
}

/// Runs a changed kernel over some seeds; each must find one of these kinds: which comes first depends on the order.
fn finds(text: &str, kinds: &[Kind]) {
    finds_in(320, text, kinds);
}

/// As [`finds`], for a product of depth `k`: the ring has three stages of 64.
fn finds_in(k: u64, text: &str, kinds: &[Kind]) {
    for seed in 0..4 {
        match (Case { seed, ..Case::new(128, 128, k) }.run(text)) {
            Err(finding) => assert!(kinds.contains(&finding.kind), "{finding}"),
            Ok((_, wrong)) => panic!("seed {seed}: nothing was found, {wrong} elements are wrong"),
        }
    }
}

#[test]
fn accumulators_used_before_their_wait() {
    finds_in(192, &planted("wgmma.wait_group.sync.aligned 0;", ""), &[Kind::WgmmaRegisters]);
}

#[test]
fn stage_released_while_wgmma_reads_it() {
    // The missing wait orders the release as well: the producer's next copy clashes with the reads, or a warp left
    // behind never finds its stage full.
    let kinds = &[Kind::AsyncNotWaited, Kind::Deadlock];
    finds(&planted("wgmma.wait_group.sync.aligned 0;", ""), kinds);
    finds(&planted("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;"), kinds);
}

#[test]
fn wgmma_without_fence() {
    finds(&planted("wgmma.fence.sync.aligned;", ""), &[Kind::WgmmaFence]);
}

#[test]
fn wgmma_not_committed() {
    finds_in(192, &planted("wgmma.commit_group.sync.aligned;", ""), &[Kind::WgmmaRegisters]);
}

#[test]
fn fewer_bytes_announced_than_copied() {
    finds(&planted("32768", "16368"), &[Kind::TransactionCount]);
}

#[test]
fn one_of_two_copies_announced() {
    // The first to land completes the phase; the other's bytes are read while they may still be on their way.
    finds(&planted("32768", "16384"), &[Kind::AsyncNotWaited]);
}

#[test]
fn more_bytes_announced_than_copied() {
    finds(&planted("32768", "32784"), &[Kind::TransactionCount]);
}

#[test]
fn consumers_wait_for_the_wrong_parity() {
    // Parity 1 counts as complete before the first phase is.
    finds(
        &planted("and.b32 full,", "or.b32 full,"),
        &[Kind::AsyncNotWaited, Kind::UninitializedShared, Kind::Deadlock],
    );
}

#[test]
fn producer_waits_for_the_wrong_parity() {
    finds(&planted("and.b32 empty,", "or.b32 empty,"), &[Kind::AsyncNotWaited, Kind::Mbarrier]);
    // Complete only when somebody has consumed what was never produced.
    finds(&planted("and.b32 empty,", "xor.b32 empty,"), &[Kind::Deadlock]);
}

#[test]
fn stage_needs_more_arrivals_than_come() {
    finds(&planted("], 2;", "], 3;"), &[Kind::Deadlock]);
}

#[test]
fn stage_reused_when_one_of_two_consumers_is_done() {
    finds(&planted("], 2;", "], 1;"), &[Kind::AsyncNotWaited, Kind::Deadlock]);
}

#[test]
fn tile_stored_before_all_warps_have_put_theirs() {
    finds(&without("bar.sync %r"), &[Kind::SharedRace, Kind::UninitializedShared]);
}

#[test]
fn mbarriers_not_fenced_for_copies() {
    finds(&planted("fence.mbarrier_init.release.cluster;", ""), &[Kind::ProxyFence]);
}

#[test]
fn epilogue_without_proxy_fence() {
    finds(&planted("fence.proxy.async.shared::cta;", ""), &[Kind::ProxyFence]);
}

#[test]
fn exit_before_the_copy_has_read() {
    finds(&planted("cp.async.bulk.wait_group.read 0;", ""), &[Kind::AsyncNotWaited]);
}

#[test]
fn more_registers_asked_for_than_given_up() {
    finds(&planted("setmaxnreg.dec.sync.aligned.u32 40;", ""), &[Kind::Deadlock]);
    finds(&planted("setmaxnreg.inc.sync.aligned.u32 232;", "setmaxnreg.inc.sync.aligned.u32 240;"), &[Kind::Deadlock]);
    let swapped = planted("setmaxnreg.dec.sync.aligned.u32 40;", "setmaxnreg.inc.sync.aligned.u32 40;");
    finds(&swapped, &[Kind::InvalidOperand]);
}

#[test]
fn block_without_room_for_its_stages() {
    let case = Case { shared: SHARED - 4096, ..Case::new(128, 128, 320) };
    expect(&case.run(GEMM).expect_err("a box past shared memory"), Kind::OutOfBounds);
}

#[test]
fn another_swizzle_gives_wrong_numbers() {
    let (_, wrong) = Case { swizzle_a: 0, ..Case::new(128, 128, 64) }.run(GEMM).expect("nothing to find");
    assert!(wrong > 10_000, "{wrong}");
}
