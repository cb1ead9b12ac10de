//! MAE (arXiv 2111.06377): one image of each caption, one crop; a quarter of its patches is seen and the rest is drawn.

mod pictures;

use super::network::{ENCODER, HEAD, LOSS, Method, Network, Sizes, Views};
use crate::bail;
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::{Buffer, Layers, Layout};
use crate::models::mae::{Mae, MaeActs, POSITIONS};
use crate::models::vit::VitFile;
use crate::ops::optimizer::Group;
use crate::rng::{Domain, Stream};
use crate::train::groups::decay_groups_but;
use crate::train::loader::Batch;
use crate::weights::ParamTable;

/// What the encoder's tensors are named with.
const ENCODER_PREFIX: &str = "visual.";

pub(super) struct MaskedAutoencoder;

impl Method for MaskedAutoencoder {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 1 }
    }

    /// Nothing is compared.
    fn label(&self, _: &mut [u32], _: usize) {}

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(Masked::new(sizes)?))
    }

    fn has_chunks(&self) -> bool {
        false
    }

    fn has_head(&self) -> bool {
        false
    }

    fn has_temperature(&self) -> bool {
        false
    }

    fn expectation(&self, _: usize, _: Views, _: f64) -> String {
        "the loss is a mean square in units of each patch's own variance: 1 where a patch's mean is all that is known"
            .into()
    }
}

/// Encoder (`visual.…`) and decoder (the official code's names), and the tensors of a step.
#[derive(Debug)]
struct Masked {
    parameters: ParamTable,
    kept: ParamTable,
    mae: Mae,
    layout: Layout,
    acts: MaeActs,
    images: usize,
    seed: u64,
}

impl Masked {
    fn new(sizes: &Sizes) -> Result<Self> {
        let Some(config) = &sizes.mae else {
            bail!(
                Usage,
                "--method mae needs a decoder: --decoder-width, --decoder-depth, --decoder-heads, --mask-ratio"
            );
        };
        let (mut parameters, mut layout, images) = (ParamTable::new(), Layout::default(), sizes.images);
        let mae = Mae::new(&sizes.model, config, ENCODER_PREFIX, &mut parameters)?;
        // Labels come first.
        let acts = MaeActs::new(&mut layout, &sizes.model, config, images, images);
        Ok(Self { parameters, kept: ParamTable::new(), mae, layout, acts, images, seed: sizes.seed })
    }
}

impl Network for Masked {
    fn parameters(&self) -> &ParamTable {
        &self.parameters
    }

    fn kept(&self) -> &ParamTable {
        &self.kept
    }

    fn groups(&self) -> Vec<Group> {
        let [encoder, decoder] = POSITIONS;
        decay_groups_but(&self.parameters, &[&format!("{ENCODER_PREFIX}{encoder}"), decoder])
    }

    fn init(&self, parameters: &mut [f32], _: &mut [f32], seed: u64) {
        self.mae.init(parameters, seed);
    }

    fn load(&self, parameters: &mut [f32], _: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(self.mae.encoder(), parameters)?;
        if !self.mae.is_decoder_in(file.tensors()) {
            return Ok("encoder, whose positions stay as they are; the decoder is new");
        }
        self.mae.load_decoder(parameters, file.tensors())?;
        Ok("encoder and decoder")
    }

    fn number(&self, batch: &Batch, _: u64, numbers: &mut Vec<u32>) -> Result<()> {
        let masks = self.acts.masks();
        let of_row = |key| {
            let mut kept = Stream::new(self.seed, Domain::Mask, key).choose(masks.patches, masks.kept);
            kept.sort_unstable();
            kept.into_iter().map(|patch| patch as u32)
        };
        let kept: Vec<u32> = batch.rows.iter().flat_map(|row| of_row(row.key)).collect();
        masks.write(&kept, numbers);
        Ok(())
    }

    fn numbers(&self) -> usize {
        self.images + self.acts.masks().count()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let Self { mae, acts, .. } = self;
        mae.encode(on, acts)?;
        on.stage(ENCODER)?;
        mae.decode(on, acts)?;
        on.stage(HEAD)?;
        mae.loss(on, acts)?;
        on.stage(LOSS)?;
        mae.decode_backward(on, acts)?;
        on.stage("head, backward")?;
        mae.encode_backward(on, acts)?;
        on.stage("encoder, backward")
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        let all = self.acts.named(ENCODER_PREFIX);
        all.into_iter().map(|(name, values)| (format!("the output of {name}"), values)).collect()
    }

    fn pictures(
        &self,
        batch: &Batch,
        numbers: &[u32],
        read: &mut dyn FnMut(Buffer) -> Result<Vec<f32>>,
    ) -> Result<Option<Rgb8>> {
        pictures::sheet(batch, numbers, self.acts.masks(), self.mae.loss_shape(self.images), |images| {
            read(self.acts.predictions().first(images * self.acts.predictions().len() / self.images))
        })
        .map(Some)
    }
}
