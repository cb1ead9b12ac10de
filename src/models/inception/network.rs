//! The network: what it is made of, and its forward pass.

use crate::ops::conv2d::{self, Shape, Window};
use crate::ops::packed::{self, Packed, Start};
use crate::ops::pool::{self, Pool};
use crate::ops::{gemm::Threads, relu};

/// Side of the pictures it takes, pixels.
pub const SIDE: usize = 299;

/// Width of a feature.
pub const WIDTH: usize = 2048;

/// Values of one picture that are held at once at most: it, and the map of 147² pixels with the one that it is made of.
pub const ACTIVATIONS: usize = 3 * SIDE * SIDE + 147 * 147 * (32 + 64);

/// The network with its weights.
#[derive(Debug)]
pub struct Inception {
    /// The convolutions before each of the first two pools.
    pub(super) stem: [Vec<Conv>; 2],
    pub(super) blocks: Vec<Block>,
}

/// A convolution with its batch norm, and the rectifier behind it.
#[derive(Debug)]
pub(super) struct Conv {
    pub(super) weights: Packed,
    pub(super) window: Window,
}

/// Branches of the same input, whose outputs stand side by side.
#[derive(Debug)]
pub(super) struct Block(pub(super) Vec<Branch>);

/// A pool, if there is one, convolutions one behind the other, and those that each take what came of it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pool: Option<(Pool, Window)>,
    pub(super) chain: Vec<Conv>,
    pub(super) ends: Vec<Conv>,
}

/// Maps `[N, height, width, channels]`.
struct Maps {
    n: usize,
    size: (usize, usize),
    channels: usize,
    values: Vec<f32>,
}

/// The pool between stages.
pub(super) const SHRINK: (Pool, Window) = (Pool::Max, Window::inside(3, 2));

impl Inception {
    /// Features `[N, 2048]` of `images[N, 299, 299, 3]`, pixels in −1 to 1.
    ///
    /// # Panics
    /// When there are other pictures.
    pub fn features(&self, images: &[f32]) -> Vec<f32> {
        let each = 3 * SIDE * SIDE;
        assert!(images.len().is_multiple_of(each), "inception: {} values are no pictures of {each}", images.len());
        let input = Maps { n: images.len() / each, size: (SIDE, SIDE), channels: 3, values: images.to_vec() };
        let x = self.stem.iter().fold(input, |x, convs| pooled(&chain(x, convs), SHRINK));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x));
        let pixels = x.size.0 * x.size.1;
        let mut features = vec![0.0f32; x.n * WIDTH];
        for (mean, map) in features.chunks_exact_mut(WIDTH).zip(x.values.chunks_exact(pixels * WIDTH)) {
            for row in map.chunks_exact(WIDTH) {
                mean.iter_mut().zip(row).for_each(|(mean, &v)| *mean += v);
            }
            mean.iter_mut().for_each(|v| *v /= pixels as f32);
        }
        features
    }
}

impl Block {
    fn forward(&self, x: &Maps) -> Maps {
        let mut parts = Vec::new();
        for Branch { pool, chain: convs, ends } in &self.0 {
            let mut y = pool.map(|pool| pooled(x, pool));
            for conv in convs {
                y = Some(conv.forward(y.as_ref().unwrap_or(x)));
            }
            match ends.len() {
                0 => parts.extend(y),
                _ => parts.extend(ends.iter().map(|conv| conv.forward(y.as_ref().unwrap_or(x)))),
            }
        }
        side_by_side(&parts)
    }
}

impl Conv {
    fn forward(&self, x: &Maps) -> Maps {
        let w = &self.weights;
        let shape = Shape { n: x.n, height: x.size.0, width: x.size.1, channels: x.channels, window: self.window };
        let mut values = vec![0.0; shape.rows() * w.n];
        match self.window.kernel {
            (1, 1) => packed::linear(&mut values, &x.values, w, Start::Bias, Threads::All),
            _ => conv2d::forward(&mut values, &x.values, w, shape),
        }
        relu::forward_in_place(&mut values);
        Maps { n: x.n, size: shape.output(), channels: w.n, values }
    }
}

fn chain(x: Maps, convs: &[Conv]) -> Maps {
    convs.iter().fold(x, |x, conv| conv.forward(&x))
}

fn pooled(x: &Maps, (pool, window): (Pool, Window)) -> Maps {
    let shape = Shape { n: x.n, height: x.size.0, width: x.size.1, channels: x.channels, window };
    let mut values = vec![0.0; shape.rows() * x.channels];
    pool::forward(&mut values, &x.values, pool, shape);
    Maps { n: x.n, size: shape.output(), channels: x.channels, values }
}

/// The channels of all maps, which are of one size.
fn side_by_side(parts: &[Maps]) -> Maps {
    let channels = parts.iter().map(|part| part.channels).sum();
    let pixels = parts[0].values.len() / parts[0].channels;
    let mut values = Vec::with_capacity(pixels * channels);
    for pixel in 0..pixels {
        for part in parts {
            values.extend_from_slice(&part.values[pixel * part.channels..(pixel + 1) * part.channels]);
        }
    }
    Maps { n: parts[0].n, size: parts[0].size, channels, values }
}
