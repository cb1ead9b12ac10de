//! What a walk needs of memory.

use super::network::{Conv, Inception, Layers, Maps, Part, Slot};
use crate::error::Result;
use crate::ops::conv2d::Window;
use crate::ops::pool::Pool;

/// Counts the values of every slot.
#[derive(Debug)]
pub(super) struct Needs {
    values: [usize; Slot::WRITTEN],
    /// Channels of a map are rounded up to this.
    piece: usize,
}

impl Needs {
    /// Values that `n` pictures of `side²` pixels take at most in every slot, with channels rounded up to `piece`.
    ///
    /// # Errors
    /// None.
    pub fn of<W>(inception: &Inception<W>, n: usize, side: usize, piece: usize) -> Result<[usize; Slot::WRITTEN]> {
        let mut needs = Self { values: [0; Slot::WRITTEN], piece };
        inception.walk(&mut needs, n, side)?;
        Ok(needs.values)
    }

    fn note(&mut self, Maps { slot, channels, .. }: Maps, pixels: usize) {
        let values = &mut self.values[slot.number()];
        *values = (*values).max(pixels * channels.next_multiple_of(self.piece));
    }
}

impl<W> Layers<W> for Needs {
    fn conv(&mut self, y: Part, _: Maps, _: &Conv<W>) -> Result<()> {
        self.note(y.maps, y.maps.pixels());
        Ok(())
    }

    fn pool(&mut self, y: Part, _: Maps, _: (Pool, Window)) -> Result<()> {
        self.note(y.maps, y.maps.pixels());
        Ok(())
    }
}
