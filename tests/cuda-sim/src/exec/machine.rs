//! The state of one cluster while its blocks run, and the order in which its warps take turns.

use super::alu::Unit;
use super::launch::{Launch, Stats};
use super::registers::Registers;
use super::units::{self, Units};
use super::warp::{Split, Wait, Warp};
use super::{barrier, run, special};
use crate::check::order::{Agent, Order};
use crate::check::shadow::Shadow;
use crate::check::{Finding, Kind};
use crate::memory::Tlb;
use crate::ptx::Code;

/// A mistake of the instruction being executed.
#[derive(Debug)]
pub struct Fault {
    pub kind: Kind,
    /// Lane of the warp, where one can be named.
    pub lane: Option<usize>,
    pub text: String,
    /// Index of the instruction at fault, where it is not the one now executing: what it started fails later.
    pub pc: Option<u32>,
}

impl Fault {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, lane: None, text: text.into(), pc: None }
    }

    pub fn lane(kind: Kind, lane: usize, text: impl Into<String>) -> Self {
        Self { kind, lane: Some(lane), text: text.into(), pc: None }
    }
}

/// What happens after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Next,
    Jump(u32),
    /// The split's place or state was changed: choose again which lanes run.
    Reselect,
    /// As `Next`, and let other warps run.
    Yield,
}

/// Where an instruction executes.
#[derive(Debug, Clone, Copy)]
pub struct At {
    pub warp: usize,
    pub block: usize,
    pub pc: u32,
    /// Lanes whose guard is true.
    pub mask: u32,
    /// Lanes that run together, `mask` among them.
    pub together: u32,
}

/// xorshift64*, for everything that may happen in any order.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self((seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1 << 63);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// One block of the cluster.
pub struct Block {
    pub index: [u32; 3],
    /// Shared memory from address 0; the first bytes belong to the system.
    pub shared: Box<[u8]>,
    pub shadow: Shadow,
    pub barriers: Box<[barrier::NamedBarrier; 16]>,
    /// First warp and number of warps.
    pub warps: std::ops::Range<usize>,
}

pub struct Machine<'a> {
    pub launch: &'a Launch<'a>,
    pub code: &'a Code,
    pub memory: Tlb<'a>,
    pub unit: Unit,
    pub blocks: Vec<Block>,
    pub warps: Vec<Warp>,
    pub order: Order,
    /// Values that released stores of shared memory carry, by block and address.
    pub flags: super::shared::Flags,
    pub units: Units,
    pub random: Random,
    pub stats: Stats,
    /// Cluster shape, after the kernel's own was considered.
    pub cluster: [u32; 3],
    /// Warp instructions that may still be executed.
    pub budget: u64,
    /// Fruitless looks at a barrier or a flag since something last moved.
    pub polls: u32,
    /// Looks at flags in global memory since this cluster last let others run.
    pub global_polls: u32,
}

/// Fruitless looks after which nothing will ever move.
const POLLS: u32 = 4_000_000;
/// Looks at global flags after which other clusters should run: the flag may be theirs to set.
const GLOBAL_POLLS: u32 = 20_000;

/// How a turn of a cluster ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Ended,
    /// It seems to wait for another cluster.
    Polling,
}

impl<'a> Machine<'a> {
    /// The cluster with the given first block. `spare`: register files of warps that have ended.
    pub fn new(
        launch: &'a Launch<'a>,
        cluster: [u32; 3],
        first: [u32; 3],
        stream: u64,
        spare: &mut Vec<Registers>,
    ) -> Self {
        let kernel = launch.kernel;
        let threads = launch.block.iter().product::<u32>();
        let per_block = threads.div_ceil(32) as usize;
        let count = cluster.iter().product::<u32>() as usize;
        let shared_bytes = crate::ptx::SHARED_START + kernel.static_shared + launch.dynamic_shared as usize;
        let mut blocks = Vec::with_capacity(count);
        let mut warps = Vec::with_capacity(count * per_block);
        for rank in 0..count as u32 {
            let [x, y, _] = cluster;
            let index = [first[0] + rank % x, first[1] + rank / x % y, first[2] + rank / (x * y)];
            blocks.push(Block {
                index,
                shared: vec![0xa5; shared_bytes.next_multiple_of(16)].into(),
                shadow: Shadow::new(shared_bytes),
                barriers: Box::default(),
                warps: warps.len()..warps.len() + per_block,
            });
            for w in 0..per_block as u32 {
                let present = (threads - w * 32).min(32);
                let lanes = if present == 32 { u32::MAX } else { (1 << present) - 1 };
                let mut predicates = vec![0; kernel.code.predicates].into_boxed_slice();
                predicates[0] = u32::MAX;
                warps.push(Warp {
                    registers: Registers::new(kernel.code.rows, spare.pop()),
                    predicates,
                    splits: vec![Split { mask: lanes, pc: 0, wait: Wait::Ready, known: 0 }],
                    current: 0,
                    lanes,
                    exited: 0,
                    block: rank as usize,
                    in_block: w,
                    local: vec![0xa5; kernel.local_bytes * 32].into(),
                    local_written: vec![false; kernel.local_bytes * 32].into(),
                    spins: 0,
                    cycles: 0,
                });
            }
        }
        let mut machine = Self {
            launch,
            code: &kernel.code,
            memory: Tlb::new(launch.memory),
            unit: Unit::detect(),
            order: Order::new(warps.len()),
            flags: Default::default(),
            units: Units::new(count, warps.len(), launch.options.seed),
            blocks,
            warps,
            random: Random::new(launch.options.seed, stream),
            stats: Stats { blocks: count as u64, ..Stats::default() },
            cluster,
            budget: launch.options.budget,
            polls: 0,
            global_polls: 0,
        };
        for w in 0..machine.warps.len() {
            machine.order.set_live(w as Agent, machine.warps[w].lanes);
            special::fill_constants(&mut machine, w);
        }
        machine
    }

    /// Runs until every warp has ended or the cluster waits for another one.
    pub fn turn(&mut self) -> Result<Turn, Box<Finding>> {
        let mut runnable = Vec::with_capacity(self.warps.len());
        self.global_polls = 0;
        loop {
            runnable.clear();
            runnable.extend((0..self.warps.len()).filter(|w| self.warps[*w].runnable()));
            let landed = units::land(self, runnable.is_empty()).map_err(|(w, pc, fault)| self.finding(w, pc, fault))?;
            if runnable.is_empty() {
                if landed {
                    continue;
                }
                if self.warps.iter().all(Warp::ended) {
                    units::finish(self).map_err(|(w, pc, fault)| self.finding(w, pc, fault))?;
                    return Ok(Turn::Ended);
                }
                return Err(self.stuck());
            }
            let w = runnable[self.random.below(runnable.len())];
            // Mostly long turns, which are cheap, and some short ones, which mix the warps finely.
            let turn =
                if self.random.next() & 3 == 0 { 1 + self.random.below(16) } else { 64 + self.random.below(1024) };
            run::warp(self, w, turn as u64)?;
            if self.polls > POLLS {
                return Err(self.stuck());
            }
            if self.global_polls > GLOBAL_POLLS {
                return Ok(Turn::Polling);
            }
        }
    }

    /// Makes the running lanes wait at their instruction.
    pub fn block(&mut self, at: &At, wait: Wait) -> Flow {
        let warp = &mut self.warps[at.warp];
        let current = warp.current;
        warp.splits[current].wait = wait;
        Flow::Reselect
    }

    /// Wakes whoever waits for a unit's `key`; something moved.
    pub fn wake(&mut self, key: u32) {
        self.polls = 0;
        for warp in &mut self.warps {
            warp.wake(Wait::Unit(key));
        }
    }

    /// The report of a mistake of warp `w` at `pc`.
    pub fn finding(&self, w: usize, pc: u32, fault: Fault) -> Box<Finding> {
        let pc = fault.pc.unwrap_or(pc);
        let warp = &self.warps[w];
        let [x, y, _] = self.launch.block;
        let first_lane = warp.splits.get(warp.current).map_or(0, |s| s.mask.trailing_zeros() as usize % 32);
        let thread = fault.lane.unwrap_or(first_lane) as u32 + 32 * warp.in_block;
        Box::new(Finding {
            kind: fault.kind,
            kernel: self.launch.kernel.name.clone(),
            block: self.blocks[warp.block].index,
            thread: Some([thread % x, thread / x % y, thread / (x * y)]),
            ptx_line: self.code.lines.get(pc as usize).copied().unwrap_or(0),
            source: self.code.source(pc as usize),
            text: fault.text,
            seed: self.launch.options.seed,
        })
    }

    /// How reports name an agent of the race detector.
    pub fn agent_name(&self, agent: Agent) -> String {
        if self.order.is_operation(agent) {
            return "an asynchronous operation".into();
        }
        let warp = &self.warps[agent as usize];
        if self.blocks.len() > 1 {
            format!("warp {} of block {:?}", warp.in_block, self.blocks[warp.block].index)
        } else {
            format!("warp {}", warp.in_block)
        }
    }

    /// Line of an instruction as reports name it.
    pub fn place_name(&self, pc: u32) -> String {
        let line = self.code.lines.get(pc as usize).copied().unwrap_or(0);
        match self.code.source(pc as usize) {
            Some((file, source)) => format!("PTX line {line}, {file}:{source}"),
            None => format!("PTX line {line}"),
        }
    }

    /// Nothing can move any more: what everybody waits for.
    fn stuck(&self) -> Box<Finding> {
        let (mut kind, mut first, mut lines) = (Kind::Deadlock, None, Vec::new());
        for (w, warp) in self.warps.iter().enumerate() {
            // Lanes that wait for each other at different places never meet.
            let apart =
                warp.splits.len() > 1 && warp.splits.iter().any(|s| matches!(s.wait, Wait::Aligned | Wait::Members(_)));
            let alone = warp.splits.len() == 1 && matches!(warp.splits[0].wait, Wait::Members(_) | Wait::Aligned);
            if (apart || alone) && kind == Kind::Deadlock {
                kind = Kind::Divergence;
                first = None;
            }
            for split in &warp.splits {
                // Lanes at a barrier are past it.
                let pc = split.pc.saturating_sub(u32::from(matches!(split.wait, Wait::Barrier(_))));
                if first.is_none() && (kind == Kind::Deadlock || apart || alone) {
                    first = Some((w, pc, split.mask));
                }
                let what = match split.wait {
                    Wait::Ready => "polling".into(),
                    Wait::Members(members) => format!("for the lanes {members:#010x} at a warp instruction"),
                    Wait::Aligned => "for the other lanes of its warp at an aligned instruction".into(),
                    Wait::Barrier(id) => self.blocks[warp.block].barriers[id as usize].describe(id),
                    Wait::Unit(key) => units::describe(self, w, key),
                };
                lines.push(format!(
                    "\n    {}, lanes {:#010x}, {}: {what}",
                    self.agent_name(w as Agent),
                    split.mask,
                    self.place_name(pc)
                ));
            }
        }
        let ended = self.warps.iter().filter(|w| w.ended()).count();
        lines.push(format!("\n    {ended} of {} warps have ended", self.warps.len()));
        let (w, pc, mask) = first.unwrap_or((0, 0, 1));
        if let Some(fault) = units::stuck(self).filter(|_| kind == Kind::Deadlock) {
            let text = format!("{}; waiting:{}", fault.text, lines.concat());
            return self.finding(w, pc, Fault::lane(fault.kind, mask.trailing_zeros() as usize % 32, text));
        }
        let text = if kind == Kind::Divergence {
            "lanes of a warp wait for each other at different places; waiting:"
        } else {
            "nothing can move any more; waiting:"
        };
        let fault = Fault::lane(kind, mask.trailing_zeros() as usize % 32, format!("{text}{}", lines.concat()));
        self.finding(w, pc, fault)
    }
}
