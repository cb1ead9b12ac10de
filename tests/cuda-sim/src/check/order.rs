//! What happens before what: vector clocks of a cluster's agents.
//!
//! An agent is a warp, or one asynchronous operation (a copy, a group of copies, a group of wgmma) between its issue
//! and the wait that makes it complete for somebody. A warp's clock moves on whenever it releases, so an access is
//! named by (agent, clock), and it happens before what a warp does now if that warp knows the agent's clock as far as
//! that.
//!
//! Each warp keeps three rows: what happens before its accesses, how much of that is behind a `fence.proxy.async`, so
//! that the asynchronous proxy sees it too, and how much of it holds for every lane of the other warp. All travel
//! through barriers and mbarriers.
//!
//! Lanes of a warp are ordered only by what synchronises them: `bar.warp.sync` and the other warp instructions with
//! `.sync`, barriers, mbarriers. An access is therefore known by its lanes too (see [`super::shadow`]).

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
    synced: Vec<Synced>,
}

impl Carried {
    /// Forgets everything, for the next use of the barrier.
    pub fn clear(&mut self) {
        self.happens.clear();
        self.fenced.clear();
        self.synced.clear();
    }

    /// Adds what another carries.
    pub fn join(&mut self, other: &Carried) {
        join(&mut self.happens, &other.happens);
        join(&mut self.fenced, &other.fenced);
        join(&mut self.synced, &other.synced);
    }

    /// An operation completes here: who waits may touch what it touched.
    pub fn complete(&mut self, operation: Operation, order: &Order) {
        let Operation { agent, clock } = operation;
        self.happens.resize(order.agents, 0);
        self.synced.resize(order.agents, Synced::default());
        self.happens[agent as usize].raise(clock);
        self.synced[agent as usize].raise(Synced::all(clock));
    }
}

/// How far an agent's accesses are ordered whichever of its lanes made them, and lanes whose accesses are ordered as
/// far as the agent's clock is known at all. A lane that arrives at an mbarrier speaks for itself only, until its warp
/// synchronises: clock (upper half) of the last warp-wide synchronisation before, and mask of the lanes that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced(u64);

impl Synced {
    fn all(clock: u32) -> Synced {
        Synced((clock as u64) << 32)
    }

    fn and_lanes(self, lanes: u32) -> Synced {
        Synced(self.0 | lanes as u64)
    }

    /// Every lane's accesses up to this clock.
    #[inline(always)]
    pub fn clock(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Lanes whose later accesses are ordered too.
    #[inline(always)]
    pub fn lanes(self) -> u32 {
        self.0 as u32
    }

    /// What both say.
    fn common(self, other: Synced) -> Synced {
        match self.clock().cmp(&other.clock()) {
            std::cmp::Ordering::Equal => Synced(self.0 & other.0),
            _ => Synced(self.0.min(other.0)),
        }
    }
}

/// What several warps know alike.
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub(super) happens: Vec<u32>,
    pub(super) fenced: Vec<u32>,
    pub(super) synced: Vec<Synced>,
}

/// Clock up to which each lane of a warp (first index) knows each other lane's accesses.
type LaneClocks = [[u32; 32]; 32];

/// What the lanes of one warp know of each other, which since Volta do not wait for each other by themselves.
#[derive(Clone, Debug)]
struct Lanes {
    /// Those that exist and have not exited.
    live: u32,
    /// Knowledge beyond the last synchronisation of the whole warp, once some lanes have synchronised alone.
    apart: Option<Box<LaneClocks>>,
    /// Operations that lanes waited for, each lane for its own copies, since the whole warp synchronised: operation,
    /// the warp's clock then, lanes.
    waited: Vec<(Operation, u32, u32)>,
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
    /// Alike, lane by lane. In the warp's own column: its last synchronisation as a whole.
    synced: Vec<Synced>,
    /// Each agent's own clock.
    clock: Vec<u32>,
    lanes: Vec<Lanes>,
    next_operation: usize,
}

impl Order {
    /// `warps` of all blocks of the cluster.
    pub fn new(warps: usize) -> Order {
        let agents = warps + OPERATIONS;
        let rows = vec![0; warps * agents];
        let synced = vec![Synced::default(); rows.len()];
        let lanes = vec![Lanes { live: u32::MAX, apart: None, waited: vec![] }; warps];
        let (fenced, clock) = (rows.clone(), vec![1; agents]);
        Order { warps, agents, fenced, happens: rows, synced, clock, lanes, next_operation: 0 }
    }

    /// The lanes of a warp that are left.
    pub fn set_live(&mut self, warp: Agent, lanes: u32) {
        self.lanes[warp as usize].live = lanes;
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

    /// How far that holds for all lanes of an agent.
    #[inline(always)]
    pub fn synced(&self, warp: Agent) -> &[Synced] {
        &self.synced[warp as usize * self.agents..][..self.agents]
    }

    /// The lanes `later` of a warp know what its lanes `earlier` did at `clock`.
    pub fn lanes_know(&self, warp: Agent, later: u32, earlier: u32, clock: u32) -> bool {
        let Some(known) = &self.lanes[warp as usize].apart else { return false };
        let bits = |mask: u32| (0..32).filter(move |lane| mask >> lane & 1 == 1);
        bits(later).all(|l| bits(earlier).all(|e| e == l || known[l][e] >= clock))
    }

    /// The operation was waited for by lanes of the warp, each of them for its own part, and the warp has not
    /// synchronised since.
    pub fn waited_apart(&self, warp: Agent, agent: Agent) -> bool {
        self.lanes[warp as usize].waited.iter().any(|(operation, ..)| operation.agent == agent)
    }

    /// `lanes` of the warp arrive: whoever [`Order::acquire`]s from `to` is ordered after all they have done, and after
    /// what the warp's other lanes did before they last synchronised with them.
    pub fn release(&mut self, warp: Agent, lanes: u32, to: &mut Carried) {
        let w = warp as usize;
        let clock = self.clock[w];
        self.advance(warp);
        join(&mut to.happens, self.happens(warp));
        join(&mut to.fenced, self.fenced(warp));
        join(&mut to.synced, self.synced(warp));
        let Lanes { live, apart, waited } = &self.lanes[w];
        let everybody = lanes & live == *live;
        to.synced[w].raise(match everybody {
            true => Synced::all(clock),
            false => {
                let together = apart.as_ref().map_or(0, |known| met(known, lanes, self.synced(warp)[w].clock()));
                self.synced(warp)[w].and_lanes(lanes | together)
            }
        });
        for (operation, _, by) in waited {
            let agent = operation.agent as usize;
            to.synced[agent].raise(match everybody {
                true => Synced::all(operation.clock),
                false => self.synced(warp)[agent].and_lanes(lanes & by),
            });
        }
    }

    /// `lanes` of the warp wait: its next accesses are ordered after all that was released into `from`.
    pub fn acquire(&mut self, warp: Agent, lanes: u32, from: &Carried) {
        let (w, row) = (warp as usize, warp as usize * self.agents);
        raise(&mut self.happens[row..row + self.agents], &from.happens);
        raise(&mut self.fenced[row..row + self.agents], &from.fenced);
        let own = self.synced[row + w];
        raise(&mut self.synced[row..row + self.agents], &from.synced);
        // What comes back of the warp itself orders its lanes.
        self.synced[row + w] = own;
        let Some(&back) = from.synced.get(w) else { return };
        let (clock, known) = (back.clock(), from.happens[w]);
        let live = self.lanes[w].live;
        if lanes & live == live && back.lanes() & live == live {
            self.settle(warp, known);
        } else if lanes & live == live && (back.lanes() == 0 || known <= clock) {
            self.settle(warp, clock);
        } else if known > own.clock() {
            let apart = self.lanes[w].apart.get_or_insert_with(Default::default);
            for lane in (0..32).filter(|lane| lanes >> lane & 1 == 1) {
                for (other, knows) in apart[lane].iter_mut().enumerate() {
                    knows.raise(if back.lanes() >> other & 1 == 1 { known } else { clock });
                }
            }
            if lanes & live == live {
                self.settle(warp, clock);
            }
        }
    }

    /// Lanes of a warp synchronise: each is ordered after all that the others did.
    #[inline]
    pub fn sync(&mut self, warp: Agent, lanes: u32) {
        let w = warp as usize;
        let clock = self.clock[w];
        self.advance(warp);
        if lanes & self.lanes[w].live == self.lanes[w].live {
            self.settle(warp, clock);
        } else {
            self.sync_some(warp, lanes, clock);
        }
    }

    #[cold]
    fn sync_some(&mut self, warp: Agent, lanes: u32, clock: u32) {
        let w = warp as usize;
        let known = self.lanes[w].apart.get_or_insert_with(Default::default);
        let bits = || (0..32).filter(move |lane| lanes >> lane & 1 == 1);
        let mut all = [0; 32];
        bits().for_each(|lane| raise(&mut all, &known[lane]));
        bits().for_each(|lane| all[lane] = clock);
        bits().for_each(|lane| known[lane] = all);
        self.forget_waits(warp, clock);
    }

    /// The warp's lanes all know what each of them did up to `clock`.
    fn settle(&mut self, warp: Agent, clock: u32) {
        let w = warp as usize;
        self.synced[w * self.agents + w].raise(Synced::all(clock));
        if !self.lanes[w].waited.is_empty() {
            self.forget_waits(warp, clock);
        }
        // A matrix that says nothing new costs nothing but its look-ups, which only races make.
        if let Some(apart) = &self.lanes[w].apart
            && apart.iter().flatten().all(|known| *known <= clock)
        {
            self.lanes[w].apart = None;
        }
    }

    /// Operations waited for up to `clock` count as waited for by every lane.
    fn forget_waits(&mut self, warp: Agent, clock: u32) {
        let (w, row) = (warp as usize, warp as usize * self.agents);
        let Order { lanes, synced, .. } = self;
        lanes[w].waited.retain(|(operation, at, _)| {
            if *at <= clock {
                synced[row + operation.agent as usize].raise(Synced::all(operation.clock));
            }
            *at > clock
        });
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

    /// `lanes` of the warp have waited for the operation, each for what it issued of it itself.
    pub fn wait(&mut self, warp: Agent, lanes: u32, operation: Operation) {
        let w = warp as usize;
        self.happens[w * self.agents + operation.agent as usize].raise(operation.clock);
        let at = self.clock[w];
        let waited = &mut self.lanes[w].waited;
        match waited.iter_mut().find(|(other, ..)| other.agent == operation.agent) {
            Some(entry) if entry.0 == operation => (entry.1, entry.2) = (at, entry.2 | lanes),
            Some(entry) => *entry = (operation, at, lanes),
            None => waited.push((operation, at, lanes)),
        }
    }

    /// The whole warp together has waited for the operation.
    pub fn wait_together(&mut self, warp: Agent, operation: Operation) {
        let at = warp as usize * self.agents + operation.agent as usize;
        self.happens[at].raise(operation.clock);
        self.synced[at].raise(Synced::all(operation.clock));
    }

    /// What `warps` warps from `first` on all know.
    pub fn common(&self, first: Agent, warps: Agent, common: &mut Common) {
        common.happens.clear();
        common.happens.extend_from_slice(self.happens(first));
        common.fenced.clear();
        common.fenced.extend_from_slice(self.fenced(first));
        common.synced.clear();
        common.synced.extend_from_slice(self.synced(first));
        for warp in first + 1..first + warps {
            common.happens.iter_mut().zip(self.happens(warp)).for_each(|(c, h)| *c = (*h).min(*c));
            common.fenced.iter_mut().zip(self.fenced(warp)).for_each(|(c, f)| *c = (*f).min(*c));
            common.synced.iter_mut().zip(self.synced(warp)).for_each(|(c, s)| *c = s.common(*c));
        }
    }

    /// All the warp did so far gets a clock that is known to it, and what follows the next one.
    #[inline(always)]
    fn advance(&mut self, warp: Agent) {
        let w = warp as usize;
        self.happens[w * self.agents + w] = self.clock[w];
        self.clock[w] += 1;
    }
}

/// The lanes that some of `lanes` have met since the warp's clock was `since`.
fn met(known: &LaneClocks, lanes: u32, since: u32) -> u32 {
    let rows = (0..32).filter(|lane| lanes >> lane & 1 == 1);
    rows.fold(0, |out, l| (0..32).filter(|o| known[l][*o] > since).fold(out, |out, o| out | 1 << o))
}

/// Knowledge that only grows.
trait Grows: Copy + Default {
    fn raise(&mut self, other: Self);
}

impl Grows for u32 {
    #[inline(always)]
    fn raise(&mut self, other: u32) {
        *self = other.max(*self);
    }
}

impl Grows for Synced {
    #[inline(always)]
    fn raise(&mut self, other: Synced) {
        let both = self.0 | other.0;
        self.0 = if self.clock() == other.clock() { both } else { self.0.max(other.0) };
    }
}

/// Element-wise maximum, where an empty `to` knows nothing.
fn join<T: Grows>(to: &mut Vec<T>, from: &[T]) {
    if to.len() < from.len() {
        to.resize(from.len(), T::default());
    }
    raise(to, from);
}

/// Element-wise maximum, where an empty `from` says nothing.
fn raise<T: Grows>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| to.raise(*from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_travels_through_what_is_carried() {
        let mut order = Order::new(3);
        let before = order.clock(0);
        let mut barrier = Carried::default();
        order.release(0, u32::MAX, &mut barrier);
        assert!(order.happens(1)[0] < before);
        order.acquire(1, u32::MAX, &barrier);
        assert_eq!(order.happens(1)[0], before);
        assert!(order.clock(0) > before, "what follows a release is not covered by it");
        let mut next = Carried::default();
        order.release(1, u32::MAX, &mut next);
        order.acquire(2, u32::MAX, &next);
        assert_eq!(order.happens(2)[0], before, "order is transitive");
    }

    #[test]
    fn fences_travel_too_and_cover_only_what_was_known() {
        let mut order = Order::new(2);
        let written = order.clock(0);
        order.fence(0);
        let after_fence = order.clock(0);
        let mut barrier = Carried::default();
        order.release(0, u32::MAX, &mut barrier);
        order.acquire(1, u32::MAX, &barrier);
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
        order.acquire(1, u32::MAX, &phase);
        assert!(order.happens(1)[copy.agent as usize] >= copy.clock);
        assert!(order.happens(0)[copy.agent as usize] < copy.clock);
        order.wait(0, u32::MAX, copy);
        assert!(order.happens(0)[copy.agent as usize] >= copy.clock);
        let again = (0..OPERATIONS).map(|_| order.begin()).last().expect("one or more");
        assert_eq!(again.agent, copy.agent);
        assert!(order.happens(0)[again.agent as usize] < again.clock);
    }

    #[test]
    fn a_lane_that_arrives_speaks_for_itself() {
        let mut order = Order::new(2);
        let touched = order.clock(0);
        let mut barrier = Carried::default();
        order.release(0, 0b1, &mut barrier);
        order.acquire(1, u32::MAX, &barrier);
        assert!(order.happens(1)[0] >= touched);
        assert!(order.synced(1)[0].clock() < touched && order.synced(1)[0].lanes() == 0b1);
        // A second lane arrives; then the warp has synchronised before one does.
        order.release(0, 0b10, &mut barrier);
        order.acquire(1, u32::MAX, &barrier);
        assert_eq!(order.synced(1)[0].lanes(), 0b11);
        order.sync(0, u32::MAX);
        order.release(0, 0b1, &mut barrier);
        order.acquire(1, u32::MAX, &barrier);
        assert!(order.synced(1)[0].clock() >= touched);
    }

    #[test]
    fn lanes_know_what_came_back_through_a_barrier() {
        let mut order = Order::new(1);
        let touched = order.clock(0);
        let mut barrier = Carried::default();
        (0..32).for_each(|lane| order.release(0, 1 << lane, &mut barrier));
        order.acquire(0, 0b1, &barrier);
        assert!(order.lanes_know(0, 0b1, 0b10, touched));
        assert!(!order.lanes_know(0, 0b10, 0b1, touched));
        assert!(!order.lanes_know(0, 0b1, 0b10, order.clock(0)));
        order.acquire(0, u32::MAX, &barrier);
        assert!(order.synced(0)[0].clock() >= touched);
    }

    #[test]
    fn some_lanes_synchronise() {
        let mut order = Order::new(1);
        let touched = order.clock(0);
        order.sync(0, 0b11);
        order.sync(0, 0b110);
        assert!(order.lanes_know(0, 0b100, 0b1, touched), "through lane 1");
        assert!(!order.lanes_know(0, 0b1, 0b100, touched));
        assert!(order.synced(0)[0].clock() < touched);
        order.set_live(0, 0b11);
        order.sync(0, 0b11);
        assert!(order.synced(0)[0].clock() >= touched, "lanes that have exited are not waited for");
    }
}
