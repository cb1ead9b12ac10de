//! A layer's inputs, and what comes out of it.

use super::layer::Layer;
use crate::device::cuda::{Half, Owned, View};
use crate::error::Result;
use crate::ops::check::Case;
use crate::ops::conv;
use crate::ops::conv::cuda::{Epilogue, SegmentWeights, Shape, Source, Taps, Variant, forward_by, pack, pack_doubling};
use crate::ops::gemm::Operands;
use crate::ops::gemm::Threads;
use crate::ops::packed::{Packed, Start, linear};

/// Inputs on the device and what the CPU makes of them.
pub struct Inputs<T: Half> {
    pub sources: Vec<Owned<T>>,
    pub w: Owned<T>,
    pub bias: Option<Owned<f32>>,
    pub step: Owned<u32>,
    pub residual: Option<Owned<T>>,
    pub want: Vec<f32>,
}

impl<T: Half> Inputs<T> {
    pub fn new(case: &Case, layer: &Layer) -> Result<Self> {
        let Shape { n, outputs, ref segments, .. } = layer.shape;
        let (pixels, k) = (layer.shape.pixels(), layer.shape.k());
        let mut want = vec![0.0; n * pixels * outputs];
        let (mut sources, mut weights) = (Vec::new(), Vec::new());
        for (i, (segment, &rows)) in segments.iter().zip(&layer.rows).enumerate() {
            let channels = segment.channels;
            let (height, width, taps) = match segment.taps {
                Taps::One => (1, pixels, 1),
                Taps::Three { .. } => (layer.shape.height, layer.shape.width, 9),
            };
            let x = case.normal(&format!("x {i} of {layer:?}"), rows * height * width * channels, 1.0);
            let (x, values) = case.half::<T>(&x)?;
            let repeated: Vec<f32> = values.iter().cycle().take(n * height * width * channels).copied().collect();
            let std = 1.0 / (k as f32).sqrt();
            let w = case.normal(&format!("w {i} of {layer:?}"), outputs * channels * taps, std);
            let w: Vec<f32> = w.into_iter().map(|v| T::round(v).widen()).collect();
            match segment.taps {
                Taps::One => {
                    let packed = Packed::from_out_in(&w, None, outputs, channels, Operands::F32);
                    linear(&mut want, &repeated, &packed, Start::Keep, Threads::All);
                }
                Taps::Three { stride, enlarge } => {
                    let packed = conv::Weights::new(&w, None, (channels, outputs), stride, Operands::F32);
                    let shape = conv::Shape { n, height, width, channels, stride, enlarge };
                    conv::forward(&mut want, &repeated, &packed, Start::Keep, shape, Threads::All);
                }
            }
            sources.push(x);
            weights.push((w, channels, taps));
        }
        let parts: Vec<_> = weights
            .iter()
            .map(|(w, channels, taps)| SegmentWeights { w, inputs: *channels, channels: 0..*channels, taps: *taps })
            .collect();
        let w = match &parts[..] {
            [only] if layer.doubling => pack_doubling::<T>(only.w, only.inputs, outputs),
            _ => pack::<T>(&parts, outputs, layer.gated()),
        };
        let w = case.gpu().upload(&w)?;

        let (rows, row) = (layer.table.0.max(1), layer.table.1);
        let table = case.normal(&format!("bias of {layer:?}"), rows * outputs, 1.0);
        if layer.bias {
            let bias = &table[row * outputs..(row + 1) * outputs];
            want.chunks_exact_mut(outputs).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
        }
        let want = layer.activate(want);
        let mut this = Self { sources, w, bias: None, step: case.gpu().upload(&[row as u32])?, residual: None, want };
        if layer.bias {
            this.bias = Some(case.f32(&layer.pack_biases(&table))?);
        }
        if layer.residual > 0 {
            let len = layer.residual * pixels * layer.width();
            let (residual, values) = case.half::<T>(&case.normal(&format!("residual of {layer:?}"), len, 1.0))?;
            this.want.iter_mut().zip(values.iter().cycle()).for_each(|(y, r)| *y += r);
            this.residual = Some(residual);
        }
        Ok(this)
    }

    pub fn sources(&self, layer: &Layer) -> Vec<Source<T>> {
        self.sources.iter().zip(&layer.rows).map(|(x, &rows)| Source { x: x.view(), rows }).collect()
    }

    pub fn epilogue(&self, layer: &Layer, moments: Option<View<f32>>) -> Epilogue<T> {
        let bias = layer.bias(self.bias.as_ref().map(Owned::view), self.step.view());
        let residual = self.residual.as_ref().map(|x| Source { x: x.view(), rows: layer.residual });
        Epilogue { bias, activation: layer.activation, residual, moments }
    }
}

/// y and moments (none: empty) of a layer by one variant.
pub fn run<T: Half>(
    case: &Case,
    layer: &Layer,
    inputs: &Inputs<T>,
    variant: Option<Variant>,
) -> Result<(Vec<T>, Vec<f32>)> {
    let y = case.gpu().alloc::<T>(layer.y_len())?;
    let moments = match layer.moments {
        true => Some(case.gpu().alloc::<f32>(layer.shape.n * layer.shape.runs() * layer.width() * 2)?),
        false => None,
    };
    let epilogue = inputs.epilogue(layer, moments.as_ref().map(Owned::view));
    forward_by(case.gpu(), variant, y.view(), &inputs.sources(layer), inputs.w.view(), epilogue, &layer.shape)?;
    let moments = moments.map_or(Ok(Vec::new()), |moments| case.gpu().read(moments.view()))?;
    Ok((case.gpu().read(y.view())?, moments))
}
