//! A warp: registers, and lanes that may be at different places.

use super::registers::Registers;

/// Why lanes do not run. They look at their instruction again when woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Ready,
    /// At a `.sync` instruction, for the other lanes of its member mask.
    Members(u32),
    /// At an `.aligned` instruction, for all lanes of the warp.
    Aligned,
    /// Past `bar.sync`: number of the barrier.
    Barrier(u8),
    /// For something of `units`, by its key.
    Unit(u32),
}

/// Lanes that run together.
#[derive(Debug, Clone)]
pub struct Split {
    pub mask: u32,
    pub pc: u32,
    pub wait: Wait,
    /// The warp's own clock up to which these lanes are ordered after its accesses.
    pub known: u32,
}

pub struct Warp {
    pub registers: Registers,
    pub predicates: Box<[u32]>,
    /// Never empty until the warp has ended; the one that runs is `current`.
    pub splits: Vec<Split>,
    pub current: usize,
    /// Lanes that exist (the last warp of a block may be short).
    pub lanes: u32,
    pub exited: u32,
    /// Which block of the cluster, and which warp of it.
    pub block: usize,
    pub in_block: u32,
    /// Local memory of all lanes, one after another.
    pub local: Box<[u8]>,
    /// Which of its bytes were ever written.
    pub local_written: Box<[bool]>,
    /// Backward branches taken while other lanes wait at another place.
    pub spins: u32,
    /// Instructions executed, for `%clock`.
    pub cycles: u64,
}

impl Warp {
    /// Lanes that have not exited.
    pub fn live(&self) -> u32 {
        self.lanes & !self.exited
    }

    pub fn runnable(&self) -> bool {
        self.splits.iter().any(|s| s.wait == Wait::Ready)
    }

    pub fn ended(&self) -> bool {
        self.splits.is_empty()
    }

    /// Lets the lanes that wait for `wait` look again.
    pub fn wake(&mut self, wait: Wait) {
        for split in &mut self.splits {
            if split.wait == wait {
                split.wait = Wait::Ready;
            }
        }
    }
}
