//! Inception v3 (Szegedy et al. 2015, arXiv 1512.00567) as FID knows it: the network of TensorFlow's 2015 release up to
//! its last pooling, in the form that pytorch-fid has it. Beside torchvision's network its average pools do not count
//! the border, and the last block takes the largest value where the one before it takes the mean.
//!
//! 11.4 GFLOP a picture, thrice that on a GPU, which multiplies f32 as halves. Batch norms (ε 0.001) are folded into
//! the convolutions before them.

mod features;
mod load;
mod network;

pub use network::{Inception, SIDE, WIDTH};
