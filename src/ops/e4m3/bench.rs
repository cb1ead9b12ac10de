//! Layers of SD 1.5's UNet over e4m3, what feeds them, and the maxima that their scales come from.

use half::f16;

use crate::device::cuda::E4m3;
use crate::ops::bench::{Case, Size, Work};
use crate::ops::conv::cuda::{Activation, Bias, Epilogue, Quantized, Shape, Source, Stored, forward_e4m3};
use crate::ops::groupnorm::cuda::{Modulation, apply_e4m3, table_len};
use crate::ops::layernorm::cuda::{Affine, infer_e4m3};
use crate::ops::reduce::cuda::absmax;
use crate::ops::shapes::{UNET, unet_channels, unet_level, unet_rows};

const OP: &str = "e4m3";
const EPS: f32 = 1e-5;
/// Four deviations are the largest.
const INVERSE: f32 = E4m3::MAX / 4.0;

pub fn cases(size: Size) -> Vec<Case> {
    let n = unet_rows(size);
    let mut all = Vec::new();
    for (side, inputs, outputs) in [
        (64, 320, 320),
        (64, 960, 320),
        (32, 640, 640),
        (32, 1920, 640),
        (16, 1280, 1280),
        (16, 2560, 1280),
        (8, 1280, 1280),
        (8, 2560, 1280),
    ] {
        let (side, inputs) = unet_level(size, side, inputs);
        let shape = Shape::conv(n, (side, side), inputs, unet_channels(size, outputs));
        all.push(product("3×3 into f16", shape, After { moments: true, ..After::default() }));
    }
    let (gated, residual) = (After { gated: true, ..After::default() }, After { residual: true, ..After::default() });
    for (side, c) in UNET {
        let (side, c) = unet_level(size, side, c);
        let linear = |inputs, outputs| Shape::linear(n, side * side, inputs, outputs);
        all.extend([
            product("qkv into f16", linear(c, 3 * c), After::default()),
            product("projection into f16", linear(c, c), After::default()),
            product("GEGLU into e4m3", linear(c, 8 * c), gated),
            product("feed-forward out + residual into f16", linear(4 * c, c), residual),
            group_norm(n, side * side, c),
            layer_norm(n * side * side, c),
            largest(n * side * side * c),
        ]);
    }
    all
}

/// What follows a product. Gated ones go into e4m3.
#[derive(Clone, Copy, Debug, Default)]
struct After {
    gated: bool,
    residual: bool,
    moments: bool,
}

fn product(kernel: &'static str, shape: Shape, after: After) -> Case {
    let Shape { n, height, width, outputs, .. } = shape;
    let (pixels, k, channels) = (shape.pixels(), shape.k(), shape.segments[0].channels);
    let columns = if after.gated { outputs / 2 } else { outputs };
    let values = n * pixels * columns;
    let stored = if after.gated { values } else { 2 * values };
    let beside = 2 * usize::from(after.residual) * values + 8 * usize::from(after.moments) * n * shape.runs() * columns;
    let bytes = (n * pixels * channels + outputs * k + stored + beside) as f64;
    let exps = if after.gated { 2.0 * values as f64 } else { 0.0 };
    let size = if height == 1 { width.to_string() } else { format!("{height}×{width}") };
    let name = (OP, kernel, format!("[{n}, {size}, {channels} → {outputs}]"));
    Case::new(name, Work { flops: shape.flops(), bytes, exps }, move |inputs| {
        let (x, w) = (inputs.normal::<E4m3>(n * pixels * channels)?, inputs.normal::<E4m3>(outputs * k)?);
        // Sums of about 1.
        let scales = inputs.upload(&vec![1.0 / (INVERSE * INVERSE * (k as f32).sqrt()); outputs])?;
        let bias = inputs.normal::<f32>(outputs)?;
        let residual = if after.residual { Some(inputs.normal::<f16>(values)?) } else { None };
        let moments = if after.moments { Some(inputs.room::<f32>(2 * n * shape.runs() * columns)?) } else { None };
        let half = inputs.room::<f16>(if after.gated { 0 } else { values })?;
        let narrow = inputs.room::<E4m3>(if after.gated { values } else { 0 })?;
        let shape = shape.clone();
        Ok(move |gpu: &_| {
            let epilogue = Epilogue {
                bias: Bias::Vector(bias.view()),
                activation: if after.gated { Activation::Geglu } else { Activation::None },
                residual: residual.as_ref().map(|x| Source { x: x.view(), rows: n }),
                moments: moments.as_ref().map(|moments| moments.view()),
            };
            let y = match after.gated {
                true => Stored::E4m3 { y: narrow.view(), inverse: INVERSE },
                false => Stored::Half(half.view()),
            };
            let w = Quantized { w: w.view(), scales: scales.view() };
            forward_e4m3(gpu, y, Source { x: x.view(), rows: n }, w, epilogue, &shape)
        })
    })
    .over_e4m3()
}

fn group_norm(n: usize, pixels: usize, c: usize) -> Case {
    let values = n * pixels * c;
    let work = Work { bytes: (3 * values + 4 * table_len(n, c)) as f64, exps: 2.0 * values as f64, ..Work::default() };
    Case::new((OP, "group norm, SiLU of f16", format!("[{n}, {pixels}, {c}]")), work, move |inputs| {
        let (x, table) = (inputs.normal::<f16>(values)?, inputs.normal(table_len(n, c))?);
        let y = inputs.room::<E4m3>(values)?;
        Ok(move |gpu: &_| {
            let modulation = Modulation { table: table.view(), silu: true };
            apply_e4m3(gpu, y.view(), INVERSE, &[(x.view(), n, c)], modulation, n, pixels)
        })
    })
    .over_e4m3()
}

fn layer_norm(rows: usize, d: usize) -> Case {
    let work = Work { bytes: (3 * rows * d + 8 * d) as f64, ..Work::default() };
    Case::new((OP, "layer norm of f16", format!("[{rows}, {d}]")), work, move |inputs| {
        let (x, y) = (inputs.normal::<f16>(rows * d)?, inputs.room::<E4m3>(rows * d)?);
        let (gamma, beta) = (inputs.normal(d)?, inputs.normal(d)?);
        Ok(move |gpu: &_| {
            let affine = Affine { gamma: gamma.view(), beta: beta.view(), eps: EPS };
            infer_e4m3(gpu, y.view(), INVERSE, x.view(), affine, rows, d)
        })
    })
    .over_e4m3()
}

fn largest(len: usize) -> Case {
    let work = Work { bytes: 2.0 * len as f64, ..Work::default() };
    Case::new((OP, "absmax f16", format!("[{len}]")), work, move |inputs| {
        let (x, slot) = (inputs.normal::<f16>(len)?, inputs.room(1)?);
        Ok(move |gpu: &_| absmax(gpu, slot.view(), x.view()))
    })
}
