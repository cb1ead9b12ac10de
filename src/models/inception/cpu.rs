//! On the CPU, in f32.

use super::needs::Needs;
use super::network::{CHANNELS, Conv, Inception, Layers, Maps, Part, SIDE, Slot, WIDTH};
use crate::error::Result;
use crate::ops::conv2d::{self, Window};
use crate::ops::packed::{self, Packed, Start};
use crate::ops::pool::{self, Pool};
use crate::ops::{gemm::Threads, relu};

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

    /// Values that `n` pictures hold at once beside the weights.
    pub fn activations(&self, n: usize) -> usize {
        let needs = Needs::of(self, n, SIDE, 1);
        needs.map_or(0, |needs| needs.iter().sum::<usize>() + n * CHANNELS * SIDE * SIDE)
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
        let memory = Needs::of(self, n, side, 1)?.map(|len| vec![0.0f32; len]);
        let mut cpu = Cpu { pictures: images, memory, beside: Vec::new() };
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
}

struct Cpu<'a> {
    pictures: &'a [f32],
    memory: [Vec<f32>; Slot::WRITTEN],
    /// What becomes some channels of wider maps.
    beside: Vec<f32>,
}

impl Cpu<'_> {
    fn read(&self, maps: Maps) -> &[f32] {
        match maps.slot {
            Slot::Pictures => self.pictures,
            slot => &self.memory[slot.number()][..maps.pixels() * maps.channels],
        }
    }

    /// Has `write` compute `y`.
    fn write(&mut self, y: Part, write: impl FnOnce(&Self, &mut [f32])) {
        let Part { maps, first, channels } = y;
        let mut all = std::mem::take(&mut self.memory[maps.slot.number()]);
        let written = &mut all[..maps.pixels() * maps.channels];
        if channels == maps.channels {
            write(self, written);
        } else {
            let mut beside = std::mem::take(&mut self.beside);
            beside.resize(beside.len().max(maps.pixels() * channels), 0.0);
            let rows = &mut beside[..maps.pixels() * channels];
            write(self, rows);
            for (to, from) in written.chunks_exact_mut(maps.channels).zip(rows.chunks_exact(channels)) {
                to[first..first + channels].copy_from_slice(from);
            }
            self.beside = beside;
        }
        self.memory[maps.slot.number()] = all;
    }
}

impl Layers<Packed> for Cpu<'_> {
    fn conv(&mut self, y: Part, x: Maps, conv: &Conv<Packed>) -> Result<()> {
        self.write(y, |cpu, y| {
            match conv.window.kernel {
                (1, 1) => packed::linear(y, cpu.read(x), &conv.weights, Start::Bias, Threads::All),
                _ => conv2d::forward(y, cpu.read(x), &conv.weights, x.under(conv.window)),
            }
            relu::forward_in_place(y);
        });
        Ok(())
    }

    fn pool(&mut self, y: Part, x: Maps, (pool, window): (Pool, Window)) -> Result<()> {
        self.write(y, |cpu, y| pool::forward(y, cpu.read(x), pool, x.under(window)));
        Ok(())
    }
}
