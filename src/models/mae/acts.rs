//! What a masked autoencoder remembers between forward and backward, and the scratch of its backward.

use super::config::MaeConfig;
use super::masks::Masks;
use crate::layers::training::{Buffer, Kind, Layout};
use crate::models::vit::{Span, TrunkActs, VitConfig, VitGradients};

/// Activations and gradients of some images of a step.
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
    /// Of all images of the step.
    losses: Buffer,
    pub(super) encoder_back: VitGradients,
    pub(super) decoder_back: VitGradients,
}

impl MaeActs {
    /// Of the first `n` of a step's `of` images; the masks lie behind `start` of the call's numbers. Where `again` is
    /// set, norms and GELUs of the blocks are not held but computed again in the backward.
    pub fn new(
        layout: &mut Layout,
        (encoder, config): (&VitConfig, &MaeConfig),
        (n, of): (usize, usize),
        start: usize,
        again: bool,
    ) -> Self {
        let decoder = &config.decoder(encoder);
        let masks = Masks { start, of, first: 0, n, patches: encoder.tokens() - 1, kept: config.kept(encoder) };
        let (len, rows) = (encoder.patch_shape(1).patch_len(), n * (1 + masks.patches));
        let all = |tokens: usize| Span { n, tokens, leaving: tokens };
        let (seen, every) = (all(1 + masks.kept), all(1 + masks.patches));
        let (encoder_back, decoder_back) =
            (VitGradients::of(layout, encoder, seen), VitGradients::of(layout, decoder, every));
        let mut take = |name: &str, len, kind| layout.take("activations", name, len, kind);
        Self {
            masks,
            patches: take("patches", n * masks.patches * len, Kind::Rounded),
            kept: take("kept patches", n * masks.kept * len, Kind::Rounded),
            predictions: take("predictions", rows * len, Kind::Rounded),
            dpredictions: take("d predictions", rows * len, Kind::Rounded),
            losses: take("losses", of * (1 + masks.patches), Kind::Exact),
            encoder: TrunkActs::new(layout, "activations", encoder, seen, again.then_some(&encoder_back)),
            decoder: TrunkActs::new(layout, "decoder activations", decoder, every, again.then_some(&decoder_back)),
            encoder_back,
            decoder_back,
        }
    }

    /// The same buffers for the `n` images, no more than these are of, from number `first` of the step on.
    pub fn part(&self, first: usize, n: usize) -> Self {
        let cut = |buffer: Buffer| buffer.first(buffer.len() / self.masks.n * n);
        Self {
            masks: self.masks.part(first, n),
            patches: cut(self.patches),
            kept: cut(self.kept),
            encoder: self.encoder.first(n, cut(self.encoder.features())),
            decoder: self.decoder.first(n, cut(self.decoder.features())),
            predictions: cut(self.predictions),
            dpredictions: cut(self.dpredictions),
            losses: self.losses,
            encoder_back: self.encoder_back.first(n),
            decoder_back: self.decoder_back.first(n),
        }
    }

    /// `[of, 1 + patches]`: numbers whose mean is the loss of the step.
    pub fn losses(&self) -> Buffer {
        self.losses
    }

    /// Those of these images.
    pub(super) fn part_of_losses(&self) -> Buffer {
        let (Masks { first, n, .. }, rows) = (self.masks, 1 + self.masks.patches);
        self.losses.slice(first * rows..(first + n) * rows)
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
