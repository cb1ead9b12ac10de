//! Plans and launches of `kernels/gemm_sm90.cu`.

use half::bf16;

use super::{Epilogue, Layout, Matrix, Output, Product, int};
use crate::device::cuda::{Element, Gpu, Launch, Swizzle, TensorMap, View, kernels};
use crate::error::Result;

const THREADS: u32 = 384;
/// Blocks of a cluster, rows of a block's tile, depth of a stage, columns of a swizzled box.
const BLOCKS: usize = 2;
const ROWS: usize = 128;
const DEPTH: usize = 64;
const BOX: u32 = 64;

/// How a block's two consumers share the work; see the kernel file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Tiles of 128 × 256, half for each.
    Cooperative,
    /// Tiles of 128 × 128 in turn.
    PingPong,
}

impl Schedule {
    fn columns(self) -> usize {
        match self {
            Self::Cooperative => 256,
            Self::PingPong => 128,
        }
    }

    /// Stages, the staging of the output, a bias per consumer, barriers.
    fn shared(self) -> usize {
        let stages = match self {
            Self::Cooperative => 4,
            Self::PingPong => 6,
        };
        let stage = (ROWS + self.columns()) * DEPTH * size_of::<bf16>();
        stages * stage + 2 * 2 * 64 * 128 + 2 * self.columns() * size_of::<f32>() + 2 * stages * 8
    }

    /// Pairs of tiles.
    fn tiles(self, m: usize, n: usize) -> usize {
        m.div_ceil(BLOCKS * ROWS) * n.div_ceil(self.columns())
    }

    /// A cluster for every two multiprocessors, each with several pairs of tiles in turn.
    fn plan(self, m: usize, n: usize, sms: u32) -> Launch {
        self.launch(self.tiles(m, n).min((sms as usize / BLOCKS).max(1)))
    }

    fn launch(self, clusters: usize) -> Launch {
        Launch::new(clusters * BLOCKS, THREADS).cluster([BLOCKS as u32, 1, 1]).shared(self.shared())
    }

    /// Clock cycles by the tensor cores' rate, for comparison with each other: a step of 64 takes 512 cycles per 128 columns. Cooperative
    /// tiles wait for their epilogue (about 1,200 cycles); ping-pong tiles hide it, but move a third more bytes (a tenth of the time).
    fn cycles(self, m: usize, n: usize, k: usize, sms: u32) -> usize {
        let rounds = self.tiles(m, n).div_ceil((sms as usize / BLOCKS).max(1));
        let steps = rounds * k.div_ceil(DEPTH);
        match self {
            Self::Cooperative => steps * 1024 + rounds * 1200,
            Self::PingPong => steps * 512 * 11 / 10 + 1200,
        }
    }

    /// The faster one for a product; some epilogues exist in ping-pong only.
    pub fn choose(product: &Product, sms: u32) -> Self {
        let &Product { m, n, k, .. } = product;
        let cycles = |schedule: Self| schedule.cycles(m, n, k, sms);
        let faster = cycles(Self::Cooperative) < cycles(Self::PingPong);
        if faster { Self::Cooperative.or_possible(product) } else { Self::PingPong }
    }

    /// This one where there is a kernel for it.
    pub fn or_possible(self, product: &Product) -> Self {
        let both = matches!(product.y, Output::Bf16(_))
            && matches!(product.epilogue, Epilogue::Bias(_) | Epilogue::Residual(..));
        if both { self } else { Self::PingPong }
    }
}

/// Whether the copy engine can address a matrix: rows begin at multiples of 16 bytes.
fn addressable(x: Matrix<bf16>) -> bool {
    x.data.is_aligned(16) && (x.stride * size_of::<bf16>()).is_multiple_of(16)
}

/// Whether these kernels can compute a product.
pub(super) fn fits(product: &Product) -> bool {
    let y = match product.y {
        Output::Bf16(y) => addressable(y),
        Output::F32(_) => true,
    };
    let (_, aux) = product.epilogue.operands();
    product.k > 0 && addressable(product.a) && addressable(product.b) && y && aux.is_none_or(addressable)
}

/// `x` in boxes of 64 columns × `rows`.
fn map<T: Element>(x: Matrix<T>, rows: u32) -> Result<TensorMap> {
    let stride = (x.stride * size_of::<T>()) as u64;
    TensorMap::tiled(x.data, &[x.columns as u64, x.rows as u64], &[stride], &[BOX, rows], Swizzle::B128)
}

pub(super) fn product(gpu: &Gpu, product: &Product, schedule: Schedule, sms: u32) -> Result<()> {
    let &Product { layout, a, b, y, epilogue, m, n, k } = product;
    let at = schedule.plan(m, n, sms);
    let (bias, aux) = epilogue.operands();
    let a = map(a, ROWS as u32)?;
    let b = match layout {
        Layout::Nt => map(b, (schedule.columns() / BLOCKS) as u32)?,
        Layout::Nn => map(b, DEPTH as u32)?,
    };
    let [m, n, k] = [m, n, k].map(int);
    let y = match y {
        Output::Bf16(y) => y,
        Output::F32(y) => {
            assert!(
                matches!((layout, epilogue), (Layout::Nt, Epilogue::Bias(_))),
                "gemm: f32 output of {layout:?} {epilogue:?}"
            );
            return kernels::gemm_sm90_nt_bias_pingpong_f32(gpu, at, &a, &b, y.data, bias, m, n, k, int(y.stride));
        }
    };
    let to = map(y, BOX)?;
    let aux = match epilogue {
        Epilogue::Bias(_) => to,
        Epilogue::Gelu(_, h) => map(h, BOX)?,
        Epilogue::Residual(..) | Epilogue::GeluBackward(_) => map(aux.unwrap_or(y), ROWS as u32)?,
    };
    macro_rules! launch {
        ($kernel:ident) => {
            kernels::$kernel(gpu, at, &a, &b, &to, &aux, bias, m, n, k)
        };
    }
    use Schedule::{Cooperative, PingPong};
    match (layout, epilogue, schedule) {
        (Layout::Nt, Epilogue::Bias(_), Cooperative) => launch!(gemm_sm90_nt_bias_cooperative_bf16),
        (Layout::Nt, Epilogue::Bias(_), PingPong) => launch!(gemm_sm90_nt_bias_pingpong_bf16),
        (Layout::Nt, Epilogue::Gelu(..), PingPong) => launch!(gemm_sm90_nt_gelu_pingpong_bf16),
        (Layout::Nt, Epilogue::Residual(..), Cooperative) => launch!(gemm_sm90_nt_residual_cooperative_bf16),
        (Layout::Nt, Epilogue::Residual(..), PingPong) => launch!(gemm_sm90_nt_residual_pingpong_bf16),
        (Layout::Nn, Epilogue::Bias(_), Cooperative) => launch!(gemm_sm90_nn_cooperative_bf16),
        (Layout::Nn, Epilogue::Bias(_), PingPong) => launch!(gemm_sm90_nn_pingpong_bf16),
        (Layout::Nn, Epilogue::GeluBackward(_), PingPong) => launch!(gemm_sm90_nn_gelu_backward_pingpong_bf16),
        _ => panic!("gemm: no kernel for {layout:?} with {epilogue:?}, {schedule:?}"),
    }
}

/// Clusters that the cut of a weight gradient is made for, the 132 multiprocessors of an H100 or H200 in pairs, and those that it must do for
/// too: an H100 PCIe has 114. Constants: its bits must not depend on the card.
const CLUSTERS: usize = 66;
const FEWER: usize = 57;
/// Fewest steps of k per piece of partial sums: below, storing and adding it costs more than its multiplication.
const LEAST_STEPS: usize = 8;
/// Side of a pair of tiles, which is square, and of a piece.
const SIDE: usize = BLOCKS * ROWS;

/// How the work of a weight gradient is cut. Items are (part of K, pair of tiles), in that order; the first `whole` stay so, the rest is cut
/// into equal shares. Follows from the shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    m: usize,
    n: usize,
    k: usize,
    tiles: usize,
    steps: usize,
    shares: usize,
    parts: usize,
    whole: usize,
}

/// Who computes what of a [`Partition`] on a card: whole items go to the clusters in turn, shares to neighbours. Changes no bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Walk {
    clusters: usize,
    /// Shares of a cluster that has had an item more than others, and of one that has not.
    few: usize,
    many: usize,
}

impl Partition {
    fn cut(m: usize, n: usize, k: usize, parts: usize, whole: impl Fn(usize, usize) -> usize) -> Self {
        let (tiles, steps) = (Schedule::Cooperative.tiles(m, n), k.div_ceil(DEPTH));
        let shares = (tiles * steps / LEAST_STEPS).clamp(1, CLUSTERS);
        Self { m, n, k, tiles, steps, shares, parts, whole: whole(tiles * parts, shares) }
    }

    /// The cheapest by [`Partition::cost`], with and without sharing the last round. Of those that lose a fiftieth of it at most, the cheapest for
    /// cards with fewer clusters, which in one round of large items and a bit more would lose up to half their time.
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

    /// Hundredths of the time of a step (1,024 cycles) that a cluster takes for a whole item and for a share: shared steps find less in L2; 3 per
    /// piece it stores, two of a share.
    fn times(self) -> (usize, usize) {
        let rest = (self.items() - self.whole) * self.steps * 130 / (self.parts * self.shares);
        (self.steps * 100 / self.parts + 300, if rest > 0 { rest + 600 } else { 0 })
    }

    /// For a card with so many clusters: shares so that those who had an item more end with the others.
    fn walk(self, clusters: usize) -> Walk {
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

    /// Hundredths of the time of a step on a card with so many clusters; 0.18 steps per piece that is written and read again at 4.1 TB/s.
    fn cost(self, clusters: usize) -> usize {
        let (walk, (item, share)) = (self.walk(clusters), self.times());
        let rounds = self.whole / walk.clusters;
        let last = if self.whole.is_multiple_of(walk.clusters) { 0 } else { item + walk.few * share };
        rounds * item + last.max(walk.many * share) + self.pieces() * 18
    }

    /// Pieces of partial sums: one per whole item; of the rest one per item and share that meet, numbered item + share.
    fn pieces(self) -> usize {
        self.items() + if self.whole < self.items() { self.shares - 1 } else { 0 }
    }

    pub fn scratch_len(self) -> usize {
        self.pieces() * (SIDE * SIDE + 2 * SIDE)
    }

    /// Whether the kernels can compute it: they partition in 32-bit arithmetic.
    pub fn fits(self, a: Matrix<bf16>, b: Matrix<bf16>, scratch: View<f32>) -> bool {
        let largest = (self.tiles * self.steps + 1) * (self.shares + 1);
        self.k > 0 && addressable(a) && addressable(b) && scratch.is_aligned(16) && u32::try_from(largest).is_ok()
    }
}

pub(super) fn tn(
    gpu: &Gpu,
    sms: u32,
    partition: Partition,
    dw: View<f32>,
    sums: Option<View<f32>>,
    (a, b): (Matrix<bf16>, Matrix<bf16>),
    scratch: View<f32>,
) -> Result<()> {
    let Partition { m, n, k, steps, shares, parts, whole, .. } = partition;
    let Walk { clusters, few, many } = partition.walk((sms as usize / BLOCKS).max(1));
    let pieces = scratch.slice(0..partition.pieces() * SIDE * SIDE);
    let sum_pieces = scratch.slice(pieces.len()..partition.scratch_len());
    let (a, b) = (map(a, DEPTH as u32)?, map(b, DEPTH as u32)?);
    let at = Schedule::Cooperative.launch(clusters);
    let [m_, n_, k_, steps, parts, whole, shares] = [m, n, k, steps, parts, whole, shares].map(int);
    let sum_to = sums.map(|_| sum_pieces);
    kernels::gemm_sm90_tn_partial_f32(
        gpu,
        at,
        &a,
        &b,
        pieces,
        sum_to,
        m_,
        n_,
        k_,
        parts,
        whole,
        shares,
        int(few),
        int(many),
    )?;
    let at = Launch::grid([n.div_ceil(SIDE), m.div_ceil(16), 1], 256);
    kernels::gemm_sm90_sum_f32(gpu, at, dw, pieces, sums, sum_pieces, m_, n_, steps, parts, whole, shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block's shared memory and registers are what a multiprocessor has.
    #[test]
    fn blocks_fit_a_multiprocessor() {
        for schedule in [Schedule::Cooperative, Schedule::PingPong] {
            assert!(schedule.shared() <= 227 << 10, "{schedule:?}: {}", schedule.shared());
        }
        // Of the producer and the consumers: of most kernels, of weight gradients.
        assert_eq!([40 * 128 + 232 * 256, 56 * 128 + 224 * 256], [168 * THREADS; 2]);
    }

    /// The kernels' arithmetic, once more: where a part begins, how many steps lie before an item.
    fn begin(p: &Partition, part: usize) -> usize {
        p.steps * part / p.parts
    }

    fn position(p: &Partition, item: usize) -> usize {
        let part = item / p.tiles;
        begin(p, part) * p.tiles + item % p.tiles * (begin(p, part + 1) - begin(p, part))
    }

    /// Every step of every tile is in one piece, pieces have numbers of their own, and the adding kernel finds those and no others.
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

    /// ViT-B/16 at batch 512, of the time of an even spread of steps: rounds, sharing and partial sums take no more than an eighth on the 132
    /// multiprocessors of an H100 SXM or H200. On the 114 of an H100 PCIe and the 78 of an H20 they take what is said here, by layer.
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
