//! Embeddings: sinusoids of a diffusion timestep (Vaswani et al. 2017; Ho et al. 2020), and tokens of a text on the
//! device.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// `dim` values: `sin(t·f_i)` and `cos(t·f_i)` with `f_i = 10000^(−i/(dim/2 − shift))`, sines first or, when `flip`,
/// cosines first; an odd `dim` ends in 0. The angles are rounded to f32 as PyTorch computes them: at t = 981 that is
/// what the weights were trained with.
pub fn timestep(t: f32, dim: usize, flip: bool, shift: f32) -> Vec<f32> {
    let half = dim / 2;
    let frequency = |i: usize| {
        let exponent = -(10_000f32.ln()) * i as f32 / (half as f32 - shift);
        f64::from(exponent).exp() as f32
    };
    let angle = |i: usize| f64::from(t * frequency(i));
    let sines = (0..half).map(|i| angle(i).sin() as f32);
    let cosines = (0..half).map(|i| angle(i).cos() as f32);
    let mut out: Vec<f32> = if flip { cosines.chain(sines).collect() } else { sines.chain(cosines).collect() };
    out.resize(dim, 0.0);
    out
}
