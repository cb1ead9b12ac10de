//! Shards to a trained encoder.

pub mod loader;
pub mod views;
