//! How far generated pictures are from real ones: the Fréchet distance by Inception's features (FID) or any encoder's,
//! the kernel distance, precision and recall; of one set or of a sweep over the guidance scale.

#[cfg(cuda_kernels)]
pub mod card;
mod config;
mod extractor;
pub mod inception;
mod plan;
pub mod report;
mod run;

pub use config::{FidConfig, Source};
pub use run::run;
