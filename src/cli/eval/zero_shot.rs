//! `stablerep eval zero-shot`: photographs classified by the names of their classes.

use std::path::PathBuf;

use super::language::Language;
use crate::error::Result;
use crate::eval::DataSource;
use crate::eval::language::templates;
use crate::eval::zero_shot::{ZeroShotConfig, zero_shot};

/// Score an encoder with its text tower on photographs, by the names of their classes alone.
///
/// A class is the mean of the unit embeddings of its names in every sentence, of length 1 again; a picture is of the
/// class it is most alike to.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Photographs (--data) are what `eval linear` takes: an IDX file, a folder with a subfolder for each class, or webdataset
shards with .cls members.

Example: stablerep eval zero-shot --checkpoint run --data imagenet/val --class-names imagenet_labels.json --templates 7")]
pub struct Args {
    /// Labelled photographs
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// IDX labels of --data [default: the file beside it with labels-idx1 in its name]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Names of the classes in the order of their labels: a line each, or a JSON list in which a class may have a list
    /// of names [default: the classes' own]
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
    /// A sentence with {} where a name goes; may be given several times [default: a photo of a {}.]
    #[arg(long, value_name = "SENTENCE")]
    template: Vec<String>,
    /// Sentences: 7 for those that SLIP, LaCLIP and StableRep+ are scored on ImageNet with, or a file with one a line
    /// or a JSON list (OpenAI publishes 80 for ImageNet)
    #[arg(long, value_name = "7|FILE", conflicts_with = "template")]
    templates: Option<String>,
    #[command(flatten)]
    language: Language,
}

/// Scores and prints the table.
pub fn run(args: Args) -> Result<()> {
    let templates = args.templates.as_deref().map_or(Ok(args.template), templates)?;
    let source = DataSource { path: args.data, labels: args.labels };
    let config = ZeroShotConfig { class_names: args.class_names, templates };
    let open = |named: Option<&str>, length| args.language.open(named, length);
    let report = zero_shot(&args.language.job()?, &source, &config, &open)?;
    crate::console::to_stdout(format_args!("{}", report.text(args.language.markdown)));
    Ok(())
}
