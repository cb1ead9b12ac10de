//! Winograd's minimal filtering F(4×4, 3×3) (Lavin & Gray, arXiv 1509.09308): tiles of 4×4 results are made from 6×6
//! pixels by 36 products instead of 144.
//!
//! `Y = Aᵀ·[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A`, summed over the channels between the brackets: 36 matrix products `[tiles, C]·[C,
//! N]`. The points of interpolation are 0, ±√½, ±√2 and ∞: over 512 channels the results are off by 2e-6 of the
//! largest, as those of one chain of additions are, where the usual 0, ±1, ±2 and ∞ give 1e-5.

mod transform;

use std::array;
use std::cell::Cell;

use rayon::prelude::*;

use self::transform::{LANES, SIDE, TILE, filters, from_places, to_places};
use super::geometry::{Geometry, PADDING};
use super::shape::Shape;
use crate::ops::gemm::{self, Begin, Operands, Panels, Threads, first_of};
use crate::ops::packed::First;

/// Places of a tile's transform.
pub(super) const PLACES: usize = SIDE * SIDE;

/// Fewest channels, of both sides, for which the transforms do not outweigh what is saved.
const FEWEST: usize = 32;

/// Most pairs of channels: Stable Diffusion's 1920 → 640, whose 36 matrices take 177 MB. Larger layers have small maps,
/// over which reading four times the weights takes as long as multiplying with them.
const MOST: usize = 640 * 1920;

/// Tiles that are multiplied at once, about: as often are the weights used that come from beyond the second cache.
const TILES: usize = 72;

/// Tiles below which threads share the products instead, so that weights are read by one of them, unless they are few.
const TILES_OF_A_THREAD: usize = 24;
const FEW_WEIGHTS: usize = 1 << 18;

/// Below this many FLOPs a second thread costs more than it saves.
const PARALLEL_FLOPS: usize = 1 << 22;

/// Whether a layer may be computed so; not in bf16, whose rounding the transforms would make many times as large.
pub(super) fn is_for((channels, outputs): (usize, usize), stride: usize, operands: Operands) -> bool {
    let fits = channels.min(outputs) >= FEWEST && channels * outputs <= MOST;
    operands == Operands::F32 && stride == 1 && fits
}

/// Whether the results fill their tiles well enough.
pub(super) fn fills(shape: Shape) -> bool {
    let (height, width) = shape.output();
    let (rows, columns) = (height.next_multiple_of(TILE), width.next_multiple_of(TILE));
    rows * columns <= 2 * height * width
}

/// A matrix `[C, N]` for every place.
#[derive(Clone, Debug)]
pub(super) struct Winograd {
    places: Vec<Panels>,
}

impl Winograd {
    /// From PyTorch's order `[N, C, 3, 3]`.
    pub fn new(w: &[f32], channels: usize, outputs: usize) -> Self {
        let filters = filters(w, channels, outputs);
        Self { places: filters.into_par_iter().map(|place| Panels::new(&place, channels, outputs)).collect() }
    }
}

thread_local! {
    /// Pixels and sums of this thread by places, and zeros. Taken while in use, so that a task stolen in between gets
    /// its own.
    static BUFFERS: Cell<[Vec<f32>; 3]> = const { Cell::new([const { Vec::new() }; 3]) };
}

/// Rows of tiles of one image, as they lie in the result, from the first on.
struct Strips<'a, 'y> {
    first: usize,
    results: &'a mut [&'y mut [f32]],
}

/// As [`super::forward`], with stride 1.
pub(super) fn forward(y: &mut [f32], x: &[f32], w: &Winograd, first: First<'_>, geometry: &Geometry, threads: Threads) {
    let ((height, width), n) = (geometry.output, first.outputs);
    let images = y.chunks_mut(height * width * n);
    let mut strips: Vec<&mut [f32]> = images.flat_map(|image| image.chunks_mut(TILE * width * n)).collect();
    let (across, weights) = (width.div_ceil(TILE), PLACES * geometry.shape.channels * n);
    let threads = if 2 * strips.len() * across * weights < PARALLEL_FLOPS { Threads::One } else { threads };
    let workers = if threads == Threads::All { rayon::current_num_threads() } else { 1 };
    // An equal share of equal parts for everyone.
    let parts = strips.len().div_ceil((TILES / across).max(1)).next_multiple_of(workers);
    let each = strips.len().div_ceil(parts);
    let run = |(i, results): (usize, &mut [&mut [f32]]), threads| {
        part(Strips { first: i * each, results }, x, w, first, geometry, threads);
    };
    if workers > 1 && (each * across >= TILES_OF_A_THREAD || weights <= FEW_WEIGHTS) {
        strips.par_chunks_mut(each).enumerate().for_each(|strips| run(strips, Threads::One));
    } else {
        strips.chunks_mut(each).enumerate().for_each(|strips| run(strips, threads));
    }
}

/// Values between the beginnings of two places' matrices of this many values: those of all places would else meet in
/// few sets of a cache where the matrices' size is a power of two.
fn apart(values: usize) -> usize {
    values.next_multiple_of(1024) + LANES
}

/// Some strips of the result.
fn part(
    Strips { first: first_strip, results }: Strips<'_, '_>,
    x: &[f32],
    w: &Winograd,
    first: First<'_>,
    geometry: &Geometry,
    threads: Threads,
) {
    let ((height, width), c, n) = (geometry.output, geometry.shape.channels, first.outputs);
    let (down, across) = (height.div_ceil(TILE), width.div_ceil(TILE));
    let tiles = results.len() * across;
    let (before, after) = (apart(tiles * c), apart(tiles * n));
    let mut buffers = BUFFERS.take();
    let [pixels, sums, zeros] = &mut buffers;
    let pixels = first_of(pixels, PLACES * before);
    let (sums, zeros) = (first_of(sums, PLACES * after), &*first_of(zeros, c));
    let place_of = |strip: usize| (strip / down, strip % down * TILE);

    let mut rows: Vec<_> = pixels.chunks_mut(before).map(|place| place.chunks_mut(across * c)).collect();
    let strips: Vec<(usize, [&mut [f32]; PLACES])> = (first_strip..first_strip + results.len())
        .map(|strip| (strip, array::from_fn(|place| rows[place].next().unwrap_or_default())))
        .collect();
    each(strips, threads, |(strip, mut to)| {
        let (image, top) = place_of(strip);
        for tile in 0..across {
            to_places(&mut to, tile * c, &window(x, zeros, geometry, image, (top, tile * TILE)));
        }
    });

    let products = sums.chunks_mut(after).zip(pixels.chunks(before)).zip(&w.places).collect();
    each(products, threads, |((sums, pixels), w): ((&mut [f32], &[f32]), &Panels)| {
        gemm::packed(&mut sums[..tiles * n], &pixels[..tiles * c], w.all(), Begin::Zero, Threads::One);
    });

    let sums = &*sums;
    let strips: Vec<_> = results.iter_mut().enumerate().collect();
    each(strips, threads, |(i, y)| {
        let (image, top) = place_of(first_strip + i);
        let begin = first.begin(y, (image * height + top) * width);
        for tile in 0..across {
            let from = array::from_fn(|place| &sums[place * after + (i * across + tile) * n..][..n]);
            from_places(y, (width, tile * TILE), &from, begin);
        }
    });
    BUFFERS.set(buffers);
}

/// The pixels `[C]` that a tile's results are made from; zeros beyond the image.
fn window<'a>(
    x: &'a [f32],
    zeros: &'a [f32],
    geometry: &Geometry,
    image: usize,
    (top, left): (usize, usize),
) -> [&'a [f32]; PLACES] {
    let Shape { height, width, channels: c, .. } = geometry.shape;
    array::from_fn(|place| match (geometry.row(top + place / SIDE), geometry.column(left + place % SIDE)) {
        (PADDING, _) | (_, PADDING) => zeros,
        (row, column) => &x[((image * height + row) * width + column) * c..][..c],
    })
}

fn each<T: Send>(items: Vec<T>, threads: Threads, run: impl Fn(T) + Send + Sync) {
    match threads {
        Threads::One => items.into_iter().for_each(run),
        Threads::All => items.into_par_iter().for_each(run),
    }
}
