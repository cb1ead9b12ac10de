//! Mbarriers: phases that complete when all arrivals and all announced bytes are in.

use super::violation::{Checked, SharedMemory, Violation};
use crate::check::Kind;
use crate::check::order::{Agent, Carried, Operation, Order};
use crate::check::shadow::{Access, Who};

/// Largest arrival count, and largest magnitude of a transaction count.
const LIMIT: i64 = (1 << 20) - 1;

/// One mbarrier object.
#[derive(Debug)]
struct Mbarrier {
    at: u32,
    /// Arrivals of one phase, less those dropped.
    expected: u32,
    pending: u32,
    /// Bytes announced and not yet arrived; negative while bytes arrive before they are announced.
    transaction: i64,
    phase: u32,
    /// What those bring who arrive in the current phase, and all who arrived in completed ones.
    arriving: Carried,
    completed: Carried,
    /// Who initialised it, and whether a fence made that visible to the asynchronous proxy.
    initialiser: (Agent, u32),
    fenced: bool,
}

/// The mbarriers of one block, by address.
#[derive(Debug, Default)]
pub struct Mbarriers {
    objects: Vec<Mbarrier>,
}

/// Who operates on an mbarrier.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    pub warp: Agent,
    pub lanes: u32,
    /// Index of the instruction.
    pub pc: u32,
}

/// Ways to arrive.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// The arrivals are taken off later phases too.
    pub drop: bool,
    /// `.noComplete`: the phase goes on.
    pub no_complete: bool,
}

/// The opaque contents of a live object: a store over it shows at the next use.
fn contents(at: u32) -> [u8; 8] {
    (0x6d62_6172_0000_0000u64 | at as u64).to_le_bytes()
}

impl Mbarriers {
    /// `mbarrier.init`.
    ///
    /// # Errors
    /// A bad address or count, an object that is live already, a race.
    pub fn init(&mut self, by: Operator, order: &Order, shared: &mut SharedMemory, at: u32, count: u32) -> Checked {
        place(shared, at)?;
        if !(1..=LIMIT).contains(&(count as i64)) {
            return Err(misuse(at, format!("is initialised with count {count}, not within 1..={LIMIT}")));
        }
        if let Some(i) = self.find(at) {
            if shared.bytes[at as usize..][..8] == contents(at) {
                return Err(misuse(at, "is initialised again without mbarrier.inval".into()));
            }
            // Overwritten since: the memory was used for something else, then for an mbarrier again.
            self.objects.swap_remove(i);
        }
        let mut access = Access::warp(order, by.warp, by.pc);
        let written = shared.shadow.write(&mut access, at, 8, Who::Mask(by.lanes));
        written.map_err(|c| Violation::clash(c, &format!("mbarrier.init by warp {}", by.warp), order))?;
        shared.bytes[at as usize..][..8].copy_from_slice(&contents(at));
        self.objects.push(Mbarrier {
            at,
            expected: count,
            pending: count,
            transaction: 0,
            phase: 0,
            arriving: Carried::default(),
            completed: Carried::default(),
            initialiser: (by.warp, order.clock(by.warp)),
            fenced: false,
        });
        Ok(())
    }

    /// `mbarrier.inval`: the memory may be used for anything again.
    ///
    /// # Errors
    /// No live object there, or a race.
    pub fn invalidate(&mut self, by: Operator, order: &Order, shared: &mut SharedMemory, at: u32) -> Checked {
        let i = self.live(shared, at)?;
        let mut access = Access::warp(order, by.warp, by.pc);
        let written = shared.shadow.write(&mut access, at, 8, Who::Mask(by.lanes));
        written.map_err(|c| Violation::clash(c, &format!("mbarrier.inval by warp {}", by.warp), order))?;
        self.objects.swap_remove(i);
        shared.bytes[at as usize..][..8].fill(0);
        Ok(())
    }

    /// `mbarrier.arrive`, with `expect_tx` announced first. Returns the phase token.
    ///
    /// # Errors
    /// No live object, more arrivals than it expects, a race with its initialisation, a phase that completes against
    /// the program's promise.
    #[allow(clippy::too_many_arguments)] // the instruction's operands
    pub fn arrive(
        &mut self,
        by: Operator,
        order: &mut Order,
        shared: &mut SharedMemory,
        at: u32,
        count: u32,
        expect_tx: Option<u32>,
        kind: Arrival,
    ) -> Checked<u64> {
        let i = self.touch(by, order, shared, at, "mbarrier.arrive")?;
        let object = &mut self.objects[i];
        object.announce(expect_tx.unwrap_or(0))?;
        if count == 0 || count > object.pending {
            let text = format!("{count} arrivals at a phase that waits for {} of {}", object.pending, object.expected);
            return Err(misuse(at, text));
        }
        let token = (object.phase as u64) << 32 | object.pending as u64;
        order.release(by.warp, by.lanes, &mut object.arriving);
        object.pending -= count;
        if kind.no_complete && object.pending == 0 && object.transaction == 0 {
            return Err(misuse(at, "completes its phase by an arrival with .noComplete".into()));
        }
        if kind.drop {
            object.expected -= count;
        }
        object.advance();
        Ok(token)
    }

    /// `mbarrier.expect_tx`.
    ///
    /// # Errors
    /// As [`Mbarriers::arrive`].
    pub fn expect(&mut self, by: Operator, order: &Order, shared: &mut SharedMemory, at: u32, bytes: u32) -> Checked {
        let i = self.touch(by, order, shared, at, "mbarrier.expect_tx")?;
        self.objects[i].announce(bytes)
    }

    /// `mbarrier.complete_tx` by a thread.
    ///
    /// # Errors
    /// As [`Mbarriers::arrive`].
    pub fn complete(&mut self, by: Operator, order: &Order, shared: &mut SharedMemory, at: u32, bytes: u32) -> Checked {
        let i = self.touch(by, order, shared, at, "mbarrier.complete_tx")?;
        self.objects[i].receive(bytes)
    }

    /// Bytes of a copy arrive; who waits for the phase may read them.
    ///
    /// # Errors
    /// No live object, or more bytes than a phase with no arrival left was told of.
    pub fn land(&mut self, order: &Order, shared: &SharedMemory, at: u32, bytes: u32, copy: Operation) -> Checked {
        let i = self.live(shared, at)?;
        self.objects[i].arriving.complete(copy, order);
        self.objects[i].receive(bytes)
    }

    /// Checks the mbarrier that a copy names when it is issued: live, and its initialisation fenced.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_signal(&mut self, by: Operator, order: &Order, shared: &mut SharedMemory, at: u32) -> Checked {
        let i = self.touch(by, order, shared, at, "bulk copy")?;
        match self.objects[i].fenced {
            true => Ok(()),
            false => Err(Violation::new(
                Kind::ProxyFence,
                format!(
                    "a copy signals the mbarrier at shared address {at:#x} whose initialisation no fence.mbarrier_init or fence.proxy.async follows"
                ),
            )),
        }
    }

    /// `cp.async.mbarrier.arrive` without `.noinc`: one more arrival in the current phase.
    ///
    /// # Errors
    /// As [`Mbarriers::arrive`].
    pub fn increment(
        &mut self,
        by: Operator,
        order: &Order,
        shared: &mut SharedMemory,
        at: u32,
        count: u32,
    ) -> Checked {
        let i = self.touch(by, order, shared, at, "cp.async.mbarrier.arrive")?;
        self.objects[i].pending += count;
        Ok(())
    }

    /// The arrival that `cp.async.mbarrier.arrive` triggers when the copies before it are done.
    ///
    /// # Errors
    /// As [`Mbarriers::arrive`].
    pub fn arrive_late(
        &mut self,
        order: &Order,
        shared: &SharedMemory,
        at: u32,
        count: u32,
        copies: &[Operation],
        brought: &Carried,
    ) -> Checked {
        let i = self.live(shared, at)?;
        let object = &mut self.objects[i];
        if count > object.pending {
            let text = format!("{count} arrivals at a phase that waits for {} of {}", object.pending, object.expected);
            return Err(misuse(at, text));
        }
        copies.iter().for_each(|copy| object.arriving.complete(*copy, order));
        object.arriving.join(brought);
        object.pending -= count;
        object.advance();
        Ok(())
    }

    /// `mbarrier.test_wait` and `try_wait`: whether the phase of this parity is complete. If so the warp is ordered
    /// after it.
    ///
    /// # Errors
    /// No live object, or a race with its initialisation.
    pub fn wait_parity(
        &mut self,
        by: Operator,
        order: &mut Order,
        shared: &mut SharedMemory,
        at: u32,
        parity: u32,
    ) -> Checked<bool> {
        let i = self.touch(by, order, shared, at, "mbarrier wait")?;
        let object = &self.objects[i];
        // The phase of the other parity is the one before the current.
        let complete = object.phase & 1 != parity & 1;
        if complete {
            order.acquire(by.warp, by.lanes, &object.completed);
        }
        Ok(complete)
    }

    /// As [`Mbarriers::wait_parity`], for the phase of a token that an arrival returned.
    ///
    /// # Errors
    /// As there, and a token older than the phase before the current one.
    pub fn wait_token(
        &mut self,
        by: Operator,
        order: &mut Order,
        shared: &mut SharedMemory,
        at: u32,
        token: u64,
    ) -> Checked<bool> {
        let i = self.touch(by, order, shared, at, "mbarrier wait")?;
        let object = &self.objects[i];
        let behind = object.phase.wrapping_sub((token >> 32) as u32);
        if behind > 1 {
            return Err(misuse(at, format!("is waited for with a token {behind} phases old")));
        }
        if behind == 1 {
            order.acquire(by.warp, by.lanes, &object.completed);
        }
        Ok(behind == 1)
    }

    /// `fence.mbarrier_init` or `fence.proxy.async` by a warp: initialisations it knows of become visible to copies.
    pub fn fence(&mut self, warp: Agent, order: &Order) {
        for object in self.objects.iter_mut().filter(|o| !o.fenced) {
            let (initialiser, clock) = object.initialiser;
            object.fenced = initialiser == warp || order.happens(warp)[initialiser as usize] >= clock;
        }
    }

    /// The object's state in words, for the report of a deadlock.
    pub fn describe(&self, at: u32) -> String {
        match self.find(at).map(|i| &self.objects[i]) {
            None => format!("no mbarrier at shared address {at:#x}"),
            Some(o) => format!(
                "mbarrier at shared address {at:#x}: phase {} lacks {} of {} arrivals and {} bytes",
                o.phase, o.pending, o.expected, o.transaction
            ),
        }
    }

    /// An mbarrier whose phase can never complete, though nobody is left to arrive, because of its bytes. Asked when
    /// no copy is in flight and nothing runs, or when the block has exited.
    pub fn stuck(&self) -> Option<Box<Violation>> {
        let object = self.objects.iter().find(|o| o.transaction != 0)?;
        let (n, at) = (object.transaction, object.at);
        let text = match n > 0 {
            true => format!("the mbarrier at shared address {at:#x} was told of {n} bytes more than arrived"),
            false => format!("the mbarrier at shared address {at:#x} received {} bytes more than it was told of", -n),
        };
        Some(Violation::new(Kind::TransactionCount, text))
    }

    fn find(&self, at: u32) -> Option<usize> {
        self.objects.iter().position(|o| o.at == at)
    }

    /// The live object at an address whose contents nobody touched.
    fn live(&self, shared: &SharedMemory, at: u32) -> Checked<usize> {
        place(shared, at)?;
        let i = self.find(at).ok_or_else(|| misuse(at, "is used before mbarrier.init".into()))?;
        match shared.bytes[at as usize..][..8] == contents(at) {
            true => Ok(i),
            false => Err(misuse(at, "was overwritten".into())),
        }
    }

    /// The live object, its use ordered after its initialisation.
    fn touch(&self, by: Operator, order: &Order, shared: &mut SharedMemory, at: u32, what: &str) -> Checked<usize> {
        let i = self.live(shared, at)?;
        let (initialiser, clock) = self.objects[i].initialiser;
        if initialiser != by.warp && order.happens(by.warp)[initialiser as usize] < clock {
            let text =
                format!("{what} of the mbarrier at shared address {at:#x} is not ordered after its initialisation");
            return Err(Violation::new(Kind::SharedRace, text));
        }
        let mut access = Access::atomic(order, by.warp, by.pc);
        let noted = shared.shadow.write(&mut access, at, 8, Who::Mask(by.lanes));
        noted.map_err(|c| Violation::clash(c, &format!("{what} by warp {}", by.warp), order))?;
        Ok(i)
    }
}

impl Mbarrier {
    fn announce(&mut self, bytes: u32) -> Checked {
        self.transaction += bytes as i64;
        match self.transaction > LIMIT {
            true => Err(self.out_of_range()),
            false => Ok(()),
        }
    }

    fn receive(&mut self, bytes: u32) -> Checked {
        self.transaction -= bytes as i64;
        if self.transaction < -LIMIT {
            return Err(self.out_of_range());
        }
        if self.pending == 0 && self.transaction < 0 {
            // Every arrival is in, so nobody is left who could announce these bytes.
            let text = format!(
                "{} bytes arrive at the mbarrier at shared address {:#x} that were not announced to its phase",
                -self.transaction, self.at
            );
            return Err(Violation::new(Kind::TransactionCount, text));
        }
        self.advance();
        Ok(())
    }

    fn out_of_range(&self) -> Box<Violation> {
        let text =
            format!("the mbarrier at shared address {:#x} counts {} bytes, beyond ±{LIMIT}", self.at, self.transaction);
        Violation::new(Kind::TransactionCount, text)
    }

    /// Completes the phase if everything is in.
    fn advance(&mut self) {
        if self.pending == 0 && self.transaction == 0 {
            self.phase = self.phase.wrapping_add(1);
            self.pending = self.expected;
            self.completed.join(&self.arriving);
            self.arriving.clear();
        }
    }
}

/// Pending arrivals in a token, for `mbarrier.pending_count`.
pub fn pending_count(token: u64) -> u32 {
    token as u32
}

fn place(shared: &SharedMemory, at: u32) -> Checked {
    shared.check(at, 8, "mbarrier")?;
    match at.is_multiple_of(8) {
        true => Ok(()),
        false => {
            Err(Violation::new(Kind::Misaligned, format!("mbarrier at shared address {at:#x}, not a multiple of 8")))
        }
    }
}

fn misuse(at: u32, what: String) -> Box<Violation> {
    Violation::new(Kind::Mbarrier, format!("the mbarrier at shared address {at:#x} {what}"))
}

#[cfg(test)]
#[path = "mbarrier_tests.rs"]
mod tests;
