//! An encoder of pictures and the text tower it was trained with, from one file.

use std::path::PathBuf;

use serde::Deserialize;

use super::prompts;
use super::space::Space;
use crate::bail;
use crate::error::{Error, Result};
use crate::eval::encoder::{Encoder, ModelSource, Placement};
use crate::models::text_tower::{Text, TextConfig, TextTower};
use crate::models::tokenizer::Tokenizer;
use crate::models::vit::VitFile;
use crate::say;
use crate::weights::{Param, ParamTable, SafeTensors};

/// Values of a head of attention in CLIP's towers, whose files do not tell their number.
const HEAD_DIM: usize = 64;

/// Opens the tokenizer that a run calls by a name, if it does, for texts of so many tokens.
pub type OpenTokenizer<'a> = &'a dyn Fn(Option<&str>, usize) -> Result<Tokenizer>;

/// Pictures and texts in one space.
#[derive(Debug)]
pub struct LanguageModel {
    pub encoder: Encoder,
    tower: TextTower,
    projections: [Param; 2],
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
    /// `Data` naming file and tensor when there is no text tower, or one whose projections are heads with batch norms;
    /// errors of the encoder, and of the tokenizer, which must be the one the tower learnt with.
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
        let config =
            sizes(file, &shown, &prefix, (recorded.language.as_ref().map(|language| language.heads), text_heads))?;
        let named = recorded.language.as_ref().map(|language| language.tokenizer.as_str());
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
        let width = found.config(heads)?.width;
        let dim = matrix_shape(file, &shown, &format!("{prefix}text_projection"), config.width)?;
        let projections = [("image", width), ("text", config.width)]
            .map(|(side, inputs)| table.add(format!("{side}_projection"), &[dim, inputs]));
        let mut params = vec![0.0; table.len()];
        for info in table.iter() {
            let name = format!("{prefix}{}", info.name);
            let values = match info.name.ends_with("_projection") {
                true => matrix(file, &shown, &name, [info.shape[0], info.shape[1]])?,
                false => file.f32(&name, &info.shape)?,
            };
            info.param.of_mut(&mut params).copy_from_slice(&values);
        }
        let source = ModelSource::Checkpoint { path, heads, weights: None, image_size: None };
        let encoder = Encoder::placed(&source, placement)?;
        Ok(Self { encoder, tower, projections, params, tokenizer })
    }

    /// Where pictures and texts are compared.
    pub fn space(&self) -> Space<'_> {
        Space { tower: &self.tower, projections: self.projections, params: &self.params }
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
fn sizes(
    file: &SafeTensors,
    shown: &str,
    prefix: &str,
    (told, asked): (Option<usize>, Option<usize>),
) -> Result<TextConfig> {
    let shape = |name: &str| match file.shape(&format!("{prefix}{name}")) {
        Some(&[rows, columns]) => Ok([rows, columns]),
        _ => bail!(
            Data,
            "{shown}: no tensor `{prefix}{name}` of two dimensions: it holds no text tower as CLIP's; expected a run of clip, slip or \
             stablerep+, or their authors' checkpoints"
        ),
    };
    let ([vocabulary, width], [context, _]) = (shape("token_embedding.weight")?, shape("positional_embedding")?);
    if file.contains(&format!("{prefix}text_text_mlp.0.weight")) {
        bail!(
            Data,
            "{shown}: was trained with --projection mlp, whose heads with batch norms are not scored; train with linear"
        );
    }
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
    Ok(TextConfig { vocabulary, context, width, depth, heads })
}

/// The width of what the projection `name` makes of `inputs`, whichever way it is stored.
fn matrix_shape(file: &SafeTensors, shown: &str, name: &str, inputs: usize) -> Result<usize> {
    match (file.shape(&format!("{name}.weight")), file.shape(name)) {
        (Some(&[dim, columns]), _) | (None, Some(&[columns, dim])) if columns == inputs => Ok(dim),
        (found, other) => bail!(
            Data,
            "{shown}: `{name}.weight` or `{name}`: expected a matrix that takes features of width {inputs}, found {:?}",
            found.or(other)
        ),
    }
}

/// `[outputs, inputs]` of `name.weight`, or of `name`, which SLIP's and LaCLIP's authors store the other way around.
fn matrix(file: &SafeTensors, shown: &str, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Vec<f32>> {
    let stored = format!("{name}.weight");
    if file.contains(&stored) {
        return file.f32(&stored, &[outputs, inputs]);
    }
    if !file.contains(name) {
        bail!(Data, "{shown}: no tensor `{stored}` or `{name}`, which takes features to where they are compared");
    }
    let columns = file.f32(name, &[inputs, outputs])?;
    Ok((0..outputs).flat_map(|o| (0..inputs).map(move |i| (i, o))).map(|(i, o)| columns[i * outputs + o]).collect())
}
