//! Where the pixels of what is convolved lie.

use super::Shape;

/// Where the pixels of the canvas, which is the input or its enlargement, lie in the input.
#[derive(Debug)]
pub(super) struct Geometry {
    pub shape: Shape,
    /// Height and width.
    pub output: (usize, usize),
    /// Input row of canvas row − 1, and input column of canvas column − 1; [`PADDING`] beyond.
    rows: Vec<usize>,
    cols: Vec<usize>,
}

/// What stands for a row or column beyond the input.
pub(super) const PADDING: usize = usize::MAX;

impl Geometry {
    pub fn new(shape: Shape) -> Self {
        let (height, width) = shape.canvas();
        let map = |source: usize, canvas: usize| {
            let inside = (0..canvas).map(|i| i * source / canvas);
            std::iter::once(PADDING).chain(inside).chain(std::iter::once(PADDING)).collect()
        };
        Self { shape, output: shape.output(), rows: map(shape.height, height), cols: map(shape.width, width) }
    }

    /// Input row of row `row` of the canvas with its padding.
    pub fn row(&self, row: usize) -> usize {
        self.rows.get(row).copied().unwrap_or(PADDING)
    }

    /// Input column of column `column` of the canvas with its padding.
    pub fn column(&self, column: usize) -> usize {
        self.cols.get(column).copied().unwrap_or(PADDING)
    }
}
