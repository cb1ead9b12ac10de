//! `barrier.cluster`: all threads of a cluster's blocks arrive, then wait.

use super::*;
use crate::check::Kind;
use crate::check::order::Carried;
use crate::exec::run::{all_lanes, wait_aligned};

/// The cluster's one barrier.
pub(super) struct ClusterBarrier {
    /// Lanes of each warp that arrived in the current phase.
    arrived: Vec<u32>,
    /// Lanes of each warp that arrived and have not waited since, and in which phase each arrived.
    owes_wait: Vec<u32>,
    phase_of: Vec<[u32; 32]>,
    phase: u32,
    arriving: Carried,
    completed: Carried,
}

impl ClusterBarrier {
    pub fn new(warps: usize) -> ClusterBarrier {
        ClusterBarrier {
            arrived: vec![0; warps],
            owes_wait: vec![0; warps],
            phase_of: vec![[0; 32]; warps],
            phase: 0,
            arriving: Carried::default(),
            completed: Carried::default(),
        }
    }

    pub fn describe(&self) -> String {
        let lanes: u32 = self.arrived.iter().map(|mask| mask.count_ones()).sum();
        format!("at the cluster barrier, where {lanes} threads have arrived")
    }
}

pub(super) fn arrive(m: &mut Machine, at: &At, release: bool, aligned: bool) -> Result<Flow, Fault> {
    if aligned && !all_lanes(m, at) {
        return Ok(wait_aligned(m, at));
    }
    let barrier = &mut m.units.cluster;
    let twice = barrier.owes_wait[at.warp] & at.mask;
    if twice != 0 {
        let text = "barrier.cluster.arrive again before barrier.cluster.wait";
        return Err(Fault::lane(Kind::BarrierMismatch, twice.trailing_zeros() as usize, text));
    }
    barrier.arrived[at.warp] |= at.mask;
    barrier.owes_wait[at.warp] |= at.mask;
    for l in lanes(at.mask) {
        barrier.phase_of[at.warp][l] = barrier.phase;
    }
    if release {
        m.order.release(at.warp as Agent, at.mask, &mut barrier.arriving);
    }
    recheck(m);
    Ok(Flow::Next)
}

pub(super) fn wait(m: &mut Machine, at: &At, aligned: bool) -> Result<Flow, Fault> {
    if aligned && !all_lanes(m, at) {
        return Ok(wait_aligned(m, at));
    }
    let barrier = &mut m.units.cluster;
    let missing = at.mask & !barrier.owes_wait[at.warp];
    if missing != 0 {
        let text = "barrier.cluster.wait without barrier.cluster.arrive before it";
        return Err(Fault::lane(Kind::BarrierMismatch, missing.trailing_zeros() as usize, text));
    }
    if lanes(at.mask).any(|l| barrier.phase_of[at.warp][l] == barrier.phase) {
        return Ok(m.block(at, Wait::Unit(CLUSTER_BARRIER)));
    }
    barrier.owes_wait[at.warp] &= !at.mask;
    m.order.acquire(at.warp as Agent, at.mask, &barrier.completed);
    Ok(Flow::Next)
}

/// Completes the phase if every thread that has not exited has arrived.
pub(super) fn recheck(m: &mut Machine) {
    let barrier = &mut m.units.cluster;
    let arrived = |(warp, mask): (&crate::exec::warp::Warp, &u32)| warp.live() & !mask == 0;
    if barrier.arrived.iter().all(|mask| *mask == 0) || !m.warps.iter().zip(&barrier.arrived).all(arrived) {
        return;
    }
    barrier.phase = barrier.phase.wrapping_add(1);
    barrier.arrived.fill(0);
    barrier.completed.join(&barrier.arriving);
    barrier.arriving.clear();
    moved(m);
}
