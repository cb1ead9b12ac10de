//! One call of the UNet.

use rayon::prelude::*;

use super::{Batch, Block, Memory, UNet};
use crate::models::layers::{Need, Scratch, Size};
use crate::ops::attention::Context;
use crate::ops::conv::{self, Shape};
use crate::ops::gemm::Threads;
use crate::ops::packed::Start;

/// Pixels per task of [`join`].
const PIXELS: usize = 256;

impl Block {
    /// Counts the scratch for so many pixels in all.
    pub(super) fn need(&self, need: &mut Need, pixels: usize) {
        self.resnet.need(need, pixels);
        if let Some(transformer) = &self.transformer {
            transformer.need(need, pixels);
        }
    }
}

/// What every block of a call needs.
struct Pass<'a> {
    batch: &'a Batch<'a>,
    time: &'a [f32],
    rows: usize,
    threads: Threads,
}

impl Pass<'_> {
    fn resnet(&self, block: &Block, y: &mut [f32], x: &[f32], (n, size): (usize, Size), scratch: &mut Scratch) {
        let time = &self.time[block.offset..block.offset + block.resnet.outputs()];
        block.resnet.forward(y, x, (n, size), Some(time), scratch, self.threads);
    }

    /// Runs the block's transformer, if it has one, on `x` whose first `valid` rows hold values; true if it did.
    fn transformer(&self, block: &Block, x: &mut [f32], valid: usize, size: Size, scratch: &mut Scratch) -> bool {
        let Some(transformer) = &block.transformer else { return false };
        let runs: Vec<(usize, &Context)> =
            self.batch.runs.iter().map(|&(rows, context)| (rows, &context.0[transformer.index])).collect();
        transformer.forward(x, (valid, self.rows, size.0 * size.1), &runs, scratch, self.threads);
        true
    }
}

impl UNet {
    /// `out [rows, H, W, out_channels]` for latents `x [images, H, W, in_channels]`; `time` is a row of the time table. `memory` must
    /// have been made for this size and at least this many rows.
    pub fn forward(
        &self,
        out: &mut [f32],
        x: &[f32],
        batch: &Batch<'_>,
        time: &[f32],
        memory: &mut Memory,
        threads: Threads,
    ) {
        let (rows, images, size) = (batch.rows(), batch.images, batch.size);
        assert!(rows == images || rows == 2 * images, "unet: {rows} rows for {images} images");
        let Memory { skips, now, next, joined, scratch } = memory;
        let pass = Pass { batch, time, rows, threads };
        let sizes = self.config.sizes(size);
        // Until a caption is first looked at, both guidance branches of an image are the same: only the first is computed.
        let mut valid = images;

        let shape = Shape::same(images, size.0, size.1, self.config.in_channels);
        conv::forward(skips[0].rows_mut(images), x, &self.conv_in, Start::Bias, shape, threads);
        let mut done = 0;
        for (level, &size) in self.down.iter().zip(&sizes) {
            for block in &level.blocks {
                let (before, after) = skips.split_at_mut(done + 1);
                pass.resnet(block, after[0].rows_mut(valid), before[done].rows(valid), (valid, size), scratch);
                if pass.transformer(block, after[0].rows_mut(rows), valid, size, scratch) && valid < rows {
                    before.iter_mut().for_each(|skip| skip.repeat(valid));
                    valid = rows;
                }
                done += 1;
            }
            if let Some(conv) = &level.change {
                let (before, after) = skips.split_at_mut(done + 1);
                let shape = Shape { stride: 2, ..Shape::same(valid, size.0, size.1, before[done].channels) };
                let (y, x) = (after[0].rows_mut(valid), before[done].rows(valid));
                conv::forward(y, x, conv, Start::Bias, shape, threads);
                done += 1;
            }
        }
        if valid < rows {
            skips.iter_mut().for_each(|skip| skip.repeat(valid));
        }

        let deepest = sizes[sizes.len() - 1];
        let values = rows * deepest.0 * deepest.1 * skips[done].channels;
        now[..values].copy_from_slice(skips[done].rows(rows));
        for block in &self.mid {
            pass.resnet(block, &mut next[..values], &now[..values], (rows, deepest), scratch);
            pass.transformer(block, &mut next[..values], rows, deepest, scratch);
            std::mem::swap(now, next);
        }

        let mut left = skips.iter().rev();
        for (level, at) in self.up.iter().zip((0..sizes.len()).rev()) {
            let size = sizes[at];
            let pixels = rows * size.0 * size.1;
            for (block, skip) in level.blocks.iter().zip(&mut left) {
                let (inputs, outputs) = (block.resnet.inputs(), block.resnet.outputs());
                let c = inputs - skip.channels;
                let joined = &mut joined[..pixels * inputs];
                join(joined, (&now[..pixels * c], c), (skip.rows(rows), skip.channels), threads);
                let y = &mut next[..pixels * outputs];
                pass.resnet(block, y, joined, (rows, size), scratch);
                pass.transformer(block, y, rows, size, scratch);
                std::mem::swap(now, next);
            }
            if let Some(conv) = &level.change {
                let larger = sizes[at - 1];
                let shape = Shape { enlarge: Some(larger), ..Shape::same(rows, size.0, size.1, conv.n) };
                let y = &mut next[..rows * larger.0 * larger.1 * conv.n];
                conv::forward(y, &now[..pixels * conv.n], conv, Start::Bias, shape, threads);
                std::mem::swap(now, next);
            }
        }

        let c = self.norm_out.channels();
        let normed = &mut scratch.a[..rows * size.0 * size.1 * c];
        self.norm_out.forward(normed, &now[..rows * size.0 * size.1 * c], size.0 * size.1, true, threads);
        conv::forward(out, normed, &self.conv_out, Start::Bias, Shape::same(rows, size.0, size.1, c), threads);
    }
}

/// Channels of `a` and of `b` side by side.
fn join(y: &mut [f32], (a, ca): (&[f32], usize), (b, cb): (&[f32], usize), threads: Threads) {
    let some = |y: &mut [f32], a: &[f32], b: &[f32]| {
        for ((y, a), b) in y.chunks_exact_mut(ca + cb).zip(a.chunks_exact(ca)).zip(b.chunks_exact(cb)) {
            y[..ca].copy_from_slice(a);
            y[ca..].copy_from_slice(b);
        }
    };
    match threads {
        Threads::One => some(y, a, b),
        Threads::All => {
            let pieces = y.par_chunks_mut(PIXELS * (ca + cb)).zip(a.par_chunks(PIXELS * ca));
            pieces.zip(b.par_chunks(PIXELS * cb)).for_each(|((y, a), b)| some(y, a, b));
        }
    }
}
