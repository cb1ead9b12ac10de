//! Captions to shards of images.
