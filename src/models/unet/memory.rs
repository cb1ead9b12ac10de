//! Activations of a UNet call: sized once for the largest batch, overwritten by every call.

use super::{Config, UNet};
use crate::device::Plan;
use crate::models::layers::{Need, Scratch, Size};

/// What one call at a time writes to.
#[derive(Debug)]
pub struct Memory {
    /// Results of the way down, which the way up reads again.
    pub(super) skips: Vec<Skip>,
    /// The feature map and the next one.
    pub(super) now: Vec<f32>,
    pub(super) next: Vec<f32>,
    /// A feature map with its skip beside it.
    pub(super) joined: Vec<f32>,
    pub(super) scratch: Scratch,
}

/// One result of the way down.
#[derive(Debug)]
pub(super) struct Skip {
    values: Vec<f32>,
    pub(super) channels: usize,
    /// Values per row (image and guidance branch).
    row: usize,
}

impl Skip {
    pub(super) fn rows(&self, n: usize) -> &[f32] {
        &self.values[..n * self.row]
    }

    pub(super) fn rows_mut(&mut self, n: usize) -> &mut [f32] {
        &mut self.values[..n * self.row]
    }

    /// Copies the first `n` rows behind themselves.
    pub(super) fn repeat(&mut self, n: usize) {
        self.values.copy_within(..n * self.row, n * self.row);
    }
}

impl Config {
    /// Height and width of each level for a latent of this size.
    pub(super) fn sizes(&self, size: Size) -> Vec<Size> {
        let smaller = |&(h, w): &Size| Some((h.div_ceil(2), w.div_ceil(2)));
        std::iter::successors(Some(size), smaller).take(self.channels.len()).collect()
    }
}

impl UNet {
    /// Memory for calls of up to `rows` rows (images times guidance branches) of latents of `size`.
    pub fn memory(&self, plan: &mut Plan, group: &'static str, rows: usize, size: Size) -> Memory {
        let sizes = self.config.sizes(size);
        let pixels = |level: usize| sizes[level].0 * sizes[level].1;
        let mut need = Need::default();
        let first = self.conv_in.n;
        let (mut skips, mut widest, mut joined) = (vec![(first, pixels(0))], 0, 0);
        for (i, level) in self.down.iter().enumerate() {
            for block in &level.blocks {
                block.need(&mut need, rows * pixels(i));
                skips.push((block.resnet.outputs(), pixels(i)));
            }
            if let Some(conv) = &level.change {
                skips.push((conv.n, pixels(i + 1)));
            }
        }
        for block in &self.mid {
            let deepest = rows * pixels(sizes.len() - 1);
            block.need(&mut need, deepest);
            widest = widest.max(deepest * block.resnet.outputs());
        }
        for (i, level) in self.up.iter().enumerate() {
            let at = sizes.len() - 1 - i;
            for block in &level.blocks {
                block.need(&mut need, rows * pixels(at));
                widest = widest.max(rows * pixels(at) * block.resnet.outputs());
                joined = joined.max(rows * pixels(at) * block.resnet.inputs());
            }
            if let Some(conv) = &level.change {
                widest = widest.max(rows * pixels(at - 1) * conv.n);
            }
        }
        need.at_least(rows * pixels(0) * first, 0, 0, 0);
        let skip = |(i, (channels, pixels)): (usize, (usize, usize))| Skip {
            values: plan.f32(group, format!("skip {i}"), rows * pixels * channels),
            channels,
            row: pixels * channels,
        };
        Memory {
            skips: skips.into_iter().enumerate().map(skip).collect(),
            now: plan.f32(group, "feature map", widest),
            next: plan.f32(group, "next feature map", widest),
            joined: plan.f32(group, "feature map and skip", joined),
            scratch: need.allocate(plan, group),
        }
    }
}
