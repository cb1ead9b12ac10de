//! One thread's way to device memory: the allocations it used last, and the accesses of warps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::allocation::{Allocation, Cell, Element};
use super::device_memory::DeviceMemory;
use super::fault::{Access, Fault};
use super::shadow::set;

type Checked = Result<(), Box<Fault>>;

/// Lanes of a warp.
const LANES: usize = 32;

/// Allocations that are kept: kernels touch few tensors at a time, and 8 comparisons cost less than the table's lock.
const WAYS: usize = 8;

/// A translation look-aside buffer. Each thread that runs blocks has one for the time of a launch; while it lives, the
/// storage of allocations it has seen is not returned to the host, but accesses to freed ones are faults at once.
pub struct Tlb<'m> {
    memory: &'m DeviceMemory,
    /// Base and length of each way; length 0 where it is empty.
    keys: [(u64, u64); WAYS],
    ways: [Option<Arc<Allocation>>; WAYS],
    last: usize,
    victim: usize,
}

impl<'m> Tlb<'m> {
    pub fn new(memory: &'m DeviceMemory) -> Self {
        Self { memory, keys: [(0, 0); WAYS], ways: [const { None }; WAYS], last: 0, victim: 0 }
    }

    pub fn memory(&self) -> &'m DeviceMemory {
        self.memory
    }

    /// The allocation that holds `n > 0` bytes from `addr`, and where they start in it.
    #[inline(always)]
    pub(super) fn locate(&mut self, addr: u64, n: usize, access: Access) -> Result<(&Allocation, usize), Box<Fault>> {
        let (base, len) = self.keys[self.last];
        if addr.wrapping_sub(base) >= len || !self.holds(self.last, addr, n) {
            self.last = self.refill(addr, n, access)?;
        }
        match &self.ways[self.last] {
            Some(a) => Ok((a, (addr - a.base) as usize)),
            None => unreachable!("a way that was just found or filled"),
        }
    }

    #[inline(always)]
    fn holds(&self, way: usize, addr: u64, n: usize) -> bool {
        self.ways[way].as_ref().is_some_and(|a| {
            let offset = addr.wrapping_sub(a.base);
            offset < a.len as u64 && n as u64 <= a.len as u64 - offset && a.live()
        })
    }

    #[inline(never)]
    fn refill(&mut self, addr: u64, n: usize, access: Access) -> Result<usize, Box<Fault>> {
        let hit = |&(base, len): &(u64, u64)| addr.wrapping_sub(base) < len;
        if let Some(way) = self.keys.iter().position(hit) {
            if self.holds(way, addr, n) {
                return Ok(way);
            }
            (self.keys[way], self.ways[way]) = ((0, 0), None);
        }
        let (allocation, _) = self.memory.locate(addr, n, access)?;
        let way = self.victim;
        self.victim = (way + 1) % WAYS;
        self.keys[way] = (allocation.base, allocation.len as u64);
        self.ways[way] = Some(allocation);
        Ok(way)
    }

    /// Loads `out.len()` consecutive elements for each lane of `mask`: element `e` of lane `l` goes to `out[e][l]`;
    /// other lanes keep theirs. The number of elements is a power of two, the access at most 32 bytes. `used` has a bit
    /// for each byte of a lane's access; those without may be unwritten.
    ///
    /// # Errors
    /// The mistake of the lowest lane that makes one.
    #[inline]
    pub fn load<T: Element>(
        &mut self,
        addresses: &[u64; LANES],
        mask: u32,
        used: u64,
        out: &mut [[T; LANES]],
    ) -> Checked {
        let bytes = T::BYTES * out.len();
        let used = used & !0 >> (64 - bytes);
        let full = used == !0 >> (64 - bytes);
        if mask == !0 && full && contiguous(addresses, bytes) && aligned(addresses[0], bytes) {
            // A range that leaves the allocation is left to the loop below, which names the lane.
            if let Ok((a, offset)) = self.locate(addresses[0], LANES * bytes, Access::Read)
                && a.shadow.written(offset, LANES * bytes)
            {
                load_contiguous(a, offset, out);
                return Ok(());
            }
        }
        self.load_lanes(addresses, mask, used, out)
    }

    #[inline(never)]
    fn load_lanes<T: Element>(
        &mut self,
        addresses: &[u64; LANES],
        mask: u32,
        used: u64,
        out: &mut [[T; LANES]],
    ) -> Checked {
        let bytes = T::BYTES * out.len();
        // Lanes that share an address (scalars, rows that a warp walks together) need one access.
        let shared = mask != 0 && mask & (mask - 1) != 0 && uniform(addresses, mask);
        let accessing = if shared { mask & mask.wrapping_neg() } else { mask };
        self.each_lane(addresses, accessing, bytes, Access::Read, |window, offset, lane| {
            let missing = !window.written(offset) & used;
            if missing != 0 {
                // Of bytes that are not used the report is silent.
                let at = offset + missing.trailing_zeros() as usize;
                return Err(window.unwritten(at, offset + bytes - at, Access::Read));
            }
            let from = window.data.wrapping_add(offset);
            for (e, row) in out.iter_mut().enumerate() {
                // SAFETY: `each_lane` checked range and alignment; all accesses are atomic.
                row[lane] = unsafe { T::load(from.add(e * T::BYTES)) };
            }
            Ok(())
        })?;
        if shared {
            for row in out {
                let value = row[mask.trailing_zeros() as usize];
                for (lane, to) in row.iter_mut().enumerate() {
                    *to = if mask >> lane & 1 == 1 { value } else { *to };
                }
            }
        }
        Ok(())
    }

    /// Stores `from[e][l]` as element `e` of lane `l`, for the lanes of `mask`; of several lanes at one address the
    /// highest wins. Shapes as in [`Tlb::load`].
    ///
    /// # Errors
    /// The mistake of the lowest lane that makes one; lanes below it have stored.
    #[inline]
    pub fn store<T: Element>(&mut self, addresses: &[u64; LANES], mask: u32, from: &[[T; LANES]]) -> Checked {
        let bytes = T::BYTES * from.len();
        if mask == !0
            && contiguous(addresses, bytes)
            && aligned(addresses[0], bytes)
            && let Ok((a, offset)) = self.locate(addresses[0], LANES * bytes, Access::Write)
            && a.writable()
        {
            store_contiguous(a, offset, from);
            a.shadow.mark(offset, LANES * bytes);
            return Ok(());
        }
        self.store_lanes(addresses, mask, from)
    }

    #[inline(never)]
    fn store_lanes<T: Element>(&mut self, addresses: &[u64; LANES], mask: u32, from: &[[T; LANES]]) -> Checked {
        let bytes = T::BYTES * from.len();
        let bits = !0 >> (64 - bytes);
        self.each_lane(addresses, mask, bytes, Access::Write, |window, offset, lane| {
            let to = window.data.wrapping_add(offset);
            for (e, row) in from.iter().enumerate() {
                // SAFETY: `each_lane` checked range and alignment; all accesses are atomic.
                unsafe { T::store(to.add(e * T::BYTES), row[lane]) };
            }
            window.mark(offset, bits);
            Ok(())
        })
    }

    /// Calls `each(window, offset, lane)` for the lanes of `mask`, after the checks of bounds, alignment and
    /// protection: `bytes` bytes from `offset` are inside the window.
    #[inline(always)]
    pub(super) fn each_lane(
        &mut self,
        addresses: &[u64; LANES],
        mask: u32,
        bytes: usize,
        access: Access,
        mut each: impl FnMut(&Window, usize, usize) -> Checked,
    ) -> Checked {
        let mut rest = mask;
        let mut window = Window::default();
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let address = addresses[lane];
            if !window.holds(address, bytes) {
                let (a, _) = self.locate(address, bytes, access).map_err(|f| f.in_lane(lane))?;
                if access != Access::Read && !a.writable() {
                    return Err(a.read_only((address - a.base) as usize, bytes, access).in_lane(lane));
                }
                window = Window::new(a);
            }
            if !aligned(address, bytes) {
                return Err(Fault::misaligned(address, bytes, access).in_lane(lane));
            }
            each(&window, (address - window.base) as usize, lane).map_err(|f| f.in_lane(lane))?;
        }
        Ok(())
    }

    /// Reads a range, as a bulk copy does; alignment is the caller's to check.
    ///
    /// # Errors
    /// The range leaves its allocation, or a byte of it was never written.
    pub fn read(&mut self, addr: u64, to: &mut [u8]) -> Checked {
        if !to.is_empty() {
            let (a, offset) = self.locate(addr, to.len(), Access::Read)?;
            a.check_written(offset, to.len(), Access::Read)?;
            a.copy_out(offset, to);
        }
        Ok(())
    }

    /// Reads a range, written or not, and sets bit `i % 64` of `written[i / 64]` to whether byte `i` is: for copies
    /// that carry the shadow along. `written` has at least a bit for each byte; bits past the range become 0.
    ///
    /// # Errors
    /// The range leaves its allocation.
    pub fn read_shadowed(&mut self, addr: u64, to: &mut [u8], written: &mut [u64]) -> Checked {
        assert!(written.len() * 64 >= to.len());
        written.fill(0);
        if !to.is_empty() {
            let (a, offset) = self.locate(addr, to.len(), Access::Read)?;
            a.copy_out(offset, to);
            for (i, part) in to.chunks(64).enumerate() {
                written[i] = a.shadow.bits(offset + 64 * i) & !0 >> (64 - part.len());
            }
        }
        Ok(())
    }

    /// Writes a range, as a bulk copy does; alignment is the caller's to check.
    ///
    /// # Errors
    /// The range leaves its allocation, or is protected.
    pub fn write(&mut self, addr: u64, from: &[u8]) -> Checked {
        if !from.is_empty() {
            let (a, offset) = self.locate(addr, from.len(), Access::Write)?;
            a.check_writable(offset, from.len(), Access::Write)?;
            a.copy_in(offset, from);
        }
        Ok(())
    }
}

/// What a warp needs of an allocation, in registers.
pub(super) struct Window<'a> {
    base: u64,
    len: u64,
    /// Valid for `len` bytes of atomic accesses while `allocation` is borrowed.
    pub data: *mut u8,
    shadow: &'a [AtomicU64],
    allocation: Option<&'a Allocation>,
}

impl Default for Window<'_> {
    fn default() -> Self {
        Self { base: 0, len: 0, data: std::ptr::null_mut(), shadow: &[], allocation: None }
    }
}

impl<'a> Window<'a> {
    fn new(a: &'a Allocation) -> Self {
        Self { base: a.base, len: a.len as u64, data: a.at(0, a.len), shadow: a.shadow.words(), allocation: Some(a) }
    }

    #[inline(always)]
    fn holds(&self, address: u64, bytes: usize) -> bool {
        let offset = address.wrapping_sub(self.base);
        offset < self.len && bytes as u64 <= self.len - offset
    }

    /// The shadow of the bytes from `offset` to the end of its 64-byte group.
    #[inline(always)]
    pub fn written(&self, offset: usize) -> u64 {
        self.shadow[offset / 64].load(Relaxed) >> (offset % 64)
    }

    #[inline(always)]
    fn mark(&self, offset: usize, bits: u64) {
        set(&self.shadow[offset / 64], bits << (offset % 64));
    }

    #[cold]
    pub fn unwritten(&self, offset: usize, n: usize, access: Access) -> Box<Fault> {
        match self.allocation {
            Some(a) => a.unwritten(offset, n, access),
            None => unreachable!("an empty window holds no lane"),
        }
    }
}

/// `bytes` is a power of two.
#[inline(always)]
fn aligned(address: u64, bytes: usize) -> bool {
    debug_assert!(bytes.is_power_of_two());
    address & (bytes as u64 - 1) == 0
}

/// Whether lane `l` accesses `bytes` bytes at `addresses[0] + l · bytes`. One chain of ORs, so that it vectorises.
#[inline(always)]
fn contiguous(addresses: &[u64; LANES], bytes: usize) -> bool {
    // One comparison spares scattered warps the whole.
    if addresses[1].wrapping_sub(addresses[0]) != bytes as u64 {
        return false;
    }
    let mut different = 0;
    let mut expected = addresses[0];
    for &address in addresses {
        different |= address ^ expected;
        expected = expected.wrapping_add(bytes as u64);
    }
    different == 0
}

/// Whether all lanes of `mask`, which is not 0, have one address.
#[inline(always)]
fn uniform(addresses: &[u64; LANES], mask: u32) -> bool {
    let (first, last) = (mask.trailing_zeros() as usize, LANES - 1 - mask.leading_zeros() as usize);
    if addresses[first] != addresses[last] {
        return false;
    }
    let mut different = 0;
    for (lane, &address) in addresses.iter().enumerate() {
        different |= (address ^ addresses[first]) & u64::from(mask >> lane & 1).wrapping_neg();
    }
    different == 0
}

/// One element each: the bytes of a register row, moved 8 at a time where they are aligned for it.
#[inline(always)]
fn load_contiguous<T: Element>(a: &Allocation, offset: usize, out: &mut [[T; LANES]]) {
    let elements = out.len();
    let from = a.at(offset, LANES * elements * T::BYTES);
    match out {
        [row] if offset.is_multiple_of(8) => {
            let to = row.as_mut_ptr().cast::<u8>();
            for i in 0..LANES * T::BYTES / 8 {
                // SAFETY: `at` checked the source, which starts at a multiple of 8 and is only accessed atomically; the
                // row has LANES · BYTES bytes, which any bits are valid for.
                unsafe { to.add(8 * i).cast::<u64>().write_unaligned(u64::load(from.add(8 * i))) };
            }
        }
        _ => {
            for (e, row) in out.iter_mut().enumerate() {
                for (lane, value) in row.iter_mut().enumerate() {
                    // SAFETY: `at` checked the range; the caller the alignment; all accesses are atomic.
                    *value = unsafe { T::load(from.add((lane * elements + e) * T::BYTES)) };
                }
            }
        }
    }
}

#[inline(always)]
fn store_contiguous<T: Element>(a: &Allocation, offset: usize, from: &[[T; LANES]]) {
    let to = a.at(offset, LANES * from.len() * T::BYTES);
    match from {
        [row] if offset.is_multiple_of(8) => {
            let row = row.as_ptr().cast::<u8>();
            for i in 0..LANES * T::BYTES / 8 {
                // SAFETY: as in `load_contiguous`, the other way round.
                unsafe { u64::store(to.add(8 * i), row.add(8 * i).cast::<u64>().read_unaligned()) };
            }
        }
        _ => {
            for (e, row) in from.iter().enumerate() {
                for (lane, &value) in row.iter().enumerate() {
                    // SAFETY: `at` checked the range; the caller the alignment; all accesses are atomic.
                    unsafe { T::store(to.add((lane * from.len() + e) * T::BYTES), value) };
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tlb_tests.rs"]
mod tests;
