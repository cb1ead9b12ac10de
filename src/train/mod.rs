//! Shards to a trained encoder.
