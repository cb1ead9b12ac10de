//! `setmaxnreg`: warps hand registers of the block's pool to each other.

use super::*;
use crate::check::Kind;
use crate::exec::run::{all_lanes, wait_aligned};

/// Registers of a multiprocessor, and most of one thread.
const REGISTERS: u32 = 65536;
const MOST: u32 = 256;

/// The registers of one block.
pub(super) struct RegisterPool {
    free: u32,
    /// Of one thread, by warp.
    held: Vec<u32>,
}

impl RegisterPool {
    /// What the compiler takes for a kernel that uses `setmaxnreg`: all that its launch bounds leave to a thread.
    /// Without bounds the number is the compiler's own, and nothing can be checked.
    fn of(m: &Machine, block: usize) -> Option<RegisterPool> {
        let kernel = m.launch.kernel;
        let threads = kernel.required_threads.or(kernel.max_threads)?.iter().product::<u32>();
        let blocks = kernel.min_blocks_per_sm.unwrap_or(1).max(1);
        let each = (REGISTERS / (threads.max(1) * blocks)).min(MOST) & !7;
        Some(RegisterPool { free: 0, held: vec![each; m.blocks[block].warps.len()] })
    }
}

/// `setmaxnreg.inc` and `.dec`; the decoder has checked the number.
pub(super) fn set(m: &mut Machine, at: &At, registers: u32, increase: bool) -> Result<Flow, Fault> {
    if !all_lanes(m, at) {
        return Ok(wait_aligned(m, at));
    }
    if m.units.pools[at.block].is_none() {
        m.units.pools[at.block] = RegisterPool::of(m, at.block);
    }
    let warp = m.warps[at.warp].in_block as usize;
    let Some(pool) = &mut m.units.pools[at.block] else { return Ok(Flow::Next) };
    let held = pool.held[warp];
    if increase && registers < held || !increase && registers > held {
        let verb = if increase { "inc" } else { "dec" };
        let text = format!("setmaxnreg.{verb} to {registers} of a warp that has {held}");
        return Err(Fault::new(Kind::InvalidOperand, text));
    }
    let wanted = 32 * registers.saturating_sub(held);
    if wanted > pool.free {
        return Ok(m.block(at, Wait::Unit(REGISTER_POOL)));
    }
    pool.free = pool.free - wanted + 32 * held.saturating_sub(registers);
    pool.held[warp] = registers;
    m.wake(REGISTER_POOL);
    Ok(Flow::Next)
}

/// What a warp waits for, in a report.
pub(super) fn describe(m: &Machine, block: usize) -> String {
    let free = m.units.pools[block].as_ref().map_or(0, |pool| pool.free);
    format!("at setmaxnreg.inc for registers of the block's pool, which has {free} left")
}
