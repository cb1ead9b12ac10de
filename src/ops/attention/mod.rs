//! Attention of inference: `O = softmax(Q·Kᵀ/√d)·V` per image and head, in blocks of queries whose scores stay in cache
//! (the idea of Dao et al. 2022 with whole rows: the T×T matrix never exists).
//!
//! [`forward`] reads Q, K, V through strides; [`cross`] uses a context packed once per caption ([`Context`]) for all
//! its images and steps. FLOPs: 4·N·G·Tq·Tk·d. Bytes: Q, K, V, O once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::cell::Cell;

use rayon::prelude::*;

use super::gemm::{Mat, Threads, raw};
use super::self_attention::{Shared, softmax_row};
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
    let blocks = queries.div_ceil(block);
    spread(n * heads * blocks, threads, |task| {
        let (pair, from) = (task / blocks, task % blocks * block);
        let (image, column) = (pair / heads, pair % heads * d);
        let rows = block.min(queries - from);
        let first = image * queries + from;
        // SAFETY: `check` proved the inputs' extents; rows first..first + rows and these d columns of y are this task's
        // alone.
        unsafe {
            let y = target.at(first * width + column);
            let (q, k, v) = (q.head(first, column), k.head(image * keys, column), v.head(image * keys, column));
            attend(y, width, q, k.t(), v, (rows, keys, d), causal.then_some(from));
        }
    });
}

/// Keys and values of one caption for one layer, packed for [`cross`].
#[derive(Clone, Debug)]
pub struct Context {
    /// `[G, d, Tk]`.
    keys: Vec<f32>,
    /// `[G, Tk, d]`.
    values: Vec<f32>,
}

impl Context {
    /// From rows `[Tk, G, d]` of keys and of values.
    pub fn new(keys: &[f32], values: &[f32], heads: usize, head_dim: usize) -> Self {
        let width = heads * head_dim;
        assert!(keys.len() == values.len() && keys.len().is_multiple_of(width), "attention: context of {}", keys.len());
        let tokens = keys.len() / width;
        let mut this = Self { keys: vec![0.0; keys.len()], values: vec![0.0; values.len()] };
        for (t, (keys, values)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            for head in 0..heads {
                let (from, to) = (head * head_dim, (head + 1) * head_dim);
                let at = (head * tokens + t) * head_dim;
                this.values[at..at + head_dim].copy_from_slice(&values[from..to]);
                for (c, &key) in keys[from..to].iter().enumerate() {
                    this.keys[(from + c) * tokens + t] = key;
                }
            }
        }
        this
    }

    /// Number of keys, for a width of G·d.
    pub fn tokens(&self, width: usize) -> usize {
        self.keys.len() / width
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
            && runs.iter().all(|run| run.1.keys.len() == keys * width),
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
    spread(tasks.len(), threads, |task| {
        let (from, rows, head, context) = tasks[task];
        let at = from * width + head * d;
        let keys_of_head = Mat::rows(&context.keys[head * d * keys..(head + 1) * d * keys], keys);
        let values_of_head = Mat::rows(&context.values[head * d * keys..(head + 1) * d * keys], d);
        let q = Mat { data: q[at..].as_ptr(), row_stride: width, col_stride: 1 };
        // SAFETY: the assertion above proved all extents; these rows and d columns of y are this task's alone.
        unsafe { attend(target.at(at), width, q, keys_of_head, values_of_head, (rows, keys, d), None) }
    });
}

fn spread(tasks: usize, threads: Threads, run: impl Fn(usize) + Send + Sync) {
    match threads {
        Threads::One => (0..tasks).for_each(run),
        Threads::All => (0..tasks).into_par_iter().for_each(run),
    }
}

/// One block of queries of one head against all keys. With `causal = Some(i)`, the first query is query i of its image.
///
/// # Safety
/// As [`raw`], for `y [rows, d]`, `q [rows, d]`, `k [d, keys]` and `v [keys, d]`.
unsafe fn attend(
    y: *mut f32,
    stride: usize,
    q: Mat,
    k: Mat,
    v: Mat,
    (rows, keys, d): (usize, usize, usize),
    causal: Option<usize>,
) {
    let mut scores = BLOCK.take();
    if scores.len() < rows * keys {
        scores.resize(rows * keys, 0.0);
    }
    let scale = (d as f32).powf(-0.5);
    // SAFETY: the scores hold rows × keys; the rest is the caller's promise.
    unsafe { raw(scores.as_mut_ptr(), keys, q, k, (rows, keys, d), false, scale, Threads::One) }
    let block = &mut scores[..rows * keys];
    vectorize(
        #[inline(always)]
        || {
            for (i, row) in block.chunks_exact_mut(keys).enumerate() {
                softmax_row(row, causal.map_or(keys, |from| from + i + 1));
            }
        },
    );
    // SAFETY: as above.
    unsafe { raw(y, stride, Mat::rows(block, keys), v, (rows, d, keys), false, 1.0, Threads::One) }
    BLOCK.set(scores);
}
