//! Which images leave out which residual branches in training: stochastic depth (Huang et al. 2016, arXiv 1603.09382)
//! as timm has it, both branches of a block on their own.

use super::config::VitConfig;
use super::shape::BlockShape;
use crate::layers::training::{Dropped, Numbers};
use crate::ops::drop_path::Shape;
use crate::rng::{Domain, Stream};

/// Branches of a block: attention and MLP.
const BRANCHES: usize = 2;

/// The share of images that leave a branch out, which rises from 0 in the first block to `rate` in the last, and where
/// a call's numbers say which they are.
#[derive(Clone, Copy, Debug)]
pub struct DropPath {
    rate: f64,
    depth: usize,
    /// Images of the step.
    images: usize,
    /// The first of its numbers `[depth − 1, 2, images]`: of every block but the first, which keeps all.
    start: usize,
}

impl DropPath {
    /// For a step of `images`, whose numbers begin at `start` in the call's.
    pub fn new(config: &VitConfig, rate: f64, images: usize, start: usize) -> Self {
        Self { rate, depth: config.depth, images, start }
    }

    /// How many numbers a step is given.
    pub fn numbers(&self) -> usize {
        (self.depth - 1) * BRANCHES * self.images
    }

    /// Adds the numbers of images that are drawn by `keys`: 0 where one leaves the branch out, else 1.
    pub fn number(&self, seed: u64, keys: impl ExactSizeIterator<Item = [u32; 3]>, to: &mut Vec<u32>) {
        assert_eq!(keys.len(), self.images, "drop path: images");
        let (first, branches) = (to.len(), (self.depth - 1) * BRANCHES);
        to.resize(first + branches * self.images, 0);
        for (image, key) in keys.enumerate() {
            let mut stream = Stream::new(seed, Domain::DropPath, key);
            for branch in 0..branches {
                let kept = f64::from(stream.uniform()) >= self.rate_of(1 + branch / BRANCHES);
                to[first + branch * self.images + image] = kept.into();
            }
        }
    }

    fn rate_of(&self, block: usize) -> f64 {
        self.rate * block as f64 / (self.depth - 1) as f64
    }

    /// The branches of a block over images `first` and following; none where all keep them.
    pub(super) fn of(&self, block: usize, first: usize, shape: BlockShape) -> Option<[Dropped; BRANCHES]> {
        let BlockShape { n, queries: rows, width: d, .. } = shape;
        let before = block.checked_sub(1)?;
        let scale = (1.0 / (1.0 - self.rate_of(block))) as f32;
        let kept = |branch| Numbers { start: self.start + (before * BRANCHES + branch) * self.images + first, len: n };
        Some([0, 1].map(|branch| Dropped { kept: kept(branch), scale, shape: Shape { n, rows, d } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images leave branches out as often as the rates say; what one does depends on its key alone.
    #[test]
    fn rates_rise_over_the_blocks() {
        let config = VitConfig { depth: 5, ..VitConfig::named("vit_tiny").unwrap() };
        let (images, keys) = (20_000, |image: usize| [3, image as u32, 1]);
        let drop = DropPath::new(&config, 0.4, images, 7);
        let mut numbers = vec![9];
        drop.number(11, (0..images).map(keys), &mut numbers);
        assert_eq!(numbers.len(), 1 + drop.numbers());
        for (branch, kept) in numbers[1..].chunks_exact(images).enumerate() {
            let share = kept.iter().sum::<u32>() as f64 / images as f64;
            let want = 1.0 - 0.1 * (1 + branch / 2) as f64;
            assert!((share - want).abs() < 0.015, "branch {branch}: {share} of the images keep it, expected {want}");
        }
        let mut one = Vec::new();
        DropPath::new(&config, 0.4, 1, 0).number(11, [keys(77)].into_iter(), &mut one);
        let among: Vec<u32> = numbers[1..].chunks_exact(images).map(|kept| kept[77]).collect();
        assert_eq!(one, among);
        assert!(numbers[1..].chunks_exact(2 * images).any(|block| block[..images] != block[images..]));
    }
}
