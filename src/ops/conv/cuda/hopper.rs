//! Plans and launches of `kernels/conv_sm90.cu` and `kernels/conv_e4m3_sm90.cu`.

use super::product::{Arguments, Grid, Output, Product, Source, int};
use super::shape::{RUN, Shape, Taps};
use crate::device::cuda::kernels::conv_sm90::{BLOCKS, ROW, SUBTILES, THREADS};
use crate::device::cuda::{E4m3, Element, Filter, Gpu, Half, Launch, Swizzle, TensorMap, View, kernels};
use crate::error::Result;

/// A tile's outputs, and how a block's two consumers share the work; see the kernel file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    outputs: usize,
    pingpong: bool,
}

impl Schedule {
    /// All there are, in the order of the kernel files.
    pub const ALL: [Self; 4] = [
        Self { outputs: 160, pingpong: false },
        Self { outputs: 160, pingpong: true },
        Self { outputs: 128, pingpong: false },
        Self { outputs: 128, pingpong: true },
    ];

    /// Subtiles of a block's tile.
    fn height(self) -> usize {
        SUBTILES[usize::from(self.pingpong)]
    }

    /// Shared memory of a block, bytes; `scaled`: with e4m3 operands.
    fn shared(self, scaled: bool) -> usize {
        let all = if scaled { kernels::conv_e4m3_sm90::SHARED } else { kernels::conv_sm90::SHARED };
        all[2 * usize::from(self.outputs == 128) + usize::from(self.pingpong)]
    }

    /// Pairs of tiles.
    fn tiles(self, grid: Grid) -> usize {
        grid.tiles(BLOCKS * self.height(), self.outputs)
    }

    /// A cluster for every two multiprocessors, each with several pairs of tiles in turn.
    fn plan(self, grid: Grid, sms: u32, scaled: bool) -> Launch {
        let clusters = self.tiles(grid).min((sms as usize / BLOCKS).max(1));
        Launch::new(clusters * BLOCKS, THREADS as u32).cluster([BLOCKS as u32, 1, 1]).shared(self.shared(scaled))
    }

    /// Clock cycles by the tensor cores' rate (2,048 multiply-adds of 16 bits per cycle and multiprocessor, twice that
    /// of 8), for comparison with each other. Cooperative tiles wait for their epilogue (about 3,000 cycles), ping-pong
    /// tiles hide all but the last but move more bytes: what exceeds 32 per cycle from L2 is taken to cost a 128th
    /// each.
    fn cycles(self, grid: Grid, steps: usize, sms: u32) -> usize {
        const EPILOGUE: usize = 3000;
        let rounds = self.tiles(grid).div_ceil((sms as usize / BLOCKS).max(1));
        let step = self.height() * RUN * self.outputs * ROW / 4096;
        let bytes = (self.height() * RUN + self.outputs / BLOCKS) * ROW;
        let tile = steps * step * (96 + (bytes / step).max(32)) / 128;
        if self.pingpong { rounds * tile.max(EPILOGUE / 2) + EPILOGUE } else { rounds * (tile + EPILOGUE) }
    }

    /// The fastest one.
    pub(super) fn choose(grid: Grid, steps: usize, sms: u32) -> Self {
        Self::ALL.into_iter().min_by_key(|schedule| schedule.cycles(grid, steps, sms)).unwrap_or(Self::ALL[0])
    }
}

/// Channels of a stage's row.
const fn depth<X>() -> usize {
    ROW / size_of::<X>()
}

/// Steps of k: no step holds channels of two taps.
pub(super) fn steps<X: Element, T: Half>(product: &Product<X, T>) -> usize {
    product.shape.segments.iter().map(|segment| product.taps(segment) * segment.channels.div_ceil(depth::<X>())).sum()
}

/// Whether these kernels can compute a product of X.
pub(super) fn fits<X>(shape: &Shape) -> bool {
    shape.by(16 / size_of::<X>()) && shape.canvas() == (shape.height, shape.width)
}

/// A segment's source in boxes of a row's channels × a subtile.
fn map<X: Element>(source: &Source<X>, segment: usize, shape: &Shape) -> Result<TensorMap> {
    let channels = shape.segments[segment].channels;
    match shape.segments[segment].taps {
        Taps::Three { stride, .. } => TensorMap::im2col(
            source.x,
            [source.rows, shape.height, shape.width, channels],
            Filter { taps: 3, padding: 1, stride },
            (depth::<X>() as u32, RUN as u32),
            Swizzle::B128,
        ),
        Taps::One => {
            let pixel = (channels * size_of::<X>()) as u64;
            let dims = [channels, shape.pixels(), source.rows].map(|n| n as u64);
            TensorMap::tiled(
                source.x,
                &dims,
                &[pixel, pixel * dims[1]],
                &[depth::<X>() as u32, RUN as u32, 1],
                Swizzle::B128,
            )
        }
    }
}

/// The weights in boxes of a row's k × half a tile's outputs.
fn weights_map<X: Element, T: Half>(w: View<X>, product: &Product<X, T>, schedule: Schedule) -> Result<TensorMap> {
    let dims = [product.k(), product.phases * product.shape.outputs].map(|n| n as u64);
    let boxes = [depth::<X>(), schedule.outputs / BLOCKS].map(|n| n as u32);
    TensorMap::tiled(w, &dims, &[dims[0] * size_of::<X>() as u64], &boxes, Swizzle::B128)
}

pub(super) fn product<T: Half>(gpu: &Gpu, product: &Product<T, T>, schedule: Schedule, sms: u32) -> Result<()> {
    let Product { shape, y, sources, w, epilogue, .. } = product;
    let Output::Half(y) = *y else { panic!("conv: no Hopper kernel into f32") };
    let Arguments { channels, taps, rows, bias, bias_stride, step, residual_rows, moments, activation } =
        Arguments::new(product);
    let at = schedule.plan(product.grid(), sms, false);
    let w = weights_map(*w, product, schedule)?;
    let mut x = [w; 3];
    for (i, (x, source)) in x.iter_mut().zip(sources).enumerate() {
        *x = map(source, i, shape)?;
    }
    let ([x0, x1, x2], [channels0, channels1, channels2]) = (x, channels);
    let ([taps0, taps1, taps2], [rows0, rows1, rows2]) = (taps, rows);
    let residual = epilogue.residual.map(|residual| residual.x);
    let [images, pixels, outputs, phase_width] =
        [shape.n, shape.pixels(), shape.outputs, product.phase_width()].map(int);
    let [out_width, stride, steps] = [shape.output().1, shape.stride(), steps(product)].map(int);
    let arguments = kernels::ConvSm90 {
        x0,
        x1,
        x2,
        w,
        y,
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
        out_width,
        stride,
        steps,
        bias_stride,
        residual_rows,
        activation,
    };
    use kernels::ConvSm90Kernel as Name;
    let name = if schedule.pingpong { Name::Pingpong } else { Name::Cooperative };
    arguments.launch(gpu, at, name(schedule.outputs))
}

pub(super) fn product_e4m3<T: Half>(
    gpu: &Gpu,
    product: &Product<E4m3, T>,
    scales: View<f32>,
    schedule: Schedule,
    sms: u32,
) -> Result<()> {
    let Product { shape, sources, epilogue, .. } = product;
    let Arguments { channels, taps, rows, bias, bias_stride, step, residual_rows, moments, activation } =
        Arguments::new(product);
    let at = schedule.plan(product.grid(), sms, true);
    let (w, x) = (weights_map(product.w, product, schedule)?, map(&sources[0], 0, shape)?);
    let (y, narrow, inverse) = product.destination();
    let residual = epilogue.residual.map(|residual| residual.x);
    let [images, pixels, outputs, out_width, steps] =
        [shape.n, shape.pixels(), shape.outputs, shape.output().1, steps(product)].map(int);
    let arguments = kernels::ConvE4m3Sm90 {
        x,
        w,
        y,
        narrow,
        inverse,
        scales,
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
        out_width,
        steps,
        bias_stride,
        residual_rows,
        activation,
    };
    use kernels::ConvE4m3Sm90Kernel as Name;
    let name = if schedule.pingpong { Name::Pingpong } else { Name::Cooperative };
    arguments.launch(gpu, at, name(schedule.outputs))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    const SMS: u32 = 132;

    /// The chosen schedule and its share of the tensor cores' rate for a product of one segment.
    fn choose(shape: &Shape) -> (Schedule, f64) {
        let grid = Grid { subtiles: shape.n * shape.runs(), outputs: shape.outputs, phases: 1 };
        let steps = shape.k() / shape.segments[0].channels * shape.segments[0].channels.div_ceil(depth::<f16>());
        let schedule = Schedule::choose(grid, steps, SMS);
        let multiply_adds = (shape.n * shape.pixels() * shape.k() * shape.outputs) as f64;
        (schedule, multiply_adds / 2048.0 / f64::from(SMS) / schedule.cycles(grid, steps, SMS) as f64)
    }

    /// Layers of Stable Diffusion 1.5 at 32 images with both guidance branches: the plan leaves the tensor cores little
    /// idle.
    #[test]
    fn tiles_fit_the_layers() {
        for (size, c) in [(64, 320), (32, 640), (16, 1280), (8, 1280)] {
            for (shape, least) in [
                (Shape::conv(64, (size, size), c, c), 0.9),
                (Shape::linear(64, size * size, c, 8 * c), 0.88),
                (Shape::linear(64, size * size, c, c), 0.85),
            ] {
                let (schedule, share) = choose(&shape);
                assert!(share > least, "{shape:?} {schedule:?}: {share}");
            }
        }
        assert_eq!(choose(&Shape::conv(64, (32, 32), 640, 640)).0, Schedule::ALL[0]);
        assert!(choose(&Shape::linear(64, 4096, 320, 320)).0.pingpong);
        assert_eq!(choose(&Shape::conv(8, (512, 512), 128, 128)).0.outputs, 128);
    }

    /// One block's shared memory on Hopper.
    #[test]
    fn blocks_fit() {
        assert!(Schedule::ALL.iter().all(|schedule| schedule.shared(true) <= 232_448));
    }
}
