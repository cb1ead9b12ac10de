//! Layers of Stable Diffusion 1.5 at 512² with their own channels and sizes, one of each kind, one image; by the
//! variant that the model would take.

use half::f16;

use super::inputs::{Inputs, run};
use super::layer::{Layer, sums, three};
use crate::error::Result;
use crate::ops::check::{Case, Check, Tolerance};
use crate::ops::conv::cuda::{Activation, Shape, forward_f32};

pub const CHECKS: &[Check] = &[
    Check { name: "conv, 3×3 of 64² and of 8²", run: |case| layers(case, &convolutions()) },
    Check { name: "conv, shortcut of joined tensors as more of K", run: |case| layers(case, &shortcuts()) },
    Check { name: "conv, stride 2 and twofold enlargement", run: |case| layers(case, &resampled()) },
    Check { name: "conv, linear layers", run: |case| layers(case, &linears()) },
    Check { name: "conv, strips of the decoder's 64² and 512²", run: |case| layers(case, &decoder()) },
    Check { name: "conv, last layers into f32", run: last },
];

/// The first of the UNet, a residual block's with its timestep in a table of 50, and the one of the longest K.
fn convolutions() -> Vec<Layer> {
    vec![
        Layer::new(Shape::conv(1, (64, 64), 4, 320)).moments(),
        Layer::new(Shape::conv(1, (64, 64), 320, 320)).moments().table(50, 7),
        Layer::new(Shape::conv(1, (8, 8), 2560, 1280)).moments().table(50, 49),
    ]
}

fn shortcuts() -> Vec<Layer> {
    vec![Layer::new(Shape::conv(1, (32, 32), 640, 640).and(1280).and(640)).moments()]
}

fn resampled() -> Vec<Layer> {
    vec![
        Layer::new(three(1, (64, 64), 320, 320, 2, None)).moments(),
        Layer::new(three(1, (8, 8), 1280, 1280, 1, Some((16, 16)))).moments().doubling(),
    ]
}

/// Of a transformer at 64² (queries, keys and values; gate; its way back; projection out) and at 16², of a caption's
/// keys and values, of the text encoder's MLP.
fn linears() -> Vec<Layer> {
    vec![
        Layer { bias: false, ..Layer::new(Shape::linear(1, 4096, 320, 960)) },
        Layer::new(Shape::linear(1, 4096, 320, 2560)).activated(Activation::Geglu),
        Layer::new(Shape::linear(1, 4096, 1280, 320)).residual(1),
        Layer::new(Shape::linear(1, 4096, 320, 320)).residual(1).moments(),
        Layer::new(Shape::linear(1, 256, 5120, 1280)).residual(1),
        Layer { bias: false, ..Layer::new(Shape::linear(1, 77, 768, 2560)) },
        Layer::new(Shape::linear(1, 77, 768, 3072)).activated(Activation::QuickGelu),
    ]
}

fn decoder() -> Vec<Layer> {
    vec![
        Layer::new(Shape::conv(1, (16, 64), 512, 512)).moments().residual(1),
        Layer::new(Shape::conv(1, (8, 512), 128, 128)).moments().residual(1),
        Layer::new(Shape::conv(1, (4, 512), 128, 128).and(256)).moments(),
    ]
}

fn layers(case: &Case, layers: &[Layer]) -> Result<()> {
    for layer in layers {
        let inputs = Inputs::<f16>::new(case, layer)?;
        let (y, moments) = run(case, layer, &inputs, None)?;
        let y: Vec<f32> = y.into_iter().map(f32::from).collect();
        case.close(&format!("{layer:?}"), &y, &inputs.want, Tolerance::f16())?;
        if layer.moments {
            case.close(&format!("moments {layer:?}"), &moments, &sums(&y, layer), Tolerance::f32())?;
        }
    }
    Ok(())
}

/// The UNet's, and a strip of the decoder's.
fn last(case: &Case) -> Result<()> {
    for shape in [Shape::conv(1, (64, 64), 320, 4), Shape::conv(1, (8, 512), 128, 3)] {
        let layer = Layer::new(shape);
        let inputs = Inputs::<f16>::new(case, &layer)?;
        let y = case.gpu().alloc::<f32>(layer.y_len())?;
        let (sources, epilogue) = (inputs.sources(&layer), inputs.epilogue(&layer, None));
        forward_f32(case.gpu(), y.view(), &sources, inputs.w.view(), epilogue, &layer.shape)?;
        case.close(&format!("{layer:?}"), &case.gpu().read(y.view())?, &inputs.want, Tolerance::f32())?;
    }
    Ok(())
}
