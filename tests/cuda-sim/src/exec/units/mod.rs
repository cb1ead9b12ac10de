//! Asynchronous units: `cp.async` groups, mbarriers, bulk and tensor copies, wgmma, cluster barriers, proxy fences.
//!
//! [`mbarrier`], [`flights`], [`wgmma`], [`cluster`] and [`registers`] are the units; [`barriers`], [`copies`] and
//! [`warpgroups`] execute the instructions that drive them.

mod barriers;
mod cluster;
mod copies;
mod flights;
mod global;
mod mbarrier;
mod registers;
mod violation;
mod warpgroups;
mod wgmma;

use super::machine::{At, Fault, Flow, Machine};
use super::registers::lanes;
use super::warp::Wait;
use crate::check::order::Agent;
use crate::ptx::SHARED_START;
use crate::ptx::instruction::{Fence, Op};
use cluster::ClusterBarrier;
use flights::{Flights, GroupKind, Surroundings};
use mbarrier::{Mbarriers, Operator};
use registers::RegisterPool;
use violation::{SharedMemory, Violation};
use wgmma::Warpgroup;

/// State of the cluster's asynchronous units.
pub struct Units {
    /// By block.
    mbarriers: Vec<Mbarriers>,
    flights: Flights,
    /// By block and then by four warps; made when the first wgmma or fence of the warpgroup is executed.
    warpgroups: Vec<Vec<Option<Box<Warpgroup>>>>,
    cluster: ClusterBarrier,
    /// By block, from its first `setmaxnreg` on.
    pools: Vec<Option<RegisterPool>>,
    /// Found when lanes exited; reported at the next occasion.
    late: Option<Late>,
    /// Of 2^this turns, one lands a copy.
    patience: u32,
    /// Warps whose `try_wait` has been suspended long enough.
    timed_out: Vec<bool>,
    /// Times that every suspended `try_wait` returned in vain since something moved.
    timeouts: u32,
}

/// Warp, instruction and mistake of an operation that went wrong after it was issued.
pub type Late = (usize, u32, Fault);

/// What a warp waits for: a block's mbarrier by its address, or one of these.
const CLUSTER_BARRIER: u32 = u32::MAX;
const WARPGROUP: u32 = u32::MAX - 1;
const REGISTER_POOL: u32 = u32::MAX - 2;

/// Rounds in which every suspended `try_wait` may return in vain before the cluster counts as stuck.
const TIMEOUTS: u32 = 64;

impl Units {
    pub fn new(blocks: usize, warps: usize, seed: u64) -> Self {
        let warpgroups = || (0..(warps / blocks).div_ceil(4)).map(|_| None).collect();
        Units {
            mbarriers: (0..blocks).map(|_| Mbarriers::default()).collect(),
            flights: Flights::new(warps),
            warpgroups: (0..blocks).map(|_| warpgroups()).collect(),
            cluster: ClusterBarrier::new(warps),
            pools: (0..blocks).map(|_| None).collect(),
            late: None,
            // Some seeds land copies soon, some only when somebody has to have them.
            patience: [1, 3, 7][(seed % 3) as usize],
            timed_out: vec![false; warps],
            timeouts: 0,
        }
    }
}

/// What a unit found, as a mistake of the instruction executing or of the one it blames.
#[allow(clippy::boxed_local)] // violations come boxed
fn fault(m: &Machine, lane: Option<usize>, violation: Box<Violation>) -> Fault {
    let Violation { kind, mut text, other_pc, pc } = *violation;
    if let Some(other) = other_pc {
        text.push_str(&format!(" (the other at {})", m.place_name(other)));
    }
    Fault { kind, lane, text, pc }
}

/// Addresses of shared memory that belong to the program.
fn shared_range(m: &Machine) -> std::ops::Range<u32> {
    let end = SHARED_START + m.launch.kernel.static_shared + m.launch.dynamic_shared as usize;
    SHARED_START as u32..end as u32
}

/// The units and what they work on, side by side.
fn surroundings<'s, 'a>(m: &'s mut Machine<'a>) -> (&'s mut Flights, Surroundings<'s, 'a>) {
    let range = shared_range(m);
    let Machine { blocks, warps, units, order, memory, .. } = m;
    let shared = blocks.iter_mut().map(|block| SharedMemory {
        exited: block.warps.clone().all(|w| warps[w].ended()),
        bytes: &mut block.shared,
        shadow: &mut block.shadow,
        range: range.clone(),
    });
    (&mut units.flights, Surroundings { order, shared: shared.collect(), mbarriers: &mut units.mbarriers, memory })
}

fn operator(at: &At) -> Operator {
    Operator { warp: at.warp as Agent, lanes: at.mask, pc: at.pc }
}

pub fn execute(m: &mut Machine, at: &At, op: &Op) -> Result<Flow, Fault> {
    match op {
        Op::Fence(fence) => {
            let warp = at.warp as Agent;
            if matches!(fence, Fence::ProxyAsync) {
                m.order.fence(warp);
            }
            if matches!(fence, Fence::Memory) {
                // Other clusters run on other threads of the host.
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            }
            if matches!(fence, Fence::ProxyAsync | Fence::MbarrierInit) {
                m.units.mbarriers.iter_mut().for_each(|block| block.fence(warp, &m.order));
            }
            Ok(Flow::Next)
        }
        Op::ClusterArrive { release, aligned } => cluster::arrive(m, at, *release, *aligned),
        Op::ClusterWait { aligned } => cluster::wait(m, at, *aligned),
        Op::Mbarrier(mbarrier) => barriers::execute(m, at, mbarrier),
        Op::CpAsync(copy) => copies::cp_async(m, at, copy),
        Op::CpAsyncArrive { addr, noinc } => copies::arrive(m, at, addr, *noinc),
        Op::CpAsyncCommit => copies::commit(m, at, GroupKind::Copy),
        Op::BulkCommit => copies::commit(m, at, GroupKind::Bulk),
        Op::CpAsyncWait { keep } => copies::wait(m, at, GroupKind::Copy, *keep, false),
        Op::BulkWait { keep, read } => copies::wait(m, at, GroupKind::Bulk, Some(*keep), *read),
        Op::BulkCopy(copy) => copies::bulk(m, at, copy),
        Op::RemoteStore(store) => copies::remote(m, at, store),
        Op::TensorCopy(copy) => copies::tensor(m, at, copy),
        Op::SetMaxNreg { registers, increase } => registers::set(m, at, *registers, *increase),
        Op::WgmmaFence => warpgroups::fence(m, at),
        Op::WgmmaCommit => warpgroups::commit(m, at),
        Op::WgmmaWait { keep } => warpgroups::wait(m, at, *keep),
        Op::Wgmma(wgmma) => warpgroups::issue(m, at, wgmma),
        _ => unreachable!("no instruction of the units"),
    }
}

pub use warpgroups::touch;

/// Between turns: lands copies that are in flight, one at random now and then, or with `force` because nothing else
/// can move. True if something moved.
///
/// # Errors
/// What a copy finds when it lands, or what lanes left behind when they exited.
pub fn land(m: &mut Machine, force: bool) -> Result<bool, Late> {
    if let Some(late) = m.units.late.take() {
        return Err(late);
    }
    let n = m.units.flights.in_flight();
    if n == 0 {
        return Ok(force && time_out(m));
    }
    if !force && m.random.next() & ((1 << m.units.patience) - 1) != 0 {
        return Ok(false);
    }
    let index = m.random.below(n);
    land_one(m, index)?;
    Ok(true)
}

fn land_one(m: &mut Machine, index: usize) -> Result<(), Late> {
    let (flights, mut s) = surroundings(m);
    let landed = flights.land(&mut s, index);
    landed.map_err(|(warp, violation)| {
        let pc = violation.pc.unwrap_or(0);
        (warp as usize, pc, fault(m, None, violation))
    })?;
    moved(m);
    Ok(())
}

/// Something moved: whoever waits for a unit looks again.
fn moved(m: &mut Machine) {
    m.units.timeouts = 0;
    m.polls = 0;
    for warp in &mut m.warps {
        for split in &mut warp.splits {
            if matches!(split.wait, Wait::Unit(_)) {
                split.wait = Wait::Ready;
            }
        }
    }
}

/// Lets every suspended `try_wait` return false. True unless that was tried in vain too often.
fn time_out(m: &mut Machine) -> bool {
    if m.units.timeouts == TIMEOUTS {
        return false;
    }
    m.units.timeouts += 1;
    let mut any = false;
    for (w, warp) in m.warps.iter_mut().enumerate() {
        for split in &mut warp.splits {
            if matches!(split.wait, Wait::Unit(key) if key < REGISTER_POOL) {
                split.wait = Wait::Ready;
                m.units.timed_out[w] = true;
                any = true;
            }
        }
    }
    any
}

/// All warps have ended: stores land, and no mbarrier may be left with bytes announced and not arrived.
///
/// # Errors
/// What is left behind.
pub fn finish(m: &mut Machine) -> Result<(), Late> {
    if let Some(late) = m.units.late.take() {
        return Err(late);
    }
    while m.units.flights.in_flight() > 0 {
        let index = m.random.below(m.units.flights.in_flight());
        land_one(m, index)?;
    }
    match m.units.mbarriers.iter().enumerate().find_map(|(block, all)| Some((block, all.stuck()?))) {
        Some((block, violation)) => {
            let warp = m.blocks[block].warps.start;
            let pc = violation.pc.unwrap_or(0);
            Err((warp, pc, fault(m, None, violation)))
        }
        None => Ok(()),
    }
}

/// Lanes of a warp have exited.
pub fn after_exit(m: &mut Machine, warp: usize) {
    cluster::recheck(m);
    if !m.warps[warp].ended() {
        return;
    }
    let block = m.warps[warp].block;
    let group = m.units.warpgroups[block].get(m.warps[warp].in_block as usize / 4).and_then(Option::as_deref);
    let mut found = group.and_then(|group| group.exit(m.warps[warp].in_block as usize % 4).err());
    found = found.or_else(|| m.units.flights.warp_exits(warp as Agent).err());
    if found.is_none() && m.blocks[block].warps.clone().all(|w| m.warps[w].ended()) {
        found = m.units.flights.block_exits(block).err();
    }
    if let Some(violation) = found {
        let pc = violation.pc.unwrap_or(m.code.instructions.len() as u32 - 1);
        m.units.late = Some((warp, pc, fault(m, None, violation)));
    }
}

/// What a warp waits for, in a report.
pub fn describe(m: &Machine, warp: usize, key: u32) -> String {
    let block = m.warps[warp].block;
    match key {
        CLUSTER_BARRIER => m.units.cluster.describe(),
        REGISTER_POOL => registers::describe(m, block),
        WARPGROUP => m.units.warpgroups[block][m.warps[warp].in_block as usize / 4]
            .as_deref()
            .map_or_else(|| "for its warpgroup".into(), Warpgroup::describe),
        _ => {
            let (block, at) = ((key >> 24) as usize, key & 0xff_ffff);
            let what = m.units.mbarriers[block].describe(at);
            if m.blocks.len() > 1 { format!("for block {block}'s {what}") } else { format!("for {what}") }
        }
    }
}

/// Nothing can move any more because of bytes that were announced or sent wrongly.
pub fn stuck(m: &Machine) -> Option<Fault> {
    let violation = m.units.mbarriers.iter().find_map(Mbarriers::stuck)?;
    Some(fault(m, None, violation))
}
