use super::*;
use crate::check::order::Carried;
use crate::check::shadow::{Shadow, Who};
use crate::matrix::{Accumulator, Element, Swizzle};

struct Bench {
    order: Order,
    bytes: Vec<u8>,
    shadow: Shadow,
    group: Warpgroup,
    files: Vec<Vec<Lanes>>,
}

const D: [u32; 4] = [2, 3, 4, 5];

/// A of ones (64×16) at 0, B of twos (8×16) at 0x1000, written by a copy that all warps waited for.
fn bench() -> Bench {
    let mut b = Bench {
        order: Order::new(4),
        bytes: vec![0; 0x1400],
        shadow: Shadow::new(0x1400),
        group: Warpgroup::new(0, 8, false),
        files: vec![vec![[0; 32]; 8]; 4],
    };
    let copy = b.order.begin();
    b.shadow.write(&mut Access::proxy(&b.order, 0, copy, true, 0), 0, 0x1400, Who::WARP).expect("fresh");
    b.bytes[..0x1000].chunks_exact_mut(2).for_each(|e| e.copy_from_slice(&0x3f80u16.to_le_bytes()));
    b.bytes[0x1000..].chunks_exact_mut(2).for_each(|e| e.copy_from_slice(&0x4000u16.to_le_bytes()));
    (0..4).for_each(|w| b.order.wait_together(w, copy));
    b
}

fn issue(keep: bool) -> Issue {
    let descriptor = |start| Descriptor { start, leading: 128, stride: 256, base_offset: 0, swizzle: Swizzle::None };
    let no = false;
    let form = Wgmma {
        n: 8,
        a: Element::Bf16,
        b: Element::Bf16,
        d: Accumulator::F32,
        negate_a: no,
        negate_b: no,
        transpose_a: no,
        transpose_b: no,
        saturate: no,
    };
    Issue { pc: 7, form, a: OperandA::Shared(descriptor(0)), b: descriptor(0x1000), keep }
}

impl Bench {
    fn issue(&mut self, warp: usize, keep: bool) -> Checked {
        let Bench { order, bytes, shadow, group, .. } = self;
        let mut shared = SharedMemory { bytes, shadow, range: 0..0x1400, exited: false };
        group.issue(warp, &issue(keep), &D, order, &mut shared)
    }

    fn wait(&mut self, warp: usize, keep: u32) -> bool {
        let Bench { order, bytes, shadow, group, files } = self;
        let shared = SharedMemory { bytes, shadow, range: 0..0x1400, exited: false };
        let [a, b, c, d] = &mut files[..] else { unreachable!() };
        group.wait(warp, keep, order, &shared, [a, b, c, d]).expect("checked operands")
    }

    fn value(&self, warp: usize) -> f32 {
        f32::from_bits(self.files[warp][3][17])
    }
}

fn kind<T: std::fmt::Debug>(result: Checked<T>) -> Kind {
    result.expect_err("a violation").kind
}

#[test]
fn runs_when_all_four_issued_and_one_waits() {
    let mut b = bench();
    for keep in [false, true] {
        for w in 0..4 {
            b.group.fence(w);
            b.issue(w, keep).expect("in order");
        }
    }
    (0..3).for_each(|w| b.group.commit(w, &mut b.order).expect("alike"));
    assert_eq!(b.value(1), 0.0, "late");
    assert!(b.wait(1, 1), "nothing to wait for");
    assert!(b.wait(1, 0));
    assert_eq!((b.value(1), b.value(3)), (64.0, 64.0));
    assert_eq!(kind(b.group.exit(3)), Kind::AsyncNotWaited);
    b.group.commit(3, &mut b.order).expect("alike");
    assert!(b.wait(3, 0));
    assert!(b.group.exit(3).is_ok());
}

#[test]
fn a_warp_waits_for_its_warpgroup() {
    let mut b = bench();
    for w in 0..3 {
        b.group.fence(w);
        b.issue(w, false).expect("in order");
        b.group.commit(w, &mut b.order).expect("alike");
    }
    assert!(!b.wait(0, 0));
    b.group.fence(3);
    b.issue(3, false).expect("in order");
    assert!(b.wait(0, 0));
    // Reused by warp 0's word alone: the other three have not waited, their reads are over all the same.
    assert!(b.shadow.write(&mut Access::warp(&b.order, 0, 9), 0, 64, Who::WARP).is_ok());
    let clash =
        b.shadow.write(&mut Access::warp(&b.order, 1, 9), 64, 64, Who::WARP).expect_err("warp 1 has not waited");
    assert_eq!(clash.kind(&b.order), Kind::AsyncNotWaited);
}

#[test]
fn registers_need_fence_and_wait() {
    let mut b = bench();
    assert_eq!(kind(b.issue(0, false)), Kind::WgmmaFence);
    for w in 0..4 {
        b.group.touch(w, 3, true).expect("not in flight");
        b.group.fence(w);
        b.issue(w, false).expect("fenced");
        b.issue(w, true).expect("same accumulators");
    }
    assert_eq!(kind(b.group.touch(2, 3, false)), Kind::WgmmaRegisters);
    assert!(b.group.touch(2, 6, true).is_ok());
    (0..4).for_each(|w| b.group.commit(w, &mut b.order).expect("alike"));
    assert_eq!(kind(b.group.touch(2, 5, true)), Kind::WgmmaRegisters, "committed is not complete");
    assert!(b.wait(2, 0));
    assert!(b.group.touch(2, 5, true).is_ok());
    assert_eq!(kind(b.issue(2, true)), Kind::WgmmaFence);
}

#[test]
fn warps_must_agree() {
    let mut b = bench();
    (0..4).for_each(|w| b.group.fence(w));
    b.issue(0, false).expect("fenced");
    assert_eq!(kind(b.issue(1, true)), Kind::Divergence);
    let mut b = bench();
    (0..4).for_each(|w| b.group.fence(w));
    (0..2).for_each(|w| b.issue(w, false).expect("fenced"));
    b.group.commit(0, &mut b.order).expect("first");
    b.issue(1, true).expect("more than warp 0");
    assert_eq!(kind(b.group.commit(1, &mut b.order)), Kind::Divergence);
}

#[test]
fn operands_must_be_there_for_all_four() {
    let mut b = bench();
    // Warp 0 writes A anew, fences and tells the others but warp 2.
    b.shadow.write(&mut Access::warp(&b.order, 0, 1), 0, 0x1000, Who::WARP).expect("in order");
    let write = |b: &mut Bench, to: Agent| {
        let mut barrier = Carried::default();
        b.order.release(0, u32::MAX, &mut barrier);
        b.order.acquire(to, u32::MAX, &barrier);
    };
    [1, 3].into_iter().for_each(|w| write(&mut b, w));
    (0..4).for_each(|w| b.group.fence(w));
    (0..3).for_each(|w| b.issue(w, false).expect("not the last"));
    assert_eq!(kind(b.issue(3, false)), Kind::SharedRace);
    let mut b = bench();
    b.shadow.write(&mut Access::warp(&b.order, 0, 1), 0, 0x1000, Who::WARP).expect("in order");
    b.order.sync(0, u32::MAX);
    (1..4).for_each(|w| write(&mut b, w));
    (0..4).for_each(|w| b.group.fence(w));
    (0..3).for_each(|w| b.issue(w, false).expect("not the last"));
    assert_eq!(kind(b.issue(3, false)), Kind::ProxyFence);
}
