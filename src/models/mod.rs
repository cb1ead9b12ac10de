//! Networks as explicit forward (and backward) passes over ops.

pub mod clip_text;
pub mod init;
pub(crate) mod layers;
pub mod projector;
pub mod settings;
pub mod tokenizer;
pub mod unet;
pub mod vae;
pub mod vit;
