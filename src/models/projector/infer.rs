//! A head as it is evaluated: batch norms by their running statistics. On the CPU.

use super::Projector;
use crate::layers::training::BatchNorm;
use crate::ops::{batchnorm, linear, relu};
use crate::weights::Param;

impl Projector {
    /// Values of a row of what it makes.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// `[R, outputs]` of `features [R, D]` with its parameters in `params` and its running statistics in `statistics`.
    ///
    /// # Panics
    /// When the features are no rows of its width.
    pub fn infer(&self, params: &[f32], statistics: &[f32], features: &[f32]) -> Vec<f32> {
        let mut x = features.to_vec();
        for layer in &self.layers {
            assert!(x.len().is_multiple_of(layer.inputs), "head: {} values in rows of {}", x.len(), layer.inputs);
            let shape = layer.shape(x.len() / layer.inputs);
            let mut y = vec![0.0; shape.rows * shape.outputs];
            let of = |param: Param| param.of(params);
            linear::forward(&mut y, &x, of(layer.linear.w), layer.linear.b.map(of), shape);
            x = match layer.norm {
                None => y,
                Some(BatchNorm { affine, running, relu: clipped, .. }) => {
                    let [mean, var] = running.map(|param| param.of(statistics));
                    let plain = [vec![1.0; layer.outputs], vec![0.0; layer.outputs]];
                    let [gamma, beta] = affine.map_or([&plain[0][..], &plain[1]], |affine| affine.map(of));
                    let mut normed = vec![0.0; y.len()];
                    batchnorm::infer(&mut normed, &y, mean, var, gamma, beta);
                    if clipped {
                        relu::forward_in_place(&mut normed);
                    }
                    normed
                }
            };
        }
        x
    }
}
