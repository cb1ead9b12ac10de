//! An encoder of pictures and the text tower it was trained with, from one file.

use std::path::PathBuf;

use serde::Deserialize;

use super::projections::Projections;
use super::prompts;
use super::space::Space;
use crate::bail;
use crate::error::{Error, Result};
use crate::eval::encoder::{Encoder, ModelSource, Placement};
use crate::models::text_tower::{Text, TextConfig, TextTower};
use crate::models::tokenizer::Tokenizer;
use crate::models::vit::VitFile;
use crate::say;
use crate::weights::ParamTable;

/// Values of a head of attention in CLIP's towers, whose files do not tell their number.
const HEAD_DIM: usize = 64;

/// Opens the tokenizer that a run calls by a name, if it does, for texts of so many tokens.
pub type OpenTokenizer<'a> = &'a dyn Fn(Option<&str>, usize) -> Result<Tokenizer>;

/// Pictures and texts in one space.
#[derive(Debug)]
pub struct LanguageModel {
    pub encoder: Encoder,
    tower: TextTower,
    projections: Projections,
    /// The tower's and the projections'.
    params: Vec<f32>,
    tokenizer: Tokenizer,
}

/// What a run of this program says of its texts, in its `config`.
#[derive(Debug, Default, Deserialize)]
struct Recorded {
    #[serde(default)]
    language: Option<Language>,
}

#[derive(Debug, Deserialize)]
struct Language {
    tokenizer: String,
    words: String,
    heads: usize,
}

impl LanguageModel {
    /// Opens the run or file at `path`, the encoder where `placement` says. Texts are
    /// embedded on the CPU.
    ///
    /// # Errors
    /// `Data` naming file and tensor when there is no text tower, or another than OpenAI's; errors of the encoder, and
    /// of the tokenizer, which must be the one the tower learnt with.
    pub fn open(
        path: PathBuf,
        [heads, text_heads]: [Option<usize>; 2],
        placement: &Placement,
        open: OpenTokenizer<'_>,
    ) -> Result<Self> {
        let found = VitFile::open_of(&path, None)?;
        let (file, shown, prefix) = (found.tensors(), found.shown().to_owned(), found.beside().to_owned());
        let recorded: Recorded = match file.metadata("config") {
            Some(text) => {
                serde_json::from_str(text).map_err(|e| Error::Data(format!("{shown}: `config` in its header: {e}")))?
            }
            None => Recorded::default(),
        };
        let config = sizes(&found, (recorded.language.as_ref().map(|language| language.heads), text_heads))?;
        // Folders of open_clip's models hold their tokenizers.
        let beside = ["tokenizer.json", "merges.txt"].iter().any(|file| path.join(file).is_file());
        let folder = beside.then(|| path.display().to_string());
        let named = recorded.language.as_ref().map(|language| language.tokenizer.as_str()).or(folder.as_deref());
        let tokenizer = open(named, config.context)?;
        if let Some(language) = recorded.language.filter(|language| language.words != tokenizer.sha256()) {
            bail!(
                Usage,
                "--tokenizer: {shown} learnt with another vocabulary ({} was its --tokenizer), in which the same numbers are other \
                 words; give that one",
                language.tokenizer
            );
        }
        if tokenizer.vocab_size() != config.vocabulary {
            bail!(
                Usage,
                "--tokenizer: has {} entries, but `{prefix}token_embedding.weight` of {shown} has {}; give the one it learnt with",
                tokenizer.vocab_size(),
                config.vocabulary
            );
        }
        let mut table = ParamTable::new();
        let tower = TextTower::new(&config, &mut table);
        let tensors: Vec<_> = table.iter().cloned().collect();
        let widths = [found.config(heads)?.width, config.width];
        let mut projections = Projections::find(&found, widths, &mut table)?;
        let mut params = vec![0.0; table.len()];
        for info in tensors {
            let values = file.f32(&format!("{prefix}{}", info.name), &info.shape)?;
            info.param.of_mut(&mut params).copy_from_slice(&values);
        }
        projections.read(&found, widths, &mut params)?;
        let source = ModelSource::Checkpoint { path, heads, weights: None, image_size: None };
        let encoder = Encoder::placed(&source, placement)?;
        Ok(Self { encoder, tower, projections, params, tokenizer })
    }

    /// Where pictures and texts are compared.
    pub fn space(&self) -> Space<'_> {
        Space { tower: &self.tower, projections: &self.projections, params: &self.params }
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// `words` as the tower reads them.
    ///
    /// # Errors
    /// As the tokenizer.
    pub fn text(&self, words: &str) -> Result<Text> {
        prompts::text(words, &self.tokenizer)
    }
}

/// Sizes of the text tower in `file`.
fn sizes(file: &VitFile, (told, asked): (Option<usize>, Option<usize>)) -> Result<TextConfig> {
    let (shown, prefix, stated) = (file.shown(), file.beside(), file.stated().text.as_ref());
    let (file, told) = (file.tensors(), told.or(stated.and_then(|text| text.heads)));
    if let Some(refused) = stated.and_then(|text| text.refused.as_ref()) {
        bail!(
            Data,
            "{shown}: {refused}, which makes another text tower than OpenAI's, the only one that is read; of this model the \
             image tower alone is supported (`eval linear`, `transfer` and others without texts)"
        );
    }
    let shape = |name: &str| match file.shape(&format!("{prefix}{name}")) {
        Some(&[rows, columns]) => Ok([rows, columns]),
        _ => bail!(
            Data,
            "{shown}: no tensor `{prefix}{name}` of two dimensions: it holds no text tower as CLIP's; expected a run of clip, slip or \
             stablerep+, their authors' checkpoints, or open_clip's"
        ),
    };
    let ([vocabulary, width], [context, _]) = (shape("token_embedding.weight")?, shape("positional_embedding")?);
    let has = |block: usize| file.contains(&format!("{prefix}transformer.resblocks.{block}.ln_1.weight"));
    let depth = (0..).take_while(|&block| has(block)).count();
    let heads = match (told, asked) {
        (Some(told), Some(asked)) if told != asked => {
            bail!(Usage, "--text-heads {asked}: {shown} was trained with {told}; leave --text-heads out")
        }
        (Some(heads), _) | (None, Some(heads)) => heads,
        (None, None) if width.is_multiple_of(HEAD_DIM) => {
            let heads = width / HEAD_DIM;
            say!(
                "{shown} does not say the attention heads of its text tower: taking {heads}, of {HEAD_DIM}, as CLIP's"
            );
            heads
        }
        (None, None) => bail!(
            Usage,
            "{shown}: does not say how many attention heads the width of {width} of its text tower is cut into; give --text-heads N"
        ),
    };
    if heads == 0 || !width.is_multiple_of(heads) {
        bail!(
            Usage,
            "--text-heads {heads}: the text tower of {shown} has a width of {width}, which they do not divide"
        );
    }
    let exact_gelu = stated.is_some_and(|text| text.exact_gelu);
    Ok(TextConfig { vocabulary, context, width, depth, heads, exact_gelu })
}
