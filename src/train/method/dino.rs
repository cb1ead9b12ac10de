//! DINO (arXiv 2104.14294): one image of each caption, two unlike crops; a student tells from one crop what its
//! momentum copy, the teacher, says of the other among many classes that nobody named.
//!
//! Both crops are global, as in the authors' runs without multi-crop.

use super::encoder::Encoder;
use super::network::{ENCODER, HEAD, LOSS, MOMENTUM, Method, Network, Sizes, Views, outputs};
use crate::error::Result;
use crate::layers::training::{Buffer, Distill, Kind, Layers, Layout, MomentumCopy, Weights};
use crate::models::dino_head::{DinoHead, DinoHeadActs};
use crate::models::vit::{Vit, VitFile};
use crate::ops::distill;
use crate::ops::optimizer::Group;
use crate::train::groups::groups;
use crate::train::loader::Batch;
use crate::train::schedule::{Position, follow};
use crate::weights::{COPY, Param, ParamTable};

/// The teacher's temperature.
const TEACHER: f64 = 0.04;

pub(super) struct Dino;

impl Method for Dino {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 2 }
    }

    /// The loss reads none.
    fn label(&self, _: &mut [u32], _: usize) {}

    /// On its way to 1 in half a cosine.
    fn momentum(&self) -> Option<f64> {
        Some(0.996)
    }

    fn has_batch_norm(&self) -> bool {
        false
    }

    fn expectation(&self, _: usize, _: Views, _: f64) -> String {
        "the loss begins near ln(classes), where student and teacher have nothing in common; a loss that stays there, or a \
         fall to 0, is a collapse"
            .into()
    }

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(Distillation::new(sizes)?))
    }
}

/// Backbone (`visual.…`) and head (`head.…`); among what is kept the centre and the teacher (`momentum.…`).
#[derive(Debug)]
struct Distillation {
    parameters: ParamTable,
    kept: ParamTable,
    copy: MomentumCopy,
    base: f64,
    vit: Vit,
    head: DinoHead,
    layout: Layout,
    /// The teacher's activations lie where the student's do, which come later.
    encoder: Encoder,
    head_acts: DinoHeadActs,
    loss: Distill,
    centre: Param,
    dlogits: Buffer,
    dfeatures: Buffer,
    images: usize,
}

impl Distillation {
    fn new(sizes: &Sizes) -> Result<Self> {
        let (mut parameters, mut kept) = (ParamTable::new(), ParamTable::new());
        let vit = Vit::new(&sizes.model, "visual.", &mut parameters)?;
        let head = DinoHead::new(sizes.model.width, sizes.head_dims, "head.", &mut parameters)?;
        let (width, classes) = (sizes.model.width, sizes.head_dims[1]);
        let centre = kept.add("centre", &[1, classes]);
        let copy = kept.add_all(COPY, &parameters);
        let (n, mut layout) = (sizes.images, Layout::default());
        let encoder = Encoder::new(&mut layout, vit.config(), 0, n, sizes.held).dropping(sizes, n);
        let head_acts = DinoHeadActs::new(&mut layout, &head, n);
        let mut take = |name: &str, len, kind| layout.take("loss", name, len, kind);
        let temperature = sizes.temperature;
        Ok(Self {
            loss: Distill {
                student: take("student's logits", n * classes, Kind::Exact),
                teacher: take("teacher's logits", n * classes, Kind::Exact),
                centre,
                sharpness: 1,
                shape: distill::Shape { images: n / 2, views: 2, teachers: 2, classes, temperature },
            },
            dlogits: take("d student's logits", n * classes, Kind::Rounded),
            dfeatures: take("d features", n * width, Kind::Rounded),
            copy: MomentumCopy { parameters: copy, statistics: 0, rate: 0 },
            base: sizes.momentum,
            centre,
            images: n,
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

impl Network for Distillation {
    fn parameters(&self) -> &ParamTable {
        &self.parameters
    }

    fn kept(&self) -> &ParamTable {
        &self.kept
    }

    fn momentum(&self) -> Option<MomentumCopy> {
        Some(self.copy)
    }

    /// The share of the way that the teacher goes behind this update, and one over its temperature.
    fn scalars(&self, at: Position) -> Vec<f32> {
        vec![follow(self.base, at.before), (1.0 / TEACHER) as f32]
    }

    /// Tensors of two and more dimensions decay, positions and class token among them.
    fn groups(&self) -> Vec<Group> {
        groups(&self.parameters, |info| info.shape.len() >= 2 && !info.name.ends_with(".bias"))
    }

    /// The last layer, of which nothing is learned in the first epoch.
    fn late(&self) -> Option<Param> {
        Some(self.head.last_layer())
    }

    fn vit(&self) -> &Vit {
        &self.vit
    }

    /// The teacher's, as the authors do.
    fn judged(&self) -> Weights {
        Weights::Momentum
    }

    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64) {
        self.vit.init(parameters, seed);
        self.head.init(parameters, seed, self.vit.tensors().count());
        self.centre.of_mut(kept).fill(0.0);
        self.copy.parameters.of_mut(kept).copy_from_slice(parameters);
    }

    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(&self.vit, parameters)?;
        let tensors = file.tensors();
        let head = || self.parameters.iter().filter(|info| info.name.starts_with("head."));
        let named = |name: &str| format!("{}{name}", file.beside());
        let found = head().any(|info| tensors.contains(&named(&info.name)));
        if found {
            for info in head() {
                info.param.of_mut(parameters).copy_from_slice(&tensors.f32(&named(&info.name), &info.shape)?);
            }
        }
        self.copy.parameters.of_mut(kept).copy_from_slice(parameters);
        Ok(if found { "encoder and head" } else { "encoder; the head is new" })
    }

    fn number(&self, batch: &Batch, _: u64, numbers: &mut Vec<u32>) -> Result<()> {
        self.encoder.number(&batch.rows, numbers);
        Ok(())
    }

    fn numbers(&self) -> usize {
        self.images + self.encoder.numbers()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let features = self.encoder.features();
        on.switch(Weights::Momentum)?;
        self.encoder.forward_copy(on, &self.vit)?;
        self.head.forward(on, &self.head_acts, self.loss.teacher, features)?;
        on.switch(Weights::Online)?;
        on.stage(MOMENTUM)?;
        self.encoder.forward(on, &self.vit)?;
        on.stage(ENCODER)?;
        self.head.forward(on, &self.head_acts, self.loss.student, features)?;
        on.stage(HEAD)?;
        on.distill(self.dlogits, self.loss)?;
        on.stage(LOSS)?;
        self.head.backward(on, &self.head_acts, self.dfeatures, self.dlogits, features)?;
        on.stage("head, backward")?;
        self.encoder.backward(on, &self.vit, self.dfeatures)
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        let all = outputs(self.encoder.named().into_iter().chain(self.head_acts.named()));
        let teacher = ("the teacher's logits".to_owned(), self.loss.teacher);
        [teacher].into_iter().chain(all).chain([("the student's logits".to_owned(), self.loss.student)]).collect()
    }
}
