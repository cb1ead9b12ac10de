//! Shared memory of a cluster's blocks: addresses, checks, and flags that order accesses.

use std::collections::HashMap;

use super::machine::{At, Fault, Machine};
use super::special::block_of;
use crate::check::Kind;
use crate::check::order::{Agent, Carried};
use crate::check::shadow::{Access, Clash, Who};
use crate::ptx::SHARED_START;

/// What strong stores to shared memory carry to the strong loads of the same word, by block and word.
pub type Flags = HashMap<(usize, u32), Carried>;

/// Block and offset of an access of `bytes` bytes.
///
/// # Errors
/// Outside the block's shared memory.
#[inline(always)]
pub fn place(m: &Machine, at: &At, lane: usize, address: u64, bytes: usize) -> Result<(usize, usize), Fault> {
    let offset = address as usize & 0xff_ffff;
    if address >> 24 == 0 && offset >= SHARED_START && offset + bytes <= size(m) {
        return Ok((at.block, offset));
    }
    elsewhere(m, at, lane, address, bytes)
}

/// End of a block's shared memory.
fn size(m: &Machine) -> usize {
    SHARED_START + m.launch.kernel.static_shared + m.launch.dynamic_shared as usize
}

#[cold]
fn elsewhere(m: &Machine, at: &At, lane: usize, address: u64, bytes: usize) -> Result<(usize, usize), Fault> {
    let (offset, end) = (address as usize & 0xff_ffff, size(m));
    let block = if address >> 32 == 0 { block_of(m, at, address as u32) } else { None };
    let Some(block) = block else {
        let text = format!("shared address {address:#x} names no block of the cluster of {}", m.blocks.len());
        return Err(Fault::lane(Kind::OutOfBounds, lane, text));
    };
    if offset < SHARED_START || offset + bytes > end {
        let text = format!(
            "{bytes} bytes at shared address {offset:#x}, outside the block's {} bytes at {SHARED_START:#x}..{end:#x}",
            end - SHARED_START
        );
        return Err(Fault::lane(Kind::OutOfBounds, lane, text));
    }
    if m.blocks[block].warps.clone().all(|w| m.warps[w].ended()) && block != at.block {
        let text = format!("shared memory of block {:?}, which has exited", m.blocks[block].index);
        return Err(Fault::lane(Kind::Cluster, lane, text));
    }
    Ok((block, offset))
}

/// The mistake that a clash in the shadow of `block` stands for.
#[cold]
pub fn clash(m: &Machine, lane: Option<usize>, block: usize, clash: Clash, write: bool) -> Fault {
    let mut text = clash.describe(if write { "write" } else { "read" }, &m.order);
    if let Some(other) = clash.other {
        let by = if m.order.is_operation(other.agent) { "issued" } else { "executed" };
        text.push_str(&format!("; that was {by} at {}", m.place_name(other.pc)));
    }
    if m.blocks.len() > 1 {
        text.push_str(&format!(" (shared memory of block {:?})", m.blocks[block].index));
    }
    Fault { kind: clash.kind(&m.order), lane, text, pc: None }
}

/// Notes a warp's access in the shadow.
#[inline(always)]
pub fn note(
    m: &mut Machine,
    at: &At,
    lane: usize,
    (block, offset): (usize, usize),
    bytes: usize,
    write: bool,
    strong: bool,
) -> Result<(), Fault> {
    let agent = at.warp as Agent;
    let mut access = if strong { Access::atomic(&m.order, agent, at.pc) } else { Access::warp(&m.order, agent, at.pc) };
    let (shadow, who) = (&mut m.blocks[block].shadow, Who::Mask(1 << lane));
    let result = if write {
        shadow.write(&mut access, offset as u32, bytes as u32, who)
    } else {
        shadow.read(&mut access, offset as u32, bytes as u32, who)
    };
    result.map_err(|c| clash(m, Some(lane), block, c, write))
}

/// A strong store: what came before it is ordered before whoever reads the flag.
pub fn release_flag(m: &mut Machine, at: &At, lane: usize, block: usize, offset: usize) {
    let carried = m.flags.entry((block, offset as u32 / 4)).or_default();
    m.order.release(at.warp as Agent, 1 << lane, carried);
}

/// A strong load.
pub fn acquire_flag(m: &mut Machine, at: &At, lane: usize, block: usize, offset: usize) {
    if let Some(carried) = m.flags.get(&(block, offset as u32 / 4)) {
        m.order.acquire(at.warp as Agent, 1 << lane, carried);
    }
}
