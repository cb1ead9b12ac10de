//! A training job, and the files of its folder.

use std::path::PathBuf;
use std::sync::Arc;

use super::cadence::SaveEvery;
use super::chunk::Activations;
use super::recipe::Recipe;
use crate::device::Device;
use crate::eval::DataSource;
use crate::models::tokenizer::Tokenizer;

/// File names inside the folder of a run.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
pub const METRICS: &str = "metrics.jsonl";
/// Of methods that draw: what they last made.
pub const PICTURES: &str = "reconstructions.png";
/// What to change when a run does not fit into memory.
pub(super) const SMALLER: &str = "lower --batch, --images-per-caption, --image-size, --head-dims or --chunk, or take a smaller --model (of a custom one, \
    --width and --depth)";
pub(super) const CONFIG: &str = "config.json";
pub(super) const CONFIG_TOML: &str = "config.toml";
pub(super) const DONE: &str = "done.json";

/// Labelled photographs, and how often they are classified before the end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct TestSet {
    pub images: DataSource,
    pub every: Option<SaveEvery>,
}

/// A training job.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub recipe: Recipe,
    /// What of `recipe` is held at once is set by these when the run begins.
    pub activations: Activations,
    /// Folder of the run.
    pub output: PathBuf,
    pub save_every: SaveEvery,
    pub device: Device,
    /// Whether a folder that `generate` has not finished may be trained on.
    pub allow_partial: bool,
    /// What is scored on the way.
    pub watch: Option<WatchConfig>,
    /// What makes tokens of captions, for a method with texts.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// What a classifier is scored on.
    pub test: Option<TestSet>,
}

/// What is scored, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchConfig {
    pub every: SaveEvery,
    /// Labelled photographs whose neighbours vote.
    pub train: PathBuf,
    /// Those that are classified; a fifth of every class of `train`, held out, where absent.
    pub test: Option<PathBuf>,
    /// A file of class names, a line each.
    pub class_names: Option<PathBuf>,
    /// Sentences with `{}` where the name of a class goes; CLIP's simplest where there are none.
    pub templates: Vec<String>,
}
