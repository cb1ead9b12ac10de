//! Supervised segmentation as SynCLR and MAE are judged on ADE20k: the class of every pixel of a labelled picture is
//! learned, by UperNet and the encoder together, or by a linear layer over an encoder that stays as it is.

use super::network::{ENCODER, HEAD, LOSS, Method, Network, Sizes, Views, outputs};
use crate::bail;
use crate::error::Result;
use crate::image::IGNORED;
use crate::layers::training::{Buffer, Layers, Layout, Numbers};
use crate::models::classifier::Classifier;
use crate::models::segmenter::{DroppedChannels, HeadKind, Learning, Segmenter, SegmenterActs};
use crate::models::vit::{DropPath, Vit, VitFile};
use crate::ops::optimizer::Group;
use crate::train::groups::groups;
use crate::train::loader::Batch;
use crate::train::segment::Segment;
use crate::weights::ParamTable;

/// What the encoder's tensors are named with.
const ENCODER_PREFIX: &str = "visual.";

pub(super) struct Segmentation;

impl Method for Segmentation {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 1 }
    }

    /// Labels are those of pixels.
    fn label(&self, _: &mut [u32], _: usize) {}

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(Segmenting::new(sizes)?))
    }

    fn has_head(&self) -> bool {
        false
    }

    fn has_temperature(&self) -> bool {
        false
    }

    fn expectation(&self, _: usize, _: Views, _: f64) -> String {
        "the loss begins near the logarithm of the number of classes times the share of pixels that have one, and as \
         much again, weighted, for an auxiliary head"
            .into()
    }
}

/// Encoder (`visual.…`) and heads (`neck.…`, `decode_head.…`, `auxiliary_head.…`), whose norms' statistics are kept.
#[derive(Debug)]
struct Segmenting {
    parameters: ParamTable,
    kept: ParamTable,
    settings: Segment,
    network: Segmenter,
    layout: Layout,
    acts: SegmenterActs,
    images: usize,
    drop: Option<DropPath>,
    /// Where the classes of pixels begin among a step's numbers, behind a label that no image has.
    labels: Numbers,
    seed: u64,
}

impl Segmenting {
    fn new(sizes: &Sizes) -> Result<Self> {
        let Some(settings) = &sizes.segment else {
            bail!(Usage, "--method segment needs its settings: --segmentation-head, --classes");
        };
        let images = sizes.images;
        if sizes.held.images < images {
            bail!(
                Usage,
                "--method segment holds all images of a step at once, for its batch norms are of all; a chunk of {} does \
                 not go with it: lower --batch",
                sizes.held.images
            );
        }
        let (mut parameters, mut kept, mut layout) = (ParamTable::new(), ParamTable::new(), Layout::default());
        let head = (settings.head, settings.classes);
        let network = Segmenter::new(&sizes.model, head, ENCODER_PREFIX, &mut parameters, &mut kept)?;
        let side = sizes.model.image_size;
        let labels = Numbers { start: images, len: images * side * side };
        let mut at = labels.start + labels.len;
        let dropped = network.widths().map(|width| {
            let kept = Numbers { start: at, len: images * width };
            at += kept.len;
            DroppedChannels { kept, share: settings.drop_channels }
        });
        let drop = DropPath::new(&sizes.model, sizes.drop_path, images, at);
        let drop = Some(drop).filter(|_| sizes.drop_path > 0.0 && settings.head == HeadKind::Uper);
        let (auxiliary, again) = (settings.auxiliary as f32, sizes.held.again);
        let learning = Learning { labels, dropped, drop_path: drop, auxiliary, again };
        let acts = network.acts(&mut layout, images, Some(learning));
        let (settings, seed) = (settings.clone(), sizes.seed);
        Ok(Self { parameters, kept, settings, network, layout, acts, images, drop, labels, seed })
    }
}

impl Network for Segmenting {
    fn parameters(&self) -> &ParamTable {
        &self.parameters
    }

    fn kept(&self) -> &ParamTable {
        &self.kept
    }

    /// Tensors of two and more dimensions decay, class token and positions among them; the deeper a layer lies below
    /// the heads, the lower is its rate. An encoder below a linear head learns nothing.
    fn groups(&self) -> Vec<Group> {
        let (depth, frozen) = (self.network.vit().config().depth, self.settings.head == HeadKind::Linear);
        groups(&self.parameters, |info| {
            let rate = match info.name.strip_prefix(ENCODER_PREFIX) {
                Some(_) if frozen => 0.0,
                Some(name) => Classifier::rate_of(name, depth, self.settings.layer_decay),
                None => 1.0,
            };
            Group { rate, ..Group::new(info.param.range(), info.shape.len() >= 2) }
        })
    }

    fn vit(&self) -> &Vit {
        self.network.vit()
    }

    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64) {
        self.network.init(parameters, kept, seed);
    }

    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(self.network.vit(), parameters)?;
        let (tensors, before) = (file.tensors(), file.beside());
        if self.network.is_head_in(tensors, before) {
            self.network.load_head(parameters, kept, tensors, before)?;
            return Ok("encoder and heads");
        }
        Ok("encoder; the heads are new")
    }

    fn number(&self, batch: &Batch, step: u64, numbers: &mut Vec<u32>) -> Result<()> {
        let side = batch.side();
        let mut labels = batch.rows.iter().filter_map(|row| row.map.as_ref()).flat_map(|map| &map.data);
        if step == 0 && labels.all(|&label| label == IGNORED) {
            let Segment { classes, first_label, .. } = self.settings;
            bail!(
                Data,
                "no pixel of the first update's pictures has one of the {classes} classes, which files number from \
                 {first_label}: give the --first-label and --classes that the data has"
            );
        }
        for row in &batch.rows {
            match &row.map {
                Some(map) if map.data.len() == side * side => numbers.extend(map.data.iter().map(|&l| u32::from(l))),
                _ => bail!(Failed, "a picture came without the classes of its pixels"),
            }
        }
        let (widths, share) = (self.network.widths(), self.settings.drop_channels);
        for (which, &width) in widths.iter().enumerate() {
            for row in &batch.rows {
                DroppedChannels::number((self.seed, row.key, which as u32), width, share, numbers);
            }
        }
        if let Some(drop) = &self.drop {
            drop.number(self.seed, batch.rows.iter().map(|row| row.key), numbers);
        }
        Ok(())
    }

    fn numbers(&self) -> usize {
        let dropped = self.images * self.network.widths().iter().sum::<usize>();
        self.labels.start + self.labels.len + dropped + self.drop.map_or(0, |drop| drop.numbers())
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        self.network.encode(on, &self.acts)?;
        on.stage(ENCODER)?;
        self.network.decode(on, &self.acts)?;
        on.stage(HEAD)?;
        self.network.loss(on, &self.acts)?;
        on.stage(LOSS)?;
        self.network.decode_backward(on, &self.acts)?;
        on.stage("head, backward")?;
        self.network.encode_backward(on, &self.acts)?;
        on.stage("encoder, backward")
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        outputs(self.acts.named(ENCODER_PREFIX)).collect()
    }
}
