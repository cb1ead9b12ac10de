use super::*;
use crate::check::order::Carried;

/// Orders what warp `from` did before what warp `to` does next.
fn sync(order: &mut Order, from: Agent, to: Agent) {
    let mut barrier = Carried::default();
    order.release(from, u32::MAX, &mut barrier);
    order.acquire(to, u32::MAX, &barrier);
}

fn write(shadow: &mut Shadow, order: &Order, warp: Agent, at: u32, bytes: u32) -> Result<(), Fault> {
    shadow.write(&mut Access::warp(order, warp, 1), at, bytes, Who::WARP).map_err(|c| c.fault)
}

fn read(shadow: &mut Shadow, order: &Order, warp: Agent, at: u32, bytes: u32) -> Result<(), Fault> {
    shadow.read(&mut Access::warp(order, warp, 2), at, bytes, Who::WARP).map_err(|c| c.fault)
}

#[test]
fn a_write_is_read_after_a_barrier_only() {
    let (mut shadow, mut order) = (Shadow::new(256), Order::new(3));
    assert_eq!(read(&mut shadow, &order, 0, 0, 4), Err(Fault::Unwritten));
    assert_eq!(write(&mut shadow, &order, 0, 0, 128), Ok(()));
    assert_eq!(read(&mut shadow, &order, 0, 0, 128), Ok(()));
    assert_eq!(read(&mut shadow, &order, 1, 64, 4), Err(Fault::Unordered));
    sync(&mut order, 0, 1);
    assert_eq!(read(&mut shadow, &order, 1, 0, 128), Ok(()));
    assert_eq!(read(&mut shadow, &order, 1, 124, 8), Err(Fault::Unwritten));
    assert_eq!(read(&mut shadow, &order, 2, 0, 4), Err(Fault::Unordered));
    // What the writer writes after the barrier is not covered by it.
    assert_eq!(write(&mut shadow, &order, 0, 128, 4), Ok(()));
    assert_eq!(read(&mut shadow, &order, 1, 128, 4), Err(Fault::Unordered));
    assert_eq!(write(&mut shadow, &order, 0, 0, 4), Err(Fault::Unordered), "warp 1 may still read");
}

#[test]
fn every_reader_must_be_ordered_before_the_next_write() {
    let (mut shadow, mut order) = (Shadow::new(64), Order::new(4));
    write(&mut shadow, &order, 0, 0, 64).expect("nobody else was there");
    (1..4).for_each(|w| sync(&mut order, 0, w));
    for w in 0..4 {
        assert_eq!(read(&mut shadow, &order, w, 0, 64), Ok(()));
        assert_eq!(read(&mut shadow, &order, w, 0, 64), Ok(()));
    }
    sync(&mut order, 1, 0);
    sync(&mut order, 3, 0);
    let clash = shadow.write(&mut Access::warp(&order, 0, 9), 32, 4, Who::WARP).expect_err("warp 2 was not waited for");
    assert_eq!(clash.other, Some(Other { agent: 2, pc: 2, write: false, lanes: 0 }));
    assert_eq!((clash.fault, clash.address), (Fault::Unordered, 32));
    sync(&mut order, 2, 0);
    assert_eq!(write(&mut shadow, &order, 0, 0, 64), Ok(()));
}

#[test]
fn bytes_of_a_word_have_their_own_history() {
    let (mut shadow, mut order) = (Shadow::new(16), Order::new(3));
    write(&mut shadow, &order, 0, 0, 2).expect("fresh");
    assert_eq!(read(&mut shadow, &order, 0, 0, 4), Err(Fault::Unwritten));
    // Halves written by two warps at once; each reads its own.
    write(&mut shadow, &order, 1, 2, 2).expect("other bytes");
    assert_eq!(read(&mut shadow, &order, 1, 2, 2), Ok(()));
    assert_eq!(read(&mut shadow, &order, 0, 0, 2), Ok(()));
    assert_eq!(read(&mut shadow, &order, 0, 2, 1), Err(Fault::Unordered));
    assert_eq!(write(&mut shadow, &order, 0, 3, 1), Err(Fault::Unordered));
    sync(&mut order, 1, 0);
    assert_eq!(write(&mut shadow, &order, 0, 0, 4), Ok(()));
    sync(&mut order, 0, 2);
    // One warp reads one half while another overwrites the other.
    assert_eq!(read(&mut shadow, &order, 2, 0, 2), Ok(()));
    assert_eq!(write(&mut shadow, &order, 0, 2, 2), Ok(()));
    assert_eq!(write(&mut shadow, &order, 0, 0, 2), Err(Fault::Unordered));
    // Single bytes of one instruction make a word.
    (8..12).for_each(|at| write(&mut shadow, &order, 0, at, 1).expect("fresh"));
    assert_eq!(read(&mut shadow, &order, 0, 8, 4), Ok(()));
}

#[test]
fn copies_must_be_waited_for_and_generic_writes_fenced() {
    let (mut shadow, mut order) = (Shadow::new(64), Order::new(2));
    let load = order.begin();
    shadow.write(&mut Access::proxy(&order, 0, load, true, 5), 0, 32, Who::WARP).expect("fresh");
    let clash = shadow.read(&mut Access::warp(&order, 0, 6), 0, 4, Who::WARP).expect_err("in flight");
    assert!(clash.other.is_some_and(|o| order.is_operation(o.agent) && o.write && o.pc == 5));
    order.wait_together(0, load);
    assert_eq!(read(&mut shadow, &order, 0, 0, 32), Ok(()));
    assert_eq!(read(&mut shadow, &order, 1, 0, 4), Err(Fault::Unordered));

    // A store from what the warp wrote itself: a proxy fence is missing, then there.
    write(&mut shadow, &order, 0, 32, 32).expect("fresh");
    let store = order.begin();
    let issue = |shadow: &mut Shadow, order: &Order| {
        shadow.read(&mut Access::proxy(order, 0, store, true, 7), 32, 32, Who::WARP).map_err(|c| c.fault)
    };
    assert_eq!(issue(&mut shadow, &order), Err(Fault::Unfenced));
    order.fence(0);
    assert_eq!(issue(&mut shadow, &order), Ok(()));
    assert_eq!(write(&mut shadow, &order, 0, 40, 4), Err(Fault::Unordered), "the store still reads");
    order.wait_together(0, store);
    assert_eq!(write(&mut shadow, &order, 0, 40, 4), Ok(()));
    // A load over what the generic proxy only read needs no fence; over what it wrote it does.
    let again = order.begin();
    assert!(shadow.write(&mut Access::proxy(&order, 0, again, true, 8), 0, 32, Who::WARP).is_ok());
    let clash =
        shadow.write(&mut Access::proxy(&order, 0, again, true, 8), 32, 32, Who::WARP).expect_err("unfenced write");
    assert_eq!((clash.fault, clash.address), (Fault::Unfenced, 40));
}

#[test]
fn atomics_race_with_plain_accesses_only() {
    let (mut shadow, mut order) = (Shadow::new(8), Order::new(2));
    let atomic =
        |shadow: &mut Shadow, order: &Order, w| shadow.write(&mut Access::atomic(order, w, 3), 0, 4, Who::WARP);
    write(&mut shadow, &order, 0, 0, 4).expect("fresh");
    assert!(atomic(&mut shadow, &order, 1).is_err());
    sync(&mut order, 0, 1);
    assert!(atomic(&mut shadow, &order, 1).is_ok());
    assert!(atomic(&mut shadow, &order, 0).is_ok());
    assert_eq!(read(&mut shadow, &order, 1, 0, 4), Err(Fault::Unordered));
}

#[test]
fn strands_of_a_diverged_warp_race() {
    let (mut shadow, mut order) = (Shadow::new(8), Order::new(1));
    let together = order.clock(0);
    write(&mut shadow, &order, 0, 0, 4).expect("fresh");
    order.strand(0, together);
    assert_eq!(read(&mut shadow, &order, 0, 0, 4), Ok(()));
    write(&mut shadow, &order, 0, 4, 4).expect("fresh");
    let first = order.clock(0);
    order.strand(0, together);
    assert_eq!(read(&mut shadow, &order, 0, 4, 4), Err(Fault::Unordered), "the other strand wrote it");
    let known = order.clock(0).max(first);
    order.strand(0, known);
    assert_eq!(read(&mut shadow, &order, 0, 4, 4), Ok(()), "together again");
}

/// Random programs, against a detector that keeps every access of every byte.
#[test]
fn agrees_with_a_full_history() {
    let mut state = 5u64;
    let mut random = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % n
    };
    let mut clashes = 0;
    for _ in 0..400 {
        let (mut shadow, mut order) = (Shadow::new(32), Order::new(4));
        write(&mut shadow, &order, 0, 0, 24).expect("fresh");
        let mut history: Vec<Vec<(Agent, u32, bool)>> = vec![vec![(0, order.clock(0), true)]; 24];
        history.resize(32, vec![]);
        for _ in 0..40 {
            let warp = random(4) as Agent;
            if random(8) < 5 {
                let mut barrier = Carried::default();
                let everybody = random(3) != 0;
                let mut members: Vec<Agent> = (0..4).filter(|w| everybody || *w == warp).collect();
                members.push(random(4) as Agent);
                members.iter().for_each(|w| order.release(*w, u32::MAX, &mut barrier));
                members.iter().for_each(|w| order.acquire(*w, u32::MAX, &barrier));
                continue;
            }
            let bytes = 1 << random(4);
            let at = random(32 / bytes) * bytes;
            let is_write = random(3) == 0;
            let range = at as usize..(at + bytes) as usize;
            let after = |(agent, clock, _): &(Agent, u32, bool)| {
                *agent == warp || order.happens(warp)[*agent as usize] >= *clock
            };
            let unwritten = |byte: &Vec<(Agent, u32, bool)>| !byte.iter().any(|a| a.2);
            let bad = history[range.clone()]
                .iter()
                .any(|byte| !is_write && unwritten(byte) || byte.iter().any(|a| (is_write || a.2) && !after(a)));
            let result = match is_write {
                true => write(&mut shadow, &order, warp, at as u32, bytes as u32),
                false => read(&mut shadow, &order, warp, at as u32, bytes as u32),
            };
            assert_eq!(result.is_err(), bad, "{history:?} warp {warp} {range:?} write {is_write}");
            if bad {
                clashes += 1;
                break;
            }
            history[range].iter_mut().for_each(|byte| byte.push((warp, order.clock(warp), is_write)));
        }
    }
    assert!(clashes > 100 && clashes < 400, "{clashes}");
}

#[test]
fn sets_in_use_survive_collection() {
    let (mut shadow, mut order) = (Shadow::new(64), Order::new(3));
    write(&mut shadow, &order, 0, 0, 64).expect("fresh");
    sync(&mut order, 0, 1);
    sync(&mut order, 0, 2);
    for i in 0..2 * SETS as u32 {
        // Two readers whose clocks move on: new sets all the time, for one word.
        let mut nowhere = Carried::default();
        order.release(1, u32::MAX, &mut nowhere);
        order.release(2, u32::MAX, &mut nowhere);
        for w in [1, 2] {
            read(&mut shadow, &order, w, if i == 0 { 32 } else { 0 }, 4).expect("ordered after the write");
        }
    }
    assert!(shadow.sets.sets.len() <= SETS + 1);
    assert_eq!(write(&mut shadow, &order, 0, 32, 4), Err(Fault::Unordered));
    sync(&mut order, 1, 0);
    assert_eq!(write(&mut shadow, &order, 0, 32, 4), Err(Fault::Unordered));
    sync(&mut order, 2, 0);
    assert_eq!(write(&mut shadow, &order, 0, 0, 64), Ok(()));
}
