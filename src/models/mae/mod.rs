//! Masked autoencoder (He et al. 2022, arXiv 2111.06377): a ViT that is given a few patches of each image, and a
//! narrower transformer that draws the pixels of the others from what it made of them.
//!
//! Only the kept patches are embedded. Positions are fixed ([`sin_cos`]); they lie among the parameters, so that an
//! encoder is the plain ViT that every reader knows, but get no gradient and do not decay.

mod acts;
mod config;
mod masks;

pub use acts::MaeActs;
pub use config::MaeConfig;
pub use masks::Masks;

use super::init;
use super::positions::{self, First, sin_cos};
use super::vit::{Style, Trunk, Vit, VitConfig};
use crate::bail;
use crate::error::Result;
use crate::layers::training::{Layers, Linear};
use crate::ops::linear::Shape;
use crate::ops::{patch_loss, rows};
use crate::rng::{Domain, Stream};
use crate::weights::{Param, ParamInfo, ParamTable, SafeTensors};

/// The tensor of the encoder's fixed positions, without its prefix, and that of the decoder's.
pub const POSITIONS: [&str; 2] = ["pos_embed", "decoder_pos_embed"];

/// The places of all tensors.
#[derive(Clone, Debug)]
pub struct Mae {
    encoder: Vit,
    decoder: Trunk,
    sizes: VitConfig,
    embed: Linear,
    mask: Param,
    pos: Param,
    pred: Linear,
    tensors: Vec<ParamInfo>,
    prefix: String,
}

impl Mae {
    /// Appends the encoder's tensors, named `prefix` + timm's name, and the decoder's under the official code's names
    /// (`mask_token`, `decoder_embed.weight`, `decoder_blocks.0.…`, …) to `table`.
    ///
    /// # Errors
    /// Usage error if sizes do not fit each other.
    pub fn new(encoder: &VitConfig, config: &MaeConfig, prefix: &str, table: &mut ParamTable) -> Result<Self> {
        config.validate(encoder)?;
        let (sizes, first) = (config.decoder(encoder), table.iter().count());
        let vit = Vit::new(encoder, prefix, table)?;
        let (d, p) = (sizes.width, encoder.patch_shape(1).patch_len());
        let linear = |table: &mut ParamTable, name: &str, shape: [usize; 2]| -> Linear {
            [table.add(format!("{name}.weight"), &shape), table.add(format!("{name}.bias"), &shape[..1])].into()
        };
        let embed = linear(table, "decoder_embed", [d, encoder.width]);
        let mask = table.add("mask_token", &[1, 1, d]);
        let pos = table.add(POSITIONS[1], &[1, sizes.tokens(), d]);
        let decoder = Trunk::new(&sizes, Style::VIT, &mut |name, shape| table.add(format!("decoder_{name}"), shape));
        let pred = linear(table, "decoder_pred", [p, d]);
        let tensors = table.iter().skip(first).cloned().collect();
        let prefix = prefix.to_owned();
        Ok(Self { encoder: vit, decoder, sizes, embed, mask, pos, pred, tensors, prefix })
    }

    pub fn encoder(&self) -> &Vit {
        &self.encoder
    }

    /// The official initial values: Xavier-uniform matrices (the fused qkv and the patch embedding as one each), zero
    /// biases but for the patch embedding's (PyTorch's default), class and mask token N(0, 0.02²), unit norms. Tensor
    /// number i draws from its own stream.
    pub fn init(&self, params: &mut [f32], seed: u64) {
        let grid = self.sizes.image_size / self.sizes.patch_size;
        for (i, info) in self.tensors.iter().enumerate() {
            let values = info.param.of_mut(params);
            let mut stream = Stream::new(seed, Domain::Init, [i as u32, 0, 0]);
            let (outputs, inputs) = (info.shape[0], info.param.len / info.shape[0]);
            match info.name.strip_prefix(&self.prefix).unwrap_or(&info.name) {
                name if POSITIONS.contains(&name) => {
                    values.copy_from_slice(&sin_cos(grid, info.shape[2], First::Column));
                }
                "cls_token" | "mask_token" => {
                    stream.fill_normal(values);
                    values.iter_mut().for_each(|v| *v *= 0.02);
                }
                "patch_embed.proj.bias" => {
                    init::uniform_fan_in(values, &mut stream, self.encoder.config().patch_shape(1).patch_len());
                }
                name if name.contains("norm") => values.fill(if name.ends_with("weight") { 1.0 } else { 0.0 }),
                name if name.ends_with("bias") => values.fill(0.0),
                _ => init::xavier_uniform(values, &mut stream, inputs, outputs),
            }
        }
    }

    /// Whether `file` holds a decoder.
    pub fn is_decoder_in(&self, file: &SafeTensors) -> bool {
        file.contains("mask_token")
    }

    /// Takes the decoder's tensors from `file`; positions as [`positions::read`].
    ///
    /// # Errors
    /// Data error if one is missing, of another shape or not finite, or if it is a deeper decoder's.
    pub fn load_decoder(&self, params: &mut [f32], file: &SafeTensors) -> Result<()> {
        let own: Vec<&ParamInfo> = self.tensors.iter().filter(|info| !info.name.starts_with(&self.prefix)).collect();
        let other = file.names().find(|name| name.starts_with("decoder_") && own.iter().all(|info| info.name != *name));
        if let Some(name) = other {
            bail!(
                Data,
                "{}: tensor `{name}` is of another decoder; give its --decoder-depth, or leave the decoder's tensors out of \
                 the file for a new one",
                file.path().display()
            );
        }
        for info in own {
            let values = match info.name.as_str() {
                name if POSITIONS.contains(&name) => positions::read(file, name, &info.shape)?,
                name => file.f32(name, &info.shape)?,
            };
            info.param.of_mut(params).copy_from_slice(&values);
        }
        Ok(())
    }

    /// The encoder's tokens of the kept patches of the call's images.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn encode(&self, on: &mut dyn Layers, acts: &MaeActs) -> Result<()> {
        let (at, masks) = (self.encoder.embedding(), acts.masks);
        let (product, embedded) = (self.embedding(acts), acts.encoder.spare());
        on.unfold(acts.patches, self.start(acts), self.encoder.config().patch_shape(masks.n))?;
        let taken = rows::Shape { n: masks.n, from: masks.patches, to: masks.kept, d: product.inputs };
        on.take_rows(acts.kept, acts.patches, masks.kept(), taken)?;
        let embedded = embedded.first(product.rows * product.outputs);
        on.linear(embedded, acts.kept, [at.w, at.b].into(), product)?;
        let places = masks.in_encoder(at.cls, at.pos);
        on.place_rows(acts.encoder.input(), embedded, places, masks.encoder_shape(product.outputs))?;
        self.encoder.trunk().forward(on, &acts.encoder)
    }

    /// What the decoder predicts of every patch, from what [`Mae::encode`] made.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn decode(&self, on: &mut dyn Layers, acts: &MaeActs) -> Result<()> {
        let (between, end) = self.decoder_products(acts);
        let embedded = acts.decoder.spare().first(between.rows * between.outputs);
        on.linear(embedded, acts.encoder.features(), self.embed, between)?;
        let places = acts.masks.in_decoder(self.mask, self.pos);
        on.place_rows(acts.decoder.input(), embedded, places, acts.masks.decoder_shape(between.outputs))?;
        self.decoder.forward(on, &acts.decoder)?;
        on.linear(acts.predictions, acts.decoder.features(), self.pred, end)
    }

    /// What the predictions contribute to the loss, and their gradient; behind the last of a step's, its loss is
    /// [`MaeActs::losses`]' mean.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn loss(&self, on: &mut dyn Layers, acts: &MaeActs) -> Result<()> {
        let (shape, rows) = (self.loss_shape(acts.masks), acts.masks.in_decoder(self.mask, self.pos).rows);
        on.patch_loss(acts.dpredictions, acts.part_of_losses(), acts.predictions, rows, self.start(acts), shape)
    }

    /// Adds the gradients of the decoder, and leaves that of the encoder's tokens in `acts`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn decode_backward(&self, on: &mut dyn Layers, acts: &MaeActs) -> Result<()> {
        let ((between, end), back) = (self.decoder_products(acts), &acts.decoder_back);
        on.weight_gradient(acts.dpredictions, acts.decoder.features(), self.pred, end)?;
        on.input_gradient(back.spare(), acts.dpredictions, self.pred.w, end)?;
        self.decoder.backward(on, &acts.decoder, back, back.spare())?;
        let embedded = back.spare().first(between.rows * between.outputs);
        let places = acts.masks.in_decoder(self.mask, self.pos);
        on.place_rows_backward(embedded, back.of_input(), places, acts.masks.decoder_shape(between.outputs))?;
        on.weight_gradient(embedded, acts.encoder.features(), self.embed, between)?;
        on.input_gradient(acts.encoder_back.spare(), embedded, self.embed.w, between)
    }

    /// Adds the gradients of the encoder after [`Mae::decode_backward`].
    ///
    /// # Errors
    /// As the device's layers.
    pub fn encode_backward(&self, on: &mut dyn Layers, acts: &MaeActs) -> Result<()> {
        let (at, back, product) = (self.encoder.embedding(), &acts.encoder_back, self.embedding(acts));
        self.encoder.trunk().backward(on, &acts.encoder, back, back.spare())?;
        let embedded = back.spare().first(product.rows * product.outputs);
        let places = acts.masks.in_encoder(at.cls, at.pos);
        on.place_rows_backward(embedded, back.of_input(), places, acts.masks.encoder_shape(product.outputs))?;
        on.weight_gradient(embedded, acts.kept, [at.w, at.b].into(), product)
    }

    /// What the loss of such images is made of.
    pub fn loss_shape(&self, Masks { n, of, kept, .. }: Masks) -> patch_loss::Shape {
        let VitConfig { image_size: side, patch_size: patch, .. } = self.sizes;
        patch_loss::Shape { n, of, side, patch, kept }
    }

    /// Value of the call's images at which those of `acts` begin.
    fn start(&self, acts: &MaeActs) -> usize {
        acts.masks.first * self.encoder.config().image_len()
    }

    /// The product that embeds the kept patches.
    fn embedding(&self, acts: &MaeActs) -> Shape {
        let config = self.encoder.config();
        let inputs = config.patch_shape(1).patch_len();
        Shape { rows: acts.masks.n * acts.masks.kept, inputs, outputs: config.width }
    }

    /// The products before and behind the decoder's blocks.
    fn decoder_products(&self, acts: &MaeActs) -> (Shape, Shape) {
        let (Masks { n, patches, kept, .. }, d) = (acts.masks, self.sizes.width);
        let between = Shape { rows: n * (1 + kept), inputs: self.encoder.config().width, outputs: d };
        (between, Shape { rows: n * (1 + patches), inputs: d, outputs: self.sizes.patch_shape(1).patch_len() })
    }
}
