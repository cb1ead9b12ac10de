//! A ViT that tells the class of every pixel, as SynCLR and MAE are judged on ADE20k: UperNet over the tokens of four
//! blocks, with an auxiliary head on the third (mmsegmentation's `upernet_mae`), or a linear layer over the last ones.
//!
//! Unlike BEiT's and MAE's code there, positions are the ViT's own learned ones alone: no table of relative positions
//! and no scale of each branch (which begin as 0 and 1, so that the network begins as theirs).

mod acts;
mod classify;
mod conv;
mod head;
mod neck;
mod pass;
mod uper;

pub use acts::{Learning, SegmenterActs};
pub use classify::DroppedChannels;
pub use head::HeadKind;

use super::vit::{Vit, VitConfig};
use crate::bail;
use crate::error::Result;
use crate::layers::training::{Layers, Layout};
use crate::ops::bilinear;
use crate::rng::{Domain, Stream};
use crate::weights::{ParamInfo, ParamTable, SafeTensors};
use acts::HeadActs;
use classify::{PixelClassifier, PixelLabels};
use conv::{ConvNorm, Grid, Window, batch_norm, init_batch_norm};
use head::{Head, Pyramid};
use neck::{LEVELS, Neck};
use uper::UperHead;

/// Most channels of the auxiliary head.
const AUXILIARY: usize = 256;

/// The places of all tensors.
#[derive(Clone, Debug)]
pub struct Segmenter {
    vit: Vit,
    head: Head,
    classifier: PixelClassifier,
    /// Those behind the ViT, and the running statistics.
    tensors: [Vec<ParamInfo>; 2],
}

impl Segmenter {
    /// Appends the ViT's tensors, named `prefix` + timm's name, and then those of the head to `table`, its running
    /// statistics to `statistics`.
    ///
    /// # Errors
    /// Usage error if the ViT's sizes do not fit each other, or its places cannot be halved for UperNet.
    pub fn new(
        model: &VitConfig,
        (kind, classes): (HeadKind, usize),
        prefix: &str,
        table: &mut ParamTable,
        statistics: &mut ParamTable,
    ) -> Result<Self> {
        let vit = Vit::new(model, prefix, table)?;
        let (first, d, side) = (table.iter().count(), model.width, model.image_size / model.patch_size);
        if kind == HeadKind::Uper && !side.is_multiple_of(2) {
            bail!(
                Usage,
                "--image-size {} with --patch-size {} gives {side} places a side, which UperNet halves: take an even \
                 number of patches",
                model.image_size,
                model.patch_size
            );
        }
        let (head, classifiers) = match kind {
            HeadKind::Linear => {
                let norm = batch_norm("decode_head.bn", d, false, table, statistics);
                (Head::Linear(norm), classifiers(&[("decode_head", d)], classes, table))
            }
            HeadKind::Uper => {
                let (neck, uper) = (Neck::new(d, table, statistics), UperHead::new(d, table, statistics));
                let channels = AUXILIARY.min(d);
                let name = "auxiliary_head.convs.0";
                let conv = ConvNorm::new(name, Window::Three, [d, channels], table, statistics);
                let both = classifiers(&[("auxiliary_head", channels), ("decode_head", d)], classes, table);
                (Head::Uper(Box::new(Pyramid { neck, uper, auxiliary: (conv, both[0]) })), both)
            }
        };
        let tensors = [table.iter().skip(first).cloned().collect(), statistics.iter().cloned().collect()];
        Ok(Self { vit, head, classifier: classifiers[classifiers.len() - 1], tensors })
    }

    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    pub fn kind(&self) -> HeadKind {
        self.head.kind()
    }

    /// Room for what it remembers of `n` images; for no backward where nothing is learned.
    pub fn acts(&self, layout: &mut Layout, n: usize, learning: Option<Learning>) -> SegmenterActs {
        SegmenterActs::new(layout, self.vit.config(), (&self.head, self.classifier), n, learning)
    }

    pub fn classes(&self) -> usize {
        self.classifier.classes
    }

    /// Channels of what main and auxiliary classifier read.
    pub fn widths(&self) -> [usize; 2] {
        let auxiliary = match &self.head {
            Head::Linear(_) => 0,
            Head::Uper(head) => head.auxiliary.1.width,
        };
        [self.classifier.width, auxiliary]
    }

    /// Places a side of a map of logits.
    pub fn side(&self) -> usize {
        let VitConfig { image_size, patch_size, .. } = *self.vit.config();
        image_size / patch_size * if self.kind() == HeadKind::Uper { 4 } else { 1 }
    }

    /// Initial values of all tensors.
    pub fn init(&self, params: &mut [f32], statistics: &mut [f32], seed: u64) {
        self.vit.init(params, seed);
        let stream = &mut Stream::new(seed, Domain::Init, [self.vit.tensors().count() as u32, 0, 0]);
        match &self.head {
            Head::Linear(norm) => init_batch_norm(norm, params, statistics),
            Head::Uper(pyramid) => {
                let Pyramid { neck, uper, auxiliary: (conv, classifier) } = &**pyramid;
                neck.init(params, statistics, stream);
                uper.init(params, statistics, stream);
                conv.init(params, statistics, stream);
                classifier.init(params, stream);
            }
        }
        self.classifier.init(params, stream);
    }

    /// Whether `file` holds a head of these sizes; names begin with `prefix`.
    pub fn is_head_in(&self, file: &SafeTensors, prefix: &str) -> bool {
        let mut all = self.tensors.iter().flatten();
        all.all(|info| file.shape(&format!("{prefix}{}", info.name)) == Some(&info.shape))
    }

    /// Fills parameters and statistics of the head.
    ///
    /// # Errors
    /// Data error if a tensor is absent, has another shape or a value that is not finite.
    pub fn load_head(
        &self,
        params: &mut [f32],
        statistics: &mut [f32],
        file: &SafeTensors,
        prefix: &str,
    ) -> Result<()> {
        for (infos, values) in self.tensors.iter().zip([params, statistics]) {
            for info in infos {
                let read = file.f32(&format!("{prefix}{}", info.name), &info.shape)?;
                info.param.of_mut(values).copy_from_slice(&read);
            }
        }
        Ok(())
    }

    /// Blocks behind which maps are taken: 4, 6, 8 and 12 of 12; 8, 12, 16 and 24 of 24.
    fn taps(&self) -> [usize; LEVELS] {
        let depth = self.vit.config().depth;
        [(1, 3), (1, 2), (2, 3), (1, 1)].map(|(share, of)| (depth * share).div_ceil(of))
    }

    /// The patch tokens of a stream as a map of their own.
    fn map(&self, grid: Grid) -> bilinear::Shape {
        let (config, places) = (self.vit.config(), grid.side * grid.side);
        let (c, lead) = (config.width, config.tokens() - places);
        bilinear::Shape { n: grid.n, lead, from: grid.side, to: grid.side, c, column: 0, columns: c }
    }

    /// The tokens of as many of the call's images.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn encode(&self, on: &mut dyn Layers, acts: &SegmenterActs) -> Result<()> {
        self.vit.forward_tokens(on, &acts.vit, 0)
    }

    /// `acts.logits()` of what [`Segmenter::encode`] made.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn decode(&self, on: &mut dyn Layers, acts: &SegmenterActs) -> Result<()> {
        let pass = acts.pass;
        match (&self.head, &acts.head) {
            (Head::Linear(norm), HeadActs::Linear(head)) => {
                on.resize(head.map, acts.vit.output(), self.map(acts.grid), false)?;
                pass.norm(on, head.normed, head.stats, head.map, *norm)?;
            }
            (Head::Uper(pyramid), HeadActs::Uper(head)) => {
                let Pyramid { neck, uper, auxiliary } = &**pyramid;
                for (map, tap) in head.maps.into_iter().zip(self.taps()) {
                    on.resize(map, acts.vit.after(tap), self.map(acts.grid), false)?;
                }
                neck.forward(on, head.maps, &head.neck, pass)?;
                uper.forward(on, head.neck.levels, &head.uper, pass)?;
                if !pass.infer {
                    auxiliary.0.forward(on, head.maps[2], head.auxiliary.0, pass)?;
                    auxiliary.1.forward(on, &head.auxiliary.1, false)?;
                }
            }
            _ => unreachable!("activations of another head"),
        }
        self.classifier.forward(on, &acts.main, pass.infer)
    }

    /// The loss of the logits of all images of a step, and their gradients.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn loss(&self, on: &mut dyn Layers, acts: &SegmenterActs) -> Result<()> {
        let Some(learning) = acts.learning else { return Ok(()) };
        let to = self.vit.config().image_size;
        let labels = PixelLabels { labels: learning.labels, to, losses: acts.losses, weight: 1.0, add: false };
        self.classifier.loss(on, &acts.main, labels)?;
        if let (Head::Uper(pyramid), HeadActs::Uper(head)) = (&self.head, &acts.head) {
            let labels = PixelLabels { weight: learning.auxiliary, add: true, ..labels };
            pyramid.auxiliary.1.loss(on, &head.auxiliary.1, labels)?;
        }
        on.mean_loss(acts.losses)
    }

    /// Adds the gradients of what is behind the encoder, and leaves those of its maps in `acts`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn decode_backward(&self, on: &mut dyn Layers, acts: &SegmenterActs) -> Result<()> {
        let grads = &acts.grads;
        self.classifier.backward(on, Some(acts.dmap), &acts.main)?;
        match (&self.head, &acts.head) {
            // What is in front of the norm learns nothing.
            (Head::Linear(norm), HeadActs::Linear(head)) => {
                on.batch_norm_backward(acts.dmap, grads.spare, (head.map, head.stats), head.normed, *norm)
            }
            (Head::Uper(pyramid), HeadActs::Uper(head)) => {
                let Pyramid { neck, uper, auxiliary } = &**pyramid;
                uper.backward(on, (head.dlevels, acts.dmap), head.neck.levels, &head.uper, grads)?;
                let [d, level] = head.dauxiliary;
                auxiliary.1.backward(on, Some(d), &head.auxiliary.1)?;
                auxiliary.0.backward(on, Some(level), d, head.maps[2], head.auxiliary.0, grads)?;
                on.add(head.dlevels[2], level)?;
                neck.backward(on, (head.dmaps, head.dlevels), head.maps, &head.neck, grads)
            }
            _ => unreachable!("activations of another head"),
        }
    }

    /// Adds the gradients of the ViT, after [`Segmenter::decode_backward`]; none behind a linear head.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn encode_backward(&self, on: &mut dyn Layers, acts: &SegmenterActs) -> Result<()> {
        let (HeadActs::Uper(head), Some(back)) = (&acts.head, &acts.back) else { return Ok(()) };
        // A block is left where its output was tapped: what came of the map joins what comes from behind.
        let (taps, map, dx, depth) = (self.taps(), self.map(acts.grid), back.of_input(), self.vit.config().depth);
        self.vit.backward_tapped(on, &acts.vit, back, &mut |on, blocks| {
            let mut add = blocks < depth;
            for (dmap, _) in head.dmaps.into_iter().zip(taps).filter(|(_, tap)| *tap == blocks) {
                on.resize_backward(dx, dmap, map, add)?;
                add = true;
            }
            Ok(())
        })
    }
}

/// Weights of all, and then biases: kernels take tensors at multiples of 8, and there may be any number of classes.
fn classifiers(of: &[(&str, usize)], classes: usize, table: &mut ParamTable) -> Vec<PixelClassifier> {
    let weights: Vec<_> =
        of.iter().map(|(name, width)| table.add(format!("{name}.conv_seg.weight"), &[classes, *width])).collect();
    let all = weights.into_iter().zip(of).map(|(w, (name, width))| PixelClassifier {
        w,
        b: table.add(format!("{name}.conv_seg.bias"), &[classes]),
        width: *width,
        classes,
    });
    all.collect()
}
