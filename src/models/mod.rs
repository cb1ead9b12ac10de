//! Networks, each written once, as walks over the fused layers of [`crate::layers`] (generation) and as explicit
//! forward and backward passes over ops (training).

pub mod classifier;
pub mod clip_text;
pub mod dino_head;
pub mod inception;
pub mod init;
pub mod mae;
pub mod positions;
pub mod projector;
pub mod segmenter;
pub mod settings;
pub mod text_tower;
pub mod tokenizer;
pub mod unet;
pub mod vae;
pub mod vit;
