//! Which model with a text tower is scored, and how pictures reach it: flags that evaluations with texts share.

use std::path::PathBuf;

use super::encoder::{Preparation, placement};
use crate::bail;
use crate::cli::tokenizer;
use crate::error::Result;
use crate::eval::language::LanguageJob;
use crate::models::tokenizer::Tokenizer;

#[derive(Debug, clap::Args)]
pub struct Language {
    /// A run or checkpoint of clip, slip or stablerep+, their authors' checkpoint as safetensors (timm's names under
    /// visual.), or a folder of open_clip (open_clip_model.safetensors and open_clip_config.json)
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// How texts become tokens: OpenAI's bpe_simple_vocab_16e6.txt.gz, a folder of vocab.json and merges.txt, or
    /// bundled [default: as the run had it, or what lies in the folder]
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<String>,
    /// Attention heads of the encoder, for a checkpoint that does not tell
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Attention heads of the text tower, likewise [default: width / 64]
    #[arg(long, value_name = "N")]
    text_heads: Option<usize>,
    /// Where pictures are encoded: cpu, cuda or cuda:N; a GPU computes with bf16 weights and activations. Texts are
    /// encoded on the CPU
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Where features of pictures are kept, and found again by whatever is scored next with the same weights and
    /// pictures [default: features in --output, if that is given]
    #[arg(long, value_name = "DIR")]
    features: Option<PathBuf>,
    /// Damaged pictures to leave out (each is named) before the evaluation refuses to begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
    #[command(flatten)]
    preparation: Preparation,
    /// Folder for report.json
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the table in Markdown
    #[arg(long)]
    pub markdown: bool,
}

impl Language {
    /// What these say.
    pub fn job(&self) -> Result<LanguageJob> {
        Ok(LanguageJob {
            checkpoint: self.checkpoint.clone(),
            heads: [self.heads, self.text_heads],
            placement: placement(&self.device, self.features.as_deref(), self.output.as_deref())?,
            fit: self.preparation.fit,
            resize: self.preparation.resize,
            max_bad: self.max_bad,
            output: self.output.clone(),
        })
    }

    /// Opens `--tokenizer`, or the one that the run calls `named`.
    pub fn open(&self, named: Option<&str>, length: usize) -> Result<Tokenizer> {
        match self.tokenizer.as_deref().or(named) {
            Some(named) => tokenizer::open(named, length),
            None => bail!(
                Usage,
                "{}: does not say its tokenizer: give --tokenizer, OpenAI's bpe_simple_vocab_16e6.txt.gz for most",
                self.checkpoint.display()
            ),
        }
    }
}
