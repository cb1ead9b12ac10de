//! The shadow of a block's shared memory: who wrote each word last, and who read it since.
//!
//! One cell per word of 4 bytes; a word whose bytes have different histories gets a cell per byte. Accesses of
//! asynchronous operations are noted when they are issued, so that a conflict shows whenever the data really moves.
//!
//! A cell also knows which lanes made its last write, and which lanes of the warp that read last did so. Two lanes of a
//! warp clash unless they synchronised in between, however the warp ran; and a lane that arrives at an mbarrier orders
//! only what it did itself, or what others did before they last synchronised with it.

use std::collections::HashMap;

use super::Kind;
use super::order::{Agent, Common, Operation, Order, Synced};

/// One access, packed: bytes of the word (bits 0–3), proxy (4), special (5), agent (6–15), clock (16–42), atomic (43),
/// instruction (44–63). Zero is none.
type Record = u64;

const BYTES: Record = 0xf;
/// Made through the asynchronous proxy.
const ASYNC_PROXY: Record = 1 << 4;
/// In `write`: the word has byte cells. In `read`: the upper half is the index of a set.
const SPECIAL: Record = 1 << 5;
/// Agent, clock and proxy: what makes two accesses equally ordered.
const EPOCH: Record = ((1 << 43) - 1) & !BYTES;
const AGENT: Record = 0x3ff << 6;
/// Atomics and strong accesses, which do not race with each other.
const ATOMIC: Record = 1 << 43;

fn agent(record: Record) -> Agent {
    (record >> 6 & 0x3ff) as Agent
}

fn clock(record: Record) -> u32 {
    (record >> 16 & 0x7ff_ffff) as u32
}

/// History of a word or a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    write: Record,
    read: Record,
}

/// Lanes that made the write, its [`tag`], lanes of the agent that read last, its tag. It speaks of a cell's record
/// only if the tag is the record's, so whoever has no lanes leaves it alone. (An array: zeroed pages cost nothing.)
type Trace = [u32; 4];

/// Lanes of a cell's write; none if they do not matter.
#[inline(always)]
fn writers(trace: &Trace, write: Record) -> u32 {
    if trace[1] == tag(write) { trace[0] } else { 0 }
}

/// Lanes of one of a cell's reads, if they are known.
#[inline(always)]
fn readers(trace: &Trace, read: Record) -> u32 {
    if trace[3] == tag(read) { trace[2] } else { 0 }
}

/// Which lanes make an access.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// All of these make the same access.
    Mask(u32),
    /// The lanes from `first` on make one access of `bytes` bytes each, one behind the other.
    Run { first: u32, bytes: u32 },
}

impl Who {
    /// The warp as one.
    pub const WARP: Who = Who::Mask(u32::MAX);
}

/// One instruction's access to one block's shared memory, by a warp or by an operation that a warp issues. It remembers
/// what it found in order, since neighbouring words mostly have the same history.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The access without its bytes.
    record: Record,
    /// Epoch of the issuing warp's own accesses.
    own: Record,
    happens: &'a [u32],
    synced: &'a [Synced],
    /// Of the asynchronous proxy: what it sees.
    fenced: Option<&'a [u32]>,
    /// The issuing warp's lanes; none where four warps issue together.
    order: Option<&'a Order>,
    /// What the access leaves behind tells lanes apart.
    by_lanes: bool,
    reads: Remembered,
    writes: Remembered,
}

/// The last word's history, found in order whatever the lanes, and what its reads became.
#[derive(Clone, Copy)]
struct Remembered {
    write: Record,
    read: Record,
    read_becomes: Record,
}

impl Remembered {
    /// No record has all bits.
    const NOTHING: Remembered = Remembered { write: !0, read: !0, read_becomes: 0 };
}

impl<'a> Access<'a> {
    #[inline(always)]
    fn new(order: &'a Order, warp: Agent, record: Record, pc: u32) -> Access<'a> {
        let (reads, writes) = (Remembered::NOTHING, Remembered::NOTHING);
        let (happens, synced) = (order.happens(warp), order.synced(warp));
        Access {
            record: record | place(pc),
            own: pack(warp, order.clock(warp), 0),
            happens,
            synced,
            fenced: None,
            order: Some(order),
            by_lanes: true,
            reads,
            writes,
        }
    }

    /// Plain loads and stores of a warp. `pc` is the instruction's index.
    #[inline(always)]
    pub fn warp(order: &'a Order, warp: Agent, pc: u32) -> Access<'a> {
        Access::new(order, warp, pack(warp, order.clock(warp), 0), pc)
    }

    /// Atomics, and loads and stores that are volatile, relaxed or stronger.
    #[inline(always)]
    pub fn atomic(order: &'a Order, warp: Agent, pc: u32) -> Access<'a> {
        Access::new(order, warp, pack(warp, order.clock(warp), ATOMIC), pc)
    }

    /// `cp.async` of a warp: asynchronous, but in the generic proxy.
    pub fn copy(order: &'a Order, warp: Agent, operation: Operation, pc: u32) -> Access<'a> {
        Access::new(order, warp, pack(operation.agent, operation.clock, 0), pc)
    }

    /// `st.async` and `red.async`: as [`Access::copy`], but an mbarrier tells everybody when it is done.
    pub fn sent(order: &'a Order, warp: Agent, operation: Operation, pc: u32) -> Access<'a> {
        Access { by_lanes: false, ..Access::copy(order, warp, operation, pc) }
    }

    /// A reduction, which does not race with its like.
    pub fn atomically(self) -> Access<'a> {
        Access { record: self.record | ATOMIC, ..self }
    }

    /// A wgmma that four warps issue together: ordered after what all of them know.
    pub fn group(common: &'a Common, operation: Operation, pc: u32) -> Access<'a> {
        let record = pack(operation.agent, operation.clock, ASYNC_PROXY) | place(pc);
        Access {
            record,
            own: record,
            happens: &common.happens,
            synced: &common.synced,
            fenced: Some(&common.fenced),
            order: None,
            by_lanes: false,
            reads: Remembered::NOTHING,
            writes: Remembered::NOTHING,
        }
    }

    /// Bulk copies that a warp issues: in the asynchronous proxy. With `waited_for` the lane that issues them will wait
    /// for them; without, an mbarrier tells everybody.
    pub fn proxy(order: &'a Order, warp: Agent, operation: Operation, waited_for: bool, pc: u32) -> Access<'a> {
        let record = pack(operation.agent, operation.clock, ASYNC_PROXY);
        let access = Access::new(order, warp, record, pc);
        Access { fenced: Some(order.fenced(warp)), by_lanes: waited_for, ..access }
    }

    /// The recorded access happens before this one (or is part of it), as far as warps are concerned.
    #[inline(always)]
    fn after(&self, earlier: Record) -> bool {
        (earlier ^ self.record) & EPOCH == 0
            || (earlier ^ self.own) & EPOCH == 0
            || self.happens[agent(earlier) as usize] >= clock(earlier)
            || earlier & self.record & ATOMIC != 0
    }

    /// Whatever lanes made the recorded access, and whatever lanes make this one.
    #[inline(always)]
    fn after_all_lanes(&self, earlier: Record) -> bool {
        self.synced[agent(earlier) as usize].clock() >= clock(earlier)
    }

    /// The recorded access of the lanes `touched`, which is ordered before this one if lanes are left aside, is so for
    /// the lanes `bits` too. No lanes touched: which they were is not known, or does not matter.
    fn after_lanes(&self, earlier: Record, touched: u32, bits: u32, write: bool) -> bool {
        if touched == 0 || self.after_all_lanes(earlier) || earlier & self.record & ATOMIC != 0 {
            return true;
        }
        if (earlier ^ self.record) & EPOCH == 0 && self.is_operation() {
            return true; // parts of one operation
        }
        let (warp, agent) = (agent(self.own), agent(earlier));
        let ours = match self.order {
            Some(order) => agent == warp || order.waited_apart(warp, agent),
            None => false,
        };
        if !ours {
            return touched & !self.synced[agent as usize].lanes() == 0;
        }
        // Several lanes write one word only if they write the same, so each of them may go on as if it had been alone.
        let alone = if write { bits & !touched == 0 } else { touched & !bits == 0 };
        alone || self.order.is_some_and(|order| order.lanes_know(warp, bits, touched, clock(earlier)))
    }

    #[inline(always)]
    fn is_operation(&self) -> bool {
        (self.record ^ self.own) & AGENT != 0
    }

    /// A write of the generic proxy is not yet visible to this access of the asynchronous one.
    #[inline(always)]
    fn unfenced(&self, write: Record) -> bool {
        write & ASYNC_PROXY == 0 && self.fenced.is_some_and(|fenced| fenced[agent(write) as usize] < clock(write))
    }

    /// Leaves the lanes of a write behind.
    #[inline(always)]
    fn trace_write(&self, trace: &mut Trace, bits: u32) {
        if self.by_lanes {
            *trace = [bits, tag(self.record), 0, 0];
        }
    }

    /// Leaves the lanes of a read behind. `first`: nobody has read since the last write.
    #[inline(always)]
    fn trace_read(&self, trace: &mut Trace, bits: u32, first: bool) {
        if self.by_lanes {
            let tag = tag(self.record);
            trace[2] = bits | if trace[3] == tag && !first { trace[2] } else { 0 };
            trace[3] = tag;
        }
    }

    /// What is wrong with this access after a recorded one.
    fn check(&self, earlier: Record, touched: u32, bits: u32, write: bool) -> Result<(), Clash> {
        if !self.after(earlier) {
            return Err(Clash::with(Fault::Unordered, earlier, write, 0));
        }
        match self.after_lanes(earlier, touched, bits, write) {
            true => Ok(()),
            false => Err(Clash::with(Fault::Lanes, earlier, write, touched)),
        }
    }
}

/// Which agent, and when, in fewer bits: enough to tell accesses apart that may still clash.
#[inline(always)]
fn tag(record: Record) -> u32 {
    (record >> 6) as u32
}

fn pack(agent: Agent, clock: u32, flags: Record) -> Record {
    flags | (agent as Record) << 6 | (clock as Record & 0x7ff_ffff) << 16
}

fn place(pc: u32) -> Record {
    (pc as Record & 0xf_ffff) << 44
}

/// Why an access is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A read of bytes nobody wrote.
    Unwritten,
    /// Nothing orders it after the other access.
    Unordered,
    /// It is ordered after the other access, which the asynchronous proxy does not see yet.
    Unfenced,
    /// Nothing orders it after what other lanes did: their warp has not synchronised.
    Lanes,
}

/// A wrong access, and the one it clashes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clash {
    pub fault: Fault,
    pub address: u32,
    pub other: Option<Other>,
}

/// The access that was there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    pub agent: Agent,
    /// Index of its instruction (its low 20 bits).
    pub pc: u32,
    pub write: bool,
    /// Its lanes, where they are what clashes.
    pub lanes: u32,
}

/// See the module.
pub struct Shadow {
    words: Vec<Cell>,
    traces: Vec<Trace>,
    /// Four cells per word, where the word says so, in pages allocated with their first.
    bytes: Vec<Option<Page>>,
    sets: Sets,
}

/// Words whose bytes' cells are allocated together.
const PAGE: usize = 64;

type Page = Box<[(Cell, Trace); 4 * PAGE]>;

impl Shadow {
    /// Shadow of `bytes` of shared memory, none of it written.
    pub fn new(bytes: usize) -> Shadow {
        let words = bytes.div_ceil(4);
        let (words, traces) = (vec![Cell::default(); words], vec![Trace::default(); words]);
        Shadow { words, traces, bytes: vec![], sets: Sets::default() }
    }

    /// Notes a read of `bytes` bytes at `at`, which lie in range.
    ///
    /// # Errors
    /// Unwritten bytes, or a write that is not ordered before.
    #[inline]
    pub fn read(&mut self, access: &mut Access, at: u32, bytes: u32, who: Who) -> Result<(), Clash> {
        words(at, bytes, who, |word, mask, bits| self.read_word(access, word, mask, bits))
    }

    /// Notes a write.
    ///
    /// # Errors
    /// An access that is not ordered before.
    #[inline]
    pub fn write(&mut self, access: &mut Access, at: u32, bytes: u32, who: Who) -> Result<(), Clash> {
        words(at, bytes, who, |word, mask, bits| self.write_word(access, word, mask, bits))
    }

    #[inline(always)]
    fn read_word(&mut self, access: &mut Access, word: usize, mask: Record, bits: u32) -> Result<(), Clash> {
        let cell = &mut self.words[word];
        // The write is in order: its like was before, or these lanes made it themselves.
        let ordered = cell.write == access.reads.write
            || (cell.write ^ access.record) & (EPOCH | BYTES) == BYTES
                && bits & !writers(&self.traces[word], cell.write) == 0;
        if ordered && mask == BYTES {
            let me = access.record | BYTES;
            // The read is noted already, is the first, or follows the same reads as the last.
            let before = cell.read;
            if before == me || before == 0 {
                cell.read = me;
            } else if before == access.reads.read {
                cell.read = access.reads.read_becomes;
            } else {
                return self.read_word_slowly(access, word, mask, bits);
            }
            access.trace_read(&mut self.traces[word], bits, before == 0);
            return Ok(());
        }
        self.read_word_slowly(access, word, mask, bits)
    }

    #[cold]
    fn read_word_slowly(&mut self, access: &mut Access, word: usize, mask: Record, bits: u32) -> Result<(), Clash> {
        let cell = self.words[word];
        let split = cell.write & SPECIAL != 0;
        let missing = mask & !cell.write;
        if !split && missing != 0 {
            return Err(Clash { fault: Fault::Unwritten, address: first_byte(word, missing), other: None });
        }
        if split || mask != BYTES {
            if !split {
                self.split(word);
            }
            return self.each_byte(word, mask, |cell, trace, sets| note_read(cell, trace, access, bits, sets));
        }
        if self.sets.sets.len() > SETS {
            self.collect();
        }
        let before = self.words[word].read;
        let noted = note_read(&mut self.words[word], &mut self.traces[word], access, bits, &mut self.sets);
        noted.map_err(|c| c.at(4 * word as u32))?;
        if access.after_all_lanes(cell.write) {
            access.reads.write = cell.write;
        }
        (access.reads.read, access.reads.read_becomes) = (before, self.words[word].read);
        Ok(())
    }

    #[inline(always)]
    fn write_word(&mut self, access: &mut Access, word: usize, mask: Record, bits: u32) -> Result<(), Clash> {
        let cell = &mut self.words[word];
        let trace = &mut self.traces[word];
        let own = |earlier: Record| (earlier ^ access.record) & (EPOCH | BYTES) == BYTES;
        let written = cell.write == access.writes.write || own(cell.write) && bits & !writers(trace, cell.write) == 0;
        let read = cell.read == access.writes.read
            || cell.read == 0
            || own(cell.read) && readers(trace, cell.read) & !bits == 0;
        if written && read && mask == BYTES {
            *cell = Cell { write: access.record | BYTES, read: 0 };
            access.trace_write(trace, bits);
            return Ok(());
        }
        self.write_word_slowly(access, word, mask, bits)
    }

    #[cold]
    fn write_word_slowly(&mut self, access: &mut Access, word: usize, mask: Record, bits: u32) -> Result<(), Clash> {
        let cell = self.words[word];
        if mask != BYTES || cell.write & SPECIAL != 0 {
            if cell.write & SPECIAL == 0 {
                self.split(word);
            }
            self.each_byte(word, mask, |cell, trace, sets| note_write(cell, trace, access, bits, sets))?;
            if mask == BYTES {
                // All bytes have one history again.
                self.words[word] = Cell { write: access.record | BYTES, read: 0 };
                access.trace_write(&mut self.traces[word], bits);
            }
            return Ok(());
        }
        let noted = note_write(&mut self.words[word], &mut self.traces[word], access, bits, &self.sets);
        noted.map_err(|c| c.at(4 * word as u32))?;
        let reads = self.sets.records(&cell.read);
        if access.after_all_lanes(cell.write) && reads.iter().all(|read| access.after_all_lanes(*read)) {
            (access.writes.write, access.writes.read) = (cell.write, cell.read);
        }
        Ok(())
    }

    fn each_byte(
        &mut self,
        word: usize,
        mask: Record,
        mut f: impl FnMut(&mut Cell, &mut Trace, &mut Sets) -> Result<(), Clash>,
    ) -> Result<(), Clash> {
        if self.sets.sets.len() > SETS {
            self.collect();
        }
        let Some(page) = &mut self.bytes[word / PAGE] else { unreachable!("the word was split") };
        for i in (0..4).filter(|i| mask >> i & 1 == 1) {
            let (cell, trace) = &mut page[word % PAGE * 4 + i];
            let at = 4 * word + i;
            // Only a write may come first; it clashes with nothing, so a read is what finds no history.
            let mut noted = *cell;
            f(&mut noted, trace, &mut self.sets).map_err(|c| c.at(at as u32))?;
            if noted.write == 0 {
                return Err(Clash { fault: Fault::Unwritten, address: at as u32, other: None });
            }
            *cell = noted;
        }
        Ok(())
    }

    /// Drops the sets that no cell names any more.
    fn collect(&mut self) {
        let mut kept = Sets::default();
        let mut places = HashMap::new();
        let bytes = self.bytes.iter_mut().flatten().flat_map(|page| page.iter_mut().map(|(cell, _)| cell));
        for cell in self.words.iter_mut().chain(bytes) {
            if cell.read & SPECIAL != 0 {
                let sets = &self.sets;
                cell.read = *places.entry(cell.read).or_insert_with(|| kept.field(sets.records(&cell.read).into()));
            }
        }
        self.sets = kept;
    }

    /// Gives each byte of a word a cell with the word's history.
    fn split(&mut self, word: usize) {
        if self.bytes.is_empty() {
            self.bytes = (0..self.words.len().div_ceil(PAGE)).map(|_| None).collect();
        }
        let page = self.bytes[word / PAGE].get_or_insert_with(|| Box::new([Default::default(); 4 * PAGE]));
        let cell = std::mem::replace(&mut self.words[word], Cell { write: SPECIAL, read: 0 });
        page[word % PAGE * 4..][..4].fill((cell, self.traces[word]));
    }
}

/// Calls back with every word of a range, its bytes in it, and the lanes that access them.
#[inline(always)]
fn words(
    at: u32,
    bytes: u32,
    who: Who,
    mut f: impl FnMut(usize, Record, u32) -> Result<(), Clash>,
) -> Result<(), Clash> {
    match who {
        Who::Run { first, bytes: each } if each >= 4 => {
            // A lane's words, lane after lane; accesses are aligned.
            let per_lane = each as usize / 4;
            for i in 0..bytes as usize / 4 {
                f(at as usize / 4 + i, BYTES, 1 << (first as usize + i / per_lane))?;
            }
        }
        Who::Run { first, bytes: each } => {
            for i in 0..bytes / each {
                let at = at + i * each;
                f(at as usize / 4, ((1 << each) - 1) << (at % 4), 1 << (first + i))?;
            }
        }
        Who::Mask(lanes) => {
            let (mut at, end) = (at, at + bytes);
            while at < end {
                let (from, to) = (at % 4, (at % 4 + (end - at)).min(4));
                f(at as usize / 4, (BYTES << from) & (BYTES >> (4 - to)), lanes)?;
                at += to - from;
            }
        }
    }
    Ok(())
}

impl Clash {
    /// What the clash is reported as.
    pub fn kind(&self, order: &Order) -> Kind {
        match (self.fault, self.other) {
            (Fault::Unwritten, _) => Kind::UninitializedShared,
            (Fault::Unfenced, _) => Kind::ProxyFence,
            (Fault::Unordered, Some(other)) if order.is_operation(other.agent) => Kind::AsyncNotWaited,
            (Fault::Lanes, Some(other)) if order.is_operation(other.agent) => Kind::AsyncNotWaited,
            (Fault::Unordered | Fault::Lanes, _) => Kind::SharedRace,
        }
    }

    /// One sentence; `access` names the later of the two, such as "load by warp 2". The caller adds the line of
    /// [`Other::pc`].
    pub fn describe(&self, access: &str, order: &Order) -> String {
        let at = format!("at shared address {:#x}", self.address);
        let Some(other) = self.other else { return format!("{access} {at} reads what nobody wrote") };
        let who = match order.is_operation(other.agent) {
            true => "an asynchronous operation".to_string(),
            false => format!("warp {}", other.agent),
        };
        let what = if other.write { "a write" } else { "a read" };
        match self.fault {
            Fault::Unfenced => format!("{access} {at} after {what} by {who} without fence.proxy.async between them"),
            Fault::Lanes if order.is_operation(other.agent) => {
                format!(
                    "{access} {at} after {what} by {who} that lanes {:#010x} issued and waited for: they have not \
                     synchronised with this lane since (bar.warp.sync)",
                    other.lanes
                )
            }
            Fault::Lanes => format!(
                "{access} {at} is not ordered after {what} by lanes {:#010x} of {who}: they have not synchronised since \
                 (bar.warp.sync) with the lanes that it is ordered after",
                other.lanes
            ),
            _ if order.is_operation(other.agent) => format!("{access} {at} before {what} by {who} is waited for"),
            _ => format!("{access} {at} is not ordered after {what} by {who}"),
        }
    }

    fn with(fault: Fault, other: Record, write: bool, lanes: u32) -> Clash {
        let other = Other { agent: agent(other), pc: (other >> 44) as u32, write, lanes };
        Clash { fault, address: 0, other: Some(other) }
    }

    fn at(self, address: u32) -> Clash {
        Clash { address, ..self }
    }
}

fn first_byte(word: usize, mask: Record) -> u32 {
    4 * word as u32 + mask.trailing_zeros()
}

/// A read of all of the cell's bytes by the lanes `bits`.
fn note_read(cell: &mut Cell, trace: &mut Trace, access: &Access, bits: u32, sets: &mut Sets) -> Result<(), Clash> {
    if cell.write != 0 {
        access.check(cell.write, writers(trace, cell.write), bits, true)?;
        if access.unfenced(cell.write) {
            return Err(Clash::with(Fault::Unfenced, cell.write, true, 0));
        }
    }
    let me = access.record | BYTES;
    access.trace_read(trace, bits, cell.read == 0);
    cell.read = match cell.read {
        0 => me,
        one if one & SPECIAL == 0 && access.after(one) => me,
        others => sets.with(others, access, me),
    };
    Ok(())
}

/// A write of all of the cell's bytes.
fn note_write(cell: &mut Cell, trace: &mut Trace, access: &Access, bits: u32, sets: &Sets) -> Result<(), Clash> {
    if cell.write != 0 {
        access.check(cell.write, writers(trace, cell.write), bits, true)?;
        if access.unfenced(cell.write) {
            return Err(Clash::with(Fault::Unfenced, cell.write, true, 0));
        }
    }
    // Reads of the generic proxy need no proxy fence before an asynchronous write: a barrier is enough.
    for read in sets.records(&cell.read) {
        access.check(*read, readers(trace, *read), bits, false)?;
    }
    *cell = Cell { write: access.record | BYTES, read: 0 };
    access.trace_write(trace, bits);
    Ok(())
}

/// Sets that may pile up before those no longer in use are dropped.
const SETS: usize = 1 << 14;

/// Sets of unordered reads. Words that are read alike share one.
#[derive(Default)]
struct Sets {
    sets: Vec<Box<[Record]>>,
    index: HashMap<Box<[Record]>, u32>,
}

impl Sets {
    /// The reads that a cell's field stands for.
    fn records<'a>(&'a self, read: &'a Record) -> &'a [Record] {
        match *read {
            0 => &[],
            set if set & SPECIAL != 0 => &self.sets[(set >> 32) as usize],
            _ => std::slice::from_ref(read),
        }
    }

    /// The field for these reads and one more, less those that happen before it.
    fn with(&mut self, read: Record, access: &Access, me: Record) -> Record {
        let mut records: Vec<Record> = self.records(&read).iter().copied().filter(|r| !access.after(*r)).collect();
        records.push(me | BYTES);
        records.sort_unstable();
        if let [one] = records[..] {
            return one;
        }
        self.field(records.into_boxed_slice())
    }

    /// The field that stands for two or more reads.
    fn field(&mut self, records: Box<[Record]>) -> Record {
        let index = *self.index.entry(records.clone()).or_insert_with(|| {
            self.sets.push(records);
            self.sets.len() as u32 - 1
        });
        (index as Record) << 32 | SPECIAL | BYTES
    }
}

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
