//! `atom` and `red`.

use super::access::{aligned, by_space, local_range, memory_fault};
use super::machine::{At, Fault, Flow, Machine};
use super::registers::{WideLanes, lanes};
use super::shared;
use crate::check::Kind;
use crate::ptx::instruction::{Atomic, AtomicOp, Space};

pub fn run(m: &mut Machine, at: &At, a: &Atomic) -> Result<Flow, Fault> {
    let wide = a.update.ty.bytes() == 8;
    let registers = &m.warps[at.warp].registers;
    let fetch = |r| -> WideLanes { if wide { *registers.wide(r) } else { registers.row(r).map(u64::from) } };
    let operands: Vec<WideLanes> = a.src.iter().map(|r| fetch(*r)).collect();
    let swap = fetch(a.swap);
    let mut old = vec![[0u64; 32]; operands.len()];
    by_space(m, at, &a.addr, |m, at, space, addresses| match space {
        Space::Global | Space::Generic => {
            // Order between blocks: fences of the host around every atomic.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            if matches!(a.update.op, AtomicOp::Cas | AtomicOp::Exch) {
                m.global_polls += 1;
            }
            let result = m.memory.atomic(a.update, addresses, at.mask, &operands, &swap, &mut old);
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            result.map_err(memory_fault)
        }
        _ => elsewhere(m, at, a, space, addresses, &operands, &swap, &mut old),
    })?;
    let registers = &mut m.warps[at.warp].registers;
    for (&d, values) in a.dst.iter().zip(&old) {
        if wide {
            registers.store_wide(d, values, at.mask);
        } else {
            registers.store(d, &values.map(|v| v as u32), at.mask);
        }
    }
    Ok(Flow::Next)
}

/// Shared and local memory, lane by lane.
#[allow(clippy::too_many_arguments)]
fn elsewhere(
    m: &mut Machine,
    at: &At,
    a: &Atomic,
    space: Space,
    addresses: &WideLanes,
    operands: &[WideLanes],
    swap: &WideLanes,
    old: &mut [WideLanes],
) -> Result<(), Fault> {
    let size = a.update.ty.bytes();
    let bytes = size * operands.len();
    aligned(at.mask, addresses, bytes)?;
    for l in lanes(at.mask) {
        let place = match space {
            Space::Shared => {
                let place = shared::place(m, at, l, addresses[l], bytes)?;
                shared::note(m, at, l, place, bytes, false, true)?;
                shared::note(m, at, l, place, bytes, true, true)?;
                shared::acquire_flag(m, at, l, place.0, place.1);
                Some(place)
            }
            Space::Local => None,
            _ => return Err(Fault::lane(Kind::ReadOnly, l, "atomic on the kernel's parameters")),
        };
        let range = match place {
            Some((_, offset)) => offset..offset + bytes,
            None => local_range(m, at, l, addresses[l], bytes)?,
        };
        let memory = match place {
            Some((block, _)) => &mut m.blocks[block].shared[range],
            None => &mut m.warps[at.warp].local[range],
        };
        for (e, value) in memory.chunks_exact_mut(size).enumerate() {
            let mut before = [0; 8];
            before[..size].copy_from_slice(value);
            let before = u64::from_le_bytes(before);
            let Some(after) = a.update.apply(before, operands[e][l], swap[l], false) else {
                return Err(Fault::lane(Kind::Unsupported, l, format!("{:?} of {:?}", a.update.op, a.update.ty)));
            };
            value.copy_from_slice(&after.to_le_bytes()[..size]);
            old[e][l] = before;
        }
        if let Some((block, offset)) = place {
            shared::release_flag(m, at, l, block, offset);
        }
    }
    // A spin on a shared flag lets others run.
    if matches!(a.update.op, AtomicOp::Cas | AtomicOp::Exch) {
        m.polls = m.polls.saturating_add(1);
    }
    Ok(())
}
