//! Copies in flight: issued and checked at once, landing later, in any order.
//!
//! A copy's accesses to shared memory are noted when it is issued. Its data move when it lands: at random between turns
//! of the warps, when somebody waits for its group, or when nothing else can move. Loads read global memory then;
//! stores read shared memory when they land, or when a `.read` wait asks for that much.

use std::collections::VecDeque;

use super::global::{Global, aligned, whole};
use super::mbarrier::{Mbarriers, Operator};
use super::violation::{Checked, SharedMemory, Violation};
use crate::check::Kind;
use crate::check::order::{Agent, Carried, Operation, Order};
use crate::check::shadow::{Access, Who};
use crate::memory::{Tlb, Update};

/// What copies work on: order, shared memory and mbarriers of the cluster's blocks, and global memory.
pub struct Surroundings<'a, 'm> {
    pub order: &'a mut Order,
    pub shared: Vec<SharedMemory<'a>>,
    pub mbarriers: &'a mut [Mbarriers],
    pub memory: &'a mut Tlb<'m>,
}

/// One lane's part of `cp.async`.
#[derive(Clone, Copy, Debug)]
pub struct LaneCopy {
    pub lane: u32,
    pub to: u32,
    pub from: u64,
    /// Bytes written, and how many of them are read; the others are zero.
    pub bytes: u32,
    pub read: u32,
}

enum Body {
    /// `cp.async` of a warp.
    Lanes(Box<[LaneCopy]>),
    /// `cp.async.mbarrier.arrive`: the arrivals of a warp, after its copies before.
    Arrive { block: usize, at: u32, count: u32, brought: Carried },
    /// Into the shared memory of the blocks in the mask, with their mbarrier at `signal`.
    Load { from: Global, to: u32, blocks: u32, signal: u32 },
    /// From one block's shared memory to another's.
    Forward { from: u32, block: usize, to: u32, bytes: u32, signal: u32, reduce: Option<Update> },
    /// Registers to a block's shared memory.
    Remote { block: usize, to: u32, data: Box<[u8]>, signal: u32, reduce: Option<Update> },
    /// `data` is there once shared memory was read.
    Store { from: u32, to: Global, reduce: Option<Update>, data: Option<Vec<u8>> },
}

struct Flight {
    operation: Operation,
    by: Operator,
    /// The issuing block.
    block: usize,
    body: Body,
}

/// Groups of one kind that one warp commits and waits for.
#[derive(Default)]
struct Groups {
    open: Option<Group>,
    committed: VecDeque<Group>,
    /// How many of them, from the first, were waited for as far as their reads go.
    read: usize,
}

/// The copies between two commits.
#[derive(Clone, Copy)]
struct Group {
    operation: Operation,
    /// Instruction of its last copy; none if it is empty.
    pc: Option<u32>,
}

/// The two kinds of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// `cp.async`
    Copy,
    /// `cp.async.bulk`
    Bulk,
}

/// All copies of a cluster.
pub struct Flights {
    flights: Vec<Flight>,
    /// By warp and kind.
    groups: Vec<[Groups; 2]>,
}

impl Flights {
    pub fn new(warps: usize) -> Flights {
        Flights { flights: vec![], groups: (0..warps).map(|_| Default::default()).collect() }
    }

    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// `cp.async` by the lanes of a warp.
    ///
    /// # Errors
    /// A misaligned or out-of-bounds address, or a race.
    pub fn copy(&mut self, s: &mut Surroundings, by: Operator, block: usize, lanes: Box<[LaneCopy]>) -> Checked {
        let operation = self.open(s.order, by, GroupKind::Copy);
        let mut access = Access::copy(s.order, by.warp, operation, by.pc);
        let shared = &mut s.shared[block];
        for lane in &lanes {
            aligned(lane.to as u64, lane.bytes, "cp.async destination")?;
            aligned(lane.from, lane.bytes, "cp.async source")?;
            shared.check(lane.to, lane.bytes, "cp.async")?;
            let noted = shared.shadow.write(&mut access, lane.to, lane.bytes, Who::Mask(1 << lane.lane));
            noted.map_err(|clash| Violation::clash(clash, &format!("cp.async by warp {}", by.warp), s.order))?;
        }
        self.flights.push(Flight { operation, by, block, body: Body::Lanes(lanes) });
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`: `count` lanes arrive at the mbarrier at `at` when the warp's copies so far are done.
    /// Without `noinc` they count as additional arrivals.
    ///
    /// # Errors
    /// What the mbarrier finds.
    pub fn arrive_after_copies(
        &mut self,
        s: &mut Surroundings,
        by: Operator,
        block: usize,
        at: u32,
        count: u32,
        noinc: bool,
    ) -> Checked {
        let increment = if noinc { 0 } else { count };
        s.mbarriers[block].increment(by, s.order, &mut s.shared[block], at, increment)?;
        let mut brought = Carried::default();
        s.order.release(by.warp, by.lanes, &mut brought);
        let operation = s.order.begin();
        self.flights.push(Flight { operation, by, block, body: Body::Arrive { block, at, count, brought } });
        Ok(())
    }

    /// `cp.async.bulk` and `.tensor` from global to shared memory: to address `to` of every block in the mask, whose
    /// mbarrier at `signal` counts the bytes.
    ///
    /// # Errors
    /// Anything wrong with addresses, sizes, blocks, mbarriers, or an access that is not ordered before.
    pub fn load(
        &mut self,
        s: &mut Surroundings,
        by: Operator,
        block: usize,
        from: Global,
        [to, blocks, signal]: [u32; 3],
    ) -> Checked {
        let bytes = from.bytes();
        from.check(to)?;
        if blocks == 0 || blocks >> s.shared.len() != 0 {
            let text = format!("multicast to blocks {blocks:#b} of a cluster of {}", s.shared.len());
            return Err(Violation::new(Kind::Cluster, text));
        }
        let operation = s.order.begin();
        for target in (0..s.shared.len()).filter(|b| blocks >> b & 1 == 1) {
            let shared = &mut s.shared[target];
            shared.alive("bulk copy")?;
            shared.check(to, bytes, "bulk copy")?;
            s.mbarriers[target].check_signal(by, s.order, shared, signal)?;
            let mut access = Access::proxy(s.order, by.warp, operation, false, by.pc);
            let noted = shared.shadow.write(&mut access, to, bytes, Who::Mask(by.lanes));
            noted.map_err(|clash| Violation::clash(clash, "bulk copy writes", s.order))?;
        }
        self.flights.push(Flight { operation, by, block, body: Body::Load { from, to, blocks, signal } });
        Ok(())
    }

    /// `cp.async.bulk.shared::cluster.shared::cta`, or its reduction.
    ///
    /// # Errors
    /// As [`Flights::load`].
    #[allow(clippy::too_many_arguments)] // the instruction's operands
    pub fn forward(
        &mut self,
        s: &mut Surroundings,
        by: Operator,
        block: usize,
        from: u32,
        [target, to, signal]: [u32; 3],
        bytes: u32,
        reduce: Option<Update>,
    ) -> Checked {
        let target = target as usize;
        for at in [from, to] {
            aligned(at as u64, 16, "bulk copy")?;
        }
        whole(bytes)?;
        s.shared[target].alive("bulk copy")?;
        let operation = s.order.begin();
        for (block, at, write) in [(block, from, false), (target, to, true)] {
            let shared = &mut s.shared[block];
            shared.check(at, bytes, "bulk copy")?;
            let mut access = Access::proxy(s.order, by.warp, operation, false, by.pc);
            if reduce.is_some() && write {
                access = access.atomically();
            }
            let noted = match write {
                true => shared.shadow.write(&mut access, at, bytes, Who::Mask(by.lanes)),
                false => shared.shadow.read(&mut access, at, bytes, Who::Mask(by.lanes)),
            };
            let what = if write { "bulk copy writes" } else { "bulk copy reads" };
            noted.map_err(|clash| Violation::clash(clash, what, s.order))?;
        }
        s.mbarriers[target].check_signal(by, s.order, &mut s.shared[target], signal)?;
        self.flights.push(Flight {
            operation,
            by,
            block,
            body: Body::Forward { from, block: target, to, bytes, signal, reduce },
        });
        Ok(())
    }

    /// `st.async` by one lane, or with an update `red.async`: `data` to address `to` of block `target`, whose mbarrier
    /// at `signal` counts the bytes.
    ///
    /// # Errors
    /// As [`Flights::load`].
    pub fn remote(
        &mut self,
        s: &mut Surroundings,
        by: Operator,
        block: usize,
        [target, to, signal]: [u32; 3],
        data: Box<[u8]>,
        reduce: Option<Update>,
    ) -> Checked {
        let (target, bytes) = (target as usize, data.len() as u32);
        let what = if reduce.is_some() { "red.async" } else { "st.async" };
        aligned(to as u64, bytes, what)?;
        let operation = s.order.begin();
        let shared = &mut s.shared[target];
        shared.alive(what)?;
        shared.check(to, bytes, what)?;
        let mut access = Access::sent(s.order, by.warp, operation, by.pc);
        let who = Who::Mask(by.lanes);
        let noted = match reduce {
            // It reads as well, and does not race with its like.
            Some(_) => {
                access = access.atomically();
                shared
                    .shadow
                    .read(&mut access, to, bytes, who)
                    .and_then(|()| shared.shadow.write(&mut access, to, bytes, who))
            }
            None => shared.shadow.write(&mut access, to, bytes, who),
        };
        noted.map_err(|clash| Violation::clash(clash, &format!("{what} by warp {}", by.warp), s.order))?;
        s.mbarriers[target].check_signal(by, s.order, &mut s.shared[target], signal)?;
        let body = Body::Remote { block: target, to, data, signal, reduce };
        self.flights.push(Flight { operation, by, block, body });
        Ok(())
    }

    /// `cp.async.bulk` and `.tensor` from shared to global memory, and their reductions; in the warp's open group.
    ///
    /// # Errors
    /// As [`Flights::load`].
    pub fn store(
        &mut self,
        s: &mut Surroundings,
        by: Operator,
        block: usize,
        from: u32,
        to: Global,
        reduce: Option<Update>,
    ) -> Checked {
        let bytes = to.bytes();
        to.check(from)?;
        let operation = self.open(s.order, by, GroupKind::Bulk);
        let shared = &mut s.shared[block];
        shared.check(from, bytes, "bulk copy")?;
        let mut access = Access::proxy(s.order, by.warp, operation, true, by.pc);
        let noted = shared.shadow.read(&mut access, from, bytes, Who::Mask(by.lanes));
        noted.map_err(|clash| Violation::clash(clash, "bulk copy reads", s.order))?;
        self.flights.push(Flight { operation, by, block, body: Body::Store { from, to, reduce, data: None } });
        Ok(())
    }

    /// `commit_group`.
    pub fn commit(&mut self, order: &mut Order, warp: Agent, kind: GroupKind) {
        let groups = &mut self.groups[warp as usize][kind as usize];
        // An empty group counts as well.
        let group = groups.open.take().unwrap_or_else(|| Group { operation: order.begin(), pc: None });
        groups.committed.push_back(group);
    }

    /// `wait_group keep`: lands all groups but the last `keep`. `reads_only` (`.read`) stops at what they read.
    ///
    /// # Errors
    /// What the copies find when they land.
    pub fn wait(
        &mut self,
        s: &mut Surroundings,
        by: Operator,
        kind: GroupKind,
        keep: u32,
        reads_only: bool,
    ) -> Checked {
        let warp = by.warp;
        let groups = &self.groups[warp as usize][kind as usize];
        let count = groups.committed.len().saturating_sub(keep as usize);
        for i in 0..count {
            let operation = self.groups[warp as usize][kind as usize].committed[i].operation;
            if reads_only {
                self.read_all(s, operation)?;
            } else {
                self.land_all(s, operation)?;
            }
            s.order.wait(warp, by.lanes, operation);
        }
        let groups = &mut self.groups[warp as usize][kind as usize];
        if reads_only {
            groups.read = groups.read.max(count);
        } else {
            groups.committed.drain(..count);
            groups.read = groups.read.saturating_sub(count);
        }
        Ok(())
    }

    /// `cp.async.wait_all`: committed or not.
    ///
    /// # Errors
    /// As [`Flights::wait`].
    pub fn wait_all(&mut self, s: &mut Surroundings, by: Operator) -> Checked {
        if self.groups[by.warp as usize][GroupKind::Copy as usize].open.is_some() {
            self.commit(s.order, by.warp, GroupKind::Copy);
        }
        self.wait(s, by, GroupKind::Copy, 0, false)
    }

    /// Lands the `index`-th copy in flight.
    ///
    /// # Errors
    /// What it finds, blamed on its instruction; with the warp that issued it.
    pub fn land(&mut self, s: &mut Surroundings, index: usize) -> Result<(), (Agent, Box<Violation>)> {
        let by = self.flights[index].by;
        self.land_one(s, index).map_err(|violation| (by.warp, violation))
    }

    /// A block has exited: nothing may still write or read its shared memory.
    ///
    /// # Errors
    /// A copy that does.
    pub fn block_exits(&self, block: usize) -> Checked {
        for flight in &self.flights {
            let what = match &flight.body {
                Body::Load { blocks, .. } if blocks >> block & 1 == 1 => "a bulk copy into its shared memory in flight",
                Body::Forward { block: target, .. } if *target == block || flight.block == block => {
                    "a bulk copy of its shared memory in flight"
                }
                Body::Remote { block: target, .. } if *target == block => "a store into its shared memory in flight",
                Body::Store { data: None, .. } if flight.block == block => {
                    "a bulk copy still to read its shared memory"
                }
                _ => continue,
            };
            return Err(Violation::new(Kind::AsyncNotWaited, format!("a block exits with {what}")).at(flight.by.pc));
        }
        Ok(())
    }

    /// A warp has exited: nobody can wait any more for its bulk copies to have read shared memory.
    ///
    /// # Errors
    /// It did not wait itself.
    pub fn warp_exits(&self, warp: Agent) -> Checked {
        let groups = &self.groups[warp as usize][GroupKind::Bulk as usize];
        let unread = groups.committed.iter().skip(groups.read).chain(&groups.open).find_map(|group| group.pc);
        match unread {
            None => Ok(()),
            Some(pc) => {
                let text = "a warp exits and has not waited for its bulk copy to read shared memory";
                Err(Violation::new(Kind::AsyncNotWaited, text).at(pc))
            }
        }
    }

    /// The warp's open group of a kind, for one more copy.
    fn open(&mut self, order: &mut Order, by: Operator, kind: GroupKind) -> Operation {
        let open = &mut self.groups[by.warp as usize][kind as usize].open;
        let group = open.get_or_insert_with(|| Group { operation: order.begin(), pc: None });
        group.pc = Some(by.pc);
        group.operation
    }

    fn land_all(&mut self, s: &mut Surroundings, operation: Operation) -> Checked {
        while let Some(i) = self.flights.iter().position(|f| f.operation == operation) {
            self.land_one(s, i)?;
        }
        Ok(())
    }

    fn read_all(&mut self, s: &Surroundings, operation: Operation) -> Checked {
        self.flights.iter_mut().filter(|f| f.operation == operation).for_each(|f| f.read(s));
        Ok(())
    }

    fn land_one(&mut self, s: &mut Surroundings, index: usize) -> Checked {
        if let Flight { body: Body::Arrive { .. }, by, .. } = &self.flights[index] {
            let warp = by.warp;
            // In order of issue, all of the warp's copies before it.
            let earlier =
                self.flights[..index].iter().position(|f| f.by.warp == warp && matches!(f.body, Body::Lanes(_)));
            if let Some(earlier) = earlier {
                self.land_one(s, earlier)?;
                return self.land_one(s, index - 1);
            }
        }
        // Keeps the order of issue, which the search above needs.
        let mut flight = self.flights.remove(index);
        let pc = flight.by.pc;
        let copies = self.copies_of(&flight);
        flight.land(s, &copies).map_err(|violation| violation.at(pc))
    }

    /// The groups whose copies an arrival brings.
    fn copies_of(&self, flight: &Flight) -> Vec<Operation> {
        match flight.body {
            Body::Arrive { .. } => {
                let groups = &self.groups[flight.by.warp as usize][GroupKind::Copy as usize];
                groups.committed.iter().chain(&groups.open).map(|group| group.operation).collect()
            }
            _ => vec![],
        }
    }
}

/// Writes data into shared memory, or combines it with what is there.
///
/// # Errors
/// The instruction set has no such reduction.
fn put(to: &mut [u8], data: &[u8], reduce: Option<Update>) -> Checked {
    let Some(update) = reduce else {
        to.copy_from_slice(data);
        return Ok(());
    };
    let size = update.ty.bytes();
    for (to, operand) in to.chunks_exact_mut(size).zip(data.chunks_exact(size)) {
        let widen = |bytes: &[u8]| {
            let mut all = [0; 8];
            all[..size].copy_from_slice(bytes);
            u64::from_le_bytes(all)
        };
        let Some(value) = update.apply(widen(to), widen(operand), 0, false) else {
            return Err(Violation::new(
                Kind::Unsupported,
                format!("{:?} of {:?} in shared memory", update.op, update.ty),
            ));
        };
        to.copy_from_slice(&value.to_le_bytes()[..size]);
    }
    Ok(())
}

impl Flight {
    /// Reads shared memory, if that is still to do.
    fn read(&mut self, s: &Surroundings) {
        if let Body::Store { from, to, data: data @ None, .. } = &mut self.body {
            *data = Some(s.shared[self.block].bytes[*from as usize..][..to.bytes() as usize].to_vec());
        }
    }

    fn land(&mut self, s: &mut Surroundings, copies: &[Operation]) -> Checked {
        self.read(s);
        match &self.body {
            Body::Lanes(lanes) => {
                for lane in lanes {
                    let to = &mut s.shared[self.block].bytes[lane.to as usize..][..lane.bytes as usize];
                    let (read, zeros) = to.split_at_mut(lane.read as usize);
                    s.memory.read(lane.from, read).map_err(|fault| Violation::memory(*fault, "cp.async"))?;
                    zeros.fill(0);
                }
            }
            Body::Arrive { block, at, count, brought } => {
                s.mbarriers[*block].arrive_late(s.order, &s.shared[*block], *at, *count, copies, brought)?;
            }
            Body::Load { from, to, blocks, signal } => {
                let data = from.read(*to, s.memory)?;
                for target in (0..s.shared.len()).filter(|b| blocks >> b & 1 == 1) {
                    s.shared[target].bytes[*to as usize..][..data.len()].copy_from_slice(&data);
                    let bytes = data.len() as u32;
                    s.mbarriers[target].land(s.order, &s.shared[target], *signal, bytes, self.operation)?;
                }
            }
            Body::Forward { from, block, to, bytes, signal, reduce } => {
                let data = s.shared[self.block].bytes[*from as usize..][..*bytes as usize].to_vec();
                put(&mut s.shared[*block].bytes[*to as usize..][..data.len()], &data, *reduce)?;
                s.mbarriers[*block].land(s.order, &s.shared[*block], *signal, *bytes, self.operation)?;
            }
            Body::Remote { block, to, data, signal, reduce } => {
                put(&mut s.shared[*block].bytes[*to as usize..][..data.len()], data, *reduce)?;
                let bytes = data.len() as u32;
                s.mbarriers[*block].land(s.order, &s.shared[*block], *signal, bytes, self.operation)?;
            }
            Body::Store { from, to, reduce, data } => {
                let data = data.as_deref().unwrap_or_default();
                to.write(*from, data, *reduce, s.memory)?;
            }
        }
        Ok(())
    }
}
