//! `ld` and `st` in all state spaces.

use super::machine::{At, Fault, Flow, Machine};
use super::registers::{Lanes, WideLanes, lanes};
use super::shared;
use crate::check::Kind;
use crate::check::order::Agent;
use crate::check::shadow::{self, Who};
use crate::memory::{self, Element};
use crate::ptx::instruction::{Access, Addr, Space};
use crate::ptx::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_START, SHARED_WINDOW};

/// The address of every lane.
#[inline(always)]
pub fn addresses(m: &Machine, w: usize, addr: &Addr) -> WideLanes {
    let registers = &m.warps[w].registers;
    if addr.wide {
        registers.wide(addr.base).map(|base| base.wrapping_add_signed(addr.offset))
    } else {
        registers.row(addr.base).map(|base| u64::from(base.wrapping_add(addr.offset as u32)))
    }
}

/// The state space of a generic address, and the address in it.
fn classify(address: u64) -> (Space, u64) {
    match address >> 32 {
        SHARED_WINDOW => (Space::Shared, address & 0xffff_ffff),
        LOCAL_WINDOW => (Space::Local, address & 0xffff_ffff),
        PARAM_WINDOW => (Space::Param, address & 0xffff_ffff),
        _ => (Space::Global, address),
    }
}

/// Calls `each` with the lanes of one state space at a time.
#[inline(always)]
pub fn by_space(
    m: &mut Machine,
    at: &At,
    addr: &Addr,
    mut each: impl FnMut(&mut Machine, &At, Space, &WideLanes) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut addresses = addresses(m, at.warp, addr);
    if addr.space != Space::Generic {
        return each(m, at, addr.space, &addresses);
    }
    let mut rest = at.mask;
    let original = addresses;
    while rest != 0 {
        let (space, _) = classify(original[rest.trailing_zeros() as usize]);
        let mut group = 0;
        for l in lanes(rest) {
            let (of_lane, inside) = classify(original[l]);
            if of_lane == space {
                group |= 1 << l;
                addresses[l] = inside;
            }
        }
        rest &= !group;
        each(m, &At { mask: group, ..*at }, space, &addresses)?;
    }
    Ok(())
}

/// A mistake that device memory found.
#[cold]
#[allow(clippy::boxed_local)] // as device memory returns it, for `map_err`
pub fn memory_fault(fault: Box<memory::Fault>) -> Fault {
    Fault { kind: fault.kind, lane: Some(fault.lane as usize), text: fault.text, pc: None }
}

pub fn load(m: &mut Machine, at: &At, access: &Access) -> Result<Flow, Fault> {
    by_space(m, at, &access.addr, |m, at, space, addresses| match access.bytes {
        1 => load_as::<u8>(m, at, access, space, addresses),
        2 => load_as::<u16>(m, at, access, space, addresses),
        4 => load_as::<u32>(m, at, access, space, addresses),
        _ => load_as::<u64>(m, at, access, space, addresses),
    })?;
    Ok(Flow::Next)
}

pub fn store(m: &mut Machine, at: &At, access: &Access) -> Result<Flow, Fault> {
    by_space(m, at, &access.addr, |m, at, space, addresses| match access.bytes {
        1 => store_as::<u8>(m, at, access, space, addresses),
        2 => store_as::<u16>(m, at, access, space, addresses),
        4 => store_as::<u32>(m, at, access, space, addresses),
        _ => store_as::<u64>(m, at, access, space, addresses),
    })?;
    Ok(Flow::Next)
}

/// An element as registers hold it.
trait Value: Element {
    fn zero_extended(self) -> u64;
    fn sign_extended(self) -> u64;
    fn truncated(bits: u64) -> Self;
    fn from_slice(bytes: &[u8]) -> Self;
    fn to_slice(self, bytes: &mut [u8]);
}
macro_rules! value {
    ($($t:ty as $s:ty),*) => {$(
        impl Value for $t {
            #[inline(always)]
            fn zero_extended(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn sign_extended(self) -> u64 {
                self as $s as i64 as u64
            }

            #[inline(always)]
            fn truncated(bits: u64) -> Self {
                bits as $t
            }

            #[inline(always)]
            fn from_slice(bytes: &[u8]) -> Self {
                let mut value = [0; size_of::<$t>()];
                value.copy_from_slice(bytes);
                <$t>::from_le_bytes(value)
            }

            #[inline(always)]
            fn to_slice(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
value!(u8 as i8, u16 as i16, u32 as i32, u64 as i64);

/// Elements of the widest access.
const ELEMENTS: usize = 4;

fn load_as<T: Value>(
    m: &mut Machine,
    at: &At,
    access: &Access,
    space: Space,
    addresses: &WideLanes,
) -> Result<(), Fault> {
    let count = access.regs.len();
    let bytes = size_of::<T>() * count;
    let mut values = [[T::default(); 32]; ELEMENTS];
    let values = &mut values[..count];
    match space {
        Space::Global | Space::Generic => {
            if access.strong {
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                m.global_polls += 1;
            }
            m.memory.load(addresses, at.mask, access.used, values).map_err(memory_fault)?;
            if m.launch.options.stats {
                count_global(m, at.mask, addresses, bytes, false);
            }
        }
        Space::Shared => {
            aligned(at.mask, addresses, bytes)?;
            note_shared(m, at, addresses, bytes, access, false)?;
            for l in lanes(at.mask) {
                let (block, offset) = shared::place(m, at, l, addresses[l], bytes)?;
                let from = &m.blocks[block].shared[offset..offset + bytes];
                for (e, row) in values.iter_mut().enumerate() {
                    row[l] = T::from_slice(&from[e * size_of::<T>()..][..size_of::<T>()]);
                }
                if access.strong {
                    shared::acquire_flag(m, at, l, block, offset);
                }
            }
        }
        Space::Local | Space::Param => {
            aligned(at.mask, addresses, bytes)?;
            for l in lanes(at.mask) {
                let from = match space {
                    Space::Local => local(m, at, l, addresses[l], bytes)?,
                    _ => parameter(m, l, addresses[l], bytes)?,
                };
                for (e, row) in values.iter_mut().enumerate() {
                    row[l] = T::from_slice(&from[e * size_of::<T>()..][..size_of::<T>()]);
                }
            }
        }
    }
    let registers = &mut m.warps[at.warp].registers;
    for (&r, row) in access.regs.iter().zip(values.iter()) {
        match (access.wide, access.signed) {
            (true, true) => registers.store_wide(r, &row.map(T::sign_extended), at.mask),
            (true, false) => registers.store_wide(r, &row.map(T::zero_extended), at.mask),
            (false, true) => registers.store(r, &row.map(|v| v.sign_extended() as u32), at.mask),
            (false, false) => registers.store(r, &row.map(|v| v.zero_extended() as u32), at.mask),
        }
    }
    Ok(())
}

fn store_as<T: Value>(
    m: &mut Machine,
    at: &At,
    access: &Access,
    space: Space,
    addresses: &WideLanes,
) -> Result<(), Fault> {
    let count = access.regs.len();
    let bytes = size_of::<T>() * count;
    let mut values = [[T::default(); 32]; ELEMENTS];
    let values = &mut values[..count];
    let registers = &m.warps[at.warp].registers;
    for (&r, row) in access.regs.iter().zip(values.iter_mut()) {
        *row = if access.wide {
            registers.wide(r).map(T::truncated)
        } else {
            registers.row(r).map(|v| T::truncated(u64::from(v)))
        };
    }
    let values = &*values;
    match space {
        Space::Global | Space::Generic => {
            if access.strong {
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            }
            m.memory.store(addresses, at.mask, values).map_err(memory_fault)?;
            if m.launch.options.stats {
                count_global(m, at.mask, addresses, bytes, true);
            }
        }
        Space::Shared => {
            aligned(at.mask, addresses, bytes)?;
            collisions(at, addresses, bytes, |a, b| {
                values.iter().all(|row| row[a].zero_extended() == row[b].zero_extended())
            })?;
            note_shared(m, at, addresses, bytes, access, true)?;
            for l in lanes(at.mask) {
                let (block, offset) = shared::place(m, at, l, addresses[l], bytes)?;
                let to = &mut m.blocks[block].shared[offset..offset + bytes];
                for (e, row) in values.iter().enumerate() {
                    row[l].to_slice(&mut to[e * size_of::<T>()..][..size_of::<T>()]);
                }
                if access.strong {
                    shared::release_flag(m, at, l, block, offset);
                }
            }
        }
        Space::Local => {
            aligned(at.mask, addresses, bytes)?;
            for l in lanes(at.mask) {
                let range = local_range(m, at, l, addresses[l], bytes)?;
                let warp = &mut m.warps[at.warp];
                warp.local_written[range.clone()].fill(true);
                let to = &mut warp.local[range];
                for (e, row) in values.iter().enumerate() {
                    row[l].to_slice(&mut to[e * size_of::<T>()..][..size_of::<T>()]);
                }
            }
        }
        Space::Param => {
            return Err(Fault::new(Kind::ReadOnly, "store to the kernel's parameters"));
        }
    }
    Ok(())
}

/// Refuses addresses that are no multiple of the access.
#[inline(always)]
pub fn aligned(mask: u32, addresses: &WideLanes, bytes: usize) -> Result<(), Fault> {
    let odd = |address: u64| address & (bytes as u64 - 1) != 0;
    match lanes(mask).find(|l| odd(addresses[*l])) {
        None => Ok(()),
        Some(l) => {
            let text = format!("{bytes}-byte access at {:#x}, which is no multiple of {bytes}", addresses[l]);
            Err(Fault::lane(Kind::Misaligned, l, text))
        }
    }
}

/// Notes the accesses of all lanes in the shadow of shared memory: one range where they are contiguous.
fn note_shared(
    m: &mut Machine,
    at: &At,
    addresses: &WideLanes,
    bytes: usize,
    access: &Access,
    write: bool,
) -> Result<(), Fault> {
    if m.launch.options.stats {
        count_shared(m, at.mask, addresses, bytes, write);
    }
    let agent = at.warp as Agent;
    let mut rest = at.mask;
    while rest != 0 {
        let first = rest.trailing_zeros() as usize;
        // The run of lanes that go on where the last one ended, or all lanes that access the same.
        let mut l = first;
        while l + 1 < 32 && rest >> (l + 1) & 1 == 1 && addresses[l + 1] == addresses[l] + bytes as u64 {
            l += 1;
        }
        l += 1;
        let mut run = l - first;
        let mut who = Who::Run { first: first as u32, bytes: bytes as u32 };
        let mut done = ((1u64 << l) - (1 << first)) as u32;
        if run == 1 {
            done = same_address(rest, addresses, first);
            who = Who::Mask(done);
        }
        let (block, offset) = match shared::place(m, at, first, addresses[first], bytes * run) {
            Ok(place) => place,
            // Some lane of the run is outside: the lane alone says which.
            Err(_) => {
                run = 1;
                done = 1 << first;
                who = Who::Mask(done);
                shared::place(m, at, first, addresses[first], bytes)?
            }
        };
        rest &= !done;
        let mut noted = match access.strong {
            true => shadow::Access::atomic(&m.order, agent, at.pc),
            false => shadow::Access::warp(&m.order, agent, at.pc),
        };
        let shadow = &mut m.blocks[block].shadow;
        let (offset32, bytes32) = (offset as u32, (bytes * run) as u32);
        let result = match write {
            true => shadow.write(&mut noted, offset32, bytes32, who),
            // `used_bytes_mask` on shared memory: bytes that do not matter may be unwritten.
            false if access.used != u64::MAX => {
                (0..bytes * run).filter(|i| access.used >> (i % bytes) & 1 == 1).try_for_each(|i| {
                    let lanes = if run == 1 { done } else { 1 << (first + i / bytes) };
                    shadow.read(&mut noted, (offset + i) as u32, 1, Who::Mask(lanes))
                })
            }
            false => shadow.read(&mut noted, offset32, bytes32, who),
        };
        if let Err(clash) = result {
            let lane = first + (clash.address as usize).saturating_sub(offset) / bytes;
            return Err(shared::clash(m, Some(lane.min(31)), block, clash, write));
        }
    }
    Ok(())
}

/// The lanes whose address is that of lane `first`.
#[inline(always)]
fn same_address(mask: u32, addresses: &WideLanes, first: usize) -> u32 {
    let mut same = 0;
    for (l, address) in addresses.iter().enumerate() {
        same |= u32::from(*address == addresses[first]) << l;
    }
    same & mask
}

/// Refuses lanes of one instruction that store different values to one address.
fn collisions(at: &At, addresses: &WideLanes, bytes: usize, same: impl Fn(usize, usize) -> bool) -> Result<(), Fault> {
    let mut ordered = true;
    let mut last = None;
    for l in lanes(at.mask) {
        ordered &= last.is_none_or(|last| addresses[l] > last);
        last = Some(addresses[l]);
    }
    if ordered {
        return Ok(());
    }
    for a in lanes(at.mask) {
        for b in lanes(at.mask >> a >> 1).map(|b| b + a + 1) {
            if addresses[a] == addresses[b] && !same(a, b) {
                let text = format!(
                    "lanes {a} and {b} store different values to the {bytes} bytes at shared address {:#x}",
                    addresses[a]
                );
                return Err(Fault::lane(Kind::SharedRace, b, text));
            }
        }
    }
    Ok(())
}

/// A lane's bytes in the warp's local memory.
pub fn local_range(
    m: &Machine,
    at: &At,
    lane: usize,
    address: u64,
    bytes: usize,
) -> Result<std::ops::Range<usize>, Fault> {
    let size = m.launch.kernel.local_bytes;
    if address as usize + bytes > size {
        let text = format!("{bytes} bytes at local address {address:#x}, past the thread's {size} bytes");
        return Err(Fault::lane(Kind::OutOfBounds, lane, text));
    }
    let start = lane * size + address as usize;
    debug_assert!(at.warp < m.warps.len());
    Ok(start..start + bytes)
}

fn local<'m>(m: &'m Machine, at: &At, lane: usize, address: u64, bytes: usize) -> Result<&'m [u8], Fault> {
    let range = local_range(m, at, lane, address, bytes)?;
    let warp = &m.warps[at.warp];
    if !warp.local_written[range.clone()].iter().all(|written| *written) {
        let text = format!("read of {bytes} bytes at local address {address:#x}, not all of them written");
        return Err(Fault::lane(Kind::UninitializedLocal, lane, text));
    }
    Ok(&warp.local[range])
}

fn parameter<'m>(m: &'m Machine, lane: usize, address: u64, bytes: usize) -> Result<&'m [u8], Fault> {
    let params: &[u8] = m.launch.params;
    params.get(address as usize..address as usize + bytes).ok_or_else(|| {
        let text = format!("{bytes} bytes at parameter offset {address:#x} of {}", params.len());
        Fault::lane(Kind::OutOfBounds, lane, text)
    })
}

/// Bytes and 32-byte sectors of a global access.
pub(super) fn count_global(m: &mut Machine, mask: u32, addresses: &WideLanes, bytes: usize, write: bool) {
    let total = u64::from(mask.count_ones()) * bytes as u64;
    let mut sectors: Vec<u64> =
        lanes(mask).flat_map(|l| addresses[l] / 32..=(addresses[l] + bytes as u64 - 1) / 32).collect();
    sectors.sort_unstable();
    sectors.dedup();
    m.stats.global_sectors += sectors.len() as u64;
    *(if write { &mut m.stats.global_write_bytes } else { &mut m.stats.global_read_bytes }) += total;
}

/// Bytes and bank conflicts of a shared access: words of 4 bytes in 32 banks, accesses wider than 4 bytes in as many
/// parts of lanes, as the card takes them.
pub(super) fn count_shared(m: &mut Machine, mask: u32, addresses: &WideLanes, bytes: usize, write: bool) {
    let total = u64::from(mask.count_ones()) * bytes as u64;
    let per_part = 128 / bytes.max(4);
    for part in 0..32usize.div_ceil(per_part) {
        let mut words: Vec<u64> = lanes(mask)
            .filter(|l| l / per_part == part)
            .flat_map(|l| addresses[l] / 4..(addresses[l] + bytes as u64).div_ceil(4))
            .collect();
        words.sort_unstable();
        words.dedup();
        let mut banks: Lanes = [0; 32];
        words.iter().for_each(|word| banks[*word as usize % 32] += 1);
        m.stats.bank_conflicts += u64::from(banks.into_iter().max().unwrap_or(0).saturating_sub(1));
    }
    *(if write { &mut m.stats.shared_write_bytes } else { &mut m.stats.shared_read_bytes }) += total;
    debug_assert!(mask == 0 || addresses[mask.trailing_zeros() as usize] as usize & 0xff_ffff >= SHARED_START);
}
