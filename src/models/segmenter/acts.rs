//! What a segmentation network remembers between forward and backward, and the scratch of its backward.

use super::classify::{DroppedChannels, PixelActs, PixelClassifier};
use super::conv::{ConvActs, Grid};
use super::head::{Head, HeadKind};
use super::neck::{LEVELS, NeckActs};
use super::pass::{Grads, Pass};
use super::uper::{UperActs, UperHead};
use crate::layers::training::{Buffer, Kind, Layout, Numbers};
use crate::models::vit::{DropPath, VitActs, VitConfig, VitGradients};

/// What of a step's numbers and settings a network in training is given.
#[derive(Clone, Copy, Debug)]
pub struct Learning {
    /// `[N, S, S]`.
    pub labels: Numbers,
    /// Of the main head and of the auxiliary one, where there is one.
    pub dropped: [DroppedChannels; 2],
    /// Branches of the ViT that images leave out.
    pub drop_path: Option<DropPath>,
    /// What of the loss is the auxiliary head's.
    pub auxiliary: f32,
    /// Whether norms and GELUs of the blocks are computed again in the backward.
    pub again: bool,
}

/// Activations, and gradients where it learns.
#[derive(Clone, Debug)]
pub struct SegmenterActs {
    pub(super) grid: Grid,
    pub(super) vit: VitActs,
    pub(super) back: Option<VitGradients>,
    pub(super) pass: Pass,
    pub(super) grads: Grads,
    pub(super) main: PixelActs,
    pub(super) head: HeadActs,
    pub(super) learning: Option<Learning>,
    pub(super) losses: Buffer,
    /// Gradient of the map that the main classifier reads.
    pub(super) dmap: Buffer,
}

/// Those of a head.
#[derive(Clone, Debug)]
pub(super) enum HeadActs {
    Linear(LinearActs),
    Uper(Box<PyramidActs>),
}

/// The last map of the ViT, and behind a batch norm.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinearActs {
    pub map: Buffer,
    pub normed: Buffer,
    pub stats: Buffer,
}

/// Maps of the ViT, and what neck and heads make of them.
#[derive(Clone, Debug)]
pub(super) struct PyramidActs {
    pub maps: [Buffer; LEVELS],
    pub neck: NeckActs,
    pub uper: UperActs,
    pub auxiliary: (ConvActs, PixelActs),
    /// Gradients of the maps, and of the levels.
    pub dmaps: [Buffer; LEVELS],
    pub dlevels: [Buffer; LEVELS],
    /// Of what the auxiliary head's convolution gives, and of the level that it reads.
    pub dauxiliary: [Buffer; 2],
}

impl SegmenterActs {
    /// Of `n` images that a ViT of `config` and what is behind it see; for no backward where nothing is learned.
    pub(super) fn new(
        layout: &mut Layout,
        config: &VitConfig,
        (head, classifier): (&Head, PixelClassifier),
        n: usize,
        learning: Option<Learning>,
    ) -> Self {
        let (d, grid) = (config.width, Grid { n, side: config.image_size / config.patch_size });
        let learn = learning.is_some();
        let of_vit = learn && head.kind() == HeadKind::Uper;
        let back = of_vit.then(|| VitGradients::of(layout, config, config.token_span(n)));
        let held = back.as_ref().filter(|_| learning.is_some_and(|learning| learning.again));
        let vit = VitActs::of_tokens(layout, config, n, held);
        let vit = match learning.and_then(|learning| learning.drop_path).filter(|_| of_vit) {
            Some(drop) => vit.dropping(drop, 0),
            None => vit,
        };
        let size = |wanted: bool, len: usize| if wanted { len } else { 0 };
        let mut room = |name: &str, len, kind| layout.take("segmentation head", name, len, kind);
        let losses = room("losses", size(learn, n * config.image_size), Kind::Exact);
        let to = learn.then_some(config.image_size);
        let around = match head {
            Head::Linear(_) => 0,
            Head::Uper(head) => head.uper.scratch(grid).max(head.auxiliary.0.scratch(grid.side)),
        };
        let largest = grid.rows() * d * if of_vit { 16 } else { 1 };
        let pass = Pass { around: room("neighbourhoods", around, Kind::Rounded), infer: !learn };
        let grads = Grads {
            around: room("d neighbourhoods", size(learn, around), Kind::Rounded),
            spare: room("spare", size(learn, largest), Kind::Rounded),
        };
        let dmap = room("d map", size(learn, largest), Kind::Rounded);
        let dropped = |which: usize| learning.map(|learning| learning.dropped[which]);
        let (main, head) = match head {
            Head::Linear(_) => {
                let rows = grid.rows() * d;
                let linear = LinearActs {
                    map: room("map", rows, Kind::Rounded),
                    normed: room("bn", rows, Kind::Rounded),
                    stats: room("bn.stats", 2 * d, Kind::Exact),
                };
                let main = classifier.acts(layout, (grid, linear.normed), dropped(0), to);
                (main, HeadActs::Linear(linear))
            }
            Head::Uper(head) => {
                let map = |layout: &mut Layout, name: &str, wanted| {
                    layout.take("segmentation head", name, size(wanted, grid.rows() * d), Kind::Rounded)
                };
                let maps: [Buffer; LEVELS] = std::array::from_fn(|_| map(layout, "map", true));
                let neck = head.neck.acts(layout, grid, maps[2]);
                let uper = head.uper.acts(layout, grid, learn);
                let conv = head.auxiliary.0.acts(layout, "auxiliary_head", grid);
                let auxiliary = (conv, head.auxiliary.1.acts(layout, (grid, conv.y), dropped(1), to));
                let dmaps: [Buffer; LEVELS] = std::array::from_fn(|_| map(layout, "d map", learn));
                let mut level =
                    |of: Buffer| layout.take("segmentation head", "d level", size(learn, of.len()), Kind::Rounded);
                let [one, two, _, four] = neck.levels;
                let dlevels = [level(one), level(two), dmaps[2], level(four)];
                let dauxiliary = [level(conv.y), level(maps[2])];
                let fine = Grid { side: 4 * grid.side, ..grid };
                let main = classifier.acts(layout, (fine, UperHead::output(&uper)), dropped(0), to);
                let pyramid = PyramidActs { maps, neck, uper, auxiliary, dmaps, dlevels, dauxiliary };
                (main, HeadActs::Uper(Box::new(pyramid)))
            }
        };
        Self { grid, vit, back, pass, grads, main, head, learning, losses, dmap }
    }

    /// `[N, side², classes]` in f32: of four times the ViT's places a side where the head is UperNet's, else as many.
    pub fn logits(&self) -> Buffer {
        self.main.logits
    }

    /// Every activation in the order it was computed, by name; the ViT's with `prefix` before their names.
    pub fn named(&self, prefix: &str) -> Vec<(String, Buffer)> {
        let vit = self.vit.named().into_iter().map(|(name, values)| (format!("{prefix}{name}"), values));
        let head = match &self.head {
            HeadActs::Linear(acts) => vec![("bn", acts.normed)],
            HeadActs::Uper(acts) => {
                let [one, two, _, four] = acts.neck.levels;
                vec![
                    ("neck.fpn1", one),
                    ("neck.fpn2", two),
                    ("neck.fpn4", four),
                    ("decode_head", UperHead::output(&acts.uper)),
                    ("auxiliary_head", acts.auxiliary.1.logits),
                ]
            }
        };
        let ends = head.into_iter().chain([("conv_seg", self.main.logits)]);
        vit.chain(ends.map(|(name, values)| (name.to_owned(), values))).collect()
    }
}
