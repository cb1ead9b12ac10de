//! Initial weights that more than one network uses.

use crate::rng::Stream;

/// Uniform in ±1/√`fan_in`: PyTorch's default for the weights (Kaiming-uniform with a = √5) and biases of linear and
/// convolution layers.
pub fn uniform_fan_in(values: &mut [f32], stream: &mut Stream, fan_in: usize) {
    let bound = 1.0 / (fan_in as f32).sqrt();
    values.iter_mut().for_each(|v| *v = stream.uniform_in(-bound, bound));
}

/// Uniform in ±√(6/(`fan_in` + `fan_out`)) (Glorot & Bengio 2010).
pub fn xavier_uniform(values: &mut [f32], stream: &mut Stream, fan_in: usize, fan_out: usize) {
    let bound = (6.0 / (fan_in + fan_out) as f32).sqrt();
    values.iter_mut().for_each(|v| *v = stream.uniform_in(-bound, bound));
}

/// N(0, 2/`fan_out`) (He et al. 2015, arXiv 1502.01852): what mmsegmentation's convolutions in front of a ReLU begin
/// as.
pub fn he_fan_out(values: &mut [f32], stream: &mut Stream, fan_out: usize) {
    let std = (2.0 / fan_out as f32).sqrt();
    stream.fill_normal(values);
    values.iter_mut().for_each(|v| *v *= std);
}
