//! Asynchronous units: cp.async groups, mbarriers, bulk and tensor copies, wgmma, cluster barriers, proxy fences.

use super::machine::{At, Fault, Flow, Machine};
use crate::check::Kind;
use crate::ptx::instruction::{Fence, Op};

/// State of the cluster's asynchronous units.
#[derive(Default)]
pub struct Units {}

/// Warp, instruction and mistake of an operation that went wrong after it was issued.
pub type Late = (usize, u32, Fault);

impl Units {
    pub fn new(_blocks: usize, _warps: usize) -> Self {
        Self::default()
    }
}

pub fn execute(m: &mut Machine, at: &At, op: &Op) -> Result<Flow, Fault> {
    match op {
        Op::Fence(Fence::Memory | Fence::ProxyOther) => Ok(Flow::Next),
        Op::Fence(Fence::ProxyAsync) => {
            m.order.fence(at.warp as u16);
            Ok(Flow::Next)
        }
        _ => Err(Fault::new(Kind::Unsupported, format!("{op:?}"))),
    }
}

/// Between turns: lands copies that are in flight, one at random now and then, or with `force` because nothing else
/// can move. True if something landed.
pub fn land(_m: &mut Machine, _force: bool) -> Result<bool, Late> {
    Ok(false)
}

/// All warps have ended: nothing may be left in flight.
pub fn finish(_m: &mut Machine) -> Result<(), Late> {
    Ok(())
}

/// Lanes of a warp have exited.
pub fn after_exit(_m: &mut Machine, _warp: usize) {}

/// What a warp waits for, in a report.
pub fn describe(_m: &Machine, _warp: usize, key: u32) -> String {
    format!("for unit {key}")
}
