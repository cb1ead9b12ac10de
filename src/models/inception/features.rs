//! Features on the CPU.

use super::network::{Inception, SIDE, WIDTH};
use crate::error::Result;
use crate::layers::convnet::CHANNELS;
use crate::layers::convnet::count::Needs;
use crate::layers::convnet::cpu::Cpu;

impl Inception {
    /// Features `[N, 2048]` of `images[N, 299, 299, 3]`, pixels in −1 to 1.
    ///
    /// # Errors
    /// None on this device.
    ///
    /// # Panics
    /// When there are other pictures.
    pub fn features(&self, images: &[f32]) -> Result<Vec<f32>> {
        self.features_of(images, SIDE)
    }

    /// The same of pictures of another side, 75 pixels at least.
    ///
    /// # Errors
    /// None on this device.
    ///
    /// # Panics
    /// When there are other pictures.
    pub fn features_of(&self, images: &[f32], side: usize) -> Result<Vec<f32>> {
        let each = CHANNELS * side * side;
        assert!(images.len().is_multiple_of(each), "inception: {} values are no pictures of {each}", images.len());
        let n = images.len() / each;
        let mut cpu = Cpu::new(images, Needs::of(1, |needs| self.walk(needs, n, side))?);
        let last = self.walk(&mut cpu, n, side)?;
        let pixels = last.size.0 * last.size.1;
        let mut features = vec![0.0f32; n * WIDTH];
        for (mean, map) in features.chunks_exact_mut(WIDTH).zip(cpu.read(last).chunks_exact(pixels * WIDTH)) {
            for row in map.chunks_exact(WIDTH) {
                mean.iter_mut().zip(row).for_each(|(mean, &v)| *mean += v);
            }
            mean.iter_mut().for_each(|v| *v /= pixels as f32);
        }
        Ok(features)
    }

    /// Values that `n` pictures hold at once beside the weights.
    ///
    /// # Errors
    /// None.
    pub fn activations(&self, n: usize) -> Result<usize> {
        let maps = Needs::of(1, |needs| self.walk(needs, n, SIDE))?;
        Ok(maps.iter().sum::<usize>() + n * CHANNELS * SIDE * SIDE)
    }
}
