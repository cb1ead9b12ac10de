//! A call on the CPU: its memory, and what a walk is given.

use std::collections::BTreeMap;

use crate::device::Plan;
use crate::layers::count::{Rooms, largest};
use crate::layers::{Size, Slot, Tensor};
use crate::ops::attention::Context;
use crate::ops::conv::{self, Shape};
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::packed::Start;

/// The slots of a network, each as large as the largest tensor that any call stores there.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<Slot, Vec<f32>>);

impl Memory {
    /// Takes what `rooms` asks for from the plan.
    pub fn take(plan: &mut Plan, group: &'static str, rooms: &Rooms) -> Self {
        let slot = |(slot, tensors): (Slot, _)| {
            let values = largest(tensors, |(rows, size, c): (usize, Size, usize)| rows * size.0 * size.1 * c);
            (slot, plan.f32(group, slot.name(), values))
        };
        Self(rooms.slots().map(slot).collect())
    }
}

/// Keys and values of one caption for every cross-attention of a network.
#[derive(Debug, Default)]
pub struct Caption(pub(super) Vec<Context>);

/// A call on this thread or on all. What a network does not read may be left as [`Call::new`] makes it.
#[derive(Debug)]
pub struct Call<'a> {
    pub memory: &'a mut Memory,
    pub threads: Threads,
    /// [`Slot::Input`] and [`Slot::Output`].
    pub input: &'a [f32],
    pub output: &'a mut [f32],
    /// Of the texts to encode, one behind the other.
    pub ids: &'a [u32],
    /// A row of the table of timesteps.
    pub time: &'a [f32],
    /// How many adjacent rows share which caption, in order.
    pub captions: &'a [(usize, &'a Caption)],
    /// Keys and values that the call made.
    pub made: Caption,
}

impl<'a> Call<'a> {
    pub fn new(memory: &'a mut Memory, threads: Threads) -> Self {
        Self {
            memory,
            threads,
            input: &[],
            output: &mut [],
            ids: &[],
            time: &[],
            captions: &[],
            made: Caption::default(),
        }
    }

    /// The values of a tensor.
    pub fn read(&self, x: Tensor) -> &[f32] {
        let slot = match x.slot {
            Slot::Input => self.input,
            slot => &self.memory.0[&slot],
        };
        &slot[..x.values()]
    }

    /// Lends the values of `y` to `op`, which may read every other slot.
    pub fn write(&mut self, y: Tensor, op: impl FnOnce(&mut [f32], &Self)) {
        if y.slot == Slot::Output {
            let output = std::mem::take(&mut self.output);
            op(&mut output[..y.values()], self);
            self.output = output;
        } else {
            let mut values = self.memory.0.get_mut(&y.slot).map(std::mem::take).unwrap_or_default();
            op(&mut values[..y.values()], self);
            self.memory.0.insert(y.slot, values);
        }
    }

    /// What a norm gave of `x`.
    pub fn normed(&mut self, x: Tensor, norm: impl FnOnce(&mut [f32], &[f32], Threads)) -> Tensor {
        let y = Tensor { slot: Slot::Normed, ..x };
        self.write(y, |y, this| norm(y, this.read(x), this.threads));
        y
    }

    pub fn group_normed(&mut self, x: Tensor, norm: &GroupNorm, silu: bool) -> Tensor {
        self.normed(x, |y, values, threads| norm.forward(y, values, x.pixels(), silu, threads))
    }

    pub fn convolve(&mut self, y: Tensor, w: &conv::Weights, x: Tensor, start: Start<'_>, shape: Shape) {
        self.write(y, |y, this| conv::forward(y, this.read(x), w, start, shape, this.threads));
    }
}
