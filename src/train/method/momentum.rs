//! Encoder, projector and predictor that foretell from one view what a momentum copy of encoder and projector says of
//! the other: what MoCo v3 and BYOL train.
//!
//! The copy is the same network over other parameters: a walk is switched to them. It begins as a copy of the online
//! parameters and follows them after every update: for BYOL with the momentum of that update, for MoCo v3 with that of
//! the next. MoCo v3 moves it before the forward instead, which is the same: its first move, from a copy to what it is
//! a copy of, goes nowhere.

use super::encoder::Encoder;
use super::network::{ENCODER, HEAD, LOSS, MOMENTUM, Network, Sizes, outputs};
use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout, MomentumCopy, Numbers, Pairs, Weights};
use crate::models::projector::{After, HeadLayer, Projector, ProjectorActs};
use crate::models::vit::{Vit, VitFile};
use crate::ops::cosine;
use crate::ops::optimizer::Group;
use crate::train::loader::Batch;
use crate::train::schedule::{Position, follow};
use crate::weights::{COPY, ParamTable};

/// What foretelling is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objective {
    /// Cross-entropy among the keys of all images, times 2τ (arXiv 2104.02057, Algorithm 1).
    Contrast,
    /// The cosine with the key of its own image (arXiv 2006.07733, equation 2).
    Cosine,
}

/// Backbone (`visual.…`), projector (`projector.…`) and predictor (`predictor.…`); the copies of the first two
/// (`momentum.…`) among what is kept.
#[derive(Debug)]
pub(super) struct MomentumNetwork {
    objective: Objective,
    parameters: ParamTable,
    /// Running statistics of the heads, the copy's among them; then the copy's parameters.
    kept: ParamTable,
    copy: MomentumCopy,
    /// Momentum at the beginning.
    base: f64,
    vit: Vit,
    projector: Projector,
    predictor: Projector,
    layout: Layout,
    /// The copy's activations lie where the online ones do, which come later.
    encoder: Encoder,
    /// The copy's differ in the last layer alone: what else it stores, the online forward overwrites.
    copied_acts: ProjectorActs,
    projector_acts: ProjectorActs,
    predictor_acts: ProjectorActs,
    /// Unit rows of the predictor, those of the copy, and the lengths of both.
    rows: Buffer,
    keys: Buffer,
    norms: [Buffer; 2],
    /// First views against second keys, and second against first.
    pairs: [Pairs; 2],
    /// Gradients of the unit rows, of the predictor's output and its input, and of the features.
    drows: Buffer,
    dout: Buffer,
    dprojected: Buffer,
    dfeatures: Buffer,
}

impl MomentumNetwork {
    pub(super) fn new(sizes: &Sizes, objective: Objective) -> Result<Self> {
        let (mut parameters, mut kept) = (ParamTable::new(), ParamTable::new());
        let vit = Vit::new(&sizes.model, "visual.", &mut parameters)?;
        let ([hidden, output], width) = (sizes.head_dims, sizes.model.width);
        let layer = |outputs, after| HeadLayer { outputs, bias: false, after };
        let (inside, last) = (layer(hidden, After::NormRelu), layer(output, After::PlainNorm));
        let projector = Projector::of(width, &[inside, inside, last], "projector.", &mut parameters, &mut kept)?;
        let (copied, statistics) = (parameters.clone(), kept.clone());
        kept.add_all(COPY, &statistics);
        let predictor = Projector::of(output, &[inside, last], "predictor.", &mut parameters, &mut kept)?;
        let parameters_of_copy = kept.add_all(COPY, &copied);
        let copy = MomentumCopy { parameters: parameters_of_copy, statistics: statistics.len(), rate: 0 };

        let (n, slots, mut layout) = (sizes.images, sizes.norm_slots, Layout::default());
        // Labels and own keys come before its numbers.
        let encoder = Encoder::new(&mut layout, vit.config(), 0, n, sizes.held).dropping(sizes, n + n / 2);
        let projector_acts = ProjectorActs::of_kind(&mut layout, &projector, n, slots, Kind::Rounded);
        let copied_acts = projector_acts.before(&mut layout, &projector, Kind::Exact);
        let predictor_acts = ProjectorActs::new(&mut layout, &predictor, n, slots);
        let mut take = |name: &str, len, kind| layout.take("loss", name, len, kind);
        let rows = take("predictions", n * output, Kind::Exact);
        let keys = take("keys", n * output, Kind::Exact);
        let norms = [take("norms of predictions", n, Kind::Exact), take("norms of keys", n, Kind::Exact)];
        let half = |view: usize| view * n / 2 * output..(view + 1) * n / 2 * output;
        let mut pair = |view: usize| Pairs {
            rows: rows.slice(half(view)),
            keys: keys.slice(half(1 - view)),
            labels: [Numbers { start: n, len: n / 2 }; 2],
            lse: take(["log-sum-exp", "log-sum-exp of second views"][view], n / 2, Kind::Exact),
            weight: take(["keys of a row", "keys of a second view"][view], n / 2, Kind::Exact),
            temperature: sizes.temperature,
            factor: 2.0 * sizes.temperature,
        };
        Ok(Self {
            objective,
            base: sizes.momentum,
            copy,
            pairs: [pair(0), pair(1)],
            rows,
            keys,
            norms,
            drows: take("d predictions", n * output, Kind::Exact),
            dout: take("d predictor output", n * output, Kind::Exact),
            dprojected: take("d projector output", n * output, Kind::Rounded),
            dfeatures: take("d features", n * width, Kind::Rounded),
            parameters,
            kept,
            vit,
            projector,
            predictor,
            layout,
            encoder,
            copied_acts,
            projector_acts,
            predictor_acts,
        })
    }
}

impl Network for MomentumNetwork {
    fn parameters(&self) -> &ParamTable {
        &self.parameters
    }

    fn kept(&self) -> &ParamTable {
        &self.kept
    }

    fn momentum(&self) -> Option<MomentumCopy> {
        Some(self.copy)
    }

    /// The share of the way that the copy goes behind this update.
    fn scalars(&self, at: Position) -> Vec<f32> {
        let done = match self.objective {
            Objective::Contrast => at.after,
            Objective::Cosine => at.before,
        };
        vec![follow(self.base, done)]
    }

    /// All decay, norms and biases too, but those of which nothing is learned.
    fn groups(&self) -> Vec<Group> {
        let mut frozen = self.vit.frozen();
        frozen.sort_unstable_by_key(|param| param.offset);
        let (mut groups, mut end) = (Vec::new(), 0);
        for param in frozen {
            groups.push(Group::new(end..param.offset, true));
            groups.push(Group::new(param.range(), false));
            end = param.range().end;
        }
        groups.push(Group::new(end..self.parameters.len(), true));
        groups
    }

    fn vit(&self) -> &Vit {
        &self.vit
    }

    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64) {
        let first = self.vit.tensors().count();
        self.vit.init_moco_v3(parameters, seed);
        self.projector.init(parameters, kept, seed, first);
        self.predictor.init(parameters, kept, seed, first + self.projector.streams());
        self.copy.begin(parameters, kept);
    }

    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(&self.vit, parameters)?;
        let (tensors, before) = (file.tensors(), file.beside());
        let heads = [&self.projector, &self.predictor];
        let found = heads.iter().all(|head| head.is_in(tensors, before));
        if found {
            heads.iter().try_for_each(|head| head.load(parameters, kept, tensors, before))?;
        }
        self.copy.begin(parameters, kept);
        Ok(if found { "encoder, projector and predictor" } else { "encoder; projector and predictor are new" })
    }

    /// Which key is a row's own: as many as there are captions.
    fn number(&self, batch: &Batch, _: u64, numbers: &mut Vec<u32>) -> Result<()> {
        numbers.extend(0..self.pairs[0].labels[0].len as u32);
        self.encoder.number(&batch.rows, numbers);
        Ok(())
    }

    fn numbers(&self) -> usize {
        let own = self.pairs[0].labels[0];
        own.start + own.len + self.encoder.numbers()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let (Self { rows, keys, norms, pairs, .. }, features) = (self, self.encoder.features());
        on.switch(Weights::Momentum)?;
        self.encoder.forward_copy(on, &self.vit)?;
        self.projector.forward(on, &self.copied_acts, features)?;
        on.unit_rows(*keys, norms[1], self.copied_acts.out())?;
        on.switch(Weights::Online)?;
        on.stage(MOMENTUM)?;
        self.encoder.forward(on, &self.vit)?;
        on.stage(ENCODER)?;
        let projected = self.projector_acts.out();
        self.projector.forward(on, &self.projector_acts, features)?;
        self.predictor.forward(on, &self.predictor_acts, projected)?;
        on.stage(HEAD)?;
        on.unit_rows(*rows, norms[0], self.predictor_acts.out())?;
        match self.objective {
            Objective::Contrast => {
                on.pairs(pairs, false)?;
                let half = self.drows.len() / 2;
                on.pairs_backward(self.drows.slice(0..half), pairs[0])?;
                on.pairs_backward(self.drows.slice(half..2 * half), pairs[1])?;
            }
            // The mean over both views, twice: their sum.
            Objective::Cosine => {
                let count = norms[0].len();
                let shape = cosine::Shape { rows: count, dim: rows.len() / count, shift: count / 2, factor: 2.0 };
                on.cosine(self.drows, *rows, *keys, shape)?;
            }
        }
        on.unit_rows_backward(self.dout, self.drows, *rows, norms[0])?;
        on.stage(LOSS)?;
        self.predictor.backward(on, &self.predictor_acts, self.dprojected, self.dout, projected)?;
        self.projector.backward(on, &self.projector_acts, self.dfeatures, self.dprojected, features)?;
        on.stage("heads, backward")?;
        self.encoder.backward(on, &self.vit, self.dfeatures)?;
        self.vit.freeze_embedding(on)
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        let heads = self.projector_acts.named().into_iter().chain(self.predictor_acts.named());
        let all = outputs(self.encoder.named().into_iter().chain(heads));
        let ends = [("the keys of the momentum copy", self.keys), ("the unit vectors of the loss", self.rows)];
        let ends = ends.map(|(name, values)| (name.to_owned(), values));
        // Keys come first: what led to them is overwritten.
        ends[..1].iter().cloned().chain(all).chain(ends[1..].iter().cloned()).collect()
    }
}
