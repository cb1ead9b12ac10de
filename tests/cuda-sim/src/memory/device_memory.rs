//! The table of allocations, and the accesses of the host.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::allocation::Allocation;
use super::fault::{Access, Fault};
use crate::check::{Finding, Kind};

/// Addresses of the card: below those of the host's programs and libraries, and far above any 32-bit value.
const ADDRESSES: Range<u64> = 0x1000_0000_0000..0x5000_0000_0000;

/// Unused addresses after an allocation, at least; it is as long as the allocation where that is more, so that an
/// index that is off by a whole dimension lands there and not in a neighbour.
const GUARD: u64 = 1 << 20;

/// Freed ranges that are remembered to be named.
const REMEMBERED: usize = 1 << 16;

/// The alignment every `cuMemAlloc` has.
const ALIGN: u64 = 256;

/// Bytes that device-to-device copies and fills move at a time.
const CHUNK: usize = 4096;

/// Global memory of the simulated card, shared by all threads that run blocks.
pub struct DeviceMemory {
    total: usize,
    addresses: Range<u64>,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    /// By base address.
    live: BTreeMap<u64, Arc<Allocation>>,
    /// Base to length of what was freed and whose addresses are not in use again.
    freed: BTreeMap<u64, usize>,
    used: usize,
    /// Where to look for free addresses next: only after all of them were used once do any come back.
    next: u64,
}

type Checked = Result<(), Box<Finding>>;

impl DeviceMemory {
    pub fn new(total_bytes: usize) -> Self {
        Self::with_addresses(total_bytes, ADDRESSES)
    }

    fn with_addresses(total: usize, addresses: Range<u64>) -> Self {
        let table = Table { next: addresses.start, ..Table::default() };
        Self { total, addresses, table: RwLock::new(table) }
    }

    // A panic elsewhere leaves the table whole: it changes only after everything that can fail.
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new allocation, or `None` when the card is full. Its bytes count as unwritten. `align`, a power of two, is at
    /// least 256.
    pub fn alloc(&self, bytes: usize, align: usize) -> Option<u64> {
        let mut table = self.table_mut();
        if bytes > self.total - table.used {
            return None;
        }
        let base = table.find(&self.addresses, bytes, (align as u64).max(ALIGN))?;
        let allocation = Arc::new(Allocation::new(base, bytes)?);
        let end = base + reserved(bytes);
        table.forget(base..end);
        table.next = end;
        table.used += bytes;
        table.live.insert(base, allocation);
        Some(base)
    }

    /// # Errors
    /// `addr` is not the start of a live allocation.
    pub fn free(&self, addr: u64) -> Checked {
        let mut table = self.table_mut();
        let Some(allocation) = table.live.remove(&addr) else {
            let what = match table.holder(addr) {
                Some(a) => format!("is inside the {}-byte allocation at {:#x}", a.len, a.base),
                None if table.freed.contains_key(&addr) => "was freed before".to_owned(),
                None => "is not an allocation".to_owned(),
            };
            return Err(Finding::host(Kind::InvalidFree, format!("free of {addr:#x}, which {what}")));
        };
        allocation.retire();
        table.used -= allocation.len;
        table.freed.insert(addr, allocation.len);
        if table.freed.len() > REMEMBERED {
            table.freed.pop_first();
        }
        Ok(())
    }

    /// From now on the allocation that holds `addr` may only be read (module constants).
    pub fn protect(&self, addr: u64) {
        if let Some(allocation) = self.table().holder(addr) {
            allocation.protect();
        }
    }

    /// Host-side write.
    ///
    /// # Errors
    /// The range leaves its allocation, or is protected.
    pub fn write(&self, addr: u64, from: &[u8]) -> Checked {
        if !from.is_empty() {
            let (allocation, offset) = self.writable(addr, from.len())?;
            allocation.copy_in(offset, from);
        }
        Ok(())
    }

    /// Host-side read; bytes nobody wrote are a finding, as in a kernel.
    ///
    /// # Errors
    /// The range leaves its allocation, or a byte of it was never written.
    pub fn read(&self, addr: u64, to: &mut [u8]) -> Checked {
        if !to.is_empty() {
            let (allocation, offset) = self.locate(addr, to.len(), Access::Read)?;
            allocation.check_written(offset, to.len(), Access::Read)?;
            allocation.copy_out(offset, to);
        }
        Ok(())
    }

    /// Device-to-device copy of `n` bytes; ranges may be in one allocation. What is unwritten in `src` becomes
    /// unwritten in `dst`.
    ///
    /// # Errors
    /// A range leaves its allocation, the destination is protected, or the ranges overlap, which leaves the result
    /// undefined on the card.
    pub fn copy(&self, dst: u64, src: u64, n: usize) -> Checked {
        if n == 0 {
            return Ok(());
        }
        let (source, from) = self.locate(src, n, Access::Read)?;
        let (target, to) = self.writable(dst, n)?;
        if dst.abs_diff(src) < n as u64 {
            let text = format!("copy of {n} bytes from {src:#x} to {dst:#x}: the ranges overlap");
            return Err(Finding::host(Kind::InvalidOperand, text));
        }
        let mut chunk = [0; CHUNK];
        for done in (0..n).step_by(CHUNK) {
            let chunk = &mut chunk[..CHUNK.min(n - done)];
            source.copy_out(from + done, chunk);
            target.put(to + done, chunk);
        }
        target.shadow.copy(to, &source.shadow, from, n);
        Ok(())
    }

    /// Repeats `pattern` `count` times from `addr`.
    ///
    /// # Errors
    /// The range leaves its allocation, or is protected.
    pub fn fill(&self, addr: u64, pattern: &[u8], count: usize) -> Checked {
        let n = pattern.len().saturating_mul(count);
        if n == 0 {
            return Ok(());
        }
        let (allocation, offset) = self.writable(addr, n)?;
        let chunk = pattern.repeat((CHUNK / pattern.len()).clamp(1, count));
        for done in (0..n).step_by(chunk.len()) {
            allocation.put(offset + done, &chunk[..chunk.len().min(n - done)]);
        }
        allocation.shadow.mark(offset, n);
        Ok(())
    }

    /// Base and size of the live allocation that holds `addr`.
    pub fn range(&self, addr: u64) -> Option<(u64, usize)> {
        self.table().holder(addr).map(|a| (a.base, a.len))
    }

    /// Bytes in live allocations.
    pub fn used(&self) -> usize {
        self.table().used
    }

    pub fn total(&self) -> usize {
        self.total
    }

    fn writable(&self, addr: u64, n: usize) -> Result<(Arc<Allocation>, usize), Box<Fault>> {
        let (allocation, offset) = self.locate(addr, n, Access::Write)?;
        allocation.check_writable(offset, n, Access::Write)?;
        Ok((allocation, offset))
    }

    /// The live allocation that holds `n > 0` bytes from `addr`, and where they start in it.
    pub(super) fn locate(&self, addr: u64, n: usize, access: Access) -> Result<(Arc<Allocation>, usize), Box<Fault>> {
        let table = self.table();
        match table.holder(addr) {
            Some(a) if n as u64 <= a.end() - addr => Ok((a.clone(), (addr - a.base) as usize)),
            _ => Err(table.outside(addr, n, access)),
        }
    }
}

/// Addresses that an allocation takes: itself and the guard behind it.
fn reserved(bytes: usize) -> u64 {
    bytes as u64 + GUARD.max(bytes as u64)
}

impl Table {
    fn holder(&self, addr: u64) -> Option<&Arc<Allocation>> {
        self.live.range(..=addr).next_back().map(|(_, a)| a).filter(|a| addr < a.end())
    }

    /// The next addresses that no live allocation has, going round once.
    fn find(&self, addresses: &Range<u64>, bytes: usize, align: u64) -> Option<u64> {
        let mut wrapped = false;
        let mut base = self.next.next_multiple_of(align);
        loop {
            let end = base.checked_add(reserved(bytes))?;
            if end > addresses.end {
                if wrapped {
                    return None;
                }
                wrapped = true;
                base = addresses.start.next_multiple_of(align);
                continue;
            }
            match self.live.range(..end).next_back() {
                Some((&start, a)) if start + reserved(a.len) > base => {
                    base = (start + reserved(a.len)).next_multiple_of(align);
                }
                _ => return Some(base),
            }
        }
    }

    /// Addresses in use again are no longer known as freed.
    fn forget(&mut self, range: Range<u64>) {
        while let Some((&start, &len)) = self.freed.range(..range.end).next_back()
            && start + len as u64 > range.start
        {
            self.freed.remove(&start);
        }
    }

    /// What to say of an access that no live allocation holds.
    #[cold]
    fn outside(&self, addr: u64, n: usize, access: Access) -> Box<Fault> {
        let what = format!("{n}-byte {} at {addr:#x}", access.name());
        if let Some((&base, &len)) = self.freed.range(..=addr).next_back()
            && addr < base + len as u64
        {
            let text = format!("{what}: byte {} of the {len}-byte allocation at {base:#x}, freed", addr - base);
            return Fault::new(Kind::UseAfterFree, addr, text);
        }
        let below = self.live.range(..=addr).next_back().map(|(_, a)| a);
        let above = self.live.range(addr..).next().map(|(_, a)| a);
        let past = below.map(|a| (addr.saturating_sub(a.end()), a));
        let before = above.map(|a| (a.base - addr, a));
        let place = match (past, before) {
            _ if addr < 1 << 16 => "a null pointer, or an offset from one".to_owned(),
            (Some((_, a)), _) if addr < a.end() => {
                let over = n as u64 - (a.end() - addr);
                format!("ends {over} bytes past the {}-byte allocation at {:#x}", a.len, a.base)
            }
            (Some((past, a)), before) if before.is_none_or(|(gap, _)| past <= gap) => {
                format!("{past} bytes past the end of the {}-byte allocation at {:#x}", a.len, a.base)
            }
            (_, Some((gap, a))) => format!("{gap} bytes before the {}-byte allocation at {:#x}", a.len, a.base),
            _ => "nothing is allocated".to_owned(),
        };
        Fault::new(Kind::OutOfBounds, addr, format!("{what}: {place}"))
    }
}

#[cfg(test)]
#[path = "device_memory_tests.rs"]
mod tests;
