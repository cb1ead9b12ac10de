//! What takes the features of pictures and of texts to where they are compared: a matrix each, or a head each.

use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout, Linear};
use crate::models::projector::{Projector, ProjectorActs, ProjectorConfig};
use crate::ops::linear::Shape;
use crate::rng::{Domain, Stream};
use crate::weights::{Param, ParamTable};

/// The way of one kind of features.
#[derive(Debug)]
pub(super) struct Projection {
    which: Which,
    shape: Shape,
    /// The embeddings `[rows, E]`.
    out: Buffer,
}

#[derive(Debug)]
enum Which {
    Linear(Param),
    Mlp(Box<(Projector, ProjectorActs)>),
}

impl Projection {
    /// A matrix without bias, called `name`.
    pub fn linear(shape: Shape, name: &str, table: &mut ParamTable, layout: &mut Layout) -> Self {
        let w = table.add(name, &[shape.outputs, shape.inputs]);
        let out = layout.take("activations", name, shape.rows * shape.outputs, Kind::Exact);
        Self { which: Which::Linear(w), shape, out }
    }

    /// A head with `hidden` values inside, whose names begin with `prefix`, over rows in so many slots.
    ///
    /// # Errors
    /// Usage error if a size is absurd.
    pub fn mlp(
        (shape, hidden, slots): (Shape, usize, usize),
        prefix: &str,
        (table, kept): (&mut ParamTable, &mut ParamTable),
        layout: &mut Layout,
    ) -> Result<Self> {
        let config = ProjectorConfig { input: shape.inputs, hidden, output: shape.outputs };
        let head = Projector::new(&config, prefix, table, kept)?;
        let acts = ProjectorActs::new(layout, &head, shape.rows, slots);
        Ok(Self { out: acts.out(), which: Which::Mlp(Box::new((head, acts))), shape })
    }

    /// Initial values: normal of spread inputs^−½ (CLIP's), or a head's. Returns how many streams they took.
    pub fn init(&self, params: &mut [f32], kept: &mut [f32], seed: u64, first: usize) -> usize {
        match &self.which {
            Which::Linear(w) => {
                let values = w.of_mut(params);
                Stream::new(seed, Domain::Init, [first as u32, 0, 0]).fill_normal(values);
                let std = (self.shape.inputs as f32).powf(-0.5);
                values.iter_mut().for_each(|value| *value *= std);
                1
            }
            Which::Mlp(head) => {
                head.0.init(params, kept, seed, first);
                head.0.streams()
            }
        }
    }

    /// Its matrix, where that is all.
    pub fn matrix(&self) -> Option<Param> {
        match &self.which {
            Which::Linear(w) => Some(*w),
            Which::Mlp(_) => None,
        }
    }

    pub fn out(&self) -> Buffer {
        self.out
    }

    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, features: Buffer) -> Result<()> {
        match &self.which {
            Which::Linear(w) => on.linear(self.out, features, Linear { w: *w, b: None }, self.shape),
            Which::Mlp(head) => head.0.forward(on, &head.1, features),
        }
    }

    /// Overwrites `dfeatures` and adds the gradients of the parameters.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(&self, on: &mut dyn Layers, dfeatures: Buffer, dout: Buffer, features: Buffer) -> Result<()> {
        match &self.which {
            Which::Linear(w) => {
                on.weight_gradient(dout, features, Linear { w: *w, b: None }, self.shape)?;
                on.input_gradient(dfeatures, dout, *w, self.shape)
            }
            Which::Mlp(head) => head.0.backward(on, &head.1, dfeatures, dout, features),
        }
    }

    /// Every activation in the order it was computed, by name.
    pub fn named(&self, what: &str) -> Vec<(String, Buffer)> {
        match &self.which {
            Which::Linear(_) => vec![(format!("the embeddings of {what}"), self.out)],
            Which::Mlp(head) => head.1.named(),
        }
    }
}
