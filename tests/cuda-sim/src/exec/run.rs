//! The instruction loop of a warp: which lanes run, and what each instruction does.

use super::machine::{At, Fault, Flow, Machine};
use super::registers::lanes;
use super::warp::{Split, Wait};
use super::{access, alu, atomic, barrier, collective, compare, intrinsic, matrix, special, units};
use crate::check::order::Agent;
use crate::check::{Finding, Kind};
use crate::ptx::instruction::{BoolOp, Op, PredSrc};

/// Backward branches after which lanes that wait elsewhere get a turn: they may have to let the loop end.
const SPINS: u32 = 10_000;

/// Runs one warp for `turn` instructions, or until it waits or ends.
pub fn warp(m: &mut Machine, w: usize, turn: u64) -> Result<(), Box<Finding>> {
    let mut left = turn.min(m.budget);
    let started = left;
    let (mut instructions, mut lane_instructions) = (0u64, 0u64);
    let result = loop {
        let Some(stop) = select(m, w) else { break Ok(()) };
        let block = m.warps[w].block;
        let current = m.warps[w].current;
        let Split { mut mask, mut pc, .. } = m.warps[w].splits[current];
        let code = m.code;
        let outcome = loop {
            let instr = &code.instructions[pc as usize];
            let active = mask & predicate(m, w, instr.guard);
            instructions += 1;
            lane_instructions += u64::from(active.count_ones());
            left = left.saturating_sub(1);
            if code.wgmma
                && active != 0
                && let Err(fault) = units::touch(m, w, pc)
            {
                break Err((pc, fault));
            }
            let flow = match &instr.op {
                Op::Alu { f, d, a, b, c, imm } => {
                    let operands = alu::Operands { d: *d, a: *a, b: *b, c: *c, imm: *imm };
                    let unit = m.unit;
                    unit.run(*f, &mut m.warps[w].registers, operands, active);
                    Ok(Flow::Next)
                }
                Op::Setp { ty, cmp, combine, p, q, a, b, c } => {
                    let warp = &mut m.warps[w];
                    let truth = compare::run(m.unit, *ty, *cmp, &warp.registers, *a, *b);
                    let c = warp.predicates[c.index as usize] ^ negation(*c);
                    let p_value = combined(*combine, truth, c);
                    let q_value = combined(*combine, !truth, c);
                    set_predicate(&mut warp.predicates, *p, p_value, active);
                    set_predicate(&mut warp.predicates, *q, q_value, active);
                    Ok(Flow::Next)
                }
                Op::Selp { wide, d, a, b, p } => {
                    let choice = predicate(m, w, *p);
                    let g = &mut m.warps[w].registers;
                    if *wide {
                        let (a, b) = (*g.wide(*a), *g.wide(*b));
                        g.store_wide(*d, &b, active);
                        g.store_wide(*d, &a, active & choice);
                    } else {
                        let (a, b) = (*g.row(*a), *g.row(*b));
                        g.store(*d, &b, active);
                        g.store(*d, &a, active & choice);
                    }
                    Ok(Flow::Next)
                }
                Op::Branch { target } => {
                    if active == mask {
                        if *target <= pc && m.warps[w].splits.len() > 1 {
                            m.warps[w].spins += 1;
                        }
                        Ok(Flow::Jump(*target))
                    } else if active == 0 {
                        Ok(Flow::Next)
                    } else {
                        diverge(m, w, &[(mask & !active, pc + 1), (active, *target)]);
                        Ok(Flow::Reselect)
                    }
                }
                Op::Predicate { op, d, a, b } => {
                    let value = combined(*op, predicate(m, w, *a), predicate(m, w, *b));
                    set_predicate(&mut m.warps[w].predicates, *d, value, active);
                    Ok(Flow::Next)
                }
                Op::Exit => {
                    let warp = &mut m.warps[w];
                    warp.exited |= active;
                    mask &= !active;
                    if mask == 0 {
                        warp.splits.remove(current);
                        warp.current = usize::MAX;
                        after_exit(m, w);
                        Ok(Flow::Reselect)
                    } else if active == 0 {
                        Ok(Flow::Next)
                    } else {
                        m.warps[w].splits[current].mask = mask;
                        after_exit(m, w);
                        Ok(Flow::Next)
                    }
                }
                _ if active == 0 => Ok(Flow::Next),
                op => {
                    m.warps[w].splits[current].pc = pc;
                    let at = At { warp: w, block, pc, mask: active, together: mask };
                    execute(m, &at, op)
                }
            };
            match flow {
                Ok(Flow::Next) => pc += 1,
                Ok(Flow::Jump(target)) => {
                    pc = target;
                    // Others may wait between there and here: `stop` holds for lanes that only go forward.
                    if stop != u32::MAX || m.warps[w].splits.len() > 1 {
                        m.warps[w].splits[current].pc = pc;
                        break Ok(());
                    }
                }
                Ok(Flow::Reselect) => break Ok(()),
                Ok(Flow::Yield) => {
                    left = 0;
                    pc += 1;
                }
                Err(fault) => break Err((pc, fault)),
            }
            if pc >= stop || left == 0 || m.warps[w].spins > SPINS {
                m.warps[w].splits[current].pc = pc;
                break Ok(());
            }
        };
        if let Err((pc, fault)) = outcome {
            break Err(m.finding(w, pc, fault));
        }
        if left == 0 {
            break Ok(());
        }
    };
    m.stats.warp_instructions += instructions;
    m.stats.lane_instructions += lane_instructions;
    m.warps[w].cycles += instructions;
    m.budget -= (started - left).min(m.budget);
    if m.budget == 0 && result.is_ok() {
        let pc = m.warps[w].splits.get(m.warps[w].current).map_or(0, |s| s.pc);
        return Err(m.finding(w, pc, Fault::new(Kind::Timeout, "the block exceeded its instruction budget")));
    }
    result
}

#[inline(always)]
fn negation(p: PredSrc) -> u32 {
    u32::from(p.negated).wrapping_neg()
}

/// The lanes where a predicate is true.
#[inline(always)]
pub fn predicate(m: &Machine, w: usize, p: PredSrc) -> u32 {
    m.warps[w].predicates[p.index as usize] ^ negation(p)
}

#[inline(always)]
pub fn set_predicate(predicates: &mut [u32], p: u16, value: u32, mask: u32) {
    let old = &mut predicates[p as usize];
    *old = *old & !mask | value & mask;
}

#[inline(always)]
fn combined(op: BoolOp, a: u32, b: u32) -> u32 {
    match op {
        BoolOp::And => a & b,
        BoolOp::Or => a | b,
        BoolOp::Xor => a ^ b,
    }
}

/// Lanes of the running split go different ways.
pub fn diverge(m: &mut Machine, w: usize, parts: &[(u32, u32)]) {
    let known = m.order.clock(w as Agent);
    let warp = &mut m.warps[w];
    let current = warp.current;
    warp.splits.remove(current);
    for &(mask, pc) in parts {
        if mask != 0 {
            warp.splits.push(Split { mask, pc, wait: Wait::Ready, known });
        }
    }
    warp.current = usize::MAX;
}

/// Chooses the lanes that run: those furthest back, so that lanes meet again. Returns the place where they may meet
/// others, or `None` if all wait.
fn select(m: &mut Machine, w: usize) -> Option<u32> {
    let warp = &mut m.warps[w];
    // The common case: all lanes together.
    if let [only] = &warp.splits[..] {
        if only.wait != Wait::Ready {
            return None;
        }
        if warp.current != 0 {
            strand(m, w, 0);
        }
        return Some(u32::MAX);
    }
    // What the lanes that ran last did is behind them.
    let clock = m.order.clock(w as Agent);
    if let Some(last) = warp.splits.get_mut(warp.current) {
        last.known = last.known.max(clock);
    }
    let ready = |s: &Split| s.wait == Wait::Ready;
    let mut chosen = (0..warp.splits.len()).filter(|i| ready(&warp.splits[*i])).min_by_key(|i| warp.splits[*i].pc)?;
    if warp.spins > SPINS {
        warp.spins = 0;
        let others: Vec<_> = (0..warp.splits.len()).filter(|i| ready(&warp.splits[*i])).collect();
        chosen = others[m.random.below(others.len())];
    }
    let warp = &mut m.warps[w];
    // Everybody at the same place joins, also those who wait there for others.
    let pc = warp.splits[chosen].pc;
    let meets = |s: &Split| s.pc == pc && matches!(s.wait, Wait::Ready | Wait::Aligned | Wait::Members(_));
    let mask = warp.splits.iter().filter(|s| meets(s)).fold(0, |mask, s| mask | s.mask);
    let merged = mask != warp.splits[chosen].mask;
    if merged {
        warp.splits.retain(|s| !meets(s));
        warp.splits.push(Split { mask, pc, wait: Wait::Ready, known: clock });
        chosen = warp.splits.len() - 1;
    }
    if merged || warp.current != chosen {
        strand(m, w, chosen);
    }
    let warp = &m.warps[w];
    let stop = warp
        .splits
        .iter()
        .filter(|s| s.pc > pc && matches!(s.wait, Wait::Ready | Wait::Aligned | Wait::Members(_)))
        .map(|s| s.pc)
        .min();
    Some(stop.unwrap_or(u32::MAX))
}

/// Other lanes run from now on.
fn strand(m: &mut Machine, w: usize, chosen: usize) {
    let warp = &mut m.warps[w];
    warp.current = chosen;
    let known = warp.splits[chosen].known;
    m.order.strand(w as Agent, known);
}

/// Lanes have exited: barriers expect fewer, and aligned instructions may now have all lanes.
fn after_exit(m: &mut Machine, w: usize) {
    m.order.set_live(w as Agent, m.warps[w].live());
    for split in &mut m.warps[w].splits {
        if matches!(split.wait, Wait::Aligned | Wait::Members(_)) {
            split.wait = Wait::Ready;
        }
    }
    barrier::after_exit(m, w);
    units::after_exit(m, w);
}

/// True if all lanes of the warp are at this instruction; otherwise they must meet first.
pub fn all_lanes(m: &Machine, at: &At) -> bool {
    at.mask == m.warps[at.warp].live()
}

/// For `.aligned` instructions: waits for the other lanes of the warp.
pub fn wait_aligned(m: &mut Machine, at: &At) -> Flow {
    if at.mask != at.together {
        // The guard tells lanes apart: those without the instruction go on.
        diverge(m, at.warp, &[(at.mask, at.pc), (at.together & !at.mask, at.pc + 1)]);
        let split = m.warps[at.warp].splits.iter_mut().find(|s| s.mask == at.mask && s.pc == at.pc);
        if let Some(split) = split {
            split.wait = Wait::Aligned;
        }
        return Flow::Reselect;
    }
    m.block(at, Wait::Aligned)
}

/// Everything that is not in the loop itself.
fn execute(m: &mut Machine, at: &At, op: &Op) -> Result<Flow, Fault> {
    match op {
        Op::Load(access) => access::load(m, at, access),
        Op::Store(access) => access::store(m, at, access),
        Op::Atomic(a) => atomic::run(m, at, a),
        Op::Carry { .. } | Op::Pack { .. } | Op::Unpack { .. } | Op::Clock { .. } => {
            special::run(m, at, op);
            Ok(Flow::Next)
        }
        Op::IsSpace { .. } | Op::MapA { .. } | Op::CtaRank { .. } => special::address(m, at, op),
        Op::Switch { index, targets } => {
            let index = *m.warps[at.warp].registers.row(*index);
            let mut parts: Vec<(u32, u32)> = Vec::new();
            for l in lanes(at.mask) {
                let Some(&target) = targets.get(index[l] as usize) else {
                    return Err(Fault::lane(Kind::InvalidOperand, l, format!("brx.idx index {}", index[l])));
                };
                match parts.iter_mut().find(|part| part.1 == target) {
                    Some(part) => part.0 |= 1 << l,
                    None => parts.push((1 << l, target)),
                }
            }
            if let ([(_, target)], true) = (&parts[..], at.mask == at.together) {
                return Ok(Flow::Jump(*target));
            }
            parts.push((at.together & !at.mask, at.pc + 1));
            diverge(m, at.warp, &parts);
            Ok(Flow::Reselect)
        }
        Op::Trap => Err(Fault::new(Kind::Trap, "the kernel executed trap")),
        Op::Shuffle(_)
        | Op::Vote { .. }
        | Op::Match { .. }
        | Op::Redux { .. }
        | Op::ActiveMask { .. }
        | Op::Elect { .. }
        | Op::WarpBarrier { .. } => collective::run(m, at, op),
        Op::Barrier(b) => barrier::run(m, at, b),
        Op::LdMatrix(access) => matrix::load(m, at, access),
        Op::StMatrix(access) => matrix::store(m, at, access),
        Op::MovMatrix { d, a } => matrix::transpose(m, at, *d, *a),
        Op::Mma(mma) => matrix::mma(m, at, mma),
        Op::Intrinsic(i) => intrinsic::run(m, at, i),
        Op::Nop | Op::Prefetch => Ok(Flow::Next),
        Op::Nanosleep => Ok(Flow::Yield),
        Op::Fence(_)
        | Op::ClusterArrive { .. }
        | Op::ClusterWait { .. }
        | Op::CpAsync(_)
        | Op::CpAsyncCommit
        | Op::CpAsyncWait { .. }
        | Op::CpAsyncArrive { .. }
        | Op::Mbarrier(_)
        | Op::BulkCopy(_)
        | Op::RemoteStore(_)
        | Op::TensorCopy(_)
        | Op::BulkCommit
        | Op::BulkWait { .. }
        | Op::SetMaxNreg { .. }
        | Op::WgmmaFence
        | Op::WgmmaCommit
        | Op::WgmmaWait { .. }
        | Op::Wgmma(_) => units::execute(m, at, op),
        Op::Alu { .. } | Op::Setp { .. } | Op::Selp { .. } | Op::Branch { .. } | Op::Predicate { .. } | Op::Exit => {
            unreachable!("executed by the loop")
        }
    }
}
