//! The projection head on CUDA: bf16 activations; the output, which the loss compares, in f32.

use half::bf16;

use super::{Projector, ProjectorConfig};
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::ops::batchnorm::{EPS, MOMENTUM, cuda as batchnorm};
use crate::ops::linear::cuda as linear;
use crate::weights::DeviceParams;

#[derive(Clone, Copy, Debug)]
struct Hidden {
    linear: View<bf16>,
    relu: View<bf16>,
    stats: View<f32>,
}

/// Activations of the head for `rows` rows in `slots` slots.
#[derive(Clone, Debug)]
pub struct CudaActs {
    rows: usize,
    slots: usize,
    layers: [Hidden; 2],
    out: View<f32>,
    /// Gradients of the hidden layers' outputs.
    dy: [View<bf16>; 2],
    moments: View<f32>,
    scratch: View<f32>,
}

impl CudaActs {
    /// Takes the buffers; `rows` must be a multiple of `slots`.
    pub fn new(arena: &mut Arena, head: &Projector, rows: usize, slots: usize) -> Self {
        assert!(slots > 0 && rows.is_multiple_of(slots), "projector: {rows} rows in {slots} slots");
        let ProjectorConfig { hidden, output, .. } = *head.config();
        let norm = batchnorm::Shape { slots, rows: rows / slots, cols: hidden };
        let group = "activations";
        let layers = [1, 2].map(|i| Hidden {
            linear: arena.take(group, format!("image_mlp.layer{i}"), rows * hidden),
            relu: arena.take(group, format!("image_mlp.bn{i}"), rows * hidden),
            stats: arena.take(group, format!("image_mlp.bn{i}.stats"), norm.stats_len()),
        });
        let out = arena.take(group, "image_mlp.layer3", rows * output);
        let linears = head.shapes(rows).map(linear::backward_weight_scratch_len);
        let scratch = linears.into_iter().chain([norm.scratch_len()]).max().unwrap_or(0);
        let group = "backward scratch";
        let dy = [1, 2].map(|i| arena.take(group, format!("d image_mlp.layer{i}"), rows * hidden));
        let moments = arena.take(group, "head moments", norm.stats_len());
        let scratch = arena.take(group, "head partial sums", scratch);
        Self { rows, slots, layers, out, dy, moments, scratch }
    }

    /// The head's output `[R, output]` of the last forward.
    pub fn out(&self) -> View<f32> {
        self.out
    }

    fn norm(&self, head: &Projector) -> batchnorm::Shape {
        batchnorm::Shape { slots: self.slots, rows: self.rows / self.slots, cols: head.config().hidden }
    }

    /// The hidden activations in the order they were computed, by name.
    pub fn named(&self) -> Vec<(String, View<bf16>)> {
        let layer = |(i, layer): (usize, &Hidden)| {
            [(format!("image_mlp.layer{}", i + 1), layer.linear), (format!("image_mlp.bn{}", i + 1), layer.relu)]
        };
        self.layers.iter().enumerate().flat_map(layer).collect()
    }
}

impl Projector {
    /// Queues `acts.out [R, output]` from `features [R, D]`, training mode; `statistics` move once per slot.
    pub fn forward_cuda(
        &self,
        gpu: &Gpu,
        params: &DeviceParams,
        statistics: View<f32>,
        acts: &CudaActs,
        features: View<bf16>,
    ) -> Result<()> {
        let (shapes, norm) = (self.shapes(acts.rows), acts.norm(self));
        let settings = batchnorm::Settings { eps: EPS, momentum: MOMENTUM };
        let mut x = features;
        for (i, layer) in acts.layers.iter().enumerate() {
            let [w, b] = self.layers[i].map(|p| params.bf16(p));
            linear::forward(gpu, layer.linear, x, w, b, shapes[i])?;
            batchnorm::moments(gpu, acts.moments, layer.linear, acts.scratch, norm)?;
            let running = self.running[i].map(|p| statistics.slice(p.range()));
            batchnorm::statistics(gpu, layer.stats, Some(running), acts.moments, settings, norm)?;
            let affine = self.norms[i].map(|p| params.f32(p));
            batchnorm::apply(gpu, layer.relu, layer.linear, layer.stats, Some(affine), true, norm)?;
            x = layer.relu;
        }
        let [w, b] = self.layers[2].map(|p| params.bf16(p));
        linear::forward_f32(gpu, acts.out, x, w, b, shapes[2])
    }

    /// Queues writing `dfeatures [R, D]` and adding the gradients of the parameters, given `dout [R, output]`.
    pub fn backward_cuda(
        &self,
        gpu: &Gpu,
        params: &DeviceParams,
        acts: &CudaActs,
        dfeatures: View<bf16>,
        dout: View<bf16>,
        features: View<bf16>,
    ) -> Result<()> {
        let (shapes, norm) = (self.shapes(acts.rows), acts.norm(self));
        let inputs = [features, acts.layers[0].relu, acts.layers[1].relu];
        let weight_gradient = |i: usize, dy| {
            let [dw, db] = self.layers[i].map(|p| params.grad(p));
            linear::backward_weight(gpu, dw, db, dy, inputs[i], acts.scratch, shapes[i])
        };
        weight_gradient(2, dout)?;
        linear::backward_input(gpu, acts.dy[1], dout, params.bf16(self.layers[2][0]), shapes[2])?;
        for i in [1, 0] {
            let Hidden { linear: x, stats, .. } = acts.layers[i];
            let (dy, sums, scratch) = (acts.dy[i], acts.moments, acts.scratch);
            let affine = Some(self.norms[i].map(|p| params.f32(p)));
            let gradients = Some(self.norms[i].map(|p| params.grad(p)));
            batchnorm::backward_sums(gpu, sums, gradients, dy, x, stats, affine, true, scratch, norm)?;
            batchnorm::backward_apply(gpu, dy, dy, x, stats, sums, affine, true, 1, norm)?;
            weight_gradient(i, dy)?;
            let target = if i == 0 { dfeatures } else { acts.dy[0] };
            linear::backward_input(gpu, target, dy, params.bf16(self.layers[i][0]), shapes[i])?;
        }
        Ok(())
    }
}
