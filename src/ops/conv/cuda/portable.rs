//! Plans and launches of `kernels/conv.cu`.

use super::{Activation, Bias, Output, Product, RUN, Shape, int};
use crate::device::cuda::{Gpu, Half, Launch, View, by_type};
use crate::error::Result;

/// Threads of a block, depth of a stage in k, stages of the ring.
const THREADS: u32 = 128;
const DEPTH: usize = 32;
const STAGES: usize = 3;

/// Pixels × outputs of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 128 × 128.
    Large,
    /// 128 × 64.
    Tall,
    /// 64 × 64.
    Small,
    /// 128 × 16, for few outputs.
    Narrow,
}

impl Tile {
    /// Those that can compute `shape` with a 16-bit output.
    pub fn all(shape: &Shape) -> Vec<Self> {
        let by8 = by8(shape);
        [Self::Large, Self::Tall, Self::Small, Self::Narrow]
            .into_iter()
            .filter(|tile| by8 || matches!(tile, Self::Tall | Self::Narrow))
            .collect()
    }

    fn size(self) -> (usize, usize) {
        match self {
            Self::Large => (128, 128),
            Self::Tall => (128, 64),
            Self::Small => (64, 64),
            Self::Narrow => (128, 16),
        }
    }

    fn blocks(self, shape: &Shape) -> usize {
        let (pixels, outputs) = self.size();
        (shape.n * shape.runs()).div_ceil(pixels / RUN) * shape.outputs.div_ceil(outputs)
    }

    /// Time in units of multiply-adds per multiprocessor, for comparison with each other: smaller tiles read more of shared memory per FLOP.
    fn cost(self, shape: &Shape, sms: usize) -> usize {
        let (pixels, outputs) = self.size();
        let percent = match self {
            Self::Large => 100,
            Self::Tall => 112,
            Self::Small => 140,
            Self::Narrow => 300,
        };
        self.blocks(shape).div_ceil(sms.max(1)) * pixels * outputs * percent
    }

    /// The fastest one.
    pub(super) fn choose(shape: &Shape, f32: bool, sms: usize) -> Self {
        if f32 {
            return Self::Narrow;
        }
        // The first of equals: the larger.
        Self::all(shape).into_iter().min_by_key(|tile| tile.cost(shape, sms)).unwrap_or(Self::Narrow)
    }

    fn plan(self, shape: &Shape) -> Launch {
        let (pixels, outputs) = self.size();
        Launch::new(self.blocks(shape), THREADS).shared(STAGES * (pixels + outputs) * DEPTH * 2)
    }
}

/// Whether all channels come in pieces of 16 bytes.
fn by8(shape: &Shape) -> bool {
    shape.segments.iter().all(|segment| segment.channels.is_multiple_of(8))
}

/// The kernel's number of an activation.
fn number(activation: Activation) -> u32 {
    match activation {
        Activation::None => 0,
        Activation::Silu => 1,
        Activation::Gelu => 2,
        Activation::QuickGelu => 3,
        Activation::Geglu => 4,
    }
}

pub(super) fn product<T: Half>(gpu: &Gpu, product: &Product<T>, tile: Tile) -> Result<()> {
    let Product { shape, y, sources, w, epilogue } = product;
    let (first, w) = (sources[0], *w);
    let x = [0, 1, 2].map(|i| sources.get(i).unwrap_or(&first).x);
    let rows = [0, 1, 2].map(|i| int(sources.get(i).map_or(1, |source| source.rows)));
    let channels = [0, 1, 2].map(|i| int(shape.segments.get(i).map_or(8, |segment| segment.channels)));
    let taps = [0, 1, 2].map(|i| int(shape.segments.get(i).map_or(0, |segment| segment.taps.count())));
    let (bias, step, bias_stride): (Option<View<f32>>, Option<View<u32>>, u32) = match epilogue.bias {
        Bias::None => (None, None, 0),
        Bias::Vector(bias) => (Some(bias), None, 0),
        Bias::Table { table, stride, offset, step } => {
            (Some(table.slice(offset..table.len())), Some(step), int(stride))
        }
    };
    let (residual, residual_rows) = match epilogue.residual {
        Some(residual) => (Some(residual.x), int(residual.rows)),
        None => (None, 1),
    };
    let [n, height, width, outputs, k, stride] =
        [shape.n, shape.height, shape.width, shape.outputs, shape.k(), shape.stride()].map(int);
    let (canvas, out) = (shape.canvas(), shape.output());
    let [canvas_height, canvas_width, out_height, out_width] = [canvas.0, canvas.1, out.0, out.1].map(int);
    let (at, activation, moments) = (tile.plan(shape), number(epilogue.activation), epilogue.moments);
    macro_rules! launch {
        ($f16:ident | $bf16:ident, $y:expr) => {
            by_type!(
                T,
                $f16 | $bf16,
                (
                    gpu,
                    at,
                    $y,
                    w,
                    x[0],
                    x[1],
                    x[2],
                    bias,
                    step,
                    residual,
                    moments,
                    channels[0],
                    channels[1],
                    channels[2],
                    taps[0],
                    taps[1],
                    taps[2],
                    rows[0],
                    rows[1],
                    rows[2],
                    n,
                    height,
                    width,
                    canvas_height,
                    canvas_width,
                    out_height,
                    out_width,
                    stride,
                    outputs,
                    k,
                    bias_stride,
                    residual_rows,
                    activation
                )
            )
        };
    }
    let by8 = by8(shape);
    match (*y, tile) {
        (Output::F32(y), _) if by8 => launch!(conv_128x16_f32_f16 | conv_128x16_f32_bf16, y),
        (Output::F32(y), _) => launch!(conv_128x16_by4_f32_f16 | conv_128x16_by4_f32_bf16, y),
        (Output::Half(y), Tile::Narrow) if by8 => launch!(conv_128x16_f16 | conv_128x16_bf16, y),
        (Output::Half(y), Tile::Narrow) => launch!(conv_128x16_by4_f16 | conv_128x16_by4_bf16, y),
        (Output::Half(y), _) if !by8 => launch!(conv_128x64_by4_f16 | conv_128x64_by4_bf16, y),
        (Output::Half(y), Tile::Large) => launch!(conv_128x128_f16 | conv_128x128_bf16, y),
        (Output::Half(y), Tile::Tall) => launch!(conv_128x64_f16 | conv_128x64_bf16, y),
        (Output::Half(y), Tile::Small) => launch!(conv_64x64_f16 | conv_64x64_bf16, y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::conv::cuda::{Segment, Taps};

    /// Tiles of an A100 for layers of Stable Diffusion 1.5: no more outputs than there are, few idle multiprocessors.
    #[test]
    fn tiles_fit_the_layer() {
        const SMS: usize = 108;
        let choose = |shape: Shape| Tile::choose(&shape, false, SMS);
        assert_eq!(choose(Shape::conv(64, (64, 64), 320, 320)), Tile::Tall);
        assert_eq!(choose(Shape::conv(64, (32, 32), 640, 640)), Tile::Large);
        assert_eq!(choose(Shape::linear(64, 4096, 320, 2560)), Tile::Large);
        assert_eq!(choose(Shape::conv(2, (8, 8), 1280, 1280)), Tile::Small);
        assert_eq!(choose(Shape::conv(2, (64, 64), 4, 320)), Tile::Tall);
        assert_eq!(choose(Shape::conv(2, (64, 64), 320, 4)), Tile::Narrow);
        assert_eq!(Tile::choose(&Shape::conv(2, (64, 64), 320, 320), true, SMS), Tile::Narrow);
    }

    /// Every subtile and output has a block, also where images are no whole number of subtiles.
    #[test]
    fn plans_cover_the_output() {
        for (n, size, outputs) in [(1, (1, 1), 1), (3, (5, 7), 80), (2, (8, 8), 1280), (7, (9, 15), 321)] {
            for stride in [1, 2] {
                let taps = Taps::Three { stride, enlarge: None };
                let shape = Shape::of(n, size, Segment { channels: 8, taps }, outputs);
                for tile in Tile::all(&shape) {
                    let (pixels, columns) = tile.size();
                    let blocks = tile.plan(&shape).grid[0] as usize;
                    let rows = blocks / outputs.div_ceil(columns) * pixels;
                    assert!(
                        rows >= n * shape.runs() * RUN && rows < n * shape.runs() * RUN + pixels,
                        "{tile:?} {shape:?}"
                    );
                }
            }
        }
    }
}
