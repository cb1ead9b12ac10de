//! Encoder, projection head and the multi-positive contrastive loss of their unit rows: what StableRep and SimCLR
//! train.

use super::encoder::Encoder;
use super::network::{ENCODER, HEAD, LOSS, Network, Sizes, Views, outputs};
use crate::error::Result;
use crate::layers::training::{Buffer, Contrast, Kind, Layers, Layout, Numbers};
use crate::models::projector::{Projector, ProjectorActs, ProjectorConfig};
use crate::models::vit::{Vit, VitFile};
use crate::train::loader::Batch;
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

/// Backbone (`visual.…`) and head (`image_mlp.…`), and the tensors of a step.
#[derive(Debug)]
pub(super) struct Contrastive {
    parameters: ParamTable,
    /// Running statistics of the head.
    kept: ParamTable,
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
    pub(super) fn new(sizes: &Sizes) -> Result<Self> {
        let (mut parameters, mut kept) = (ParamTable::new(), ParamTable::new());
        let vit = Vit::new(&sizes.model, "visual.", &mut parameters)?;
        let ([hidden, output], width) = (sizes.head_dims, sizes.model.width);
        let config = ProjectorConfig { input: width, hidden, output };
        let head = Projector::new(&config, "image_mlp.", &mut parameters, &mut kept)?;
        let (n, mut layout) = (sizes.images, Layout::default());
        let encoder = Encoder::new(&mut layout, vit.config(), 0, n, sizes.held).dropping(sizes, n);
        let head_acts = ProjectorActs::new(&mut layout, &head, n, sizes.norm_slots);
        let mut take = |name: &str, len, kind| layout.take("loss", name, len, kind);
        Ok(Self {
            rows: Contrast {
                z: take("z", n * output, Kind::Exact),
                labels: Numbers { start: 0, len: n },
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

    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64) {
        self.vit.init(parameters, seed);
        self.head.init(parameters, kept, seed, self.vit.tensors().count());
    }

    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(&self.vit, parameters)?;
        let (tensors, before) = (file.tensors(), file.beside());
        if !self.head.is_in(tensors, before) {
            return Ok("encoder; the projection head is new");
        }
        self.head.load(parameters, kept, tensors, before)?;
        Ok("encoder and projection head")
    }

    fn number(&self, batch: &Batch, _: u64, numbers: &mut Vec<u32>) -> Result<()> {
        self.encoder.number(&batch.rows, numbers);
        Ok(())
    }

    fn numbers(&self) -> usize {
        self.rows.labels.len + self.encoder.numbers()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let (Self { rows, norms, dz, dout, dfeatures, .. }, features) = (self, self.encoder.features());
        self.encoder.forward(on, &self.vit)?;
        on.stage(ENCODER)?;
        self.head.forward(on, &self.head_acts, features)?;
        on.stage(HEAD)?;
        on.unit_rows(rows.z, *norms, self.head_acts.out())?;
        on.contrastive(*rows)?;
        on.contrastive_backward(*dz, *rows)?;
        on.unit_rows_backward(*dout, *dz, rows.z, *norms)?;
        on.stage(LOSS)?;
        self.head.backward(on, &self.head_acts, *dfeatures, *dout, features)?;
        on.stage("head, backward")?;
        self.encoder.backward(on, &self.vit, *dfeatures)
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        let all = self.encoder.named().into_iter().chain(self.head_acts.named());
        outputs(all).chain([("the unit vectors of the loss".to_owned(), self.rows.z)]).collect()
    }
}
