//! On the CPU, in f32.

use super::{Conv, Layers, Maps, Part, Slot};
use crate::error::Result;
use crate::ops::conv2d::{self, Window};
use crate::ops::packed::{self, Packed, Start};
use crate::ops::pool::{self, Pool};
use crate::ops::{gemm::Threads, relu};

/// The memory of a walk over `pictures`.
#[derive(Debug)]
pub struct Cpu<'a> {
    pictures: &'a [f32],
    memory: [Vec<f32>; Slot::WRITTEN],
    /// What becomes some channels of wider maps.
    beside: Vec<f32>,
}

impl<'a> Cpu<'a> {
    /// With room for what [`Needs`](super::count::Needs) counted.
    pub fn new(pictures: &'a [f32], needs: [usize; Slot::WRITTEN]) -> Self {
        Self { pictures, memory: needs.map(|len| vec![0.0; len]), beside: Vec::new() }
    }

    /// What maps hold.
    pub fn read(&self, maps: Maps) -> &[f32] {
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
