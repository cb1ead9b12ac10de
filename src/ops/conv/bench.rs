//! Convolutions and linear layers of SD 1.5's UNet, decoder and text encoder, with the epilogues they have there: f16,
//! and the first of each in bf16.
//!
//! Beside a case stands cuBLASLt's plain product of the same sizes: for a convolution, one whose patches somebody else
//! has laid out.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::error::Result;
use crate::ops::bench::{Case, Number, Size, Work, in_both_types, stored};
use crate::ops::conv::cuda::{Activation, Bias, Epilogue, Segment, Shape, Source, Taps, forward, forward_f32};
use crate::ops::shapes::{TEXT_TOKENS, TEXT_WIDTH, UNET, decoder_rows, texts, unet_channels, unet_level, unet_rows};

const OP: &str = "conv";

/// What follows a product.
#[derive(Clone, Copy, Debug, Default)]
struct After {
    activation: Activation,
    residual: bool,
    moments: bool,
    /// f32 results.
    wide: bool,
}

pub fn cases(size: Size) -> Vec<Case> {
    in_both_types(every::<f16>(size), every::<bf16>(size))
}

fn every<T: Half + Number>(size: Size) -> Vec<Case> {
    unet::<T>(size).into_iter().chain(decoder::<T>(size)).chain(linears::<T>(size)).collect()
}

fn unet<T: Half + Number>(size: Size) -> Vec<Case> {
    let n = unet_rows(size);
    let conv = |side, inputs, outputs| {
        let (side, inputs) = unet_level(size, side, inputs);
        Shape::conv(n, (side, side), inputs, unet_channels(size, outputs))
    };
    let normed = After { moments: true, ..After::default() };
    let first = [
        (64, 320, 320),
        (64, 640, 320),
        (64, 960, 320),
        (32, 320, 640),
        (32, 640, 640),
        (32, 960, 640),
        (32, 1280, 640),
        (32, 1920, 640),
        (16, 640, 1280),
        (16, 1280, 1280),
        (16, 1920, 1280),
        (16, 2560, 1280),
        (8, 1280, 1280),
        (8, 2560, 1280),
    ];
    let mut all: Vec<Case> =
        first.iter().map(|&(side, inputs, outputs)| case::<T>("3×3", conv(side, inputs, outputs), normed)).collect();
    // The second convolution of a block: its input added, or the shortcut of joined tensors as more of K.
    let residual = After { residual: true, ..normed };
    all.extend(UNET.map(|(side, c)| case::<T>("3×3 + residual", conv(side, c, c), residual)));
    for (side, c, joined) in [(64, 320, [640, 320]), (32, 640, [1280, 640]), (16, 1280, [1280, 1280])] {
        let [below, kept] = joined.map(|channels| unet_channels(size, channels));
        all.push(case::<T>("3×3 + shortcut", conv(side, c, c).and(below).and(kept), normed));
    }
    let three = |side: usize, channels: usize, stride, enlarge: Option<usize>| {
        let (side, channels) = unet_level(size, side, channels);
        let taps = Taps::Three { stride, enlarge: enlarge.map(|_| (2 * side, 2 * side)) };
        Shape::of(n, (side, side), Segment { channels, taps }, channels)
    };
    for (side, c) in [(64, 320), (32, 640), (16, 1280)] {
        all.push(case::<T>("3×3 stride 2", three(side, c, 2, None), normed));
    }
    for (side, c) in [(8, 1280), (16, 1280), (32, 640)] {
        all.push(case::<T>("3×3 enlarged", three(side, c, 1, Some(2)), normed));
    }
    all.push(case::<T>("conv_in", conv(64, 4, 320), normed));
    let wide = After { wide: true, ..After::default() };
    all.push(case::<T>("conv_out", conv_to(size, n, 64, 320, 4), wide));
    all
}

/// To so few channels that they are not cut down.
fn conv_to(size: Size, n: usize, side: usize, inputs: usize, outputs: usize) -> Shape {
    let (side, inputs) = unet_level(size, side, inputs);
    Shape::conv(n, (side, side), inputs, outputs)
}

fn decoder<T: Half + Number>(size: Size) -> Vec<Case> {
    let n = decoder_rows(size);
    let (normed, wide) = (After { moments: true, ..After::default() }, After { wide: true, ..After::default() });
    let level = |side: usize, channels| unet_level(size, size.pick(side, side / 8), channels);
    let conv = |side, inputs, outputs| {
        let (side, inputs) = level(side, inputs);
        Shape::conv(n, (side, side), inputs, unet_channels(size, outputs))
    };
    let enlarged = |side, channels| {
        let (side, channels) = level(side, channels);
        let taps = Taps::Three { stride: 1, enlarge: Some((2 * side, 2 * side)) };
        Shape::of(n, (side, side), Segment { channels, taps }, channels)
    };
    let shapes = [(64, 512, 512), (128, 512, 512), (256, 512, 256), (256, 256, 256), (512, 256, 128), (512, 128, 128)];
    let mut all: Vec<Case> =
        shapes.iter().map(|&(side, c, outputs)| case::<T>("3×3, decoder", conv(side, c, outputs), normed)).collect();
    for (side, c) in [(64, 512), (128, 512), (256, 256)] {
        all.push(case::<T>("3×3 enlarged, decoder", enlarged(side, c), normed));
    }
    let (side, inputs) = level(512, 128);
    all.push(case::<T>("conv_out, decoder", Shape::conv(n, (side, side), inputs, 3), wide));
    all
}

fn linears<T: Half + Number>(size: Size) -> Vec<Case> {
    let n = unet_rows(size);
    let plain = After::default();
    let residual = After { residual: true, ..plain };
    let gated = After { activation: Activation::Geglu, ..plain };
    let mut all = Vec::new();
    for (side, c) in UNET {
        let (side, c) = unet_level(size, side, c);
        let linear = |inputs, outputs| Shape::linear(n, side * side, inputs, outputs);
        all.extend([
            case::<T>("qkv", linear(c, 3 * c), plain),
            case::<T>("projection", linear(c, c), plain),
            case::<T>("projection + residual", linear(c, c), residual),
            case::<T>("GEGLU", linear(c, 8 * c), gated),
            case::<T>("feed-forward out + residual", linear(4 * c, c), residual),
        ]);
    }
    let (n, d) = (texts(size), unet_channels(size, TEXT_WIDTH));
    let linear = |inputs, outputs| Shape::linear(n, TEXT_TOKENS, inputs, outputs);
    let gelu = After { activation: Activation::QuickGelu, ..plain };
    all.extend([
        case::<T>("qkv, text", linear(d, 3 * d), plain),
        case::<T>("projection + residual, text", linear(d, d), residual),
        case::<T>("quick GELU, text", linear(d, 4 * d), gelu),
        case::<T>("feed-forward out + residual, text", linear(4 * d, d), residual),
    ]);
    all
}

fn case<T: Half + Number>(kernel: &str, shape: Shape, after: After) -> Case {
    let Shape { n, height, width, outputs, .. } = shape;
    let (pixels, k) = (shape.pixels(), shape.k());
    let columns = if after.activation == Activation::Geglu { outputs / 2 } else { outputs };
    let values = n * pixels * columns;
    // As the shape counts them, with y as it is stored, and what the epilogue reads and writes beside it.
    let written = if after.wide { 4 * values } else { 2 * values };
    let beside = 2 * usize::from(after.residual) * values + 8 * usize::from(after.moments) * n * shape.runs() * columns;
    let bytes = shape.bytes() - 2.0 * (n * pixels * outputs) as f64 + (written + beside) as f64;
    let exps = if after.activation == Activation::None { 0.0 } else { 2.0 * values as f64 };
    // A twofold enlargement is four convolutions of 2×2 taps, with weights of their own behind the others.
    let doubled = shape.segments[0].taps == Taps::Three { stride: 1, enlarge: Some((2 * height, 2 * width)) };
    let (flops, weights) =
        if doubled { (shape.flops() / 9.0 * 4.0, outputs * k / 9 * 25) } else { (shape.flops(), outputs * k) };
    let bytes = if doubled { bytes + (2 * outputs * k / 9 * 7) as f64 } else { bytes };
    let work = Work { flops, bytes, exps };
    let channels: Vec<String> = shape.segments.iter().map(|segment| segment.channels.to_string()).collect();
    let size = if height == 1 { width.to_string() } else { format!("{height}×{width}") };
    let name = (OP, stored::<T>(kernel), format!("[{n}, {size}, {} → {outputs}]", channels.join("+")));
    Case::new(name, work, move |inputs| {
        let len = |segment: &Segment| match segment.taps {
            Taps::One => n * pixels * segment.channels,
            Taps::Three { .. } => n * height * width * segment.channels,
        };
        let sources = shape.segments.iter().map(|segment| inputs.normal::<T>(len(segment)));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        // Random weights are as good in any layout.
        let w = inputs.scaled::<T>(weights, 0.05)?;
        let bias = inputs.normal::<f32>(outputs)?;
        let residual = if after.residual { Some(inputs.normal::<T>(values)?) } else { None };
        let moments = if after.moments { Some(inputs.room::<f32>(2 * n * shape.runs() * columns)?) } else { None };
        let y = inputs.room::<T>(if after.wide { 0 } else { values })?;
        let y_wide = inputs.room::<f32>(if after.wide { values } else { 0 })?;
        let shape = shape.clone();
        Ok(move |gpu: &_| {
            let sources: Vec<_> = sources.iter().map(|x| Source { x: x.view(), rows: n }).collect();
            let epilogue = Epilogue {
                bias: Bias::Vector(bias.view()),
                activation: after.activation,
                residual: residual.as_ref().map(|x| Source { x: x.view(), rows: n }),
                moments: moments.as_ref().map(|moments| moments.view()),
            };
            if after.wide {
                forward_f32(gpu, y_wide.view(), &sources, w.view(), epilogue, &shape)
            } else {
                forward(gpu, y.view(), &sources, w.view(), epilogue, &shape)
            }
        })
    })
    .against(n * pixels, outputs, k, T::DTYPE)
}
