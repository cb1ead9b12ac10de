//! Shards to a trained encoder.

pub mod views;
