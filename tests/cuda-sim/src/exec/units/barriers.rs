//! The mbarrier instructions.

use super::mbarrier::{Arrival, pending_count};
use super::*;
use crate::check::Kind;
use crate::exec::access::addresses;
use crate::exec::run::set_predicate;
use crate::exec::shared::place;
use crate::ptx::SHARED_WINDOW;
use crate::ptx::instruction::{Addr, Mbarrier, MbarrierOp, Space};

/// Block and address of every active lane's mbarrier.
pub(super) fn targets(m: &Machine, at: &At, addr: &Addr) -> Result<[(usize, u32); 32], Fault> {
    let mut addresses = addresses(m, at.warp, addr);
    let mut out = [(0, 0); 32];
    for l in lanes(at.mask) {
        if addr.space == Space::Generic {
            if addresses[l] >> 32 != SHARED_WINDOW {
                let text = format!("mbarrier at {:#x}, which is not in shared memory", addresses[l]);
                return Err(Fault::lane(Kind::InvalidOperand, l, text));
            }
            addresses[l] &= 0xffff_ffff;
        }
        let (block, offset) = place(m, at, l, addresses[l], 8)?;
        out[l] = (block, offset as u32);
    }
    Ok(out)
}

pub(super) fn execute(m: &mut Machine, at: &At, mbarrier: &Mbarrier) -> Result<Flow, Fault> {
    if let MbarrierOp::PendingCount { d, state } = &mbarrier.op {
        let tokens = *m.warps[at.warp].registers.wide(*state);
        let counts = tokens.map(pending_count);
        m.warps[at.warp].registers.store(*d, &counts, at.mask);
        return Ok(Flow::Next);
    }
    let targets = targets(m, at, &mbarrier.addr)?;
    if let MbarrierOp::Wait { .. } = mbarrier.op {
        return wait(m, at, &mbarrier.op, &targets);
    }
    let mut tokens = [0u64; 32];
    for l in lanes(at.mask) {
        let by = Operator { lanes: 1 << l, ..operator(at) };
        let (block, offset) = targets[l];
        let value = |m: &Machine, r: u32| m.warps[at.warp].registers.row(r)[l];
        let operands = match &mbarrier.op {
            MbarrierOp::Init { count } => [value(m, *count), 0],
            MbarrierOp::Arrive { count, expect_tx, .. } => [value(m, *count), expect_tx.map_or(0, |r| value(m, r))],
            MbarrierOp::ExpectTx { bytes } | MbarrierOp::CompleteTx { bytes } => [value(m, *bytes), 0],
            _ => [0; 2],
        };
        let (_, s) = surroundings(m);
        let Surroundings { order, mut shared, mbarriers, .. } = s;
        let (object, shared) = (&mut mbarriers[block], &mut shared[block]);
        let done = match &mbarrier.op {
            MbarrierOp::Init { .. } => object.init(by, order, shared, offset, operands[0]),
            MbarrierOp::Inval => object.invalidate(by, order, shared, offset),
            MbarrierOp::Arrive { expect_tx, drop, no_complete, .. } => {
                let announced = expect_tx.map(|_| operands[1]);
                let kind = Arrival { drop: *drop, no_complete: *no_complete };
                let token = object.arrive(by, order, shared, offset, operands[0], announced, kind);
                token.map(|token| tokens[l] = token)
            }
            MbarrierOp::ExpectTx { .. } => object.expect(by, order, shared, offset, operands[0]),
            MbarrierOp::CompleteTx { .. } => object.complete(by, order, shared, offset, operands[0]),
            MbarrierOp::Wait { .. } | MbarrierOp::PendingCount { .. } => unreachable!("handled above"),
        };
        done.map_err(|violation| fault(m, Some(l), violation))?;
    }
    if let MbarrierOp::Arrive { state: Some(state), .. } = &mbarrier.op {
        m.warps[at.warp].registers.store_wide(*state, &tokens, at.mask);
    }
    moved(m);
    Ok(Flow::Next)
}

/// `test_wait` answers at once. `try_wait` may suspend the lanes until something moves, or answer at once as well;
/// programs must live with both, so it is left to chance.
fn wait(m: &mut Machine, at: &At, op: &MbarrierOp, targets: &[(usize, u32); 32]) -> Result<Flow, Fault> {
    let MbarrierOp::Wait { p, phase, parity, suspend } = *op else { unreachable!("called for waits") };
    let (mut complete, mut missing, mut rest) = (0u32, None, at.mask);
    while rest != 0 {
        let l = rest.trailing_zeros() as usize;
        let (block, offset) = targets[l];
        if block != at.block {
            return Err(Fault::lane(Kind::Cluster, l, "waits for another block's mbarrier"));
        }
        let registers = &m.warps[at.warp].registers;
        let token = |l: usize| if parity { u64::from(registers.row(phase)[l]) } else { registers.wide(phase)[l] };
        // Lanes mostly wait for the same.
        let alike = |other: &usize| targets[*other] == targets[l] && token(*other) == token(l);
        let group = lanes(rest).filter(alike).fold(0u32, |group, l| group | 1 << l);
        rest &= !group;
        let (by, token) = (Operator { lanes: group, ..operator(at) }, token(l));
        let range = shared_range(m);
        let Machine { blocks, units, order, .. } = m;
        let own = &mut blocks[block];
        let mut shared = SharedMemory { bytes: &mut own.shared, shadow: &mut own.shadow, range, exited: false };
        let object = &mut units.mbarriers[block];
        let done = match parity {
            true => object.wait_parity(by, order, &mut shared, offset, token as u32),
            false => object.wait_token(by, order, &mut shared, offset, token),
        };
        match done.map_err(|violation| fault(m, Some(l), violation))? {
            true => complete |= group,
            false => missing = Some((block as u32) << 24 | offset),
        }
    }
    let timed_out = std::mem::take(&mut m.units.timed_out[at.warp]);
    if let Some(key) = missing {
        if suspend && !timed_out && m.random.next() & 3 != 0 {
            return Ok(m.block(at, Wait::Unit(key)));
        }
        m.polls += 1;
    }
    set_predicate(&mut m.warps[at.warp].predicates, p, complete, at.mask);
    Ok(if missing.is_some() { Flow::Yield } else { Flow::Next })
}
