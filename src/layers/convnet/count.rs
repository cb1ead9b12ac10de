//! What a walk needs of memory.

use super::{Conv, Layers, Maps, Part, Slot};
use crate::error::Result;
use crate::ops::conv2d::Window;
use crate::ops::pool::Pool;

/// Counts the values of every slot.
#[derive(Debug)]
pub struct Needs {
    values: [usize; Slot::WRITTEN],
    /// Channels of a map are rounded up to this.
    piece: usize,
}

impl Needs {
    /// Values that the tensors of `walk` take at most in every slot, with channels rounded up to `piece`.
    ///
    /// # Errors
    /// Those of `walk`.
    pub fn of(piece: usize, walk: impl FnOnce(&mut Self) -> Result<Maps>) -> Result<[usize; Slot::WRITTEN]> {
        let mut needs = Self { values: [0; Slot::WRITTEN], piece };
        walk(&mut needs)?;
        Ok(needs.values)
    }

    fn note(&mut self, maps: Maps) -> Result<()> {
        let values = &mut self.values[maps.slot.number()];
        *values = (*values).max(maps.pixels() * maps.channels.next_multiple_of(self.piece));
        Ok(())
    }
}

impl<W> Layers<W> for Needs {
    fn conv(&mut self, y: Part, _: Maps, _: &Conv<W>) -> Result<()> {
        self.note(y.maps)
    }

    fn pool(&mut self, y: Part, _: Maps, _: (Pool, Window)) -> Result<()> {
        self.note(y.maps)
    }
}
