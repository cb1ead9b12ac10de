//! DINO (arXiv 2104.14294): one image of each caption, two unlike crops; a student tells from one crop what its
//! momentum copy, the teacher, says of the other among many classes that nobody named.
//!
//! Beside them the student may see small crops of the image (multi-crop), by the same network with positions of their
//! grid; each is compared with both of the teacher's.

use super::encoder::{Encoder, take_features};
use super::network::{ENCODER, HEAD, Held, LOSS, MOMENTUM, Method, Network, Sizes, Views, outputs};
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

    fn takes_local_crops(&self) -> bool {
        true
    }

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
    local: Option<Local>,
    /// Of all rows of the student: the small crops' come last.
    features: Buffer,
    head_acts: DinoHeadActs,
    loss: Distill,
    centre: Param,
    dlogits: Buffer,
    dfeatures: Buffer,
    /// Rows of the teacher.
    images: usize,
}

/// What sees the small crops.
#[derive(Debug)]
struct Local {
    vit: Vit,
    encoder: Encoder,
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
        let rows = n + sizes.local.as_ref().map_or(0, |section| section.rows.len());
        let features = take_features(&mut layout, vit.config(), rows);
        let own = features.first(n * width);
        let encoder = Encoder::of(&mut layout, vit.config(), 0, own, sizes.held).dropping(sizes, rows);
        let local = match &sizes.local {
            Some(section) => {
                let vit = vit.resized(&mut layout, section.side)?;
                // As large a share of them as of the others.
                let held = Held { images: ((rows - n) * sizes.held.images.min(n)).div_ceil(n), ..sizes.held };
                let features = features.slice(n * width..rows * width);
                let encoder = Encoder::of(&mut layout, vit.config(), section.start, features, held)
                    .dropping(sizes, rows + encoder.numbers());
                Some(Local { vit, encoder })
            }
            None => None,
        };
        let head_acts = DinoHeadActs::new(&mut layout, &head, rows);
        let mut take = |name: &str, len, kind| layout.take("loss", name, len, kind);
        let temperature = sizes.temperature;
        Ok(Self {
            loss: Distill {
                student: take("student's logits", rows * classes, Kind::Exact),
                teacher: take("teacher's logits", n * classes, Kind::Exact),
                centre,
                sharpness: 1,
                shape: distill::Shape { images: n / 2, views: rows / (n / 2), teachers: 2, classes, temperature },
            },
            dlogits: take("d student's logits", rows * classes, Kind::Rounded),
            dfeatures: take("d features", rows * width, Kind::Rounded),
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
            local,
            features,
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

    /// Tensors of two and more dimensions decay, positions and class token among them; of the last layer nothing is
    /// learned in the first epoch.
    fn groups(&self) -> Vec<Group> {
        groups(&self.parameters, |info| {
            let decays = info.shape.len() >= 2 && !info.name.ends_with(".bias");
            Group { late: info.param == self.head.last_layer(), ..Group::new(info.param.range(), decays) }
        })
    }

    fn vit(&self) -> &Vit {
        &self.vit
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
        let (global, local) = batch.rows.split_at(self.images);
        self.encoder.number(global, numbers);
        if let Some(Local { encoder, .. }) = &self.local {
            encoder.number(local, numbers);
        }
        Ok(())
    }

    fn numbers(&self) -> usize {
        let [rows, _] = self.loss.shape.rows();
        rows + self.encoder.numbers() + self.local.as_ref().map_or(0, |local| local.encoder.numbers())
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let features = self.features;
        on.switch(Weights::Momentum)?;
        self.encoder.forward_copy(on, &self.vit)?;
        self.head.forward(on, &self.head_acts.first(self.images), self.loss.teacher, self.encoder.features())?;
        on.switch(Weights::Online)?;
        on.stage(MOMENTUM)?;
        self.encoder.forward(on, &self.vit)?;
        if let Some(Local { vit, encoder }) = &self.local {
            vit.resize_positions(on)?;
            encoder.forward(on, vit)?;
        }
        on.stage(ENCODER)?;
        self.head.forward(on, &self.head_acts, self.loss.student, features)?;
        on.stage(HEAD)?;
        on.distill(self.dlogits, self.loss)?;
        on.stage(LOSS)?;
        self.head.backward(on, &self.head_acts, self.dfeatures, self.dlogits, features)?;
        on.stage("head, backward")?;
        let (own, all) = (self.encoder.features().len(), self.dfeatures.len());
        self.encoder.backward(on, &self.vit, self.dfeatures.first(own))?;
        if let Some(Local { vit, encoder }) = &self.local {
            encoder.backward(on, vit, self.dfeatures.slice(own..all))?;
            vit.resize_positions_backward(on)?;
        }
        Ok(())
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        let local = self.local.iter().flat_map(|local| local.encoder.named());
        let local = local.map(|(name, values)| (format!("{name} over small crops"), values));
        let all = outputs(self.encoder.named().into_iter().chain(local).chain(self.head_acts.named()));
        let teacher = ("the teacher's logits".to_owned(), self.loss.teacher);
        [teacher].into_iter().chain(all).chain([("the student's logits".to_owned(), self.loss.student)]).collect()
    }
}
