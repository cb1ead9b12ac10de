//! `bar` and `barrier`: the sixteen named barriers of a block.

use super::machine::{At, Fault, Flow, Machine};
use super::registers::lanes;
use super::run::{self, set_predicate};
use super::warp::Wait;
use crate::check::Kind;
use crate::check::order::{Agent, Carried};
use crate::ptx::instruction::{Barrier, BarrierMode, Pred, Reg};

/// Where a reduction's result goes: warp, lanes, register, predicate.
type Receiver = (usize, u32, Reg, Pred);

#[derive(Default)]
pub struct NamedBarrier {
    /// Threads that the present phase expects, by those who have arrived; 0 before the first.
    expected: u32,
    /// The count was not given: all threads of the block that have not exited.
    everybody: bool,
    arrived: u32,
    carried: Carried,
    /// Warps that wait and their lanes that do, to be ordered after all arrivals.
    waiting: Vec<(usize, u32)>,
    /// `barrier.red`: how many predicates were true.
    mode: Option<BarrierMode>,
    trues: u32,
    receivers: Vec<Receiver>,
}

impl NamedBarrier {
    pub fn describe(&self, id: u8) -> String {
        format!("at barrier {id}, where {} of {} threads have arrived", self.arrived, self.expected)
    }
}

pub fn run(m: &mut Machine, at: &At, b: &Barrier) -> Result<Flow, Fault> {
    if b.aligned && !run::all_lanes(m, at) {
        return Ok(run::wait_aligned(m, at));
    }
    let warp = &m.warps[at.warp];
    let first = at.mask.trailing_zeros() as usize;
    let uniform = |r: Reg, what: &str| {
        let row = warp.registers.row(r);
        match lanes(at.mask).find(|l| row[*l] != row[first]) {
            None => Ok(row[first]),
            Some(l) => {
                let text = format!("lanes {first} and {l} of a warp give a barrier different {what}s");
                Err(Fault::lane(Kind::BarrierMismatch, l, text))
            }
        }
    };
    let id = uniform(b.id, "number")?;
    if id > 15 {
        return Err(Fault::new(Kind::InvalidOperand, format!("barrier {id}: there are 0 to 15")));
    }
    let everybody = b.threads.is_none();
    let threads = match b.threads {
        Some(threads) => uniform(threads, "thread count")?,
        None => present(m, at.block),
    };
    if threads == 0 || threads % 32 != 0 {
        return Err(Fault::new(Kind::InvalidOperand, format!("barrier {id} for {threads} threads: no multiple of 32")));
    }
    let most = m.blocks[at.block].warps.len() as u32 * 32;
    if threads > most {
        let text = format!("barrier {id} for {threads} threads in a block of {most}: it can never complete");
        return Err(Fault::new(Kind::BarrierMismatch, text));
    }
    // A warp counts whole, whatever lanes of it exist; some lanes alone count as many.
    let share = if run::all_lanes(m, at) { 32 } else { at.mask.count_ones() };
    let truth = run::predicate(m, at.warp, b.src) & at.mask;
    let block = &mut m.blocks[at.block];
    let barrier = &mut block.barriers[id as usize];
    if barrier.arrived > 0 && (barrier.everybody != everybody || !everybody && barrier.expected != threads) {
        let text =
            format!("barrier {id} for {threads} threads, where others in the same phase expect {}", barrier.expected);
        return Err(Fault::new(Kind::BarrierMismatch, text));
    }
    if barrier.arrived + share > threads && !everybody {
        let text = format!("barrier {id} expects {threads} threads and {} arrive", barrier.arrived + share);
        return Err(Fault::new(Kind::BarrierMismatch, text));
    }
    (barrier.expected, barrier.everybody) = (threads, everybody);
    barrier.arrived += share;
    m.order.release(at.warp as Agent, at.mask, &mut barrier.carried);
    let reduces = !matches!(b.mode, BarrierMode::Sync | BarrierMode::Arrive);
    if reduces {
        if barrier.mode.is_some_and(|mode| mode != b.mode) {
            return Err(Fault::new(Kind::BarrierMismatch, format!("barrier {id} with different reductions")));
        }
        barrier.mode = Some(b.mode);
        barrier.trues += truth.count_ones();
        barrier.receivers.push((at.warp, at.mask, b.d, b.p));
    }
    if b.mode == BarrierMode::Arrive {
        complete(m, at.block, id as usize);
        return Ok(Flow::Next);
    }
    barrier.waiting.push((at.warp, at.mask));
    let warp = &mut m.warps[at.warp];
    let current = warp.current;
    warp.splits[current].pc = at.pc + 1;
    warp.splits[current].mask = at.together;
    let flow = if at.mask == at.together {
        warp.splits[current].wait = Wait::Barrier(id as u8);
        Flow::Reselect
    } else {
        // Unaligned and guarded: the other lanes go on.
        run::diverge(m, at.warp, &[(at.mask, at.pc + 1), (at.together & !at.mask, at.pc + 1)]);
        if let Some(split) = m.warps[at.warp].splits.iter_mut().find(|s| s.mask == at.mask) {
            split.wait = Wait::Barrier(id as u8);
        }
        Flow::Reselect
    };
    complete(m, at.block, id as usize);
    Ok(flow)
}

/// Threads of the block's warps that have not ended, whole warps.
fn present(m: &Machine, block: usize) -> u32 {
    m.blocks[block].warps.clone().filter(|w| m.warps[*w].live() != 0).count() as u32 * 32
}

/// Lets everybody go if all have arrived.
fn complete(m: &mut Machine, block: usize, id: usize) {
    let present = present(m, block);
    let barrier = &mut m.blocks[block].barriers[id];
    if barrier.everybody {
        barrier.expected = present;
    }
    if barrier.arrived == 0 || barrier.arrived < barrier.expected {
        return;
    }
    m.polls = 0;
    let NamedBarrier { carried, waiting, mode, trues, receivers, expected, .. } = std::mem::take(barrier);
    for (w, lanes) in waiting {
        m.order.acquire(w as Agent, lanes, &carried);
        m.warps[w].wake(Wait::Barrier(id as u8));
    }
    for (w, mask, d, p) in receivers {
        let warp = &mut m.warps[w];
        match mode {
            Some(BarrierMode::RedPopc) => warp.registers.store(d, &[trues; 32], mask),
            Some(BarrierMode::RedAnd) => {
                // Absent lanes of a short warp count as arrived, and as true.
                let missing = expected - threads_of(m.launch.block).min(expected);
                let all = trues + missing >= expected;
                set_predicate(&mut warp.predicates, p, u32::from(all).wrapping_neg(), mask);
            }
            _ => set_predicate(&mut warp.predicates, p, u32::from(trues > 0).wrapping_neg(), mask),
        }
    }
}

fn threads_of(block: [u32; 3]) -> u32 {
    block.iter().product()
}

/// A warp that has ended is no longer waited for.
pub fn after_exit(m: &mut Machine, w: usize) {
    if m.warps[w].live() == 0 {
        let block = m.warps[w].block;
        for id in 0..16 {
            if m.blocks[block].barriers[id].everybody {
                complete(m, block, id);
            }
        }
    }
}
