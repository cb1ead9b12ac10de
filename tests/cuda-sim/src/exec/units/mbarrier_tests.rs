use super::*;
use crate::check::shadow::Shadow;

struct Bench {
    order: Order,
    bytes: Vec<u8>,
    shadow: Shadow,
    barriers: Mbarriers,
}

fn by(warp: Agent) -> Operator {
    Operator { warp, lanes: u32::MAX, pc: 1 }
}

fn empty() -> Bench {
    let barriers = Mbarriers::default();
    Bench { order: Order::new(2), bytes: vec![0; 64], shadow: Shadow::new(64), barriers }
}

/// A barrier at 8 with this count, initialised by warp 0 and known to warp 1.
fn bench(count: u32) -> Bench {
    let mut b = empty();
    b.init(8, count).expect("fresh");
    let mut barrier = Carried::default();
    b.order.release(0, u32::MAX, &mut barrier);
    b.order.acquire(1, u32::MAX, &barrier);
    b
}

impl Bench {
    /// The barriers, and all they need.
    fn with<T>(&mut self, f: impl FnOnce(&mut Mbarriers, &mut Order, &mut SharedMemory) -> T) -> T {
        let Bench { order, bytes, shadow, barriers } = self;
        f(barriers, order, &mut SharedMemory { bytes, shadow, range: 0..64, exited: false })
    }

    fn init(&mut self, at: u32, count: u32) -> Checked {
        self.with(|b, order, shared| b.init(by(0), order, shared, at, count))
    }

    fn arrive(&mut self, warp: Agent, count: u32, tx: Option<u32>) -> Checked<u64> {
        self.with(|b, order, shared| b.arrive(by(warp), order, shared, 8, count, tx, Arrival::default()))
    }

    fn wait(&mut self, warp: Agent, parity: u32) -> bool {
        self.with(|b, order, shared| b.wait_parity(by(warp), order, shared, 8, parity)).expect("live")
    }

    fn wait_token(&mut self, token: u64) -> Checked<bool> {
        self.with(|b, order, shared| b.wait_token(by(0), order, shared, 8, token))
    }

    fn land(&mut self, bytes: u32) -> Checked {
        let copy = self.order.begin();
        self.with(|b, order, shared| b.land(order, shared, 8, bytes, copy))
    }

    fn check_signal(&mut self) -> Checked {
        self.with(|b, order, shared| b.check_signal(by(0), order, shared, 8))
    }
}

fn kind<T: std::fmt::Debug>(result: Checked<T>) -> Kind {
    result.expect_err("a violation").kind
}

#[test]
fn phases_complete_with_all_arrivals() {
    let mut b = bench(2);
    assert!(b.wait(1, 1), "the phase before the first counts as complete");
    assert!(!b.wait(1, 0));
    let token = b.arrive(0, 1, None).expect("expected");
    assert_eq!((token >> 32, pending_count(token)), (0, 2));
    assert!(!b.wait(1, 0));
    let before = b.order.clock(0) - 1;
    b.arrive(1, 1, None).expect("expected");
    assert!(b.wait(1, 0) && !b.wait(1, 1));
    assert!(b.order.happens(1)[0] >= before, "waiting orders after the arrivals");
    assert!(b.wait_token(token).expect("recent"));
    b.arrive(0, 2, None).expect("both at once");
    assert!(b.wait(0, 1));
    assert_eq!(kind(b.wait_token(token)), Kind::Mbarrier);
    assert_eq!(kind(b.arrive(0, 3, None)), Kind::Mbarrier);
}

#[test]
fn bytes_hold_the_phase() {
    let mut b = bench(1);
    b.arrive(0, 1, Some(96)).expect("expected");
    assert!(!b.wait(0, 0));
    b.land(64).expect("announced");
    assert!(!b.wait(0, 0));
    b.land(32).expect("announced");
    assert!(b.wait(0, 0));
    // Bytes may come before they are announced.
    b.land(16).expect("the arrival is still to come");
    assert!(b.barriers.stuck().is_some());
    b.arrive(0, 1, Some(16)).expect("expected");
    assert!(b.wait(0, 1) && b.barriers.stuck().is_none());
}

#[test]
fn wrong_byte_counts_show() {
    let mut b = bench(1);
    b.arrive(0, 1, Some(32)).expect("expected");
    assert_eq!(kind(b.land(64)), Kind::TransactionCount);
    let mut b = bench(1);
    b.arrive(0, 1, Some(64)).expect("expected");
    b.land(32).expect("half");
    assert!(b.barriers.stuck().is_some_and(|v| v.text.contains("32 bytes more than arrived")));
    assert_eq!(kind(b.arrive(0, 1, Some(1 << 20))), Kind::TransactionCount);
}

#[test]
fn misuse_is_named() {
    let mut b = bench(1);
    let at_16 = b.with(|b, order, shared| b.wait_parity(by(0), order, shared, 16, 0));
    assert_eq!(kind(at_16), Kind::Mbarrier);
    assert_eq!(kind(b.init(8, 1)), Kind::Mbarrier);
    assert_eq!(kind(b.init(12, 1)), Kind::Misaligned);
    assert_eq!(kind(b.init(64, 1)), Kind::OutOfBounds);
    assert_eq!(kind(b.init(24, 0)), Kind::Mbarrier);
    b.bytes[9] ^= 1;
    assert!(b.arrive(0, 1, None).expect_err("overwritten").text.contains("overwritten"));
    b.bytes[9] ^= 1;
    b.with(|b, order, shared| b.invalidate(by(0), order, shared, 8)).expect("live");
    assert_eq!(kind(b.arrive(0, 1, None)), Kind::Mbarrier);
}

#[test]
fn use_must_be_ordered_after_initialisation_and_copies_after_a_fence() {
    let mut b = empty();
    b.init(8, 1).expect("fresh");
    assert_eq!(kind(b.arrive(1, 1, None)), Kind::SharedRace);
    let mut b = bench(1);
    assert_eq!(kind(b.check_signal()), Kind::ProxyFence);
    b.barriers.fence(1, &b.order);
    assert!(b.check_signal().is_ok());
}
