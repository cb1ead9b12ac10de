//! Products: convolutions and linear layers with their weights, of 16-bit or of e4m3 values.

use super::memory::Map;
use crate::device::cuda::{Gpu, Half, View};
use crate::error::Result;
use crate::layers::Size;
use crate::ops::activation::Activation;
use crate::ops::conv::cuda::{self as conv, Bias, Epilogue, Quantized, Segment, Source, Stored, Taps};
use crate::ops::reduce::cuda as reduce;

/// The weights of a layer, which say what it reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Matrix<T> {
    /// 16-bit values. If there is a place for it, the largest magnitude of what was read is kept there.
    Half(View<T>, Option<View<f32>>),
    /// e4m3 values, stored times `inverse`.
    E4m3 { w: Quantized, inverse: f32 },
}

/// A product with its weights and bias.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    pub(super) w: Matrix<T>,
    pub(super) bias: Option<View<f32>>,
    /// Columns of the weights; a gated layer gives half of them.
    pub(super) outputs: usize,
    pub(super) segments: Vec<Segment>,
    pub(super) activation: Activation,
}

/// What a layer reads, in the form it wants, of so many images.
#[derive(Clone, Copy, Debug)]
pub struct Input<T> {
    pub x: Stored<T>,
    pub rows: usize,
}

impl<T: Half> From<Source<T>> for Input<T> {
    fn from(source: Source<T>) -> Self {
        Self { x: source.x.into(), rows: source.rows }
    }
}

impl<T: Half> Layer<T> {
    /// Columns of what it reads first.
    pub(super) fn inputs(&self) -> usize {
        self.segments[0].channels
    }

    /// Where to put the `len` values of `rows` images that this layer reads: the beginning of `room`.
    pub fn input(&self, room: View<T>, rows: usize, len: usize) -> Input<T> {
        let x = match self.w {
            Matrix::Half(..) => room.slice(0..len).into(),
            Matrix::E4m3 { inverse, .. } => {
                Stored::E4m3 { y: room.slice(0..len.div_ceil(2)).cast().slice(0..len), inverse }
            }
        };
        Input { x, rows }
    }

    pub(super) fn shape(&self, n: usize, size: Size) -> conv::Shape {
        conv::Shape { n, height: size.0, width: size.1, outputs: self.outputs, segments: self.segments.clone() }
    }

    pub(super) fn epilogue(&self) -> Epilogue<T> {
        let bias = self.bias.map_or(Bias::None, Bias::Vector);
        Epilogue { bias, activation: self.activation, ..Epilogue::default() }
    }

    /// `y = epilogue(x·w)`, and of a 16-bit layer `more` of its segments.
    ///
    /// # Panics
    /// If x is not as [`Layer::input`] says, or a 16-bit layer is to store e4m3 values.
    pub(super) fn run(
        &self,
        gpu: &Gpu,
        y: Stored<T>,
        x: Input<T>,
        more: &[Source<T>],
        epilogue: Epilogue<T>,
        shape: &conv::Shape,
    ) -> Result<()> {
        let rows = x.rows;
        match (self.w, x.x, y) {
            (Matrix::Half(w, largest), Stored::Half(x), Stored::Half(y)) => {
                if let Some(largest) = largest {
                    reduce::absmax(gpu, largest, x)?;
                }
                let sources: Vec<_> = [Source { x, rows }].into_iter().chain(more.iter().copied()).collect();
                conv::forward(gpu, y, &sources, w, epilogue, shape)
            }
            (Matrix::E4m3 { w, .. }, Stored::E4m3 { y: x, .. }, y) if more.is_empty() => {
                conv::forward_e4m3(gpu, y, Source { x, rows }, w, epilogue, shape)
            }
            (w, x, y) => panic!("layer: {w:?} of {x:?} into {y:?}"),
        }
    }

    /// `y = x·w + bias (+ residual)` over `rows` images of `tokens`; images of x and of the residual repeat when they
    /// are fewer.
    pub fn linear(
        &self,
        gpu: &Gpu,
        y: impl Into<Stored<T>>,
        x: Input<T>,
        residual: Option<Source<T>>,
        (rows, tokens): (usize, usize),
    ) -> Result<()> {
        let epilogue = Epilogue { residual, ..self.epilogue() };
        self.run(gpu, y.into(), x, &[], epilogue, &self.shape(rows, (1, tokens)))
    }

    /// A whole map from a tensor of its size.
    pub fn map(&self, gpu: &Gpu, y: Map<T>, x: Input<T>, residual: Option<Source<T>>) -> Result<()> {
        let epilogue = Epilogue { residual, moments: Some(y.moments), ..self.epilogue() };
        self.run(gpu, y.x.into(), x, &[], epilogue, &self.shape(y.rows, y.size))
    }

    /// The 3×3 convolution of a map at half or at another resolution.
    pub fn resample(&self, gpu: &Gpu, y: Map<T>, x: Map<T>, taps: Taps) -> Result<()> {
        let segments = vec![Segment { channels: x.channels, taps }];
        let epilogue = Epilogue { moments: Some(y.moments), ..self.epilogue() };
        let shape = conv::Shape { segments, ..self.shape(y.rows, x.size) };
        self.run(gpu, y.x.into(), x.source().into(), &[], epilogue, &shape)
    }

    /// A map, without its moments, of several tensors of its size side by side.
    pub(super) fn join(&self, gpu: &Gpu, y: Map<T>, parts: &[Source<T>]) -> Result<()> {
        let shape = self.shape(y.rows, (1, y.pixels()));
        self.run(gpu, y.x.into(), parts[0].into(), &parts[1..], self.epilogue(), &shape)
    }

    /// The last layer: f32 values.
    pub fn last(&self, gpu: &Gpu, y: View<f32>, x: Input<T>, (rows, size): (usize, Size)) -> Result<()> {
        let (Matrix::Half(w, _), Stored::Half(values)) = (self.w, x.x) else {
            panic!("layer: f32 values of {:?}", self.w)
        };
        let source = Source { x: values, rows: x.rows };
        conv::forward_f32(gpu, y, &[source], w, self.epilogue(), &self.shape(rows, size))
    }
}

/// The second convolution of a residual block.
#[derive(Clone, Debug)]
pub struct Closing<T> {
    pub(super) layer: Layer<T>,
    pub(super) shortcut: Shortcut<T>,
}

/// How a block's input is added to what its convolutions give.
#[derive(Clone, Debug)]
pub(super) enum Shortcut<T> {
    /// As it is.
    Residual,
    /// As more of the second convolution's K.
    Joined,
    /// By a layer before the second convolution, which is in e4m3.
    Before(Layer<T>),
}

impl<T: Half> Closing<T> {
    /// `y = shortcut(parts side by side) + layer(x)`.
    pub fn forward(&self, gpu: &Gpu, y: Map<T>, x: Input<T>, parts: &[Map<T>]) -> Result<()> {
        let sources: Vec<_> = parts.iter().map(|part| part.source()).collect();
        let (more, residual) = match &self.shortcut {
            Shortcut::Residual => (&[][..], sources.first().copied()),
            Shortcut::Joined => (&sources[..], None),
            Shortcut::Before(layer) => {
                layer.join(gpu, y, &sources)?;
                (&[][..], Some(y.source()))
            }
        };
        let epilogue = Epilogue { moments: Some(y.moments), residual, ..self.layer.epilogue() };
        self.layer.run(gpu, y.x.into(), x, more, epilogue, &self.layer.shape(y.rows, y.size))
    }
}
