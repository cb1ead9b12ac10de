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
mod tests {
    use super::*;
    use crate::check::order::Carried;

    /// Orders what warp `from` did before what warp `to` does next.
    fn sync(order: &mut Order, from: Agent, to: Agent) {
        let mut barrier = Carried::default();
        order.release(from, &mut barrier);
        order.acquire(to, &barrier);
    }

    fn write(shadow: &mut Shadow, order: &Order, warp: Agent, at: u32, bytes: u32) -> Result<(), Fault> {
        shadow.write(&mut Access::warp(order, warp, 1), at, bytes).map_err(|c| c.fault)
    }

    fn read(shadow: &mut Shadow, order: &Order, warp: Agent, at: u32, bytes: u32) -> Result<(), Fault> {
        shadow.read(&mut Access::warp(order, warp, 2), at, bytes).map_err(|c| c.fault)
    }

    #[test]
    fn a_write_is_read_after_a_barrier_only() {
        let (mut shadow, mut order) = (Shadow::new(256), Order::new(3));
        assert_eq!(read(&mut shadow, &order, 0, 0, 4), Err(Fault::Unwritten));
        assert_eq!(write(&mut shadow, &order, 0, 0, 128), Ok(()));
        assert_eq!(read(&mut shadow, &order, 0, 0, 128), Ok(()));
        assert_eq!(read(&mut shadow, &order, 1, 64, 4), Err(Fault::Unordered));
        sync(&mut order, 0, 1);
        assert_eq!(read(&mut shadow, &order, 1, 0, 128), Ok(()));
        assert_eq!(read(&mut shadow, &order, 1, 124, 8), Err(Fault::Unwritten));
        assert_eq!(read(&mut shadow, &order, 2, 0, 4), Err(Fault::Unordered));
        // What the writer writes after the barrier is not covered by it.
        assert_eq!(write(&mut shadow, &order, 0, 128, 4), Ok(()));
        assert_eq!(read(&mut shadow, &order, 1, 128, 4), Err(Fault::Unordered));
        assert_eq!(write(&mut shadow, &order, 0, 0, 4), Err(Fault::Unordered), "warp 1 may still read");
    }

    #[test]
    fn every_reader_must_be_ordered_before_the_next_write() {
        let (mut shadow, mut order) = (Shadow::new(64), Order::new(4));
        write(&mut shadow, &order, 0, 0, 64).expect("nobody else was there");
        (1..4).for_each(|w| sync(&mut order, 0, w));
        for w in 0..4 {
            assert_eq!(read(&mut shadow, &order, w, 0, 64), Ok(()));
            assert_eq!(read(&mut shadow, &order, w, 0, 64), Ok(()));
        }
        sync(&mut order, 1, 0);
        sync(&mut order, 3, 0);
        let clash = shadow.write(&mut Access::warp(&order, 0, 9), 32, 4).expect_err("warp 2 was not waited for");
        assert_eq!(clash.other, Some(Other { agent: 2, pc: 2, write: false }));
        assert_eq!((clash.fault, clash.address), (Fault::Unordered, 32));
        sync(&mut order, 2, 0);
        assert_eq!(write(&mut shadow, &order, 0, 0, 64), Ok(()));
    }

    #[test]
    fn bytes_of_a_word_have_their_own_history() {
        let (mut shadow, mut order) = (Shadow::new(16), Order::new(3));
        write(&mut shadow, &order, 0, 0, 2).expect("fresh");
        assert_eq!(read(&mut shadow, &order, 0, 0, 4), Err(Fault::Unwritten));
        // Halves written by two warps at once; each reads its own.
        write(&mut shadow, &order, 1, 2, 2).expect("other bytes");
        assert_eq!(read(&mut shadow, &order, 1, 2, 2), Ok(()));
        assert_eq!(read(&mut shadow, &order, 0, 0, 2), Ok(()));
        assert_eq!(read(&mut shadow, &order, 0, 2, 1), Err(Fault::Unordered));
        assert_eq!(write(&mut shadow, &order, 0, 3, 1), Err(Fault::Unordered));
        sync(&mut order, 1, 0);
        assert_eq!(write(&mut shadow, &order, 0, 0, 4), Ok(()));
        sync(&mut order, 0, 2);
        // One warp reads one half while another overwrites the other.
        assert_eq!(read(&mut shadow, &order, 2, 0, 2), Ok(()));
        assert_eq!(write(&mut shadow, &order, 0, 2, 2), Ok(()));
        assert_eq!(write(&mut shadow, &order, 0, 0, 2), Err(Fault::Unordered));
        // Single bytes of one instruction make a word.
        (8..12).for_each(|at| write(&mut shadow, &order, 0, at, 1).expect("fresh"));
        assert_eq!(read(&mut shadow, &order, 0, 8, 4), Ok(()));
    }

    #[test]
    fn copies_must_be_waited_for_and_generic_writes_fenced() {
        let (mut shadow, mut order) = (Shadow::new(64), Order::new(2));
        let load = order.begin();
        shadow.write(&mut Access::proxy(&order, 0, load, 5), 0, 32).expect("fresh");
        let clash = shadow.read(&mut Access::warp(&order, 0, 6), 0, 4).expect_err("in flight");
        assert!(clash.other.is_some_and(|o| order.is_operation(o.agent) && o.write && o.pc == 5));
        order.wait(0, load);
        assert_eq!(read(&mut shadow, &order, 0, 0, 32), Ok(()));
        assert_eq!(read(&mut shadow, &order, 1, 0, 4), Err(Fault::Unordered));

        // A store from what the warp wrote itself: a proxy fence is missing, then there.
        write(&mut shadow, &order, 0, 32, 32).expect("fresh");
        let store = order.begin();
        let issue = |shadow: &mut Shadow, order: &Order| {
            shadow.read(&mut Access::proxy(order, 0, store, 7), 32, 32).map_err(|c| c.fault)
        };
        assert_eq!(issue(&mut shadow, &order), Err(Fault::Unfenced));
        order.fence(0);
        assert_eq!(issue(&mut shadow, &order), Ok(()));
        assert_eq!(write(&mut shadow, &order, 0, 40, 4), Err(Fault::Unordered), "the store still reads");
        order.wait(0, store);
        assert_eq!(write(&mut shadow, &order, 0, 40, 4), Ok(()));
        // A load over what the generic proxy only read needs no fence; over what it wrote it does.
        let again = order.begin();
        assert!(shadow.write(&mut Access::proxy(&order, 0, again, 8), 0, 32).is_ok());
        let clash = shadow.write(&mut Access::proxy(&order, 0, again, 8), 32, 32).expect_err("unfenced write");
        assert_eq!((clash.fault, clash.address), (Fault::Unfenced, 40));
    }

    #[test]
    fn atomics_race_with_plain_accesses_only() {
        let (mut shadow, mut order) = (Shadow::new(8), Order::new(2));
        let atomic = |shadow: &mut Shadow, order: &Order, w| shadow.write(&mut Access::atomic(order, w, 3), 0, 4);
        write(&mut shadow, &order, 0, 0, 4).expect("fresh");
        assert!(atomic(&mut shadow, &order, 1).is_err());
        sync(&mut order, 0, 1);
        assert!(atomic(&mut shadow, &order, 1).is_ok());
        assert!(atomic(&mut shadow, &order, 0).is_ok());
        assert_eq!(read(&mut shadow, &order, 1, 0, 4), Err(Fault::Unordered));
    }

    #[test]
    fn strands_of_a_diverged_warp_race() {
        let (mut shadow, mut order) = (Shadow::new(8), Order::new(1));
        let together = order.clock(0);
        write(&mut shadow, &order, 0, 0, 4).expect("fresh");
        order.strand(0, together);
        assert_eq!(read(&mut shadow, &order, 0, 0, 4), Ok(()));
        write(&mut shadow, &order, 0, 4, 4).expect("fresh");
        let first = order.clock(0);
        order.strand(0, together);
        assert_eq!(read(&mut shadow, &order, 0, 4, 4), Err(Fault::Unordered), "the other strand wrote it");
        let known = order.clock(0).max(first);
        order.strand(0, known);
        assert_eq!(read(&mut shadow, &order, 0, 4, 4), Ok(()), "together again");
    }

    /// Random programs, against a detector that keeps every access of every byte.
    #[test]
    fn agrees_with_a_full_history() {
        let mut state = 5u64;
        let mut random = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % n
        };
        let mut clashes = 0;
        for _ in 0..400 {
            let (mut shadow, mut order) = (Shadow::new(32), Order::new(4));
            write(&mut shadow, &order, 0, 0, 24).expect("fresh");
            let mut history: Vec<Vec<(Agent, u32, bool)>> = vec![vec![(0, order.clock(0), true)]; 24];
            history.resize(32, vec![]);
            for _ in 0..40 {
                let warp = random(4) as Agent;
                if random(8) < 5 {
                    let mut barrier = Carried::default();
                    let everybody = random(3) != 0;
                    let mut members: Vec<Agent> = (0..4).filter(|w| everybody || *w == warp).collect();
                    members.push(random(4) as Agent);
                    members.iter().for_each(|w| order.release(*w, &mut barrier));
                    members.iter().for_each(|w| order.acquire(*w, &barrier));
                    continue;
                }
                let bytes = 1 << random(4);
                let at = random(32 / bytes) * bytes;
                let is_write = random(3) == 0;
                let range = at as usize..(at + bytes) as usize;
                let after = |(agent, clock, _): &(Agent, u32, bool)| {
                    *agent == warp || order.happens(warp)[*agent as usize] >= *clock
                };
                let unwritten = |byte: &Vec<(Agent, u32, bool)>| !byte.iter().any(|a| a.2);
                let bad = history[range.clone()]
                    .iter()
                    .any(|byte| !is_write && unwritten(byte) || byte.iter().any(|a| (is_write || a.2) && !after(a)));
                let result = match is_write {
                    true => write(&mut shadow, &order, warp, at as u32, bytes as u32),
                    false => read(&mut shadow, &order, warp, at as u32, bytes as u32),
                };
                assert_eq!(result.is_err(), bad, "{history:?} warp {warp} {range:?} write {is_write}");
                if bad {
                    clashes += 1;
                    break;
                }
                history[range].iter_mut().for_each(|byte| byte.push((warp, order.clock(warp), is_write)));
            }
        }
        assert!(clashes > 100 && clashes < 400, "{clashes}");
    }

    #[test]
    fn sets_in_use_survive_collection() {
        let (mut shadow, mut order) = (Shadow::new(64), Order::new(3));
        write(&mut shadow, &order, 0, 0, 64).expect("fresh");
        sync(&mut order, 0, 1);
        sync(&mut order, 0, 2);
        for i in 0..2 * SETS as u32 {
            // Two readers whose clocks move on: new sets all the time, for one word.
            let mut nowhere = Carried::default();
            order.release(1, &mut nowhere);
            order.release(2, &mut nowhere);
            for w in [1, 2] {
                read(&mut shadow, &order, w, if i == 0 { 32 } else { 0 }, 4).expect("ordered after the write");
            }
        }
        assert!(shadow.sets.sets.len() <= SETS + 1);
        assert_eq!(write(&mut shadow, &order, 0, 32, 4), Err(Fault::Unordered));
        sync(&mut order, 1, 0);
        assert_eq!(write(&mut shadow, &order, 0, 32, 4), Err(Fault::Unordered));
        sync(&mut order, 2, 0);
        assert_eq!(write(&mut shadow, &order, 0, 0, 64), Ok(()));
    }
}
