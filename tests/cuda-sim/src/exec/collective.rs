//! Instructions of a whole warp: shuffles, votes, matches, reductions, `bar.warp.sync`.

use super::machine::{At, Fault, Flow, Machine};
use super::registers::{Lanes, WideLanes, lanes};
use super::run::{self, diverge, set_predicate};
use super::warp::Wait;
use crate::check::Kind;
use crate::check::order::Agent;
use crate::ptx::instruction::{AtomicOp, Op, Reg, ShflMode, Shuffle, VoteMode};

pub fn run(m: &mut Machine, at: &At, op: &Op) -> Result<Flow, Fault> {
    let members = match op {
        Op::Shuffle(s) => s.members,
        Op::Vote { members, .. }
        | Op::Match { members, .. }
        | Op::Redux { members, .. }
        | Op::Elect { members, .. }
        | Op::WarpBarrier { members } => *members,
        Op::ActiveMask { d } => {
            m.warps[at.warp].registers.store(*d, &[at.mask; 32], at.mask);
            return Ok(Flow::Next);
        }
        _ => unreachable!("routed by `run::execute`"),
    };
    let groups = gather(m, at, members)?;
    let mut complete = 0;
    for group in groups.iter().filter(|g| g.complete) {
        execute(m, &At { mask: group.lanes, ..*at }, op);
        m.order.sync(at.warp as Agent, group.lanes);
        complete |= group.lanes;
    }
    if complete == at.mask {
        return Ok(Flow::Next);
    }
    let waiting = at.mask & !complete;
    if waiting == at.together {
        if let ([group], Op::WarpBarrier { .. }) = (&groups[..], op)
            && meet_elsewhere(m, at, group)
        {
            return Ok(Flow::Reselect);
        }
        return Ok(m.block(at, Wait::Members(groups[0].members)));
    }
    // Lanes whose group is complete, and those without the instruction, go on; the others wait here.
    diverge(m, at.warp, &[(waiting, at.pc), (at.together & !waiting, at.pc + 1)]);
    let members = groups.iter().find(|g| !g.complete).map_or(waiting, |g| g.members);
    if let Some(split) = m.warps[at.warp].splits.iter_mut().find(|s| s.mask == waiting) {
        split.wait = Wait::Members(members);
    }
    Ok(Flow::Reselect)
}

/// Lanes that name the same member mask.
struct Group {
    members: u32,
    lanes: u32,
    /// All members that have not exited are here.
    complete: bool,
}

/// The lanes at the instruction, by member mask.
fn gather(m: &Machine, at: &At, members: Reg) -> Result<Vec<Group>, Fault> {
    let warp = &m.warps[at.warp];
    let row = warp.registers.row(members);
    let mut groups = Vec::with_capacity(1);
    let mut rest = at.mask;
    while rest != 0 {
        let members = row[rest.trailing_zeros() as usize];
        let group = lanes(rest).filter(|l| row[*l] == members).fold(0, |out, l| out | 1 << l);
        if group & !members != 0 {
            let lane = (group & !members).trailing_zeros() as usize;
            let text = format!("lane {lane} executes with member mask {members:#010x}, which it is not in");
            return Err(Fault::lane(Kind::Divergence, lane, text));
        }
        rest &= !group;
        groups.push(Group { members, lanes: group, complete: group == members & warp.live() });
    }
    Ok(groups)
}

/// `bar.warp.sync` may be reached at different places: true if these lanes were the last.
fn meet_elsewhere(m: &mut Machine, at: &At, group: &Group) -> bool {
    let wait = Wait::Members(group.members);
    let clock = m.order.clock(at.warp as Agent);
    let warp = &mut m.warps[at.warp];
    let is_barrier = |pc: u32| matches!(m.code.instructions[pc as usize].op, Op::WarpBarrier { .. });
    let there = |s: &&mut super::warp::Split| s.wait == wait && is_barrier(s.pc);
    let lanes = warp.splits.iter_mut().filter(there).fold(group.lanes, |out, s| out | s.mask);
    if lanes != group.members & warp.live() {
        return false;
    }
    let current = warp.current;
    warp.splits[current].wait = wait;
    for split in warp.splits.iter_mut().filter(there) {
        split.wait = Wait::Ready;
        split.pc += 1;
        split.known = clock;
    }
    warp.current = usize::MAX;
    m.order.sync(at.warp as Agent, lanes);
    true
}

/// The instruction for one complete group.
fn execute(m: &mut Machine, at: &At, op: &Op) {
    match op {
        Op::Shuffle(s) => shuffle(m, at, s),
        Op::Vote { mode, d, p, src, .. } => {
            let truth = run::predicate(m, at.warp, *src) & at.mask;
            let all = truth == at.mask;
            let result = match mode {
                VoteMode::All => u32::from(all),
                VoteMode::Any => u32::from(truth != 0),
                VoteMode::Uni => u32::from(all || truth == 0),
                VoteMode::Ballot => truth,
            };
            let warp = &mut m.warps[at.warp];
            match mode {
                VoteMode::Ballot => warp.registers.store(*d, &[result; 32], at.mask),
                _ => set_predicate(&mut warp.predicates, *p, result.wrapping_neg(), at.mask),
            }
        }
        Op::Match { all, wide, d, p, a, .. } => {
            let registers = &m.warps[at.warp].registers;
            let values: WideLanes = if *wide { *registers.wide(*a) } else { registers.row(*a).map(u64::from) };
            let mut out: Lanes = [0; 32];
            for l in lanes(at.mask) {
                out[l] = lanes(at.mask).filter(|k| values[*k] == values[l]).fold(0, |mask, k| mask | 1 << k);
            }
            let warp = &mut m.warps[at.warp];
            if *all {
                let same = lanes(at.mask).all(|l| out[l] == at.mask);
                warp.registers.store(*d, &[if same { at.mask } else { 0 }; 32], at.mask);
                set_predicate(&mut warp.predicates, *p, u32::from(same).wrapping_neg(), at.mask);
            } else {
                warp.registers.store(*d, &out, at.mask);
            }
        }
        Op::Redux { op, signed, d, a, .. } => {
            let row = *m.warps[at.warp].registers.row(*a);
            let result = lanes(at.mask).map(|l| row[l]).reduce(|x, y| match (op, signed) {
                (AtomicOp::Add, _) => x.wrapping_add(y),
                (AtomicOp::Min, true) => (x as i32).min(y as i32) as u32,
                (AtomicOp::Min, false) => x.min(y),
                (AtomicOp::Max, true) => (x as i32).max(y as i32) as u32,
                (AtomicOp::Max, false) => x.max(y),
                (AtomicOp::And, _) => x & y,
                (AtomicOp::Or, _) => x | y,
                _ => x ^ y,
            });
            m.warps[at.warp].registers.store(*d, &[result.unwrap_or(0); 32], at.mask);
        }
        Op::Elect { d, p, .. } => {
            let leader = at.mask.trailing_zeros();
            let warp = &mut m.warps[at.warp];
            warp.registers.store(*d, &[leader; 32], at.mask);
            set_predicate(&mut warp.predicates, *p, 1 << leader, at.mask);
        }
        _ => {}
    }
}

/// Lanes that do not take part have no value to give: a pattern that shows.
const NOBODY: u32 = 0xffff_dead;

fn shuffle(m: &mut Machine, at: &At, s: &Shuffle) {
    let registers = &m.warps[at.warp].registers;
    let (values, by, clamp) = (*registers.row(s.a), *registers.row(s.lane), *registers.row(s.clamp));
    let mut out: Lanes = [0; 32];
    let mut valid = 0;
    for l in lanes(at.mask) {
        // Segments: lanes that agree in the bits of the segment mask.
        let (bound, segment) = (clamp[l] & 31, clamp[l] >> 8 & 31);
        let lane = l as u32;
        let highest = lane & segment | bound & !segment;
        let lowest = lane & segment;
        let step = by[l] & 31;
        let (from, inside) = match s.mode {
            ShflMode::Up => (lane.wrapping_sub(step), lane as i32 - step as i32 >= highest as i32),
            ShflMode::Down => (lane + step, lane + step <= highest),
            ShflMode::Bfly => (lane ^ step, (lane ^ step) <= highest),
            ShflMode::Idx => {
                let from = lowest | step & !segment;
                (from, from <= highest)
            }
        };
        let from = if inside { from } else { lane };
        out[l] = if at.mask >> from & 1 == 1 { values[from as usize] } else { NOBODY };
        valid |= u32::from(inside) << l;
    }
    let warp = &mut m.warps[at.warp];
    warp.registers.store(s.d, &out, at.mask);
    set_predicate(&mut warp.predicates, s.p, valid, at.mask);
}
