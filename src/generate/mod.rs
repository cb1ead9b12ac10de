//! Captions to shards of images.

mod pipeline;
pub mod sampler;

pub use pipeline::{Decoded, Pipeline, Settings, Text};
