//! MAE (arXiv 2111.06377): one image of each caption, one crop; a quarter of its patches is seen and the rest is drawn.

mod pictures;

use super::network::{ENCODER, HEAD, LOSS, Method, Network, Sizes, Views, outputs};
use crate::bail;
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::{Buffer, Layers, Layout};
use crate::models::mae::{Mae, MaeActs, Masks, POSITIONS};
use crate::models::vit::{Vit, VitFile};
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
    /// One after the other, in the same buffers.
    parts: Vec<MaeActs>,
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
        let (held, both) = (sizes.held.images.min(images), (&sizes.model, config));
        let acts = MaeActs::new(&mut layout, both, (held, images), images, sizes.held.again);
        // Nothing looks across images but the mean of their losses, so gradients of parts add up.
        let part = |first: usize| acts.part(first, held.min(images - first));
        let parts = (0..images).step_by(held).map(part).collect();
        Ok(Self { parameters, kept: ParamTable::new(), mae, layout, parts, images, seed: sizes.seed })
    }
}

impl Masked {
    /// The part that ran last: what its buffers hold.
    fn last(&self) -> &MaeActs {
        &self.parts[self.parts.len() - 1]
    }

    /// Of all images of a step.
    fn masks(&self) -> Masks {
        self.parts[0].masks().part(0, self.images)
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

    fn vit(&self) -> &Vit {
        self.mae.encoder()
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
        let masks = self.masks();
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
        self.images + self.masks().count()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        let mae = &self.mae;
        for (i, part) in self.parts.iter().enumerate() {
            mae.encode(on, part)?;
            on.stage(ENCODER)?;
            mae.decode(on, part)?;
            on.stage(HEAD)?;
            mae.loss(on, part)?;
            if i + 1 == self.parts.len() {
                on.mean_loss(part.losses())?;
            }
            on.stage(LOSS)?;
            mae.decode_backward(on, part)?;
            on.stage("head, backward")?;
            mae.encode_backward(on, part)?;
            on.stage("encoder, backward")?;
        }
        Ok(())
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        outputs(self.last().named(ENCODER_PREFIX)).collect()
    }

    fn pictures(
        &self,
        batch: &Batch,
        numbers: &[u32],
        read: &mut dyn FnMut(Buffer) -> Result<Vec<f32>>,
    ) -> Result<Option<Rgb8>> {
        let (masks, predictions) = (self.last().masks(), self.last().predictions());
        pictures::sheet(batch, numbers, masks, self.mae.loss_shape(masks), |images| {
            read(predictions.first(images * predictions.len() / masks.n))
        })
        .map(Some)
    }
}
