//! What a masked autoencoder remembers between forward and backward, and the scratch of its backward.

use super::config::MaeConfig;
use super::masks::Masks;
use crate::layers::training::{Buffer, Kind, Layout};
use crate::models::vit::{Span, TrunkActs, VitConfig, VitGradients};

/// Activations and gradients of a step.
#[derive(Clone, Debug)]
pub struct MaeActs {
    pub(super) masks: Masks,
    /// All patches `[N·patches, P]`, and those that are kept.
    pub(super) patches: Buffer,
    pub(super) kept: Buffer,
    pub(super) encoder: TrunkActs,
    pub(super) decoder: TrunkActs,
    pub(super) predictions: Buffer,
    pub(super) dpredictions: Buffer,
    pub(super) losses: Buffer,
    pub(super) encoder_back: VitGradients,
    pub(super) decoder_back: VitGradients,
}

impl MaeActs {
    /// Of `n` images; the masks lie behind `start` of the call's numbers.
    pub fn new(layout: &mut Layout, encoder: &VitConfig, config: &MaeConfig, n: usize, start: usize) -> Self {
        let decoder = &config.decoder(encoder);
        let masks = Masks { start, n, patches: encoder.tokens() - 1, kept: config.kept(encoder) };
        let (len, rows) = (encoder.patch_shape(1).patch_len(), n * (1 + masks.patches));
        let all = |tokens: usize| Span { n, tokens, leaving: tokens };
        let (seen, every) = (all(1 + masks.kept), all(1 + masks.patches));
        let mut take = |name: &str, len, kind| layout.take("activations", name, len, kind);
        Self {
            masks,
            patches: take("patches", n * masks.patches * len, Kind::Rounded),
            kept: take("kept patches", n * masks.kept * len, Kind::Rounded),
            predictions: take("predictions", rows * len, Kind::Rounded),
            dpredictions: take("d predictions", rows * len, Kind::Rounded),
            losses: take("losses", rows, Kind::Exact),
            encoder: TrunkActs::new(layout, "activations", encoder, seen),
            decoder: TrunkActs::new(layout, "decoder activations", decoder, every),
            encoder_back: VitGradients::of(layout, encoder, seen),
            decoder_back: VitGradients::of(layout, decoder, every),
        }
    }

    pub fn masks(&self) -> Masks {
        self.masks
    }

    /// The class token first, then every patch: `[N, 1 + patches, P]`, as the loss compares them.
    pub fn predictions(&self) -> Buffer {
        self.predictions
    }

    /// What the encoder makes of the class token and the kept patches: `[N, 1 + kept, D]`.
    pub fn tokens(&self) -> Buffer {
        self.encoder.features()
    }

    /// Every activation in the order it was computed, by name; the encoder's with `prefix` before their names.
    pub fn named(&self, prefix: &str) -> Vec<(String, Buffer)> {
        let patches = [(format!("{prefix}patch_embed.unfold"), self.patches)];
        let encoder = self.encoder.named(&format!("{prefix}patch_embed"), prefix);
        let decoder = self.decoder.named("decoder_embed", "decoder_");
        let end = [("decoder_pred".to_owned(), self.predictions)];
        patches.into_iter().chain(encoder).chain(decoder).chain(end).collect()
    }
}
