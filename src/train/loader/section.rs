//! Rows of one size among those of a batch.

use std::ops::Range;

/// Rows of a batch that have one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub rows: Range<usize>,
    /// Side of a view, pixels.
    pub side: usize,
    /// Where its values begin among those of the batch.
    pub start: usize,
}

impl Section {
    /// Its first values are at a multiple of this, so that kernels read whole vectors.
    const ALIGN: usize = 16;

    pub(super) fn behind(before: Option<&Self>, rows: usize, side: usize) -> Self {
        let first = before.map_or(0, |section| section.rows.end);
        let start = before.map_or(0, |section| section.values().end.next_multiple_of(Self::ALIGN));
        Self { rows: first..first + rows, side, start }
    }

    /// Of all its views `[rows, side, side, 3]`.
    pub fn values(&self) -> Range<usize> {
        self.start..self.start + self.rows.len() * self.view_len()
    }

    pub fn view_len(&self) -> usize {
        self.side * self.side * 3
    }

    /// Values of a batch of `sections`.
    pub fn values_of(sections: &[Self]) -> usize {
        sections.last().map_or(0, |section| section.values().end)
    }
}
