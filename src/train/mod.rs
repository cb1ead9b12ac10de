//! Shards to a trained encoder: multi-positive contrastive training of a ViT.
//!
//! Files of a run: `config.json` (the recipe it belongs to), `config.toml` (the same as flags, for `--config`),
//! `data.json` (what its shards and initial weights hold, [`DataRecord`]), `checkpoint.safetensors` ([`checkpoint`]),
//! `metrics.jsonl` and TensorBoard events (one entry per step), for MAE
//! `reconstructions.png` (what the last saved step drew), `done.json` written last. A rerun goes on from the
//! checkpoint and ends in the same bits.

mod cadence;
pub mod checkpoint;
mod chunk;
mod claim;
mod cpu;
#[cfg(cuda_kernels)]
mod cuda;
mod data;
mod engine;
pub mod finetune;
mod flags;
mod groups;
mod job;
mod language;
pub mod loader;
mod log;
pub mod method;
pub mod pack;
mod recipe;
pub mod rehearsal;
mod run;
pub mod schedule;
mod scored;
pub mod segment;
mod state;
mod test;
pub mod views;
mod watch;

pub use cadence::SaveEvery;
pub use chunk::{Activations, Chunk};
pub use cpu::Trainer;
pub use data::DataRecord;
pub use groups::decay_groups;
pub use job::{CHECKPOINT, Config, METRICS, PICTURES, TestSet, WatchConfig};
pub use language::{Language, Projection};
pub use recipe::{Augmentation, BatchNorm, CropFilter, Length, Optimizer, Rate, Recipe};
pub use run::{Summary, run};
pub use schedule::Decay;
pub use state::{Outcome, State};
pub use test::Scores;
