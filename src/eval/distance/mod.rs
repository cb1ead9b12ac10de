//! How far two sets of pictures are apart, by features of each, in f64: the Fréchet distance of two normal
//! distributions, the kernel distance, and precision and recall by nearest neighbours.

mod factor;
pub mod frechet;
pub mod kernel;
pub mod moments;
pub mod neighbours;
pub mod spectrum;
mod vectors;
