//! Encoder, projection head and the multi-positive contrastive loss of their unit rows, perhaps with a queue of keys:
//! what StableRep and SimCLR train.

use super::encoder::Encoder;
use super::network::{ENCODER, HEAD, LOSS, MOMENTUM, Network, Sizes, Views, outputs};
use super::queue::Queued;
use crate::error::Result;
use crate::layers::training::{Buffer, Contrast, Kind, Layers, Layout, MomentumCopy, Numbers, Weights};
use crate::models::projector::{Projector, ProjectorActs, ProjectorConfig};
use crate::models::vit::{Vit, VitFile};
use crate::ops::contrastive;
use crate::train::loader::Batch;
use crate::train::schedule::{Position, follow};
use crate::weights::ParamTable;

/// What the multi-positive loss may be. Cross-entropy is at least the entropy of its targets, which are equal on all
/// other views of a caption.
pub(super) fn expectation(captions: usize, views: Views) -> String {
    let (others, positives) = (captions * views.slots() - 1, views.slots() - 1);
    format!(
        "the loss begins near ln({others}) = {:.2}, where nothing is told apart, and stays above ln({positives}) = {:.2}, \
         where all views of a caption are alike",
        (others as f64).ln(),
        (positives as f64).ln()
    )
}

/// What two images of different steps have in common where they belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alike {
    /// What the loader says: the caption's text, as a rule.
    Label,
    /// The picture that both are crops of.
    Picture,
}

/// Backbone (`visual.…`) and head (`image_mlp.…`), and the tensors of a step. With a queue what is kept are also a copy
/// of both (`momentum.…`) and the queue (`queue.…`).
#[derive(Debug)]
pub(super) struct Contrastive {
    parameters: ParamTable,
    /// Running statistics of the head first.
    kept: ParamTable,
    alike: Alike,
    queued: Option<Queued>,
    vit: Vit,
    head: Projector,
    layout: Layout,
    encoder: Encoder,
    head_acts: ProjectorActs,
    /// Unit rows that the loss compares, and their lengths.
    rows: Contrast,
    norms: Buffer,
    /// Gradients of the unit rows, of the head's output and of its input.
    dz: Buffer,
    dout: Buffer,
    dfeatures: Buffer,
}

impl Contrastive {
    pub(super) fn new(sizes: &Sizes, alike: Alike) -> Result<Self> {
        let (mut parameters, mut kept) = (ParamTable::new(), ParamTable::new());
        let vit = Vit::new(&sizes.model, "visual.", &mut parameters)?;
        let ([hidden, output], width) = (sizes.head_dims, sizes.model.width);
        let config = ProjectorConfig { input: width, hidden, output };
        let head = Projector::new(&config, "image_mlp.", &mut parameters, &mut kept)?;
        let (n, mut layout) = (sizes.images, Layout::default());
        // Behind the labels, and where the step's keys go.
        let dropped = n + usize::from(sizes.queue.is_some());
        let encoder = Encoder::new(&mut layout, vit.config(), 0, n, sizes.held).dropping(sizes, dropped);
        let head_acts = ProjectorActs::new(&mut layout, &head, n, sizes.norm_slots);
        let queued = sizes.queue.map(|slots| {
            let tables = (&parameters, &mut kept);
            Queued::new((slots, sizes.momentum), tables, &mut layout, (&head, &head_acts))
        });
        let mut take = |name: &str, len, kind| layout.take("loss", name, len, kind);
        Ok(Self {
            rows: Contrast {
                z: take("z", n * output, Kind::Exact),
                labels: Numbers { start: 0, len: n },
                queue: queued.as_ref().map(|queued| queued.queue),
                lse: take("log-sum-exp", n, Kind::Exact),
                weight: take("positives", n, Kind::Exact),
                temperature: sizes.temperature,
            },
            norms: take("norms", n, Kind::Exact),
            dz: take("d z", n * output, Kind::Exact),
            dout: take("d head output", n * output, Kind::Rounded),
            dfeatures: take("d features", n * width, Kind::Rounded),
            parameters,
            kept,
            alike,
            queued,
            vit,
            head,
            layout,
            encoder,
            head_acts,
        })
    }
}

impl Network for Contrastive {
    fn parameters(&self) -> &ParamTable {
        &self.parameters
    }

    fn kept(&self) -> &ParamTable {
        &self.kept
    }

    fn vit(&self) -> &Vit {
        &self.vit
    }

    fn momentum(&self) -> Option<MomentumCopy> {
        self.queued.as_ref().map(|queued| queued.copy)
    }

    /// The share of the way that the copy goes behind this update, where there is one.
    fn scalars(&self, at: Position) -> Vec<f32> {
        self.queued.iter().map(|queued| follow(queued.base, at.before)).collect()
    }

    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64) {
        self.vit.init(parameters, seed);
        self.head.init(parameters, kept, seed, self.vit.tensors().count());
        self.queued.iter().for_each(|queued| queued.begin(parameters, kept));
    }

    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(&self.vit, parameters)?;
        let (tensors, before) = (file.tensors(), file.beside());
        let found = self.head.is_in(tensors, before);
        if found {
            self.head.load(parameters, kept, tensors, before)?;
        }
        self.queued.iter().for_each(|queued| queued.begin(parameters, kept));
        Ok(if found { "encoder and projection head" } else { "encoder; the projection head is new" })
    }

    /// Where the step's keys go; labels that mean the same in every step.
    fn number(&self, batch: &Batch, step: u64, numbers: &mut Vec<u32>) -> Result<()> {
        if let Some(queued) = &self.queued {
            if self.alike == Alike::Picture {
                numbers.iter_mut().zip(&batch.rows).for_each(|(label, row)| *label = row.key[1]);
            }
            numbers.push(queued.start(step));
        }
        self.encoder.number(&batch.rows, numbers);
        Ok(())
    }

    fn numbers(&self) -> usize {
        self.rows.labels.len + self.queued.as_ref().map_or(0, |queued| queued.start.len) + self.encoder.numbers()
    }

    /// Of the loss without a queue: what labels are in that is known where it is alone.
    fn floor(&self, numbers: &[u32]) -> Option<f64> {
        self.queued.is_none().then(|| contrastive::floor(&numbers[..self.rows.labels.len]))
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let (Self { rows, norms, dz, dout, dfeatures, .. }, features) = (self, self.encoder.features());
        if let Some(Queued { acts, keys, norms, .. }) = &self.queued {
            on.switch(Weights::Momentum)?;
            self.encoder.forward_copy(on, &self.vit)?;
            self.head.forward(on, acts, features)?;
            on.unit_rows(*keys, *norms, acts.out())?;
            on.switch(Weights::Online)?;
            on.stage(MOMENTUM)?;
        }
        self.encoder.forward(on, &self.vit)?;
        on.stage(ENCODER)?;
        self.head.forward(on, &self.head_acts, features)?;
        on.stage(HEAD)?;
        on.unit_rows(rows.z, *norms, self.head_acts.out())?;
        on.contrastive(*rows)?;
        on.contrastive_backward(*dz, *rows)?;
        if let Some(Queued { queue, keys, start, .. }) = &self.queued {
            on.enqueue(*queue, *keys, rows.labels, *start)?;
        }
        on.unit_rows_backward(*dout, *dz, rows.z, *norms)?;
        on.stage(LOSS)?;
        self.head.backward(on, &self.head_acts, *dfeatures, *dout, features)?;
        on.stage("head, backward")?;
        self.encoder.backward(on, &self.vit, *dfeatures)
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        // Keys come first: what led to them is overwritten.
        let keys = self.queued.iter().map(|queued| ("the keys of the momentum copy".to_owned(), queued.keys));
        let all = self.encoder.named().into_iter().chain(self.head_acts.named());
        keys.chain(outputs(all)).chain([("the unit vectors of the loss".to_owned(), self.rows.z)]).collect()
    }
}
