//! The wgmma instructions.

use super::wgmma::{Issue, OperandA};
use super::*;
use crate::check::Kind;
use crate::exec::run::{all_lanes, predicate, wait_aligned};
use crate::matrix::Descriptor;
use crate::ptx::instruction::{self, WgmmaA};

/// The warp's warpgroup, and its place in it.
///
/// # Errors
/// The block's last warps are not four.
fn warpgroup<'m>(m: &'m mut Machine, at: &At) -> Result<(&'m mut Warpgroup, usize), Fault> {
    let in_block = m.warps[at.warp].in_block as usize;
    let (first, member) = (at.warp - in_block % 4, in_block % 4);
    if first + 4 > m.blocks[at.block].warps.end {
        return Err(Fault::new(Kind::InvalidOperand, "wgmma by a warpgroup of fewer than four warps"));
    }
    let (rows, whole_spans) = (m.code.rows, m.launch.options.whole_spans);
    let group = m.units.warpgroups[at.block][in_block / 4]
        .get_or_insert_with(|| Box::new(Warpgroup::new(first as Agent, rows, whole_spans)));
    Ok((group, member))
}

pub(super) fn fence(m: &mut Machine, at: &At) -> Result<Flow, Fault> {
    if !all_lanes(m, at) {
        return Ok(wait_aligned(m, at));
    }
    let (group, member) = warpgroup(m, at)?;
    group.fence(member);
    m.order.sync(at.warp as Agent, at.mask);
    Ok(Flow::Next)
}

pub(super) fn commit(m: &mut Machine, at: &At) -> Result<Flow, Fault> {
    if !all_lanes(m, at) {
        return Ok(wait_aligned(m, at));
    }
    warpgroup(m, at)?;
    let Machine { units, order, warps, .. } = m;
    let in_block = warps[at.warp].in_block as usize;
    let Some(group) = units.warpgroups[at.block][in_block / 4].as_deref_mut() else { return Ok(Flow::Next) };
    group.commit(in_block % 4, order).map_err(|v| fault(m, None, v))?;
    Ok(Flow::Next)
}

pub(super) fn wait(m: &mut Machine, at: &At, keep: u32) -> Result<Flow, Fault> {
    if !all_lanes(m, at) {
        return Ok(wait_aligned(m, at));
    }
    warpgroup(m, at)?;
    let range = shared_range(m);
    let Machine { units, order, warps, blocks, .. } = m;
    let in_block = warps[at.warp].in_block as usize;
    let Some(group) = units.warpgroups[at.block][in_block / 4].as_deref_mut() else { return Ok(Flow::Next) };
    let block = &mut blocks[at.block];
    let shared = SharedMemory { bytes: &mut block.shared, shadow: &mut block.shadow, range, exited: false };
    let first = at.warp - in_block % 4;
    let [a, b, c, d] = &mut warps[first..first + 4] else { unreachable!("four warps were asked for") };
    let files = [a, b, c, d].map(|warp| warp.registers.rows_mut());
    match group.wait(in_block % 4, keep, order, &shared, files) {
        Ok(true) => {
            m.order.sync(at.warp as Agent, at.mask);
            Ok(Flow::Next)
        }
        Ok(false) => Ok(m.block(at, Wait::Unit(WARPGROUP))),
        Err(v) => Err(fault(m, None, v)),
    }
}

pub(super) fn issue(m: &mut Machine, at: &At, op: &instruction::Wgmma) -> Result<Flow, Fault> {
    if !all_lanes(m, at) {
        return Ok(wait_aligned(m, at));
    }
    let form = op.form;
    let keep = predicate(m, at.warp, op.scale_d) & at.mask;
    if keep != 0 && keep != at.mask {
        return Err(Fault::new(Kind::Divergence, "scale-d of wgmma differs between lanes"));
    }
    let a = match &op.a {
        WgmmaA::Descriptor(row) => OperandA::Shared(descriptor(m, at, *row)?),
        WgmmaA::Registers(rows) => match rows[..] {
            [a, b, c, d] => OperandA::Registers([a, b, c, d]),
            _ => return Err(Fault::new(Kind::Unsupported, format!("operand A of wgmma in {} registers", rows.len()))),
        },
    };
    if op.d.len() != form.d_registers() {
        let text = format!("wgmma with {} accumulators of {}", op.d.len(), form.d_registers());
        return Err(Fault::new(Kind::Unsupported, text));
    }
    let issue = Issue { pc: at.pc, form, a, b: descriptor(m, at, op.b)?, keep: keep != 0 };
    warpgroup(m, at)?;
    let range = shared_range(m);
    let Machine { units, order, warps, blocks, .. } = m;
    let in_block = warps[at.warp].in_block as usize;
    let Some(group) = units.warpgroups[at.block][in_block / 4].as_deref_mut() else { return Ok(Flow::Next) };
    let block = &mut blocks[at.block];
    let mut shared = SharedMemory { bytes: &mut block.shared, shadow: &mut block.shadow, range, exited: false };
    group.issue(in_block % 4, &issue, &op.d, order, &mut shared).map_err(|v| fault(m, None, v))?;
    if in_block % 4 == 3 {
        m.stats.wgmma += 1;
    }
    // Whoever waits for the other warps of its warpgroup looks again.
    m.wake(WARPGROUP);
    Ok(Flow::Next)
}

/// Any other instruction of a kernel with wgmma is about to execute.
///
/// # Errors
/// It reads or writes registers of a wgmma that was not waited for.
#[inline]
pub fn touch(m: &mut Machine, warp: usize, pc: u32) -> Result<(), Fault> {
    let code = m.code;
    let touched = code.wgmma_registers(pc);
    if touched.is_empty() {
        return Ok(());
    }
    let (block, in_block) = (m.warps[warp].block, m.warps[warp].in_block as usize);
    let first = warp - in_block % 4;
    if first + 4 > m.blocks[block].warps.end {
        // No warpgroup: it cannot have issued any.
        return Ok(());
    }
    let (rows, whole_spans) = (code.rows, m.launch.options.whole_spans);
    let group = m.units.warpgroups[block][in_block / 4]
        .get_or_insert_with(|| Box::new(Warpgroup::new(first as Agent, rows, whole_spans)));
    for &(row, write) in touched {
        if let Err(violation) = group.touch(in_block % 4, row, write) {
            return Err(fault(m, None, violation));
        }
    }
    Ok(())
}

/// The descriptor in a 64-bit register, which all lanes must hold alike.
fn descriptor(m: &Machine, at: &At, row: u32) -> Result<Descriptor, Fault> {
    let lanes = m.warps[at.warp].registers.wide(row);
    if lanes.iter().any(|bits| *bits != lanes[0]) && at.mask == u32::MAX {
        return Err(Fault::new(Kind::Divergence, "the matrix descriptor of wgmma differs between lanes"));
    }
    Descriptor::from_bits(lanes[0]).map_err(|text| Fault::new(Kind::InvalidOperand, text))
}
