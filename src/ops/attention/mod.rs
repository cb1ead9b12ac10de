//! Attention of inference: `O = softmax(Q·Kᵀ/√d)·V` per image and head, in blocks of queries whose scores stay in cache
//! (the idea of Dao et al. 2022 with whole rows: the T×T matrix never exists).
//!
//! Keys and values are packed for the products once, by [`forward`] for all blocks of an image and head, by
//! [`Context::new`] for all images and steps of a caption ([`cross`]). FLOPs: 4·N·G·Tq·Tk·d. Bytes: Q, K, V, O once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::cell::Cell;

use rayon::prelude::*;

use super::gemm::{Mat, Panels, Threads, first_of, raw_packed};
use super::self_attention::{Shared, exponentials};
use super::simd::vectorize;

/// Scores of a block of queries: half a megabyte.
const SCORES: usize = 1 << 17;

/// Sizes: images, queries and keys per image, heads G, head dimension d.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// Whether query i sees keys 0..=i only.
    pub causal: bool,
}

impl Shape {
    /// FLOPs of the two products.
    pub fn flops(self) -> f64 {
        4.0 * (self.n * self.heads) as f64 * (self.queries * self.keys * self.head_dim) as f64
    }

    /// Bytes moved at least over values of `stored` bytes.
    pub fn bytes(self, stored: usize) -> f64 {
        (2 * stored * self.n * self.heads * self.head_dim * (self.queries + self.keys)) as f64
    }

    fn width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Queries per block: from the number of keys alone.
    fn block(self) -> usize {
        (SCORES / self.keys).max(16).min(self.queries)
    }
}

/// Rows of tokens inside a wider buffer: value (n, t, head, c) is `data[(n·T + t)·stride + head·d + c]`.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> Tokens<'a> {
    /// The matrix of one image and head, from token `t` on.
    fn head(self, row: usize, column: usize) -> Mat {
        Mat { data: self.data[row * self.stride + column..].as_ptr(), row_stride: self.stride, col_stride: 1 }
    }

    fn check(self, rows: usize, width: usize) {
        assert!(
            self.stride >= width && self.data.len() >= (rows - 1) * self.stride + width,
            "attention: {} values for {rows} rows of {width}, {} apart",
            self.data.len(),
            self.stride
        );
    }
}

thread_local! {
    static BLOCK: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `y [N, Tq, G, d]` from Q, K and V.
pub fn forward(y: &mut [f32], q: Tokens<'_>, k: Tokens<'_>, v: Tokens<'_>, shape: Shape, threads: Threads) {
    let Shape { n, queries, keys, heads, head_dim: d, causal } = shape;
    let width = shape.width();
    assert_eq!(y.len(), n * queries * width, "attention: y");
    q.check(n * queries, width);
    k.check(n * keys, width);
    v.check(n * keys, width);
    let (block, target) = (shape.block(), Shared::new(y));
    let pack = |pair: usize| {
        let (row, column) = (pair / heads * keys, pair % heads * d);
        // SAFETY: `check` proved the extents.
        unsafe { Head::new(k.head(row, column), v.head(row, column), keys, d) }
    };
    let some = |pair: usize, head: &Head, from: usize| {
        let (first, column) = (pair / heads * queries + from, pair % heads * d);
        let rows = block.min(queries - from);
        // SAFETY: `check` proved the extents; rows first..first + rows and these d columns of y are this task's alone.
        unsafe {
            let y = target.at(first * width + column);
            attend(y, width, q.head(first, column), rows, head, causal.then_some(from));
        }
    };
    let blocks = queries.div_ceil(block);
    match threads {
        Threads::One => {
            for pair in 0..n * heads {
                let head = pack(pair);
                (0..blocks).for_each(|i| some(pair, &head, i * block));
            }
        }
        Threads::All => {
            let packed: Vec<Head> = (0..n * heads).into_par_iter().map(pack).collect();
            let tasks = (0..packed.len() * blocks).into_par_iter();
            tasks.for_each(|task| some(task / blocks, &packed[task / blocks], task % blocks * block));
        }
    }
}

/// Keys `[d, Tk]` and values `[Tk, d]` of a head, packed.
#[derive(Clone, Debug)]
struct Head {
    keys: Panels,
    values: Panels,
}

impl Head {
    /// From rows `[Tk, d]`.
    ///
    /// # Safety
    /// Every element of both must be inside a live allocation.
    unsafe fn new(keys: Mat, values: Mat, tokens: usize, head_dim: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { keys: Panels::of(keys.t(), head_dim, tokens), values: Panels::of(values, tokens, head_dim) } }
    }
}

/// Keys and values of one caption for one layer, packed for [`cross`].
#[derive(Clone, Debug)]
pub struct Context(Vec<Head>);

impl Context {
    /// From rows `[Tk, G, d]` of keys and of values.
    pub fn new(keys: &[f32], values: &[f32], heads: usize, head_dim: usize) -> Self {
        let width = heads * head_dim;
        assert!(keys.len() == values.len() && keys.len().is_multiple_of(width), "attention: context of {}", keys.len());
        let [keys, values] = [keys, values].map(|data| Tokens { data, stride: width });
        let tokens = keys.data.len() / width;
        // SAFETY: the assertion proved that both hold all tokens of every head.
        let head = |head| unsafe { Head::new(keys.head(0, head), values.head(0, head), tokens, head_dim) };
        Self((0..width).step_by(head_dim).map(head).collect())
    }

    /// Number of keys.
    pub fn tokens(&self) -> usize {
        self.0[0].values.k()
    }
}

/// `y [N, Tq, G, d]` where runs of adjacent images share a context: `runs` gives how many images and whose context, in
/// order. `shape.n` must be their sum. The queries of a run are multiplied together.
pub fn cross(y: &mut [f32], q: &[f32], runs: &[(usize, &Context)], shape: Shape, threads: Threads) {
    let Shape { n, queries, keys, heads, head_dim: d, causal } = shape;
    let width = shape.width();
    assert!(
        y.len() == n * queries * width
            && q.len() == y.len()
            && !causal
            && runs.iter().map(|run| run.0).sum::<usize>() == n
            && runs.iter().all(|(_, context)| context.tokens() == keys && context.0.len() == heads),
        "cross-attention: y {} q {} and {} contexts do not fit {shape:?}",
        y.len(),
        q.len(),
        runs.len()
    );
    let (block, target) = ((SCORES / keys).max(16), Shared::new(y));
    let mut tasks = Vec::new();
    let mut first = 0;
    for &(images, context) in runs {
        let end = first + images * queries;
        for from in (first..end).step_by(block) {
            tasks.extend((0..heads).map(|head| (from, block.min(end - from), head, context)));
        }
        first = end;
    }
    let run = |&(from, rows, head, context): &(usize, usize, usize, &Context)| {
        let at = from * width + head * d;
        let q = Mat { data: q[at..].as_ptr(), row_stride: width, col_stride: 1 };
        // SAFETY: the assertion above proved all extents; these rows and d columns of y are this task's alone.
        unsafe { attend(target.at(at), width, q, rows, &context.0[head], None) }
    };
    match threads {
        Threads::One => tasks.iter().for_each(run),
        Threads::All => tasks.par_iter().for_each(run),
    }
}

/// One block of queries of one head against all keys. With `causal = Some(i)`, the first query is query i of its image.
///
/// # Safety
/// As [`raw_packed`], for `y [rows, d]` and `q [rows, d]`.
unsafe fn attend(y: *mut f32, stride: usize, q: Mat, rows: usize, head: &Head, causal: Option<usize>) {
    let (keys, d) = (head.values.k(), head.values.n());
    let mut scores = BLOCK.take();
    let (block, totals) = first_of(&mut scores, rows * (keys + 1)).split_at_mut(rows * keys);
    let scale = (d as f32).powf(-0.5);
    // SAFETY: the scores hold rows × keys; the rest is the caller's promise.
    unsafe { raw_packed(block.as_mut_ptr(), keys, q, head.keys.all(), rows, scale) }
    vectorize(
        #[inline(always)]
        || {
            for ((i, row), total) in block.chunks_exact_mut(keys).enumerate().zip(totals.iter_mut()) {
                *total = exponentials(row, causal.map_or(keys, |from| from + i + 1)).1;
            }
        },
    );
    // SAFETY: as above.
    unsafe { raw_packed(y, stride, Mat::rows(block, keys), head.values.all(), rows, 1.0) }
    // The results are fewer than the probabilities.
    for (i, total) in totals.iter().enumerate() {
        // SAFETY: the caller's promise.
        let y = unsafe { std::slice::from_raw_parts_mut(y.add(i * stride), d) };
        let inverse = 1.0 / total;
        y.iter_mut().for_each(|value| *value *= inverse);
    }
    BLOCK.set(scores);
}
