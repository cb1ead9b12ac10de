//! CLIP's text tower for training (Radford et al. 2021, arXiv 2103.00020), as SLIP and StableRep+ train it: token and
//! position embeddings, a causal pre-norm transformer (ε 1e-5, quick or exact GELU), and of each text the token at its
//! end behind the last norm.

use serde::{Deserialize, Serialize};

use super::init;
use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout, Numbers, TextEmbed, Texts};
use crate::models::vit::{Span, Style, Trunk, TrunkActs, Variant, VitConfig, VitGradients};
use crate::ops::embed::Places;
use crate::rng::{Domain, Stream};
use crate::weights::{ParamInfo, ParamTable};

/// Sizes of a text tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    pub vocabulary: usize,
    /// Tokens of a text.
    pub context: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    /// Whether its GELU is the exact one, as open_clip has it unless asked for OpenAI's quick one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact_gelu: bool,
}

impl TextConfig {
    /// Its blocks, as if they were a ViT's.
    fn trunk(&self) -> VitConfig {
        let Self { width, depth, heads, .. } = *self;
        VitConfig {
            image_size: 1,
            patch_size: 1,
            width,
            depth,
            heads,
            mlp_ratio: 4,
            channels: 1,
            qk_norm: false,
            variant: Variant::default(),
        }
    }

    fn span(&self, n: usize) -> Span {
        Span { n, tokens: self.context, leaving: self.context }
    }
}

/// A text as the tower reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// As many as the tower's tokens.
    pub ids: Vec<u32>,
    /// Place of the end token.
    pub end: usize,
}

/// The places of a tower's tensors in a flat parameter buffer.
#[derive(Clone, Debug)]
pub struct TextTower {
    config: TextConfig,
    tensors: Vec<ParamInfo>,
    embed: TextEmbed,
    trunk: Trunk,
}

impl TextTower {
    /// Appends the tensors by OpenAI's names (`token_embedding.weight`, `transformer.resblocks.0.ln_1.weight`, …,
    /// `ln_final.bias`) to `table`.
    pub fn new(config: &TextConfig, table: &mut ParamTable) -> Self {
        let first = table.iter().count();
        let width = config.width;
        let token = table.add("token_embedding.weight", &[config.vocabulary, width]);
        let position = table.add("positional_embedding", &[config.context, width]);
        let style = Style::text(config.exact_gelu);
        let trunk = Trunk::new(&config.trunk(), style, &mut |name, shape| table.add(name, shape));
        let tensors = table.iter().skip(first).cloned().collect();
        Self { config: config.clone(), tensors, embed: TextEmbed { token, position }, trunk }
    }

    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// The scratch of a backward over `n` texts.
    pub fn gradients(layout: &mut Layout, config: &TextConfig, n: usize) -> VitGradients {
        VitGradients::of(layout, &config.trunk(), config.span(n))
    }

    /// OpenAI's initial values: normal weights of a spread for each kind, zero biases of the attention, PyTorch's own
    /// of the two other layers, unit norms. `first` numbers the stream of the first tensor.
    pub fn init(&self, params: &mut [f32], seed: u64, first: usize) {
        let (width, depth) = (self.config.width as f32, self.config.depth as f32);
        let (inner, outer) = (width.powf(-0.5), (2.0 * width).powf(-0.5));
        let residual = inner * (2.0 * depth).powf(-0.5);
        for (i, info) in self.tensors.iter().enumerate() {
            let values = info.param.of_mut(params);
            let mut stream = Stream::new(seed, Domain::Init, [(first + i) as u32, 0, 0]);
            let mut normal = |std: f32| {
                stream.fill_normal(values);
                values.iter_mut().for_each(|value| *value *= std);
            };
            let name = info.name.rsplit_once("resblocks.").map_or(info.name.as_str(), |(_, name)| name);
            match name.split_once('.').map_or(name, |(_, name)| name) {
                _ if name == "token_embedding.weight" => normal(0.02),
                _ if name == "positional_embedding" => normal(0.01),
                "attn.in_proj_weight" => normal(inner),
                "attn.out_proj.weight" | "mlp.c_proj.weight" => normal(residual),
                "mlp.c_fc.weight" => normal(outer),
                "mlp.c_fc.bias" => init::uniform_fan_in(values, &mut stream, self.config.width),
                "mlp.c_proj.bias" => init::uniform_fan_in(values, &mut stream, 4 * self.config.width),
                // A norm's gain.
                _ if name.ends_with("weight") => values.fill(1.0),
                _ => values.fill(0.0),
            }
        }
    }

    /// How many streams its initial values take.
    pub fn streams(&self) -> usize {
        self.tensors.len()
    }

    /// The features `[texts, D]` (in `acts`) of the call's texts.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, acts: &TextActs) -> Result<()> {
        on.embed_text(acts.trunk.input(), self.embed, acts.texts)?;
        self.trunk.forward(on, &acts.trunk)?;
        on.pick(acts.features, acts.trunk.features(), acts.ends)
    }

    /// Adds the gradients of the parameters, given `dfeatures [texts, D]` of the last [`TextTower::forward`].
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(&self, on: &mut dyn Layers, acts: &TextActs, back: &VitGradients, dfeatures: Buffer) -> Result<()> {
        on.pick_backward(back.spare(), dfeatures, acts.ends)?;
        self.trunk.backward(on, &acts.trunk, back, back.spare())?;
        on.embed_text_backward(back.of_input(), self.embed, acts.texts)
    }
}

/// Activations of a batch of texts.
#[derive(Clone, Debug)]
pub struct TextActs {
    trunk: TrunkActs,
    texts: Texts,
    /// Place of each text's end token, counted over all texts.
    ends: Numbers,
    /// `[texts, D]`.
    features: Buffer,
}

impl TextActs {
    /// Of `n` texts, whose numbers ([`TextActs::numbers`]) begin at `start` in the call's, with `features [N, D]` taken
    /// before; `again` as of [`TrunkActs::new`].
    pub fn new(
        layout: &mut Layout,
        config: &TextConfig,
        (n, start): (usize, usize),
        features: Buffer,
        again: Option<&VitGradients>,
    ) -> Self {
        let trunk = TrunkActs::new(layout, "text activations", &config.trunk(), config.span(n), again);
        let (texts, ends) = runs(config, n, start);
        Self { trunk, texts, ends, features }
    }

    /// Of `n` texts that have no backward, whose numbers are the call's first.
    pub fn in_passing(layout: &mut Layout, config: &TextConfig, n: usize) -> Self {
        let features = layout.take("text tower", "text features", n * config.width, Kind::Rounded);
        let trunk = TrunkActs::in_passing(layout, "text tower", &config.trunk(), config.span(n));
        let (texts, ends) = runs(config, n, 0);
        Self { trunk, texts, ends, features }
    }

    /// The same buffers for `n` texts, no more than these are of, whose numbers begin at `start` and whose features go
    /// to `features [N, D]`.
    pub fn first(&self, config: &TextConfig, n: usize, start: usize, features: Buffer) -> Self {
        let tokens = self.trunk.features();
        let trunk = self.trunk.first(n, tokens.first(n * config.context * config.width));
        let (texts, ends) = runs(config, n, start);
        Self { trunk, texts, ends, features }
    }

    /// How many numbers `n` texts take.
    pub fn numbers_len(config: &TextConfig, n: usize) -> usize {
        3 * n * config.context + n
    }

    /// Adds the numbers of texts: ids, their places by id, and the end of each.
    ///
    /// # Panics
    /// If a text is not as long as the tower's.
    pub fn numbers(config: &TextConfig, texts: &[Text], to: &mut Vec<u32>) {
        assert!(texts.iter().all(|text| text.ids.len() == config.context), "texts of {} tokens", config.context);
        let ids: Vec<u32> = texts.iter().flat_map(|text| text.ids.iter().copied()).collect();
        // What stands behind the end is seen by nothing.
        let Places { order, ends } = Places::new(&ids, texts.iter().map(|text| text.end + 1), config.context);
        let last = texts.iter().enumerate().map(|(i, text)| (i * config.context + text.end) as u32);
        to.extend(ids.into_iter().chain(order).chain(ends).chain(last));
    }

    /// The features `[texts, D]` of the last forward.
    pub fn features(&self) -> Buffer {
        self.features
    }

    /// Every activation in the order it was computed, by name.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let mut all = self.trunk.named("token_embedding", "text.");
        all.push(("the end tokens".to_owned(), self.features));
        all
    }
}

/// Where the numbers of `n` texts lie from `start` on.
fn runs(config: &TextConfig, n: usize, start: usize) -> (Texts, Numbers) {
    let places = n * config.context;
    let run = |i: usize, len| Numbers { start: start + i * places, len };
    (Texts { ids: run(0, places), order: run(1, places), ends: run(2, places) }, run(3, n))
}
