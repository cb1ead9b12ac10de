//! Convolutions and linear layers of the generator: every variant the device can run against the CPU ops on the same
//! rounded inputs, moments against sums of what was stored, and bits against each other's over tiles and batches.

mod full_size;
mod inputs;
mod layer;

use half::{bf16, f16};

pub(in crate::ops) use self::layer::{Layer, sums};

use self::inputs::{Inputs, run};
use self::layer::three;
use crate::device::cuda::{Half, Owned};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::conv::cuda::{self, Activation, Shape, Variant, forward_f32};

pub const CHECKS: Checks = Checks { quick: QUICK, full_size: full_size::CHECKS };

const QUICK: &[Check] = &[
    Check { name: "conv f16", run: layers::<f16> },
    Check { name: "conv bf16", run: layers::<bf16> },
    Check { name: "conv f32 output f16", run: to_f32::<f16> },
    Check { name: "conv f32 output bf16", run: to_f32::<bf16> },
    Check { name: "conv rows do not depend on the batch f16", run: batches::<f16> },
    Check { name: "conv rows do not depend on the batch bf16", run: batches::<bf16> },
];

/// One of each kind at awkward sizes, then the pilot model's and (on a card) Stable Diffusion 1.5's.
fn all(case: &Case) -> Vec<Layer> {
    use Activation::{Geglu, Gelu, QuickGelu, Silu};
    let mut all = vec![
        // 3×3: images that are no whole subtiles, a pixel, a line, tiles of two images.
        Layer::new(Shape::conv(3, (5, 7), 80, 80)).moments(),
        Layer::new(Shape::conv(5, (8, 8), 16, 24)).moments().residual(5),
        Layer::new(Shape::conv(1, (1, 1), 8, 16)),
        Layer::new(Shape::conv(2, (1, 131), 8, 72)).moments(),
        Layer::new(Shape::conv(4, (9, 15), 24, 136)).moments().rows(&[2]).table(5, 3),
        // Stride 2, enlargements twofold and odd.
        Layer::new(three(3, (8, 8), 40, 40, 2, None)),
        Layer::new(three(2, (9, 13), 24, 33, 2, None)).moments(),
        Layer::new(three(2, (21, 19), 16, 72, 2, None)).moments(),
        Layer::new(three(2, (4, 5), 72, 64, 1, Some((8, 10)))).moments(),
        Layer::new(three(3, (5, 7), 16, 40, 1, Some((9, 13)))).moments().rows(&[1]),
        Layer::new(three(3, (4, 5), 72, 64, 1, Some((8, 10)))).moments().doubling().rows(&[1]),
        Layer::new(three(2, (9, 8), 16, 136, 1, Some((18, 16)))).doubling().residual(1),
        Layer::new(three(2, (5, 7), 24, 40, 1, Some((9, 13)))).doubling(),
        // A residual block's second convolution with its shortcut over two tensors; tensors of different repeats.
        Layer::new(Shape::conv(4, (6, 6), 40, 40).and(24).and(16)).moments().rows(&[4, 2, 4]),
        Layer::new(Shape::conv(2, (8, 8), 64, 64).and(96)).moments().table(3, 0),
        Layer::new(Shape::conv(2, (4, 4), 160, 160)).residual(1).moments(),
        // Latents: 4 channels in, few out.
        Layer::new(Shape::conv(3, (5, 7), 4, 80)).moments(),
        Layer::new(Shape::conv(2, (9, 8), 4, 4)),
        Layer::new(Shape::linear(2, 35, 4, 4)),
        Layer::new(Shape::conv(2, (8, 8), 12, 20)).residual(2),
        // Linear layers: tiles ± 1, one row, few and odd outputs, images that repeat, activations, gates.
        Layer::new(Shape::linear(2, 77, 64, 192)),
        Layer::new(Shape::linear(1, 1, 320, 80)).activated(Silu),
        Layer::new(Shape::linear(1, 129, 72, 127)),
        Layer::new(Shape::linear(3, 43, 40, 129)).residual(3),
        Layer::new(Shape::linear(2, 64, 104, 65)).residual(1).rows(&[1]),
        Layer::new(Shape::linear(1, 65, 8, 1)),
        Layer { bias: false, ..Layer::new(Shape::linear(2, 63, 200, 128)) },
        Layer::new(Shape::linear(1, 77, 64, 256)).activated(QuickGelu),
        Layer::new(Shape::linear(2, 50, 32, 72)).activated(Gelu).residual(2),
        Layer::new(Shape::linear(2, 35, 80, 640)).activated(Geglu),
        Layer::new(Shape::linear(1, 70, 40, 80)).activated(Geglu).residual(1).moments(),
        Layer::new(Shape::linear(4, 64, 80, 80)).residual(2).rows(&[4]).moments(),
    ];
    if case.full() {
        for (size, channels, outputs) in [(64, 320, 320), (32, 1280, 640), (16, 1920, 1280), (8, 2560, 1280)] {
            all.push(Layer::new(Shape::conv(2, (size, size), channels, outputs)).moments().table(50, 7));
            all.push(Layer::new(Shape::conv(2, (size, size), outputs, outputs).and(channels)).moments());
            all.push(Layer::new(Shape::linear(2, size * size, outputs, 8 * outputs)).activated(Geglu));
            all.push(Layer::new(three(2, (size, size), outputs, outputs, 2, None)));
        }
        all.push(Layer::new(three(1, (128, 128), 512, 512, 1, Some((256, 256)))).moments().doubling());
    }
    all
}

fn layers<T: Half>(case: &Case) -> Result<()> {
    for layer in all(case) {
        let inputs = Inputs::<T>::new(case, &layer)?;
        let mut families: Vec<(&str, Vec<T>, Vec<f32>)> = Vec::new();
        for variant in Variant::all(case.gpu(), &layer.shape, layer.doubling) {
            let what = format!("{variant:?} {layer:?}");
            let (bits, moments) = run(case, &layer, &inputs, Some(variant))?;
            let y: Vec<f32> = bits.iter().map(|v| v.widen()).collect();
            case.close(&what, &y, &inputs.want, Tolerance::of::<T>())?;
            if layer.moments {
                case.close(&format!("moments {what}"), &moments, &sums(&y, &layer), Tolerance::f32())?;
            }
            match families.iter().find(|(name, ..)| *name == variant.family()) {
                Some((_, first, first_moments)) => {
                    case.same(&what, &bits, first)?;
                    case.same(&format!("moments {what}"), &moments, first_moments)?;
                }
                None => families.push((variant.family(), bits, moments)),
            }
        }
        if layer.residual == layer.shape.n {
            in_place(case, &layer, &inputs)?;
        }
    }
    Ok(())
}

/// The residual may be y itself.
fn in_place<T: Half>(case: &Case, layer: &Layer, inputs: &Inputs<T>) -> Result<()> {
    let Some(residual) = &inputs.residual else { return Ok(()) };
    let moments = case.gpu().alloc::<f32>(layer.shape.n * layer.shape.runs() * layer.width() * 2)?;
    let epilogue = inputs.epilogue(layer, layer.moments.then(|| moments.view()));
    let (want, _) = run(case, layer, inputs, None)?;
    let sources = inputs.sources(layer);
    cuda::forward(case.gpu(), residual.view(), &sources, inputs.w.view(), epilogue, &layer.shape)?;
    case.same(&format!("in place {layer:?}"), &case.gpu().read(residual.view())?, &want)
}

fn to_f32<T: Half>(case: &Case) -> Result<()> {
    let mut shapes = vec![
        Shape::conv(3, (5, 7), 80, 4),
        Shape::conv(2, (8, 8), 16, 3),
        Shape::conv(1, (9, 15), 4, 4),
        Shape::linear(2, 67, 24, 33),
    ];
    if case.full() {
        shapes.extend([Shape::conv(2, (64, 64), 320, 4), Shape::conv(1, (512, 512), 128, 3)]);
    }
    for shape in shapes {
        let layer = Layer::new(shape);
        let inputs = Inputs::<T>::new(case, &layer)?;
        let y = case.gpu().alloc::<f32>(layer.y_len())?;
        let sources = inputs.sources(&layer);
        forward_f32(case.gpu(), y.view(), &sources, inputs.w.view(), inputs.epilogue(&layer, None), &layer.shape)?;
        case.close(&format!("{layer:?}"), &case.gpu().read(y.view())?, &inputs.want, Tolerance::f32())?;
    }
    Ok(())
}

/// The images of a batch have the bits of the same images in batches of one and three, with every variant and the
/// chosen one.
fn batches<T: Half>(case: &Case) -> Result<()> {
    const MOST: usize = 8;
    let layers = [
        Layer::new(Shape::conv(MOST, (5, 7), 40, 72).and(24)).moments().residual(MOST),
        Layer::new(three(MOST, (4, 4), 72, 40, 1, Some((8, 8)))).moments(),
        Layer::new(three(MOST, (5, 3), 72, 40, 1, Some((10, 6)))).moments().doubling(),
        Layer::new(Shape::conv(MOST, (8, 8), 4, 80)),
        Layer::new(Shape::linear(MOST, 37, 88, 96)).activated(Activation::Geglu),
    ];
    for layer in layers {
        let inputs = Inputs::<T>::new(case, &layer)?;
        let variants = Variant::all(case.gpu(), &layer.shape, layer.doubling).into_iter().map(Some).chain([None]);
        for variant in variants {
            let (whole, whole_moments) = run(case, &layer, &inputs, variant)?;
            for n in [1, 3] {
                // The last n images: they begin within a tile.
                let part = Layer {
                    shape: Shape { n, ..layer.shape.clone() },
                    rows: vec![n; layer.rows.len()],
                    residual: layer.residual.min(n),
                    ..layer.clone()
                };
                let tail = |x: &Owned<T>, of: usize| {
                    let per_image = x.view().len() / of;
                    case.gpu().upload(&case.gpu().read(x.view().slice((of - n) * per_image..of * per_image))?)
                };
                let some = Inputs {
                    sources: inputs.sources.iter().map(|x| tail(x, MOST)).collect::<Result<_>>()?,
                    w: case.gpu().upload(&case.gpu().read(inputs.w.view())?)?,
                    bias: inputs.bias.as_ref().map(|b| case.gpu().upload(&case.gpu().read(b.view())?)).transpose()?,
                    step: case.gpu().upload(&[0])?,
                    residual: inputs.residual.as_ref().map(|x| tail(x, MOST)).transpose()?,
                    want: Vec::new(),
                };
                let (y, moments) = run(case, &part, &some, variant)?;
                let what = format!("{n} of {variant:?} {layer:?}");
                case.same(&what, &y, &whole[whole.len() - y.len()..])?;
                let from = whole_moments.len() - moments.len();
                case.same(&format!("moments {what}"), &moments, &whole_moments[from..])?;
            }
        }
    }
    Ok(())
}
