//! From captions to trained vision encoders: `generate` images with Stable Diffusion, `train` a ViT on them with
//! StableRep's multi-positive contrastive loss (Tian et al. 2023, arXiv 2306.00984), and `probe` it on real
//! photographs.
//!
//! # Letters of shapes
//! N batch · H W pixels · C channels · T tokens · D width · G groups or heads · M images (views) per caption.
//! Images are NHWC, tokens `[N, T, D]`, matrices row-major. A gradient of `x` is `dx`.
//!
//! # Rooms
//! Imports go down this list only (`tests/layering.rs`): `cli` → `bench` → `generate` `train` `selftest` `report` →
//! `eval` → `captions` `shards` `models` → `layers` → `ops` `weights` → `device` `metrics` `dist` `image` → `store` →
//! `rng` `config` `console` `error`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod captions;
pub mod cli;
pub mod config;
pub mod console;
pub mod device;
pub mod dist;
pub mod error;
pub mod eval;
pub mod generate;
pub mod image;
pub mod layers;
pub mod metrics;
pub mod models;
pub mod ops;
pub mod report;
pub mod rng;
#[cfg(cuda_kernels)]
pub mod selftest;
pub mod shards;
pub mod store;
pub mod train;
pub mod weights;
