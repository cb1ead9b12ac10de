//! Encoder and text tower, whose projected unit rows are compared: what CLIP trains; with a projection head and the
//! contrastive loss beside, what SLIP and StableRep+ train.

use std::ops::Range;

use super::encoder::Encoder;
use super::network::{ENCODER, HEAD, LOSS, Network, Sizes, TEXTS, ZeroShot, outputs};
use super::projections::Projection;
use super::text_encoder::TextEncoder;
use crate::error::Result;
use crate::layers::training::{Buffer, Contrast, Kind, Layers, Layout, Numbers, Pairs};
use crate::models::projector::{Projector, ProjectorActs, ProjectorConfig};
use crate::models::text_tower::TextTower;
use crate::models::vit::{Vit, VitFile};
use crate::ops::linear::Shape;
use crate::ops::logit_scale;
use crate::train::language::{Language, Projection as Kinds};
use crate::train::loader::Batch;
use crate::weights::{Param, ParamTable, SafeTensors};

/// Which slots of the views a loss compares.
#[derive(Clone, Debug)]
pub(super) struct Roles {
    /// With the texts.
    pub texts: Range<usize>,
    /// With each other; whose labels are then pictures where `by_picture`, else the captions' texts.
    pub views: Option<Range<usize>>,
    pub by_picture: bool,
}

/// What the loss of images against the texts of as many `captions` may be, behind what it is called.
pub(super) fn expectation(captions: usize) -> String {
    format!("begins near ln({captions}) = {:.2}, where nothing is told apart, and can reach 0", (captions as f64).ln())
}

/// Backbone (`visual.…`), head (`image_mlp.…`), text tower (by OpenAI's names), projections and the scale of logits,
/// and the tensors of a step.
#[derive(Debug)]
pub(super) struct ImageText {
    parameters: ParamTable,
    kept: ParamTable,
    vit: Vit,
    tower: TextTower,
    scale: Param,
    layout: Layout,
    encoder: Encoder,
    text: TextEncoder,
    own: Option<Own>,
    /// Pictures, texts.
    sides: [Side; 2],
    /// The rows of the pictures times the scale, and their gradient.
    scaled: Buffer,
    dscaled: Buffer,
    /// Pictures against texts, texts against pictures.
    pairs: [Pairs; 2],
    dfeatures: Buffer,
    captions: usize,
}

/// One side of the comparison.
#[derive(Debug)]
struct Side {
    projection: Projection,
    /// What is projected.
    features: Buffer,
    /// Unit rows and what their lengths were, and the gradients of both.
    z: Buffer,
    norms: Buffer,
    dz: Buffer,
    dout: Buffer,
    dfeatures: Buffer,
}

/// The contrastive loss of the pictures alone.
#[derive(Debug)]
struct Own {
    head: Projector,
    acts: ProjectorActs,
    features: Buffer,
    rows: Contrast,
    norms: Buffer,
    dz: Buffer,
    dout: Buffer,
    dfeatures: Buffer,
    /// Whether texts are compared with some of its rows too, so that both gradients add up.
    shared: bool,
    by_picture: bool,
}

impl ImageText {
    pub(super) fn new(sizes: &Sizes, language: &Language, roles: &Roles) -> Result<Self> {
        language.validate()?;
        let (mut parameters, mut kept, mut layout) = (ParamTable::new(), ParamTable::new(), Layout::default());
        let vit = Vit::new(&sizes.model, "visual.", &mut parameters)?;
        let encoder = Encoder::new(&mut layout, vit.config(), 0, sizes.images, sizes.held);
        let (width, captions) = (sizes.model.width, sizes.captions);
        let rows = |slots: &Range<usize>| slots.start * captions..slots.end * captions;
        let values = |slots: &Range<usize>| rows(slots).start * width..rows(slots).end * width;
        let dfeatures = layout.take("loss", "d features", sizes.images * width, Kind::Rounded);
        let start = sizes.images;
        let labels = |rows: Range<usize>| Numbers { start: rows.start, len: rows.len() };
        let sizes_of_text = (sizes.held, sizes.images);
        let text = TextEncoder::new(&mut layout, &language.tower(), (captions, start), sizes_of_text);
        let own = match &roles.views {
            None => None,
            Some(slots) => {
                let ([hidden, output], n) = (sizes.head_dims, rows(slots).len());
                let config = ProjectorConfig { input: width, hidden, output };
                let head = Projector::new(&config, "image_mlp.", &mut parameters, &mut kept)?;
                let slots_of_norm = if sizes.norm_slots == 1 { 1 } else { slots.len() };
                let acts = ProjectorActs::new(&mut layout, &head, n, slots_of_norm);
                let shared = roles.texts.start < slots.end && slots.start < roles.texts.end;
                let pictures = start + text.numbers_len();
                let mut take = |name: &str, len, kind| layout.take("loss", name, len, kind);
                Some(Own {
                    features: encoder.features().slice(values(slots)),
                    rows: Contrast {
                        z: take("z", n * output, Kind::Exact),
                        labels: match roles.by_picture {
                            true => Numbers { start: pictures, len: n },
                            false => labels(rows(slots)),
                        },
                        queue: None,
                        lse: take("log-sum-exp", n, Kind::Exact),
                        weight: take("positives", n, Kind::Exact),
                        temperature: sizes.temperature,
                    },
                    norms: take("norms", n, Kind::Exact),
                    dz: take("d z", n * output, Kind::Exact),
                    dout: take("d head output", n * output, Kind::Rounded),
                    dfeatures: match shared {
                        true => take("d features of the views", n * width, Kind::Rounded),
                        false => dfeatures.slice(values(slots)),
                    },
                    acts,
                    head,
                    shared,
                    by_picture: roles.by_picture,
                })
            }
        };
        let tower = TextTower::new(&language.tower(), &mut parameters);
        let mut side = |name: &str, n: usize, inputs, features, dfeatures: Option<Buffer>| -> Result<Side> {
            let shape = Shape { rows: n, inputs, outputs: language.embed_dim };
            let projection = match language.projection {
                Kinds::Linear => {
                    Projection::linear(shape, &format!("{name}_projection.weight"), &mut parameters, &mut layout)
                }
                Kinds::Mlp => {
                    let slots = if name == "text" || sizes.norm_slots == 1 { 1 } else { n / captions };
                    let (sizes, prefix) = ((shape, sizes.head_dims[0], slots), format!("{name}_text_mlp."));
                    Projection::mlp(sizes, &prefix, (&mut parameters, &mut kept), &mut layout)?
                }
            };
            let (e, mut take) = (n * shape.outputs, |what: &str, len, kind| layout.take("loss", what, len, kind));
            Ok(Side {
                features,
                z: take(&format!("z of {name}s"), e, Kind::Exact),
                norms: take(&format!("norms of {name}s"), n, Kind::Exact),
                dz: take(&format!("d z of {name}s"), e, Kind::Exact),
                dout: take(&format!("d embeddings of {name}s"), e, Kind::Rounded),
                dfeatures: dfeatures.unwrap_or_else(|| take(&format!("d {name} features"), n * inputs, Kind::Rounded)),
                projection,
            })
        };
        let range = rows(&roles.texts);
        let pictures = encoder.features().slice(values(&roles.texts));
        let sides = [
            side("image", range.len(), width, pictures, Some(dfeatures.slice(values(&roles.texts))))?,
            side("text", captions, language.width, text.features(), None)?,
        ];
        // Of one value, behind all that has to lie at multiples of 16 bytes.
        let scale = parameters.add("logit_scale", &[]);
        let (n, e) = (range.len(), language.embed_dim);
        let mut take = |what: &str, len| layout.take("loss", what, len, Kind::Exact);
        let (scaled, dscaled) = (take("scaled rows", n * e), take("d scaled rows", n * e));
        let beside = if own.is_some() { language.weight } else { 1.0 };
        let mut pair = |rows: Buffer, keys: Buffer, labels: [Numbers; 2]| Pairs {
            rows,
            keys,
            labels,
            lse: take("log-sum-exp", labels[0].len),
            weight: take("positives", labels[0].len),
            temperature: 1.0,
            factor: (0.5 * beside) as f32,
        };
        // The texts' labels are those of any slot.
        let (of_pictures, of_texts) = (labels(range), labels(0..captions));
        let z = sides[1].z;
        let pairs = [pair(scaled, z, [of_pictures, of_texts]), pair(z, scaled, [of_texts, of_pictures])];
        let own_pictures = own.as_ref().filter(|own| own.by_picture).map_or(0, |own| own.rows.labels.len);
        let encoder = encoder.dropping(sizes, start + text.numbers_len() + own_pictures);
        Ok(Self {
            parameters,
            kept,
            vit,
            tower,
            scale,
            layout,
            encoder,
            text,
            own,
            sides,
            scaled,
            dscaled,
            pairs,
            dfeatures,
            captions,
        })
    }

    fn sides_forward(&self, on: &mut dyn Layers) -> Result<()> {
        for side in &self.sides {
            side.projection.forward(on, side.features)?;
            on.unit_rows(side.z, side.norms, side.projection.out())?;
        }
        on.scale_rows(self.scaled, self.sides[0].z, self.scale)?;
        on.pairs(&self.pairs, self.own.is_some())
    }

    fn sides_backward(&self, on: &mut dyn Layers) -> Result<()> {
        let [pictures, texts] = &self.sides;
        on.pairs_both_backward(self.dscaled, self.pairs[0], self.pairs[1])?;
        on.pairs_both_backward(texts.dz, self.pairs[1], self.pairs[0])?;
        on.scale_rows_backward(pictures.dz, self.dscaled, self.scaled, self.scale)?;
        for side in &self.sides {
            on.unit_rows_backward(side.dout, side.dz, side.z, side.norms)?;
            side.projection.backward(on, side.dfeatures, side.dout, side.features)?;
        }
        Ok(())
    }
}

impl Network for ImageText {
    fn parameters(&self) -> &ParamTable {
        &self.parameters
    }

    fn kept(&self) -> &ParamTable {
        &self.kept
    }

    fn vit(&self) -> &Vit {
        &self.vit
    }

    fn zero_shot(&self) -> Option<ZeroShot<'_>> {
        let [pictures, texts] = &self.sides;
        let projections = [pictures.projection.matrix()?, texts.projection.matrix()?];
        Some(ZeroShot { tower: &self.tower, projections })
    }

    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64) {
        self.vit.init(parameters, seed);
        let mut first = self.vit.tensors().count();
        if let Some(own) = &self.own {
            own.head.init(parameters, kept, seed, first);
            first += own.head.streams();
        }
        self.tower.init(parameters, seed, first);
        first += self.tower.streams();
        for side in &self.sides {
            first += side.projection.init(parameters, kept, seed, first);
        }
        self.scale.of_mut(parameters).fill(logit_scale::INITIAL);
    }

    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str> {
        file.load(&self.vit, parameters)?;
        let (tensors, before) = (file.tensors(), file.beside());
        let head = self.own.as_ref().map(|own| &own.head).filter(|head| head.is_in(tensors, before));
        if let Some(head) = head {
            head.load(parameters, kept, tensors, before)?;
        }
        if !tensors.contains(&format!("{before}token_embedding.weight")) {
            return Ok(match head {
                Some(_) => "encoder and projection head; the text tower is new",
                None => "encoder; all else is new",
            });
        }
        let here = |name: &str| !name.starts_with("visual.") && !name.starts_with("image_mlp.");
        for (table, values) in [(&self.parameters, parameters), (&self.kept, kept)] {
            for info in table.iter().filter(|info| here(&info.name)) {
                let values = info.param.of_mut(values);
                read(values, tensors, before, &info.name, &info.shape)?;
            }
        }
        Ok(match head {
            Some(_) => "encoder, projection head and text tower",
            None => "encoder and text tower",
        })
    }

    fn number(&self, batch: &Batch, _: u64, numbers: &mut Vec<u32>) -> Result<()> {
        self.text.numbers(&batch.texts, numbers);
        if let Some(own) = self.own.as_ref().filter(|own| own.by_picture) {
            numbers.extend((0..own.rows.labels.len).map(|row| (row % self.captions) as u32));
        }
        self.encoder.number(&batch.rows, numbers);
        Ok(())
    }

    fn numbers(&self) -> usize {
        let texts = self.encoder.features().len() / self.vit.config().width;
        let pictures = self.own.as_ref().filter(|own| own.by_picture).map_or(0, |own| own.rows.labels.len);
        texts + self.text.numbers_len() + pictures + self.encoder.numbers()
    }

    fn bounded(&self) -> Option<Param> {
        Some(self.scale)
    }

    fn has_two_losses(&self) -> bool {
        self.own.is_some()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn gradient(&self, on: &mut dyn Layers) -> Result<()> {
        self.encoder.forward(on, &self.vit)?;
        on.stage(ENCODER)?;
        self.text.forward(on, &self.tower)?;
        on.stage(TEXTS)?;
        if let Some(Own { head, acts, features, rows, norms, dz, dout, .. }) = &self.own {
            head.forward(on, acts, *features)?;
            on.stage(HEAD)?;
            on.unit_rows(rows.z, *norms, acts.out())?;
            on.contrastive(*rows)?;
            on.note_loss()?;
            on.contrastive_backward(*dz, *rows)?;
            on.unit_rows_backward(*dout, *dz, rows.z, *norms)?;
        }
        self.sides_forward(on)?;
        self.sides_backward(on)?;
        on.stage(LOSS)?;
        if let Some(own) = &self.own {
            own.head.backward(on, &own.acts, own.dfeatures, own.dout, own.features)?;
            if own.shared {
                on.add(self.dfeatures, own.dfeatures)?;
            }
            on.stage("head, backward")?;
        }
        self.text.backward(on, &self.tower, self.sides[1].dfeatures)?;
        self.encoder.backward(on, &self.vit, self.dfeatures)
    }

    fn activations(&self) -> Vec<(String, Buffer)> {
        let own = self.own.iter().flat_map(|own| own.acts.named());
        let all = self.encoder.named().into_iter().chain(self.text.named()).chain(own);
        let sides = self.sides.iter().zip(["pictures", "texts"]).flat_map(|(side, what)| side.projection.named(what));
        let unit = self.sides.iter().map(|side| ("the unit vectors of the loss".to_owned(), side.z));
        outputs(all.chain(sides))
            .chain(unit)
            .chain(self.own.iter().map(|own| ("the unit vectors of the loss".to_owned(), own.rows.z)))
            .collect()
    }
}

/// A tensor by our name; a projection by OpenAI's too, which is its transpose.
fn read(values: &mut [f32], file: &SafeTensors, before: &str, name: &str, shape: &[usize]) -> Result<()> {
    let official = name.strip_suffix("_projection.weight").map(|which| format!("{before}{which}_projection"));
    let Some(official) = official.filter(|name| file.contains(name)) else {
        values.copy_from_slice(&file.f32(&format!("{before}{name}"), shape)?);
        return Ok(());
    };
    let (outputs, inputs) = (shape[0], shape[1]);
    let found = file.f32(&official, &[inputs, outputs])?;
    for (i, value) in values.iter_mut().enumerate() {
        *value = found[i % inputs * outputs + i / inputs];
    }
    Ok(())
}
