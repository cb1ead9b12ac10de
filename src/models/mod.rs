//! Networks as explicit forward (and backward) passes over ops.

pub mod init;
pub mod projector;
pub mod tokenizer;
pub mod vit;
