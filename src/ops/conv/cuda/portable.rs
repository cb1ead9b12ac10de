//! Plans and launches of `kernels/conv.cu` and `kernels/conv_sm89.cu`.

use super::product::{Arguments, Grid, Output, Product, int};
use super::shape::RUN;
use crate::device::cuda::kernels::conv::{ROW, STAGES, THREADS};
use crate::device::cuda::{E4m3, Gpu, Half, Launch, View, kernels};
use crate::error::Result;

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
    /// Those that can compute a product whose channels come in pieces of 16 bytes or not, over 16 bits.
    pub(super) fn all(wide: bool) -> impl Iterator<Item = Self> {
        let all = [Self::Large, Self::Tall, Self::Small, Self::Narrow].into_iter();
        all.filter(move |tile| wide || matches!(tile, Self::Tall | Self::Narrow))
    }

    /// The same over 8 bits; on Hopper, which converts them first, the largest needs more registers than there are.
    pub(super) fn all_e4m3(gpu: &Gpu, wide: bool) -> impl Iterator<Item = Self> {
        let hopper = gpu.capability() == (9, 0);
        Self::all(wide).filter(move |tile| *tile != Self::Narrow && !(hopper && *tile == Self::Large))
    }

    fn size(self) -> (usize, usize) {
        match self {
            Self::Large => (128, 128),
            Self::Tall => (128, 64),
            Self::Small => (64, 64),
            Self::Narrow => (128, 16),
        }
    }

    fn blocks(self, grid: Grid) -> usize {
        let (pixels, outputs) = self.size();
        grid.tiles(pixels / RUN, outputs)
    }

    /// Time in units of multiply-adds per multiprocessor, for comparison with each other: smaller tiles read more of
    /// shared memory per FLOP.
    fn cost(self, grid: Grid, sms: usize) -> usize {
        let (pixels, outputs) = self.size();
        let percent = match self {
            Self::Large => 100,
            Self::Tall => 112,
            Self::Small => 140,
            Self::Narrow => 300,
        };
        self.blocks(grid).div_ceil(sms.max(1)) * pixels * outputs * percent
    }

    /// The fastest one.
    pub(super) fn choose(among: impl Iterator<Item = Self>, grid: Grid, sms: u32) -> Self {
        // The first of equals: the larger.
        among.min_by_key(|tile| tile.cost(grid, sms as usize)).unwrap_or(Self::Tall)
    }

    fn plan(self, grid: Grid) -> Launch {
        let (pixels, outputs) = self.size();
        Launch::new(self.blocks(grid), THREADS as u32).shared(STAGES * (pixels + outputs) * ROW)
    }
}

pub(super) fn product<T: Half>(gpu: &Gpu, product: &Product<T, T>, tile: Tile) -> Result<()> {
    let Product { shape, y, sources, w, epilogue, .. } = product;
    let Arguments { channels, taps, rows, bias, bias_stride, step, residual_rows, moments, activation } =
        Arguments::new(product);
    let (half, f32) = match *y {
        Output::Half(y) => (Some(y), None),
        Output::F32(y) => (None, Some(y)),
        Output::E4m3(..) => panic!("conv: 16-bit kernels into e4m3"),
    };
    let [x0, x1, x2] = [0, 1, 2].map(|i| sources.get(i).unwrap_or(&sources[0]).x);
    let [channels0, channels1, channels2] = channels;
    let ([taps0, taps1, taps2], [rows0, rows1, rows2]) = (taps, rows);
    let (residual, w) = (epilogue.residual.map(|residual| residual.x), *w);
    let [images, pixels, outputs, phase_width, k] =
        [shape.n, shape.pixels(), shape.outputs, product.phase_width(), product.k()].map(int);
    let [height, width] = [shape.height, shape.width].map(int);
    let [canvas_height, canvas_width, out_width, stride] =
        [shape.canvas().0, shape.canvas().1, shape.output().1, shape.stride()].map(int);
    let at = tile.plan(product.grid());
    let arguments = kernels::Conv {
        y: half,
        f32,
        w,
        x0,
        x1,
        x2,
        bias,
        step,
        residual,
        moments,
        channels0,
        channels1,
        channels2,
        taps0,
        taps1,
        taps2,
        rows0,
        rows1,
        rows2,
        images,
        pixels,
        outputs,
        phase_width,
        height,
        width,
        canvas_height,
        canvas_width,
        out_width,
        stride,
        k,
        bias_stride,
        residual_rows,
        activation,
    };
    use kernels::ConvKernel as Name;
    let name = match (tile, shape.by(8)) {
        (Tile::Narrow, false) => Name::XBy(128, 16, 4),
        (_, false) => Name::XBy(128, 64, 4),
        (tile, true) => Name::X(tile.size().0, tile.size().1),
    };
    arguments.launch(gpu, at, name)
}

pub(super) fn product_e4m3<T: Half>(
    gpu: &Gpu,
    product: &Product<E4m3, T>,
    scales: View<f32>,
    tile: Tile,
) -> Result<()> {
    let Product { shape, sources, w, epilogue, .. } = product;
    let Arguments { channels, taps, rows, bias, bias_stride, step, residual_rows, moments, activation } =
        Arguments::new(product);
    let (y, narrow, inverse) = product.destination();
    let (residual, x, w) = (epilogue.residual.map(|residual| residual.x), sources[0].x, *w);
    let [images, pixels, outputs, height, width, k] =
        [shape.n, shape.pixels(), shape.outputs, shape.height, shape.width, product.k()].map(int);
    let at = tile.plan(product.grid());
    let arguments = kernels::ConvSm89 {
        y,
        narrow,
        inverse,
        w,
        scales,
        x,
        bias,
        step,
        residual,
        moments,
        channels: channels[0],
        taps: taps[0],
        rows: rows[0],
        images,
        pixels,
        outputs,
        height,
        width,
        k,
        bias_stride,
        residual_rows,
        activation,
    };
    use kernels::ConvSm89Kernel as Name;
    let name = match (tile, shape.by(16)) {
        (Tile::Large | Tile::Small, true) => Name::X(tile.size().0, tile.size().1),
        (_, true) => Name::X(128, 64),
        (_, false) => Name::XBy(128, 64, 8),
    };
    arguments.launch(gpu, at, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::conv::cuda::{Segment, Shape, Taps};

    fn grid(shape: &Shape) -> Grid {
        Grid { subtiles: shape.n * shape.runs(), outputs: shape.outputs, phases: 1 }
    }

    /// Tiles of an A100 for layers of Stable Diffusion 1.5: no more outputs than there are, few idle multiprocessors.
    #[test]
    fn tiles_fit_the_layer() {
        const SMS: u32 = 108;
        let choose = |shape: Shape| Tile::choose(Tile::all(shape.by(8)), grid(&shape), SMS);
        assert_eq!(choose(Shape::conv(64, (64, 64), 320, 320)), Tile::Tall);
        assert_eq!(choose(Shape::conv(64, (32, 32), 640, 640)), Tile::Large);
        assert_eq!(choose(Shape::linear(64, 4096, 320, 2560)), Tile::Large);
        assert_eq!(choose(Shape::conv(2, (8, 8), 1280, 1280)), Tile::Small);
        assert_eq!(choose(Shape::conv(2, (64, 64), 4, 320)), Tile::Tall);
        assert_eq!(choose(Shape::conv(2, (64, 64), 320, 4)), Tile::Narrow);
        assert_eq!(choose(Shape::conv(8, (512, 512), 128, 3)), Tile::Narrow);
    }

    /// Every subtile and output has a block, also where images are no whole number of subtiles.
    #[test]
    fn plans_cover_the_output() {
        for (n, size, outputs) in [(1, (1, 1), 1), (3, (5, 7), 80), (2, (8, 8), 1280), (7, (9, 15), 321)] {
            for stride in [1, 2] {
                let taps = Taps::Three { stride, enlarge: None };
                let shape = Shape::of(n, size, Segment { channels: 8, taps }, outputs);
                for tile in Tile::all(true) {
                    let (pixels, columns) = tile.size();
                    let blocks = tile.plan(grid(&shape)).grid[0] as usize;
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
