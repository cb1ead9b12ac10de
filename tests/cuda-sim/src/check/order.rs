//! What happens before what: vector clocks of a cluster's agents.
//!
//! An agent is a warp, or one asynchronous operation (a copy, a group of copies, a group of wgmma) between its issue and
//! the wait that makes it complete for somebody. A warp's clock moves on whenever it releases, so an access is named by
//! (agent, clock), and it happens before what a warp does now if that warp knows the agent's clock as far as that.
//!
//! Each warp keeps two rows: what happens before its accesses, and how much of that is behind a `fence.proxy.async`, so
//! that the asynchronous proxy sees it too. Both travel through barriers and mbarriers.

/// Index of an agent in its cluster: warps first, block by block, then asynchronous operations.
pub type Agent = u16;

/// Operations that may be in flight in a cluster; their agents are reused in turn.
const OPERATIONS: usize = 256;

/// One asynchronous operation. It touches memory as `agent` at `clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub agent: Agent,
    pub clock: u32,
}

/// What a barrier, an mbarrier's phase or any other means of synchronisation carries from those who arrive to those who
/// wait. Empty until somebody arrives.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    happens: Vec<u32>,
    fenced: Vec<u32>,
}

impl Carried {
    /// Forgets everything, for the next use of the barrier.
    pub fn clear(&mut self) {
        self.happens.clear();
        self.fenced.clear();
    }

    /// Adds what another carries.
    pub fn join(&mut self, other: &Carried) {
        join(&mut self.happens, &other.happens);
        join(&mut self.fenced, &other.fenced);
    }

    /// An operation completes here: who waits may touch what it touched.
    pub fn complete(&mut self, operation: Operation, order: &Order) {
        self.happens.resize(order.agents, 0);
        let known = &mut self.happens[operation.agent as usize];
        *known = operation.clock.max(*known);
    }
}

/// What several warps know alike.
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub(super) happens: Vec<u32>,
    pub(super) fenced: Vec<u32>,
}

/// The clocks of all agents of a cluster.
#[derive(Debug)]
pub struct Order {
    warps: usize,
    agents: usize,
    /// Row per warp, column per agent: the clock up to which the agent's accesses happen before the warp's next. The
    /// warp's own column covers its earlier strands.
    happens: Vec<u32>,
    fenced: Vec<u32>,
    /// Each agent's own clock.
    clock: Vec<u32>,
    next_operation: usize,
}

impl Order {
    /// `warps` of all blocks of the cluster.
    pub fn new(warps: usize) -> Order {
        let agents = warps + OPERATIONS;
        let rows = vec![0; warps * agents];
        Order { warps, agents, fenced: rows.clone(), happens: rows, clock: vec![1; agents], next_operation: 0 }
    }

    pub fn warps(&self) -> usize {
        self.warps
    }

    /// True if the agent is an asynchronous operation.
    pub fn is_operation(&self, agent: Agent) -> bool {
        agent as usize >= self.warps
    }

    /// The warp's own clock: its accesses carry this.
    #[inline(always)]
    pub fn clock(&self, warp: Agent) -> u32 {
        self.clock[warp as usize]
    }

    /// What happens before the warp's accesses, by agent.
    #[inline(always)]
    pub fn happens(&self, warp: Agent) -> &[u32] {
        &self.happens[warp as usize * self.agents..][..self.agents]
    }

    /// What of it the asynchronous proxy sees.
    #[inline(always)]
    pub fn fenced(&self, warp: Agent) -> &[u32] {
        &self.fenced[warp as usize * self.agents..][..self.agents]
    }

    /// Arrives: whoever [`Order::acquire`]s from `to` is ordered after all the warp has done.
    pub fn release(&mut self, warp: Agent, to: &mut Carried) {
        self.advance(warp);
        join(&mut to.happens, self.happens(warp));
        join(&mut to.fenced, self.fenced(warp));
    }

    /// Waits: the warp's next accesses are ordered after all that was released into `from`.
    pub fn acquire(&mut self, warp: Agent, from: &Carried) {
        let row = warp as usize * self.agents;
        raise(&mut self.happens[row..row + self.agents], &from.happens);
        raise(&mut self.fenced[row..row + self.agents], &from.fenced);
    }

    /// `fence.proxy.async`: what is ordered before this warp is visible to asynchronous operations ordered after it.
    pub fn fence(&mut self, warp: Agent) {
        self.advance(warp);
        let row = warp as usize * self.agents;
        raise(&mut self.fenced[row..row + self.agents], &self.happens[row..row + self.agents]);
    }

    /// The warp goes on with other lanes than before, which know the warp's own accesses up to `known` only (what its
    /// [`Order::clock`] was when they last ran with the others). Lanes that run together again know all of them.
    pub fn strand(&mut self, warp: Agent, known: u32) {
        let w = warp as usize;
        self.clock[w] += 1;
        self.happens[w * self.agents + w] = known;
    }

    /// Starts an operation.
    pub fn begin(&mut self) -> Operation {
        let agent = self.warps + self.next_operation;
        self.next_operation = (self.next_operation + 1) % OPERATIONS;
        self.clock[agent] += 1;
        Operation { agent: agent as Agent, clock: self.clock[agent] }
    }

    /// The warp itself has waited for the operation.
    pub fn wait(&mut self, warp: Agent, operation: Operation) {
        let known = &mut self.happens[warp as usize * self.agents + operation.agent as usize];
        *known = operation.clock.max(*known);
    }

    /// What `warps` warps from `first` on all know.
    pub fn common(&self, first: Agent, warps: Agent, common: &mut Common) {
        common.happens.clear();
        common.happens.extend_from_slice(self.happens(first));
        common.fenced.clear();
        common.fenced.extend_from_slice(self.fenced(first));
        for warp in first + 1..first + warps {
            common.happens.iter_mut().zip(self.happens(warp)).for_each(|(c, h)| *c = (*h).min(*c));
            common.fenced.iter_mut().zip(self.fenced(warp)).for_each(|(c, f)| *c = (*f).min(*c));
        }
    }

    /// All the warp did so far gets a clock that is known to it, and what follows the next one.
    fn advance(&mut self, warp: Agent) {
        let w = warp as usize;
        self.happens[w * self.agents + w] = self.clock[w];
        self.clock[w] += 1;
    }
}

/// Element-wise maximum, where an empty `to` knows nothing.
fn join(to: &mut Vec<u32>, from: &[u32]) {
    if to.len() < from.len() {
        to.resize(from.len(), 0);
    }
    raise(to, from);
}

/// Element-wise maximum, where an empty `from` says nothing.
fn raise(to: &mut [u32], from: &[u32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = (*from).max(*to));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_travels_through_what_is_carried() {
        let mut order = Order::new(3);
        let before = order.clock(0);
        let mut barrier = Carried::default();
        order.release(0, &mut barrier);
        assert!(order.happens(1)[0] < before);
        order.acquire(1, &barrier);
        assert_eq!(order.happens(1)[0], before);
        assert!(order.clock(0) > before, "what follows a release is not covered by it");
        let mut next = Carried::default();
        order.release(1, &mut next);
        order.acquire(2, &next);
        assert_eq!(order.happens(2)[0], before, "order is transitive");
    }

    #[test]
    fn fences_travel_too_and_cover_only_what_was_known() {
        let mut order = Order::new(2);
        let written = order.clock(0);
        order.fence(0);
        let after_fence = order.clock(0);
        let mut barrier = Carried::default();
        order.release(0, &mut barrier);
        order.acquire(1, &barrier);
        assert!(order.fenced(1)[0] >= written && order.fenced(1)[0] < after_fence);
        assert!(order.happens(1)[0] >= after_fence);
        order.fence(1);
        assert!(order.fenced(1)[0] >= after_fence, "a fence of the waiting side counts as well");
    }

    #[test]
    fn operations_complete_for_those_who_wait() {
        let mut order = Order::new(2);
        let copy = order.begin();
        assert!(order.is_operation(copy.agent) && !order.is_operation(1));
        let mut phase = Carried::default();
        phase.complete(copy, &order);
        order.acquire(1, &phase);
        assert!(order.happens(1)[copy.agent as usize] >= copy.clock);
        assert!(order.happens(0)[copy.agent as usize] < copy.clock);
        order.wait(0, copy);
        assert!(order.happens(0)[copy.agent as usize] >= copy.clock);
        let again = (0..OPERATIONS).map(|_| order.begin()).last().expect("one or more");
        assert_eq!(again.agent, copy.agent);
        assert!(order.happens(0)[again.agent as usize] < again.clock);
    }
}
