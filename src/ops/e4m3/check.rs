//! Products over e4m3: every variant against the CPU ops on the same decoded operands, e4m3 results against those of 16
//! bits rounded once more (bit for bit), moments against sums of what was stored, and bits against each other's over
//! tiles and batches.

use half::{bf16, f16};

use crate::device::cuda::{DType, E4m3, Half, Owned, View};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::conv;
use crate::ops::conv::check::{Layer, sums};
use crate::ops::conv::cuda::{
    Activation, Epilogue, Quantized, SegmentWeights, Shape, Source, Stored, Taps, Variant, forward_e4m3_by, pack_e4m3,
};
use crate::ops::gemm::Operands;
use crate::ops::gemm::Threads;
use crate::ops::packed::{Packed, Start, linear};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "e4m3 products into f16", run: layers::<f16> },
    Check { name: "e4m3 products into bf16", run: layers::<bf16> },
    Check { name: "e4m3 products' rows do not depend on the batch f16", run: batches::<f16> },
    Check { name: "e4m3 products' rows do not depend on the batch bf16", run: batches::<bf16> },
]);

/// How a variant adds exact products on this card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sums {
    /// Hopper's mma.sync: ptxas turns it into products of f16.
    F32,
    /// Hopper's wgmma and Ada's mma.sync, and cards nobody here has heard of: each instruction cuts its 32 products and
    /// the sum so far off 13 bits behind the leading one of the largest (DeepSeek-V3, §3.5.2; SageAttention2).
    Narrow,
}

impl Sums {
    fn of(case: &Case, variant: Variant) -> Self {
        match variant {
            Variant::Portable(_) if case.gpu().capability() == (9, 0) => Self::F32,
            _ => Self::Narrow,
        }
    }

    /// One rounding to T, half a step of it, and what sums over `k` lose. In f32, in another order: next to nothing.
    /// Narrow sums of normal numbers, over s = k / 32 steps: 4.7e-5·√s of their root mean square at k = 72, 9.9e-5·√s
    /// at 1,280 and 1.3e-4·√s at 11,520, as an emulation in f64 has it, the worst of 24,000 ten times that; so up to
    /// 9e-9·s in `difference`, four times as much if the sums had one bit less.
    fn tolerance<T: Half>(self, k: usize) -> Tolerance {
        let rounded = match T::DTYPE {
            DType::F16 => Tolerance { difference: 1e-7, relative: 1.01 / 2048.0, of_rms: 2e-5 },
            DType::Bf16 => Tolerance { difference: 5e-6, relative: 1.01 / 256.0, of_rms: 2e-5 },
        };
        let steps = k.div_ceil(32) as f64;
        match self {
            Self::F32 => rounded,
            Self::Narrow => Tolerance {
                difference: rounded.difference + 1.2e-8 * steps,
                relative: rounded.relative + 3e-4 * steps.sqrt(),
                of_rms: rounded.of_rms + 2e-3 * steps.sqrt(),
            },
        }
    }
}

/// Pieces of 16 bytes and of 8, a pixel, images that are no whole subtiles, steps of k that are a half, a half and
/// more, a half at the end of several; outputs about the tiles'; all that an epilogue does. On a card Stable Diffusion
/// 1.5's own.
fn all<T: Half>(case: &Case) -> Vec<Layer> {
    use Activation::{Geglu, Gelu, QuickGelu, Silu};
    let mut all = vec![
        Layer::new(Shape::conv(3, (5, 7), 80, 80)).moments(),
        Layer::new(Shape::conv(5, (8, 8), 16, 24)).moments().residual(5),
        Layer::new(Shape::conv(1, (1, 1), 8, 16)),
        Layer::new(Shape::conv(2, (1, 131), 8, 72)).moments(),
        Layer::new(Shape::conv(4, (9, 15), 24, 136)).moments().rows(&[2]).table(5, 3),
        Layer::new(Shape::conv(2, (5, 7), 320, 33)).residual(1),
        Layer::new(Shape::conv(2, (9, 8), 176, 65)).moments().table(3, 0),
        Layer::new(Shape::conv(3, (4, 4), 128, 160)).rows(&[1]).residual(3).moments(),
        Layer::new(Shape::conv(1, (5, 7), 40, 8)).moments(),
        Layer::new(Shape::linear(1, 1, 320, 80)).activated(Silu),
        Layer::new(Shape::linear(1, 131, 64, 127)),
        Layer::new(Shape::linear(3, 43, 40, 129)).residual(3),
        Layer::new(Shape::linear(2, 64, 112, 65)).residual(1).rows(&[1]),
        Layer::new(Shape::linear(1, 35, 8, 8)),
        Layer { bias: false, ..Layer::new(Shape::linear(2, 63, 208, 128)) },
        Layer::new(Shape::linear(1, 77, 64, 256)).activated(QuickGelu),
        Layer::new(Shape::linear(2, 50, 32, 72)).activated(Gelu).residual(2),
        Layer::new(Shape::linear(2, 35, 80, 640)).activated(Geglu),
        Layer::new(Shape::linear(1, 131, 320, 320)).activated(Geglu),
        Layer::new(Shape::linear(1, 70, 40, 80)).activated(Geglu).residual(1).moments(),
        Layer::new(Shape::linear(4, 64, 1280, 80)).residual(2).rows(&[4]).moments(),
    ];
    if T::DTYPE == DType::F16 {
        // Long sums and nothing else, in the finer type: what narrow ones lose shows.
        all.push(Layer { bias: false, ..Layer::new(Shape::conv(1, (2, 3), 640, 72)) });
    }
    if case.full() {
        for (size, channels) in [(64, 320), (32, 640), (16, 1280), (8, 1280)] {
            all.push(Layer::new(Shape::conv(2, (size, size), channels, channels)).moments().table(50, 7));
            all.push(Layer::new(Shape::linear(2, size * size, channels, 8 * channels)).activated(Geglu));
            all.push(Layer::new(Shape::linear(2, size * size, 4 * channels, channels)).residual(2));
        }
    }
    all
}

/// Inputs on the device, what the CPU makes of them before rounding, and a factor for e4m3 beyond which some of it
/// saturates.
struct Inputs<T: Half> {
    x: Owned<E4m3>,
    w: Owned<E4m3>,
    scales: Owned<f32>,
    bias: Option<Owned<f32>>,
    step: Owned<u32>,
    residual: Option<Owned<T>>,
    want: Vec<f32>,
    inverse: f32,
}

impl<T: Half> Inputs<T> {
    fn new(case: &Case, layer: &Layer) -> Result<Self> {
        let gpu = case.gpu();
        let Shape { n, height, width, outputs, ref segments } = layer.shape;
        let (channels, rows, pixels) = (segments[0].channels, layer.rows[0], layer.shape.pixels());
        // One in twenty beyond ±448.
        let scale = 2.0 / E4m3::MAX;
        let x = case.normal(&format!("x of {layer:?}"), rows * height * width * channels, 1.0);
        let x: Vec<E4m3> = x.iter().map(|v| E4m3::round(v / scale)).collect();
        let repeated: Vec<f32> = x.iter().cycle().take(n * height * width * channels).map(|v| v.widen()).collect();

        // Rows of different sizes; the values are multiples of their scales, so that packing rounds nothing.
        let (taps, std) = (layer.shape.k() / channels, 1.0 / (layer.shape.k() as f32).sqrt());
        let mut w = case.normal(&format!("w of {layer:?}"), outputs * channels * taps, std);
        w.chunks_exact_mut(channels * taps)
            .enumerate()
            .for_each(|(o, row)| row.iter_mut().for_each(|v| *v *= 0.25 * (1 + o % 7) as f32));
        let segment = SegmentWeights { w: &w, inputs: channels, channels: 0..channels, taps };
        let (packed, own) = pack_e4m3(segment.clone(), outputs, layer.gated());
        // The same, unpacked: rows in order, as the CPU op takes them.
        let (plain, plain_scales) =
            if layer.gated() { pack_e4m3(segment, outputs, false) } else { (packed.clone(), own.clone()) };
        let decoded = |tap: usize, channel: usize, o: usize| plain[(o * taps + tap) * channels + channel].widen();
        let decoded: Vec<f32> = (0..outputs * channels * taps)
            .map(|i| decoded(i % taps, i / taps % channels, i / taps / channels))
            .collect();
        let mut want = vec![0.0; n * pixels * outputs];
        if segments[0].taps == Taps::One {
            let packed = Packed::from_out_in(&decoded, None, outputs, channels, Operands::F32);
            linear(&mut want, &repeated, &packed, Start::Keep, Threads::All);
        } else {
            let packed = conv::Weights::new(&decoded, None, (channels, outputs), 1, Operands::F32);
            let shape = conv::Shape::same(n, height, width, channels);
            conv::forward(&mut want, &repeated, &packed, Start::Keep, shape, Threads::All);
        }

        let (table_rows, row) = (layer.table.0.max(1), layer.table.1);
        let table = case.normal(&format!("bias of {layer:?}"), table_rows * outputs, 1.0);
        let bias = &table[row * outputs..(row + 1) * outputs];
        for y in want.chunks_exact_mut(outputs) {
            for ((y, s), b) in y.iter_mut().zip(&plain_scales).zip(bias) {
                *y = *y * (s * scale) + if layer.bias { *b } else { 0.0 };
            }
        }
        let mut want = layer.activate(want);
        let mut residual = None;
        if layer.residual > 0 {
            let len = layer.residual * pixels * layer.width();
            let (on_gpu, values) = case.half::<T>(&case.normal(&format!("residual of {layer:?}"), len, 1.0))?;
            want.iter_mut().zip(values.iter().cycle()).for_each(|(y, r)| *y += r);
            residual = Some(on_gpu);
        }
        let rms = (want.iter().map(|v| v * v).sum::<f32>() / want.len() as f32).sqrt();
        Ok(Self {
            x: gpu.upload(&x)?,
            w: gpu.upload(&packed)?,
            scales: case.f32(&own.iter().map(|own| own * scale).collect::<Vec<_>>())?,
            bias: if layer.bias { Some(case.f32(&layer.pack_biases(&table))?) } else { None },
            step: gpu.upload(&[row as u32])?,
            residual,
            want,
            inverse: E4m3::MAX / (2.0 * rms),
        })
    }

    /// The layer by one variant.
    fn run(
        &self,
        case: &Case,
        layer: &Layer,
        variant: Option<Variant>,
        y: Stored<T>,
        moments: Option<View<f32>>,
    ) -> Result<()> {
        let residual = self.residual.as_ref().map(|x| Source { x: x.view(), rows: layer.residual });
        let bias = layer.bias(self.bias.as_ref().map(Owned::view), self.step.view());
        let epilogue = Epilogue { bias, activation: layer.activation, residual, moments };
        let x = Source { x: self.x.view(), rows: layer.rows[0] };
        let w = Quantized { w: self.w.view(), scales: self.scales.view() };
        forward_e4m3_by(case.gpu(), variant, y, x, w, epilogue, &layer.shape)
    }
}

/// y and moments (none: empty) of a layer by one variant.
fn run<T: Half>(
    case: &Case,
    layer: &Layer,
    inputs: &Inputs<T>,
    variant: Option<Variant>,
) -> Result<(Vec<T>, Vec<f32>)> {
    let y = case.gpu().upload(&vec![T::round(f32::NAN); layer.y_len()])?;
    let moments = match layer.moments {
        true => Some(case.gpu().alloc::<f32>(layer.shape.n * layer.shape.runs() * layer.width() * 2)?),
        false => None,
    };
    inputs.run(case, layer, variant, Stored::Half(y.view()), moments.as_ref().map(Owned::view))?;
    let moments = moments.map_or(Ok(Vec::new()), |moments| case.gpu().read(moments.view()))?;
    Ok((case.gpu().read(y.view())?, moments))
}

/// The layer's results in e4m3 by one variant.
fn run_narrow<T: Half>(case: &Case, layer: &Layer, inputs: &Inputs<T>, variant: Option<Variant>) -> Result<Vec<E4m3>> {
    let y = case.gpu().upload(&vec![E4m3::round(f32::NAN); layer.y_len()])?;
    let stored = Stored::E4m3 { y: y.view(), inverse: inputs.inverse };
    inputs.run(case, layer, variant, stored, None)?;
    case.gpu().read(y.view())
}

fn layers<T: Half>(case: &Case) -> Result<()> {
    if !case.has_e4m3() {
        return Ok(());
    }
    for layer in all::<T>(case) {
        let inputs = Inputs::<T>::new(case, &layer)?;
        let mut families: Vec<(&str, Vec<T>, Vec<f32>)> = Vec::new();
        for variant in Variant::all_e4m3(case.gpu(), &layer.shape) {
            let what = format!("{variant:?} {layer:?}");
            let (bits, moments) = run(case, &layer, &inputs, Some(variant))?;
            let y: Vec<f32> = bits.iter().map(|v| v.widen()).collect();
            case.close(&what, &y, &inputs.want, Sums::of(case, variant).tolerance::<T>(layer.shape.k()))?;
            if layer.moments {
                case.close(&format!("moments {what}"), &moments, &sums(&y, &layer), Tolerance::f32())?;
            }
            let rounded: Vec<E4m3> = y.iter().map(|v| E4m3::round(v * inputs.inverse)).collect();
            case.same(&format!("e4m3 {what}"), &run_narrow(case, &layer, &inputs, Some(variant))?, &rounded)?;
            match families.iter().find(|(name, ..)| *name == variant.family()) {
                Some((_, first, first_moments)) => {
                    case.same(&what, &bits, first)?;
                    case.same(&format!("moments {what}"), &moments, first_moments)?;
                }
                None => families.push((variant.family(), bits, moments)),
            }
        }
        // What is chosen is one of them.
        let (bits, _) = run(case, &layer, &inputs, None)?;
        if !families.iter().any(|(_, first, _)| case.same("", &bits, first).is_ok()) {
            case.same(&format!("the chosen {layer:?}"), &bits, &families[0].1)?;
        }
        if layer.residual == layer.shape.n {
            in_place(case, &layer, &inputs, &bits)?;
        }
    }
    Ok(())
}

/// The residual may be y itself.
fn in_place<T: Half>(case: &Case, layer: &Layer, inputs: &Inputs<T>, want: &[T]) -> Result<()> {
    let Some(residual) = &inputs.residual else { return Ok(()) };
    let moments = case.gpu().alloc::<f32>(layer.shape.n * layer.shape.runs() * layer.width() * 2)?;
    let moments = layer.moments.then(|| moments.view());
    inputs.run(case, layer, None, Stored::Half(residual.view()), moments)?;
    case.same(&format!("in place {layer:?}"), &case.gpu().read(residual.view())?, want)
}

/// The images of a batch have the bits of the same images in batches of one and three, with every variant and the
/// chosen one.
fn batches<T: Half>(case: &Case) -> Result<()> {
    const MOST: usize = 8;
    if !case.has_e4m3() {
        return Ok(());
    }
    let layers = [
        Layer::new(Shape::conv(MOST, (5, 7), 48, 72)).moments().residual(MOST),
        Layer::new(Shape::conv(MOST, (4, 4), 24, 40)).moments(),
        Layer::new(Shape::linear(MOST, 37, 192, 96)).activated(Activation::Geglu),
    ];
    for layer in layers {
        let inputs = Inputs::<T>::new(case, &layer)?;
        let variants = Variant::all_e4m3(case.gpu(), &layer.shape).into_iter().map(Some).chain([None]);
        for variant in variants {
            let (whole, whole_moments) = run(case, &layer, &inputs, variant)?;
            let whole_narrow = run_narrow(case, &layer, &inputs, variant)?;
            for n in [1, 3] {
                // The last n images: they begin within a tile.
                let shape = Shape { n, ..layer.shape.clone() };
                let part = Layer { shape, rows: vec![n], residual: layer.residual.min(n), ..layer.clone() };
                let x = case.gpu().read(inputs.x.view())?;
                let residual = match &inputs.residual {
                    None => None,
                    Some(residual) => {
                        let values = case.gpu().read(residual.view())?;
                        Some(case.gpu().upload(&values[values.len() / MOST * (MOST - n)..])?)
                    }
                };
                let some = Inputs {
                    x: case.gpu().upload(&x[x.len() / MOST * (MOST - n)..])?,
                    w: case.gpu().upload(&case.gpu().read(inputs.w.view())?)?,
                    scales: case.gpu().upload(&case.gpu().read(inputs.scales.view())?)?,
                    bias: inputs.bias.as_ref().map(|b| case.gpu().upload(&case.gpu().read(b.view())?)).transpose()?,
                    step: case.gpu().upload(&[0])?,
                    residual,
                    want: Vec::new(),
                    inverse: inputs.inverse,
                };
                let what = format!("{n} of {variant:?} {layer:?}");
                let (y, moments) = run(case, &part, &some, variant)?;
                case.same(&what, &y, &whole[whole.len() - y.len()..])?;
                let from = whole_moments.len() - moments.len();
                case.same(&format!("moments {what}"), &moments, &whole_moments[from..])?;
                let narrow = run_narrow(case, &part, &some, variant)?;
                case.same(&format!("e4m3 {what}"), &narrow, &whole_narrow[whole_narrow.len() - narrow.len()..])?;
            }
        }
    }
    Ok(())
}
