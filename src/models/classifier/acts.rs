//! What a classifier remembers between forward and backward, and the scratch of its backward.

use super::pool::Pool;
use crate::layers::training::{Buffer, Kind, Layout};
use crate::models::vit::{DropPath, VitActs, VitConfig, VitGradients};

/// Activations and gradients of some images of a step.
#[derive(Clone, Debug)]
pub struct ClassifierActs {
    /// Number of their first image in the step, and the value at which it begins.
    pub(super) first: usize,
    pub(super) start: usize,
    pub(super) vit: VitActs,
    pub(super) back: VitGradients,
    /// What was pooled `[N, D]`, and what the classifier reads: the same, or behind a norm.
    pub(super) features: Buffer,
    pub(super) normed: Buffer,
    pub(super) stats: Buffer,
    pub(super) logits: Buffer,
    pub(super) losses: Buffer,
    pub(super) dlogits: Buffer,
    /// Of what the classifier reads, and of what was pooled.
    pub(super) dnormed: Buffer,
    pub(super) dfeatures: Buffer,
    /// Of all images of the step.
    all: [Buffer; 2],
    drop: Option<DropPath>,
}

impl ClassifierActs {
    /// Of the first `n` of a step's `of` images. Where `again` is set, norms and GELUs of the blocks are not held but
    /// computed again in the backward.
    pub fn new(
        layout: &mut Layout,
        model: &VitConfig,
        (pool, classes): (Pool, usize),
        (n, of): (usize, usize),
        again: bool,
    ) -> Self {
        let d = model.width;
        let back = match pool {
            Pool::Mean => VitGradients::of(layout, model, model.token_span(n)),
            Pool::Class => VitGradients::new(layout, model, n),
        };
        let held = again.then_some(&back);
        let mut take = |name: &str, len, kind| layout.take("classifier", name, len, kind);
        let (rounded, exact) = (Kind::Rounded, Kind::Exact);
        let features = take("features", n * d, rounded);
        let dfeatures = take("d features", n * d, rounded);
        let (normed, stats, dnormed) = match pool {
            Pool::Mean => (
                take("fc_norm", n * d, rounded),
                take("fc_norm.stats", 2 * n, exact),
                take("d fc_norm", n * d, rounded),
            ),
            Pool::Class => (features, take("fc_norm.stats", 0, exact), dfeatures),
        };
        let all = [take("logits", of * classes, exact), take("losses", of, exact)];
        let dlogits = take("d logits", n * classes, rounded);
        let vit = match pool {
            Pool::Mean => VitActs::of_tokens(layout, model, n, held),
            Pool::Class => VitActs::with_features(layout, model, n, features, held),
        };
        let [logits, losses] = all;
        let whole = Self {
            first: 0,
            start: 0,
            vit,
            back,
            features,
            normed,
            stats,
            logits,
            losses,
            dlogits,
            dnormed,
            dfeatures,
            all,
            drop: None,
        };
        whole.part(0, n, model.image_len())
    }

    /// The same buffers for images that leave branches of the ViT out, where `drop` is given.
    pub fn dropping(self, drop: Option<DropPath>) -> Self {
        Self { drop, ..self }
    }

    /// The same buffers for images that keep all branches.
    pub fn whole(&self) -> Self {
        Self { vit: self.vit.whole(), ..self.clone() }
    }

    /// The same buffers for the `n` images, no more than these are of, from number `first` of the step on, each of
    /// `image_len` values.
    pub fn part(&self, first: usize, n: usize, image_len: usize) -> Self {
        let cut = |buffer: Buffer| buffer.first(buffer.len() / self.n() * n);
        let of = self.all[1].len();
        let mine = |buffer: Buffer| {
            let each = buffer.len() / of;
            buffer.slice(first * each..(first + n) * each)
        };
        let (features, vit) = (cut(self.features), self.vit.first(n, cut(self.vit.features())));
        Self {
            first,
            start: first * image_len,
            vit: match self.drop {
                Some(drop) => vit.dropping(drop, first),
                None => vit,
            },
            back: self.back.first(n),
            features,
            normed: cut(self.normed),
            stats: cut(self.stats),
            logits: mine(self.all[0]),
            losses: mine(self.all[1]),
            dlogits: cut(self.dlogits),
            dnormed: cut(self.dnormed),
            dfeatures: cut(self.dfeatures),
            all: self.all,
            drop: self.drop,
        }
    }

    /// How many images.
    pub fn n(&self) -> usize {
        self.vit.images()
    }

    /// `[of, C]`, of all images of the step.
    pub fn logits(&self) -> Buffer {
        self.all[0]
    }

    /// `[of]`: numbers whose mean is the loss of the step.
    pub fn losses(&self) -> Buffer {
        self.all[1]
    }

    /// Every activation in the order it was computed, by name; the ViT's with `prefix` before their names.
    pub fn named(&self, prefix: &str) -> Vec<(String, Buffer)> {
        let vit = self.vit.named().into_iter().map(|(name, values)| (format!("{prefix}{name}"), values));
        let norm = (!self.stats.is_empty()).then_some([("the pooled tokens", self.features), ("fc_norm", self.normed)]);
        let ends = norm.into_iter().flatten().chain([("head", self.logits)]);
        vit.chain(ends.map(|(name, values)| (name.to_owned(), values))).collect()
    }
}
