//! Supervised fine-tuning (arXiv 2111.06377, appendix A.1): a labelled image each, its class is told by a linear
//! classifier behind the encoder's pooled tokens; lower layers learn more slowly.

use super::network::{ENCODER, HEAD, LOSS, Method, Network, Sizes, Views, outputs};
use crate::bail;
use crate::error::Result;
use crate::layers::training::{Buffer, Layers, Layout, MomentumCopy, Numbers, Weights};
use crate::models::classifier::{Classifier, ClassifierActs};
use crate::models::vit::{DropPath, Vit, VitFile};
use crate::ops::optimizer::Group;
use crate::train::finetune::FineTune;
use crate::train::groups::groups;
use crate::train::loader::Batch;
use crate::train::schedule::Position;
use crate::weights::{COPY, ParamTable};

/// Numbers of an image: two labels, and the share of the first.
const LABELS: usize = 3;
/// What the encoder's tensors are named with.
const ENCODER_PREFIX: &str = "visual.";

pub(super) struct FineTuning;

impl Method for FineTuning {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 1 }
    }

    /// Labels are classes as they are.
    fn label(&self, _: &mut [u32], _: usize) {}

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(FineTuned::new(sizes)?))
    }

    fn has_head(&self) -> bool {
        false
    }

    fn has_temperature(&self) -> bool {
        false
    }

    fn expectation(&self, _: usize, _: Views, _: f64) -> String {
        "the loss begins at the logarithm of the number of classes; mixed and smoothed labels keep it well above 0"
            .into()
    }
}

/// Encoder (`visual.…`), the norm behind its mean (`fc_norm.…`) and classifier (`head.…`); a moving average of all of
/// them (`momentum.…`) among what is kept, where it is wanted.
#[derive(Debug)]
struct FineTuned {
    parameters: ParamTable,
    kept: ParamTable,
    average: Option<MomentumCopy>,
    settings: FineTune,
    classifier: Classifier,
    layout: Layout,
    /// One after the other, in the same buffers.
    parts: Vec<ClassifierActs>,
    images: usize,
    /// Stochastic depth, and the seed by which it is drawn.
    drop: Option<DropPath>,
    seed: u64,
}

impl FineTuned {
    fn new(sizes: &Sizes) -> Result<Self> {
        let Some(settings) = &sizes.finetune else {
            bail!(Usage, "--method finetune needs its settings: --pool, --layer-decay, --label-smoothing");
        };
        let Some(classes) = settings.classes else {
            bail!(Usage, "--method finetune: how many classes are there? give --classes");
        };
        let (mut parameters, mut layout, images) = (ParamTable::new(), Layout::default(), sizes.images);
        let classifier = Classifier::new(&sizes.model, settings.pool, classes, ENCODER_PREFIX, &mut parameters)?;
        let mut kept = ParamTable::new();
        let average =
            settings.ema.map(|_| MomentumCopy { parameters: kept.add_all(COPY, &parameters), statistics: 0, rate: 0 });
        let held = sizes.held.images.min(images);
        let head = (settings.pool, classes);
        let drop = DropPath::new(&sizes.model, sizes.drop_path, images, LABELS * images);
        let drop = Some(drop).filter(|_| sizes.drop_path > 0.0);
        let acts = ClassifierActs::new(&mut layout, &sizes.model, head, (held, images), sizes.held.again);
        let acts = acts.dropping(drop);
        // Nothing looks across images but the mean of their losses, so gradients of parts add up.
        let part = |first: usize| acts.part(first, held.min(images - first), sizes.model.image_len());
        let parts = (0..images).step_by(held).map(part).collect();
        let settings = settings.clone();
        let seed = sizes.seed;
        Ok(Self { parameters, kept, average, settings, classifier, layout, parts, images, drop, seed })
    }

    /// The part that ran last: what its buffers hold.
    fn last(&self) -> &ClassifierActs {
        &self.parts[self.parts.len() - 1]
    }

    /// Both labels of every image, and the share of the first: `[images]` each.
    fn labels(&self) -> [Numbers; 3] {
        [0, 1, 2].map(|run| Numbers { start: run * self.images, len: self.images })
    }

    /// The average begins as what it is of.
    fn begin_average(&self, parameters: &[f32], kept: &mut [f32]) {
        if let Some(average) = self.average {
            average.parameters.of_mut(kept).copy_from_slice(parameters);
        }
    }
}

impl Network for FineTuned {
    fn parameters(&self) -> &ParamTable {
        &self.parameters
    }

    fn kept(&self) -> &ParamTable {
        &self.kept
    }

    fn momentum(&self) -> Option<MomentumCopy> {
        self.average
    }

    /// The share of the way that the average goes behind this update.
    fn scalars(&self, _: Position) -> Vec<f32> {
        self.settings.ema.iter().map(|decay| (1.0 - decay) as f32).collect()
    }

    /// Tensors of two and more dimensions decay, class token and positions do not; the deeper a layer lies below the
    /// classifier, the lower is its rate.
    fn groups(&self) -> Vec<Group> {
        let depth = self.classifier.vit().config().depth;
        groups(&self.parameters, |info| {
            let name = info.name.strip_prefix(ENCODER_PREFIX).unwrap_or(&info.name);
            let decays = info.shape.len() >= 2 && !["cls_token", "pos_embed"].contains(&name);
            let rate = Classifier::rate_of(name, depth, self.settings.layer_decay);
            Group { rate, ..Group::new(info.param.range(), decays) }
        })
    }

    fn vit(&self) -> &Vit {
        self.classifier.vit()
    }

    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64) {
        self.classifier.init(parameters, seed);
        self.begin_average(parameters, kept);
    }

    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(self.classifier.vit(), parameters)?;
        let (tensors, before) = (file.tensors(), file.beside());
        let found = self.classifier.is_head_in(tensors, before);
        if found {
            self.classifier.load_head(parameters, tensors, before)?;
        }
        self.begin_average(parameters, kept);
        Ok(if found { "encoder and classifier" } else { "encoder; the classifier is new" })
    }

    fn number(&self, batch: &Batch, _: u64, numbers: &mut Vec<u32>) -> Result<()> {
        let classes = self.classifier.classes();
        if let Some(row) = batch.rows.iter().find(|row| row.label as usize >= classes) {
            bail!(Data, "an image has class {}, but --classes is {classes}: give {} or more", row.label, row.label + 1);
        }
        numbers.extend(batch.rows.iter().map(|row| row.mixed.map_or(row.label, |mixed| mixed.label)));
        numbers.extend(batch.rows.iter().map(|row| row.mixed.map_or(1.0, |mixed| mixed.share).to_bits()));
        if let Some(drop) = &self.drop {
            drop.number(self.seed, batch.rows.iter().map(|row| row.key), numbers);
        }
        Ok(())
    }

    fn numbers(&self) -> usize {
        LABELS * self.images + self.drop.map_or(0, |drop| drop.numbers())
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let (classifier, labels) = (&self.classifier, self.labels());
        for (i, part) in self.parts.iter().enumerate() {
            classifier.encode(on, part)?;
            on.stage(ENCODER)?;
            classifier.classify(on, part)?;
            on.stage(HEAD)?;
            classifier.loss(on, part, labels, self.settings.label_smoothing as f32)?;
            if i + 1 == self.parts.len() {
                on.mean_loss(part.losses())?;
            }
            on.stage(LOSS)?;
            classifier.classify_backward(on, part)?;
            on.stage("head, backward")?;
            classifier.encode_backward(on, part)?;
            on.stage("encoder, backward")?;
        }
        Ok(())
    }

    fn predict(&self, on: &mut dyn Layers, weights: Weights) -> Result<Option<Buffer>> {
        on.switch(weights)?;
        for part in self.parts.iter().map(ClassifierActs::whole) {
            self.classifier.encode(on, &part)?;
            self.classifier.classify(on, &part)?;
        }
        on.switch(Weights::Online)?;
        Ok(Some(self.last().logits()))
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        outputs(self.last().named(ENCODER_PREFIX)).collect()
    }
}
