//! Flags of methods with texts.

use std::sync::Arc;

use super::recipe::set;
use super::settings::Settings;
use crate::bail;
use crate::cli::tokenizer::{self, BUNDLED};
use crate::error::Result;
use crate::models::tokenizer::Tokenizer;
use crate::train::Language;

/// Tokens of OpenAI's vocabulary, which an update over synthetic texts has without any.
const OPENAI: usize = 49_408;

impl Settings {
    /// The flags that only methods with texts read, as given.
    pub(super) fn of_texts(&self) -> [(&'static str, bool); 9] {
        [
            ("--any-caption", self.any_caption.is_some()),
            ("--tokenizer", self.tokenizer.is_some()),
            ("--context-length", self.context_length.is_some()),
            ("--text-width", self.text_width.is_some()),
            ("--text-depth", self.text_depth.is_some()),
            ("--text-heads", self.text_heads.is_some()),
            ("--embed-dim", self.embed_dim.is_some()),
            ("--projection", self.projection.is_some()),
            ("--text-weight", self.text_weight.is_some()),
        ]
    }

    /// What these say of texts; without a tokenizer for updates over texts that are none.
    pub(super) fn language(&self, tokenizer: Option<&Tokenizer>) -> Result<Language> {
        Ok(Language {
            tokenizer: self.tokenizer.clone().unwrap_or_default(),
            words: tokenizer.map_or_else(String::new, |tokenizer| tokenizer.sha256().to_owned()),
            any_caption: self.any_caption.unwrap_or(false),
            vocabulary: tokenizer.map_or(OPENAI, Tokenizer::vocab_size),
            context: set(self.context_length, "context-length")?,
            width: set(self.text_width, "text-width")?,
            depth: set(self.text_depth, "text-depth")?,
            heads: set(self.text_heads, "text-heads")?,
            embed_dim: set(self.embed_dim, "embed-dim")?,
            projection: set(self.projection, "projection")?,
            weight: set(self.text_weight, "text-weight")?,
        })
    }

    /// What `--tokenizer` names.
    ///
    /// # Errors
    /// Usage error if it is not given or not there; data error if it is no tokenizer of CLIP.
    pub(super) fn open_tokenizer(&self) -> Result<Arc<Tokenizer>> {
        let Some(named) = self.tokenizer.as_deref() else {
            bail!(
                Usage,
                "this method reads texts: give --tokenizer OpenAI's bpe_simple_vocab_16e6.txt.gz or a folder of vocab.json and \
                 merges.txt, or `--tokenizer {BUNDLED}`, a small vocabulary that spells most words"
            );
        };
        let length = set(self.context_length, "context-length")?;
        tokenizer::open(named, length).map(Arc::new)
    }
}
