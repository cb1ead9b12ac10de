//! Flags of what is scored while a run trains.

use std::path::PathBuf;

use crate::train::{SaveEvery, WatchConfig};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Scores on the way")]
pub(super) struct WatchArgs {
    /// How often (500steps, 1epochs; and at the end) to score the encoder by 20-NN on labelled photographs, and by the
    /// names of their classes where texts are learned; into metrics.jsonl and TensorBoard. A run that goes on may be
    /// scored more or less often, or not at all, but on the same photographs, names and sentences
    #[arg(long, value_name = "INTERVAL", requires = "knn_train")]
    knn_every: Option<SaveEvery>,
    /// Labelled photographs whose neighbours vote, as for `stablerep probe`: a few thousand are enough
    #[arg(long, value_name = "PATH", requires = "knn_every")]
    knn_train: Option<PathBuf>,
    /// Photographs that are classified [default: a fifth of every class of --knn-train, held out]
    #[arg(long, value_name = "PATH", requires = "knn_every")]
    knn_test: Option<PathBuf>,
    /// Names of the classes for zero-shot accuracy, a line each in the order of the labels [default: the folders'
    /// names]; of methods with texts and --projection linear
    #[arg(long, value_name = "FILE", requires = "knn_every")]
    class_names: Option<PathBuf>,
    /// Sentences for zero-shot accuracy, {} for the class; may be given several times [default: a photo of a {}.]
    #[arg(long, value_name = "TEXT", requires = "knn_every")]
    template: Vec<String>,
}

impl WatchArgs {
    /// What it names, by its flags.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let Self { knn_train, knn_test, class_names, .. } = self;
        let all = [("--knn-train", knn_train), ("--knn-test", knn_test), ("--class-names", class_names)];
        all.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)))
    }

    pub(super) fn config(self) -> Option<WatchConfig> {
        let Self { knn_every, knn_train, knn_test, class_names, template } = self;
        Some(WatchConfig { every: knn_every?, train: knn_train?, test: knn_test, class_names, templates: template })
    }
}
