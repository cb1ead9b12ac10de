//! How a weight gradient is cut into partial sums, the same on every card, and who computes which of them.

use crate::device::cuda::kernels::gemm_sm90::{BLOCKS, DEPTH, ROWS};

/// Side of a pair of tiles of a weight gradient, which is square, and of a piece of partial sums.
pub(super) const SIDE: usize = BLOCKS * ROWS;

/// Clusters that the cut of a weight gradient is made for, the 132 multiprocessors of an H100 or H200 in pairs, and
/// those that it must do for too: an H100 PCIe has 114. Constants: its bits must not depend on the card.
const CLUSTERS: usize = 66;
const FEWER: usize = 57;
/// Fewest steps of k per piece of partial sums: below, storing and adding it costs more than its multiplication.
const LEAST_STEPS: usize = 8;

/// How the work of a weight gradient is cut. Items are (part of K, pair of tiles), in that order; the first `whole`
/// stay so, the rest is cut into equal shares. Follows from the shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    tiles: usize,
    pub steps: usize,
    pub shares: usize,
    pub parts: usize,
    pub whole: usize,
}

/// Who computes what of a [`Partition`] on a card: whole items go to the clusters in turn, shares to neighbours.
/// Changes no bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    pub clusters: usize,
    /// Shares of a cluster that has had an item more than others, and of one that has not.
    pub few: usize,
    pub many: usize,
}

impl Partition {
    fn cut(m: usize, n: usize, k: usize, parts: usize, whole: impl Fn(usize, usize) -> usize) -> Self {
        let (tiles, steps) = (m.div_ceil(SIDE) * n.div_ceil(SIDE), k.div_ceil(DEPTH));
        let shares = (tiles * steps / LEAST_STEPS).clamp(1, CLUSTERS);
        Self { m, n, k, tiles, steps, shares, parts, whole: whole(tiles * parts, shares) }
    }

    /// The cheapest by [`Partition::cost`], with and without sharing the last round. Of those that lose a fiftieth of
    /// it at most, the cheapest for cards with fewer clusters, which in one round of large items and a bit more would
    /// lose up to half their time.
    pub fn choose(m: usize, n: usize, k: usize) -> Self {
        let most = (k.div_ceil(DEPTH) / LEAST_STEPS).clamp(1, 24);
        let even = (1..=most).map(|parts| Self::cut(m, n, k, parts, |items, _| items));
        let shared = (1..=most).map(|parts| Self::cut(m, n, k, parts, |items, shares| items / shares * shares));
        let all: Vec<Self> = even.chain(shared).collect();
        let least = all.iter().map(|partition| partition.cost(CLUSTERS)).min().unwrap_or(0);
        let good = all.into_iter().filter(|partition| partition.cost(CLUSTERS) * 50 <= least * 51);
        let best = good.min_by_key(|partition| (partition.cost(FEWER), partition.cost(CLUSTERS)));
        best.unwrap_or_else(|| Self::cut(m, n, k, 1, |items, _| items))
    }

    /// Half of it whole items, half shares, for checks: those that are chosen for small products have no shares.
    pub fn half_shared(m: usize, n: usize, k: usize) -> Self {
        Self::cut(m, n, k, k.div_ceil(DEPTH).clamp(1, 2), |items, _| items / 2)
    }

    fn items(self) -> usize {
        self.tiles * self.parts
    }

    /// Hundredths of the time of a step (1,024 cycles) that a cluster takes for a whole item and for a share: shared
    /// steps find less in L2; 3 per piece it stores, two of a share.
    fn times(self) -> (usize, usize) {
        let rest = (self.items() - self.whole) * self.steps * 130 / (self.parts * self.shares);
        (self.steps * 100 / self.parts + 300, if rest > 0 { rest + 600 } else { 0 })
    }

    /// For a card with so many clusters: shares so that those who had an item more end with the others.
    pub fn walk(self, clusters: usize) -> Walk {
        let shares = if self.whole < self.items() { self.shares } else { 0 };
        let clusters = clusters.min(self.whole.max(shares)).max(1);
        let (ahead, (item, share)) = (self.whole % clusters, self.times());
        let few = |many: usize| if ahead > 0 { (many * share).saturating_sub(item) / share.max(1) } else { 0 };
        let mut many = shares.div_ceil(clusters);
        while few(many) * ahead + many * (clusters - ahead) < shares {
            many += 1;
        }
        Walk { clusters, few: few(many), many }
    }

    /// Hundredths of the time of a step on a card with so many clusters; 0.18 steps per piece that is written and read
    /// again at 4.1 TB/s.
    fn cost(self, clusters: usize) -> usize {
        let (walk, (item, share)) = (self.walk(clusters), self.times());
        let rounds = self.whole / walk.clusters;
        let last = if self.whole.is_multiple_of(walk.clusters) { 0 } else { item + walk.few * share };
        rounds * item + last.max(walk.many * share) + self.pieces() * 18
    }

    /// Pieces of partial sums: one per whole item; of the rest one per item and share that meet, numbered item + share.
    pub fn pieces(self) -> usize {
        self.items() + if self.whole < self.items() { self.shares - 1 } else { 0 }
    }

    pub fn scratch_len(self) -> usize {
        self.pieces() * (SIDE * SIDE + 2 * SIDE)
    }

    /// Whether the kernels can walk it: they do so in 32-bit arithmetic.
    pub fn fits(self) -> bool {
        self.k > 0 && u32::try_from((self.tiles * self.steps + 1) * (self.shares + 1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernels' arithmetic, once more: where a part begins, how many steps lie before an item.
    fn begin(p: &Partition, part: usize) -> usize {
        p.steps * part / p.parts
    }

    fn position(p: &Partition, item: usize) -> usize {
        let part = item / p.tiles;
        begin(p, part) * p.tiles + item % p.tiles * (begin(p, part + 1) - begin(p, part))
    }

    /// Every step of every tile is in one piece, pieces have numbers of their own, and the adding kernel finds those
    /// and no others.
    #[test]
    fn pieces_are_those_written() {
        let shapes = [
            (1, 1, 1),
            (72, 40, 1000),
            (768, 768, 100_864),
            (3072, 768, 100_864),
            (2304, 768, 100_864),
            (257, 520, 4097),
        ];
        for (m, n, k) in shapes {
            let one = |parts, items: usize| Partition::cut(m, n, k, parts, |_, _| items);
            let steps = k.div_ceil(DEPTH);
            for p in [
                Partition::choose(m, n, k),
                Partition::half_shared(m, n, k),
                one(steps.min(3), 1),
                one(steps.min(2), 0),
            ] {
                let (rest, shares) = (position(&p, p.items()) - position(&p, p.whole), p.shares);
                assert_eq!(position(&p, p.items()), p.tiles * steps);
                let mut pieces = vec![Vec::new(); p.tiles];
                for item in 0..p.whole {
                    let part = item / p.tiles;
                    pieces[item % p.tiles].push((begin(&p, part), item, begin(&p, part + 1) - begin(&p, part)));
                }
                for share in 0..shares {
                    let first = position(&p, p.whole);
                    let (mut at, end) = (first + rest * share / shares, first + rest * (share + 1) / shares);
                    while at < end {
                        let part = ((at / p.tiles + 1) * p.parts - 1) / p.steps;
                        let (start, steps) = (begin(&p, part), begin(&p, part + 1) - begin(&p, part));
                        let within = at - start * p.tiles;
                        let item = part * p.tiles + within / steps;
                        let count = (steps - within % steps).min(end - at);
                        pieces[item % p.tiles].push((start + within % steps, item + share, count));
                        at += count;
                    }
                }
                let mut numbers: Vec<usize> = pieces.iter().flatten().map(|piece| piece.1).collect();
                numbers.sort_unstable();
                assert!(numbers.windows(2).all(|w| w[0] < w[1]) && numbers.iter().all(|&n| n < p.pieces()), "{p:?}");
                for (tile, pieces) in pieces.iter_mut().enumerate() {
                    pieces.sort_unstable();
                    let mut covered = 0;
                    for &(start, _, count) in &*pieces {
                        assert_eq!(start, covered, "{p:?} tile {tile}");
                        covered += count;
                    }
                    assert_eq!(covered, steps, "{p:?} tile {tile}");
                    let mut found = Vec::new();
                    for item in (tile..p.items()).step_by(p.tiles) {
                        if item < p.whole {
                            found.push(item);
                            continue;
                        }
                        let first = position(&p, item) - position(&p, p.whole);
                        let end = first + begin(&p, item / p.tiles + 1) - begin(&p, item / p.tiles);
                        found.extend(item + ((first + 1) * shares - 1) / rest..=item + (end * shares - 1) / rest);
                    }
                    assert_eq!(found, pieces.iter().map(|piece| piece.1).collect::<Vec<_>>(), "{p:?} tile {tile}");
                }
            }
        }
    }

    /// On every card each share is one cluster's, clusters take neighbouring ones, and none waits long for another.
    #[test]
    fn every_share_is_walked_once() {
        for (m, n, k) in [(1, 1, 1), (72, 40, 1000), (768, 768, 100_864), (2304, 768, 100_864), (257, 520, 4097)] {
            for p in [Partition::choose(m, n, k), Partition::half_shared(m, n, k), Partition::cut(m, n, k, 1, |_, _| 1)]
            {
                let shares = if p.whole < p.items() { p.shares } else { 0 };
                for card in [1, 2, 39, 57, 60, 66, 72] {
                    let Walk { clusters, few, many } = p.walk(card);
                    assert!((1..=card).contains(&clusters) && few <= many, "{p:?} on {card}");
                    // The kernel's arithmetic, once more.
                    let ahead = p.whole % clusters;
                    let first = |i: usize| (i.min(ahead) * few + i.saturating_sub(ahead) * many).min(p.shares);
                    assert!(first(0) == 0 && first(clusters) >= shares, "{p:?} on {card}: {few} {many}");
                }
                // One each, as many as there are.
                if p.whole.is_multiple_of(CLUSTERS) && shares == CLUSTERS {
                    assert_eq!(p.walk(CLUSTERS), Walk { clusters: CLUSTERS, few: 0, many: 1 });
                }
            }
        }
    }

    /// ViT-B/16 at batch 512, of the time of an even spread of steps: rounds, sharing and partial sums take no more
    /// than an eighth on the 132 multiprocessors of an H100 SXM or H200. On the 114 of an H100 PCIe and the 78 of an
    /// H20 they take what is said here, by layer.
    #[test]
    fn weight_gradients_keep_the_card_busy() {
        for (m, n, percent) in
            [(2304, 768, [12, 34, 21]), (768, 768, [12, 90, 30]), (3072, 768, [12, 25, 13]), (768, 3072, [12, 25, 13])]
        {
            let p = Partition::choose(m, n, 100_864);
            for (clusters, percent) in [CLUSTERS, FEWER, 39].into_iter().zip(percent) {
                let (cost, even) = (p.cost(clusters), p.tiles * p.steps * 100 / clusters);
                assert!(cost * 100 <= even * (100 + percent), "{p:?} on {clusters}: {cost} instead of {even}");
            }
        }
    }
}
