//! How unlike the pictures of a set are: within a caption and between captions, as a whole, and how they lie on the
//! unit sphere of an encoder's features.

pub mod report;
mod run;
pub mod scores;

pub use run::{DiversityConfig, run};
