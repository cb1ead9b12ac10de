//! Device memory of a network's calls: slots, and feature maps that carry what the next group norm wants to know of
//! them.

use std::collections::BTreeMap;

use crate::device::cuda::{Arena, Half, View};
use crate::layers::count::{Rooms, largest};
use crate::layers::{Size, Slot, Tensor};
use crate::ops::conv::cuda::Source;
use crate::ops::groupnorm::cuda as groupnorm;

/// `x [rows, H, W, channels]` and its moments.
#[derive(Clone, Copy, Debug)]
pub struct Map<T> {
    pub x: View<T>,
    pub moments: View<f32>,
    pub rows: usize,
    pub size: Size,
    pub channels: usize,
}

impl<T: Half> Map<T> {
    pub fn pixels(self) -> usize {
        self.size.0 * self.size.1
    }

    pub fn source(self) -> Source<T> {
        Source { x: self.x, rows: self.rows }
    }
}

/// The slots of a network, each as large as the largest tensor that any call stores there.
#[derive(Clone, Debug)]
pub struct Memory<T> {
    /// Values, and moments of feature maps.
    slots: BTreeMap<Slot, (View<T>, Option<View<f32>>)>,
    /// Scales and shifts of a group norm.
    pub(super) table: View<f32>,
}

impl<T: Half> Memory<T> {
    /// Takes what `rooms` asks for.
    pub fn take(arena: &mut Arena, group: &'static str, rooms: &Rooms) -> Self {
        let mut slots = BTreeMap::new();
        for (slot, tensors) in rooms.slots() {
            let values = largest(tensors.clone(), |(rows, size, c)| rows * size.0 * size.1 * c);
            let x = arena.take(group, slot.name(), values);
            let moments = slot.is_map().then(|| {
                let len = largest(tensors, |(rows, size, c)| groupnorm::moments_len(rows, size.0 * size.1, c));
                arena.take(group, format!("{}, moments", slot.name()), len)
            });
            slots.insert(slot, (x, moments));
        }
        let table = largest(rooms.norms(), |(rows, channels)| groupnorm::table_len(rows, channels));
        Self { slots, table: arena.take(group, "scales and shifts", table) }
    }

    /// The same memory for values of the other 16-bit type.
    pub fn cast<U: Half>(&self) -> Memory<U> {
        let slots = self.slots.iter().map(|(&slot, &(x, moments))| (slot, (x.cast(), moments))).collect();
        Memory { slots, table: self.table }
    }

    /// The whole slot.
    pub fn slot(&self, slot: Slot) -> View<T> {
        self.slots[&slot].0
    }

    /// # Panics
    /// If the slot is none of feature maps.
    pub fn map(&self, x: Tensor) -> Map<T> {
        let Tensor { slot, rows, size, channels } = x;
        let (values, Some(moments)) = self.slots[&slot] else { panic!("{slot:?} holds no feature maps") };
        let moments = moments.slice(0..groupnorm::moments_len(rows, x.pixels(), channels));
        Map { x: values.slice(0..x.values()), moments, rows, size, channels }
    }
}
