//! The shadow of a block's shared memory: who wrote each word last, and who read it since.
//!
//! One cell per word of 4 bytes; a word whose bytes have different histories gets a cell per byte. Accesses of
//! asynchronous operations are noted when they are issued, so that a conflict shows whenever the data really moves.

use std::collections::HashMap;

use super::Kind;
use super::order::{Agent, Common, Operation, Order};

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
/// Atomics and strong accesses, which do not race with each other.
const ATOMIC: Record = 1 << 43;

fn agent(record: Record) -> Agent {
    (record >> 6 & 0x3ff) as Agent
}

fn clock(record: Record) -> u32 {
    (record >> 16 & 0x7ff_ffff) as u32
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    write: Record,
    read: Record,
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
    /// Of the asynchronous proxy: what it sees.
    fenced: Option<&'a [u32]>,
    reads: Remembered,
    writes: Remembered,
}

/// The last word's history, found in order, and what its reads became.
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
        let own = pack(warp, order.clock(warp), 0);
        Access { record: record | place(pc), own, happens: order.happens(warp), fenced: None, reads, writes }
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

    /// A wgmma that four warps issue together: ordered after what all of them know.
    pub fn group(common: &'a Common, operation: Operation, pc: u32) -> Access<'a> {
        let record = pack(operation.agent, operation.clock, ASYNC_PROXY) | place(pc);
        let (reads, writes) = (Remembered::NOTHING, Remembered::NOTHING);
        Access { record, own: record, happens: &common.happens, fenced: Some(&common.fenced), reads, writes }
    }

    /// Bulk copies that a warp issues: in the asynchronous proxy.
    pub fn proxy(order: &'a Order, warp: Agent, operation: Operation, pc: u32) -> Access<'a> {
        let record = pack(operation.agent, operation.clock, ASYNC_PROXY);
        Access { fenced: Some(order.fenced(warp)), ..Access::new(order, warp, record, pc) }
    }

    /// The recorded access happens before this one (or is part of it).
    #[inline(always)]
    fn after(&self, earlier: Record) -> bool {
        (earlier ^ self.record) & EPOCH == 0
            || (earlier ^ self.own) & EPOCH == 0
            || self.happens[agent(earlier) as usize] >= clock(earlier)
            || earlier & self.record & ATOMIC != 0
    }

    /// A write of the generic proxy is not yet visible to this access of the asynchronous one.
    #[inline(always)]
    fn unfenced(&self, write: Record) -> bool {
        write & ASYNC_PROXY == 0 && self.fenced.is_some_and(|fenced| fenced[agent(write) as usize] < clock(write))
    }
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
}

/// See the module.
pub struct Shadow {
    words: Vec<Cell>,
    /// Four cells per word, where the word says so; allocated with the first.
    bytes: Vec<Cell>,
    sets: Sets,
}

impl Shadow {
    /// Shadow of `bytes` of shared memory, none of it written.
    pub fn new(bytes: usize) -> Shadow {
        Shadow { words: vec![Cell::default(); bytes.div_ceil(4)], bytes: vec![], sets: Sets::default() }
    }

    /// Notes a read of `bytes` bytes at `at`, which lie in range.
    ///
    /// # Errors
    /// Unwritten bytes, or a write that is not ordered before.
    #[inline]
    pub fn read(&mut self, access: &mut Access, at: u32, bytes: u32) -> Result<(), Clash> {
        words(at, bytes, |word, mask| self.read_word(access, word, mask))
    }

    /// Notes a write.
    ///
    /// # Errors
    /// An access that is not ordered before.
    #[inline]
    pub fn write(&mut self, access: &mut Access, at: u32, bytes: u32) -> Result<(), Clash> {
        words(at, bytes, |word, mask| self.write_word(access, word, mask))
    }

    #[inline(always)]
    fn read_word(&mut self, access: &mut Access, word: usize, mask: Record) -> Result<(), Clash> {
        let cell = self.words[word];
        let me = access.record | mask;
        if cell.write & (SPECIAL | mask) == mask && cell.write | BYTES == access.reads.write {
            // The write is in order; the read is noted already, is the first, or follows the same reads as the last.
            if cell.read == me {
                return Ok(());
            }
            if cell.read == 0 {
                self.words[word].read = me;
                return Ok(());
            }
            if cell.read == access.reads.read && mask == BYTES {
                self.words[word].read = access.reads.read_becomes;
                return Ok(());
            }
        }
        self.read_word_slowly(access, word, mask)
    }

    #[cold]
    fn read_word_slowly(&mut self, access: &mut Access, word: usize, mask: Record) -> Result<(), Clash> {
        let cell = self.words[word];
        if cell.write & SPECIAL != 0 {
            return self.each_byte(word, mask, |cell, sets| note_read(cell, access, BYTES, sets));
        }
        let missing = mask & !cell.write;
        if missing != 0 {
            return Err(Clash { fault: Fault::Unwritten, address: first_byte(word, missing), other: None });
        }
        let alike = cell.read == 0 || cell.read & BYTES == mask || (cell.read ^ access.record) & EPOCH == 0;
        if !alike {
            self.split(word);
            return self.each_byte(word, mask, |cell, sets| note_read(cell, access, BYTES, sets));
        }
        if self.sets.sets.len() > SETS {
            self.collect();
        }
        let before = self.words[word].read;
        note_read(&mut self.words[word], access, mask, &mut self.sets).map_err(|c| c.at(first_byte(word, mask)))?;
        access.reads.write = cell.write | BYTES;
        if mask == BYTES {
            (access.reads.read, access.reads.read_becomes) = (before, self.words[word].read);
        }
        Ok(())
    }

    #[inline(always)]
    fn write_word(&mut self, access: &mut Access, word: usize, mask: Record) -> Result<(), Clash> {
        let cell = self.words[word];
        if mask == BYTES && cell.write == access.writes.write && cell.read == access.writes.read {
            self.words[word] = Cell { write: access.record | BYTES, read: 0 };
            return Ok(());
        }
        self.write_word_slowly(access, word, mask)
    }

    #[cold]
    fn write_word_slowly(&mut self, access: &mut Access, word: usize, mask: Record) -> Result<(), Clash> {
        let cell = self.words[word];
        if cell.write & SPECIAL != 0 {
            return self.overwrite_bytes(access, word, mask);
        }
        // Bytes that keep their history need cells of their own, unless they have none or the same.
        let keeps = cell.write & BYTES & !mask != 0 && (cell.write ^ access.record) & EPOCH != 0;
        if keeps || cell.read != 0 && mask != BYTES {
            self.split(word);
            return self.overwrite_bytes(access, word, mask);
        }
        let kept = cell.write & BYTES & !mask;
        note_write(&mut self.words[word], access, mask | kept, &self.sets).map_err(|c| c.at(first_byte(word, mask)))?;
        if mask == BYTES {
            (access.writes.write, access.writes.read) = (cell.write, cell.read);
        }
        Ok(())
    }

    fn overwrite_bytes(&mut self, access: &Access, word: usize, mask: Record) -> Result<(), Clash> {
        self.each_byte(word, mask, |cell, sets| note_write(cell, access, BYTES, sets))?;
        if mask == BYTES {
            // All bytes have one history again.
            self.words[word] = Cell { write: access.record | BYTES, read: 0 };
        }
        Ok(())
    }

    fn each_byte(
        &mut self,
        word: usize,
        mask: Record,
        mut f: impl FnMut(&mut Cell, &mut Sets) -> Result<(), Clash>,
    ) -> Result<(), Clash> {
        for i in (0..4).filter(|i| mask >> i & 1 == 1) {
            let at = 4 * word + i;
            if self.bytes[at].write == 0 {
                // Only a write may come first; it clashes with nothing, so a read is what finds no history.
                let mut cell = self.bytes[at];
                f(&mut cell, &mut self.sets).map_err(|c| c.at(at as u32))?;
                if cell.write == 0 {
                    return Err(Clash { fault: Fault::Unwritten, address: at as u32, other: None });
                }
                self.bytes[at] = cell;
                continue;
            }
            f(&mut self.bytes[at], &mut self.sets).map_err(|c| c.at(at as u32))?;
        }
        Ok(())
    }

    /// Drops the sets that no cell names any more.
    fn collect(&mut self) {
        let mut kept = Sets::default();
        let mut places = HashMap::new();
        for cell in self.words.iter_mut().chain(&mut self.bytes) {
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
            self.bytes = vec![Cell::default(); 4 * self.words.len()];
        }
        let cell = self.words[word];
        for i in 0..4 {
            let own = |record: Record| if record >> i & 1 == 1 { record | BYTES } else { 0 };
            let read = if cell.read & SPECIAL != 0 { cell.read } else { own(cell.read) };
            self.bytes[4 * word + i] = Cell { write: own(cell.write), read };
        }
        self.words[word] = Cell { write: SPECIAL, read: 0 };
    }
}

/// Calls back with every word of a range and its bytes in it.
#[inline(always)]
fn words(at: u32, bytes: u32, mut f: impl FnMut(usize, Record) -> Result<(), Clash>) -> Result<(), Clash> {
    let (mut at, end) = (at, at + bytes);
    while at < end {
        let (from, to) = (at % 4, (at % 4 + (end - at)).min(4));
        f(at as usize / 4, (BYTES << from) & (BYTES >> (4 - to)))?;
        at += to - from;
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
            (Fault::Unordered, _) => Kind::SharedRace,
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
            _ if order.is_operation(other.agent) => format!("{access} {at} before {what} by {who} is waited for"),
            _ => format!("{access} {at} is not ordered after {what} by {who}"),
        }
    }

    fn with(fault: Fault, other: Record, write: bool) -> Clash {
        let other = Other { agent: agent(other), pc: (other >> 44) as u32, write };
        Clash { fault, address: 0, other: Some(other) }
    }

    fn at(self, address: u32) -> Clash {
        Clash { address, ..self }
    }
}

fn first_byte(word: usize, mask: Record) -> u32 {
    4 * word as u32 + mask.trailing_zeros()
}

/// A read of all of the cell's bytes in `mask`.
fn note_read(cell: &mut Cell, access: &Access, mask: Record, sets: &mut Sets) -> Result<(), Clash> {
    if cell.write != 0 && !access.after(cell.write) {
        return Err(Clash::with(Fault::Unordered, cell.write, true));
    }
    if cell.write != 0 && access.unfenced(cell.write) {
        return Err(Clash::with(Fault::Unfenced, cell.write, true));
    }
    let me = access.record | mask;
    cell.read = match cell.read {
        0 => me,
        one if one & SPECIAL == 0 && access.after(one) => me | one & BYTES,
        others => sets.with(others, access, me),
    };
    Ok(())
}

/// A write of all of the cell's bytes.
fn note_write(cell: &mut Cell, access: &Access, mask: Record, sets: &Sets) -> Result<(), Clash> {
    if cell.write != 0 && !access.after(cell.write) {
        return Err(Clash::with(Fault::Unordered, cell.write, true));
    }
    if cell.write != 0 && access.unfenced(cell.write) {
        return Err(Clash::with(Fault::Unfenced, cell.write, true));
    }
    // Reads of the generic proxy need no proxy fence before an asynchronous write: a barrier is enough.
    if let Some(unordered) = sets.records(&cell.read).iter().find(|read| !access.after(**read)) {
        return Err(Clash::with(Fault::Unordered, *unordered, false));
    }
    *cell = Cell { write: access.record | mask, read: 0 };
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
