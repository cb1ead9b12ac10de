//! Captions to shards of images.

pub mod sampler;
