//! A layer as the checks describe it.

use crate::device::cuda::View;
use crate::ops::activation;
use crate::ops::conv::cuda::{Activation, Bias, RUN, Segment, Shape, Taps, pack_bias};

/// A layer with everything its epilogue does.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Layer {
    pub shape: Shape,
    /// Images each source holds; fewer than n repeat.
    pub rows: Vec<usize>,
    /// Rows of the bias table and the one to take; 0: a vector.
    pub table: (usize, usize),
    pub bias: bool,
    pub activation: Activation,
    /// Images of the residual; 0: none.
    pub residual: usize,
    pub moments: bool,
    /// Weights packed for twofold enlargement too.
    pub doubling: bool,
}

impl Layer {
    /// With a bias, sources of n images.
    pub fn new(shape: Shape) -> Self {
        let rows = vec![shape.n; shape.segments.len()];
        Self {
            shape,
            rows,
            table: (0, 0),
            bias: true,
            activation: Activation::None,
            residual: 0,
            moments: false,
            doubling: false,
        }
    }

    pub fn moments(self) -> Self {
        Self { moments: true, ..self }
    }

    pub fn residual(self, rows: usize) -> Self {
        Self { residual: rows, ..self }
    }

    pub fn rows(self, rows: &[usize]) -> Self {
        Self { rows: rows.to_vec(), ..self }
    }

    pub fn table(self, rows: usize, row: usize) -> Self {
        Self { table: (rows, row), ..self }
    }

    pub fn activated(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    pub fn doubling(self) -> Self {
        Self { doubling: true, ..self }
    }

    pub fn gated(&self) -> bool {
        self.activation == Activation::Geglu
    }

    /// Columns of y.
    pub fn width(&self) -> usize {
        if self.gated() { self.shape.outputs / 2 } else { self.shape.outputs }
    }

    /// Rows of outputs after the activation.
    pub fn activate(&self, mut sums: Vec<f32>) -> Vec<f32> {
        match self.activation {
            Activation::None => {}
            Activation::Geglu => {
                let mut half = vec![0.0; sums.len() / 2];
                activation::geglu(&mut half, &sums, self.shape.outputs / 2);
                return half;
            }
            Activation::Silu => activation::silu(&mut sums),
            Activation::Gelu => activation::gelu(&mut sums),
            Activation::QuickGelu => activation::quick_gelu(&mut sums),
        }
        sums
    }

    /// The rows of a table of biases as kernels read them, three more columns on either side of each.
    pub fn pack_biases(&self, table: &[f32]) -> Vec<f32> {
        let gap = vec![f32::NAN; if self.table.0 > 0 { 3 } else { 0 }];
        let rows = table.chunks_exact(self.shape.outputs);
        rows.flat_map(|bias| [&gap[..], &pack_bias(bias, self.gated()), &gap].concat()).collect()
    }

    /// The bias of [`Self::pack_biases`].
    pub fn bias(&self, packed: Option<View<f32>>, step: View<u32>) -> Bias {
        match packed {
            None => Bias::None,
            Some(bias) if self.table.0 == 0 => Bias::Vector(bias),
            Some(table) => Bias::Table { table, stride: self.shape.outputs + 6, offset: 3, step },
        }
    }

    pub fn y_len(&self) -> usize {
        self.shape.n * self.shape.pixels() * self.width()
    }
}

/// Three by three taps.
pub fn three(
    n: usize,
    size: (usize, usize),
    channels: usize,
    outputs: usize,
    stride: usize,
    enlarge: Option<(usize, usize)>,
) -> Shape {
    Shape::of(n, size, Segment { channels, taps: Taps::Three { stride, enlarge } }, outputs)
}

/// Sums and sums of squares per image, run and channel.
pub(in crate::ops) fn sums(y: &[f32], layer: &Layer) -> Vec<f32> {
    let (pixels, width) = (layer.shape.pixels(), layer.width());
    let mut all = Vec::new();
    for image in y.chunks_exact(pixels * width) {
        for run in image.chunks(RUN * width) {
            for channel in 0..width {
                let values = || run.iter().skip(channel).step_by(width).map(|&v| f64::from(v));
                all.push(values().sum::<f64>() as f32);
                all.push(values().map(|v| v * v).sum::<f64>() as f32);
            }
        }
    }
    all
}
