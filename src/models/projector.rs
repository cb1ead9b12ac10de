//! Heads of linear layers and batch norms. That of contrastive training: Linear → BatchNorm → ReLU → Linear → BatchNorm
//! → ReLU → Linear, no norm at its end; those of MoCo v3 are other lists of such layers.
//!
//! The official head runs once per view slot (the k-th images of all captions), so each slot is normalised on its own
//! and the running statistics move once per slot. Rows are view-major here, and only the batch norms see slots: the
//! linears take all rows at once.

mod infer;

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::layers::training::{BatchNorm, Buffer, Kind, Layers, Layout, Linear};
use crate::models::init;
use crate::ops::linear::Shape;
use crate::rng::{Domain, Stream};
use crate::weights::{COPY, Param, ParamTable, SafeTensors};

/// Sizes of the head of contrastive training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorConfig {
    /// Width of the features.
    pub input: usize,
    /// Width of both hidden layers.
    pub hidden: usize,
    /// Width of what the loss compares.
    pub output: usize,
}

/// What follows a linear layer of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Nothing,
    /// A batch norm with gain and shift, and a ReLU.
    NormRelu,
    /// A batch norm without either.
    PlainNorm,
}

/// One layer of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLayer {
    pub outputs: usize,
    pub bias: bool,
    pub after: After,
}

/// The places of one layer's tensors.
#[derive(Clone, Copy, Debug)]
struct Layer {
    linear: Linear,
    inputs: usize,
    outputs: usize,
    /// Of one slot.
    norm: Option<BatchNorm>,
}

impl Layer {
    fn shape(&self, rows: usize) -> Shape {
        Shape { rows, inputs: self.inputs, outputs: self.outputs }
    }

    fn norm(&self, slots: usize) -> Option<BatchNorm> {
        self.norm.map(|norm| BatchNorm { slots, ..norm })
    }
}

/// The places of the head's tensors in the flat parameter buffer, and of its running statistics in a buffer of their
/// own.
#[derive(Clone, Debug)]
pub struct Projector {
    layers: Vec<Layer>,
    /// Names and shapes of all of them, statistics last.
    names: Vec<(String, Vec<usize>, Place)>,
    prefix: String,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Parameter(Param),
    Statistic(Param),
}

impl Projector {
    /// Appends the parameters (named `prefix` + `layer1.weight`, …, as in the official checkpoints) to `table` and the
    /// running statistics (`prefix` + `bn1.running_mean`, …) to `statistics`.
    ///
    /// # Errors
    /// Usage error if a size is zero or absurd.
    pub fn new(
        config: &ProjectorConfig,
        prefix: &str,
        table: &mut ParamTable,
        statistics: &mut ParamTable,
    ) -> Result<Self> {
        let ProjectorConfig { input, hidden, output } = *config;
        let layer = |outputs, after| HeadLayer { outputs, bias: true, after };
        let inside = layer(hidden, After::NormRelu);
        Self::of(input, &[inside, inside, layer(output, After::Nothing)], prefix, table, statistics)
    }

    /// As [`Projector::new`], of any such layers; all but the last are of one width.
    ///
    /// # Errors
    /// Usage error if a size is zero or absurd.
    pub fn of(
        input: usize,
        layers: &[HeadLayer],
        prefix: &str,
        table: &mut ParamTable,
        statistics: &mut ParamTable,
    ) -> Result<Self> {
        let sizes: Vec<usize> = [input].into_iter().chain(layers.iter().map(|layer| layer.outputs)).collect();
        let (hidden, output) = (sizes[sizes.len() - 2], sizes[sizes.len() - 1]);
        assert!(sizes.len() > 2 && sizes[1..sizes.len() - 1].iter().all(|&size| size == hidden), "head of {sizes:?}");
        if sizes.iter().any(|&size| size == 0 || size > 65_536) {
            bail!(Usage, "--head-dims {hidden},{output}: expected two sizes of 1 to 65536, e.g. 4096,256");
        }
        let (mut names, mut running) = (Vec::new(), Vec::new());
        let mut places = Vec::new();
        for (i, (layer, inputs)) in layers.iter().zip(&sizes).enumerate() {
            let (number, outputs) = (i + 1, layer.outputs);
            let mut add = |what: String, shape: &[usize]| {
                let param = table.add(format!("{prefix}{what}"), shape);
                names.push((what, shape.to_vec(), Place::Parameter(param)));
                param
            };
            let w = add(format!("layer{number}.weight"), &[outputs, *inputs]);
            let b = layer.bias.then(|| add(format!("layer{number}.bias"), &[outputs]));
            let affine = match layer.after {
                After::NormRelu => Some(["weight", "bias"].map(|what| add(format!("bn{number}.{what}"), &[outputs]))),
                After::Nothing | After::PlainNorm => None,
            };
            let norm = (layer.after != After::Nothing).then(|| {
                let running = ["running_mean", "running_var"].map(|what| {
                    let name = format!("bn{number}.{what}");
                    let param = statistics.add(format!("{prefix}{name}"), &[outputs]);
                    running.push((name, vec![outputs], Place::Statistic(param)));
                    param
                });
                BatchNorm { affine, running, slots: 1, relu: layer.after == After::NormRelu }
            });
            places.push(Layer { linear: Linear { w, b }, inputs: *inputs, outputs, norm });
        }
        names.append(&mut running);
        Ok(Self { layers: places, names, prefix: prefix.to_owned() })
    }

    /// PyTorch's default initial values. `first` numbers the stream of the first tensor, after those of the backbone.
    pub fn init(&self, params: &mut [f32], statistics: &mut [f32], seed: u64, first: usize) {
        for (i, layer) in self.layers.iter().enumerate() {
            for (j, param) in [Some(layer.linear.w), layer.linear.b].into_iter().flatten().enumerate() {
                let mut stream = Stream::new(seed, Domain::Init, [(first + 2 * i + j) as u32, 0, 0]);
                init::uniform_fan_in(param.of_mut(params), &mut stream, layer.inputs);
            }
            if let Some(BatchNorm { affine, running: [mean, var], .. }) = layer.norm {
                if let Some([gamma, beta]) = affine {
                    gamma.of_mut(params).fill(1.0);
                    beta.of_mut(params).fill(0.0);
                }
                mean.of_mut(statistics).fill(0.0);
                var.of_mut(statistics).fill(1.0);
            }
        }
    }

    /// How many streams its initial values take.
    pub fn streams(&self) -> usize {
        2 * self.layers.len()
    }

    /// Whether `file` holds anything of a head (`image_mlp.…`), where `before` stands before its names.
    pub fn is_in(&self, file: &SafeTensors, before: &str) -> bool {
        let prefix = format!("{before}{}", self.prefix);
        file.names().any(|name| name.starts_with(&prefix))
    }

    /// Reads parameters and running statistics from `file`, where `before` stands before its names.
    ///
    /// # Errors
    /// Bad data if a tensor is absent, has another shape or a value that is not finite or no variance, or is of a
    /// deeper head.
    pub fn load(&self, params: &mut [f32], statistics: &mut [f32], file: &SafeTensors, before: &str) -> Result<()> {
        let prefix = format!("{before}{}", self.prefix);
        let shown = file.path().display();
        // PyTorch counts batches beside the statistics; nothing reads that.
        let unknown = file
            .names()
            .filter_map(|name| name.strip_prefix(&prefix))
            .find(|name| !name.ends_with(".num_batches_tracked") && self.names.iter().all(|(known, ..)| known != name));
        if let Some(name) = unknown {
            bail!(
                Data,
                "{shown}: tensor `{prefix}{name}` is of another projection head; leave `{prefix}…` out of the file"
            );
        }
        for (name, shape, place) in &self.names {
            let name = format!("{prefix}{name}");
            if let Some(found) = file.shape(&name).filter(|found| *found != shape.as_slice()) {
                bail!(
                    Data,
                    "{shown}: tensor `{name}` has shape {found:?}, expected {shape:?}: its head is not of these --head-dims; give the \
                     file's, or leave `{prefix}…` out of the file for a new head"
                );
            }
            let values = file.f32(&name, shape)?;
            if let Some(value) = values.iter().find(|value| name.ends_with("running_var") && **value < 0.0) {
                bail!(
                    Data,
                    "{shown}: tensor `{name}` holds {value}, a variance below 0: the file is damaged; take a good copy, or leave \
                     `{prefix}…` out of it for a new head"
                );
            }
            match place {
                Place::Parameter(param) => param.of_mut(params).copy_from_slice(&values),
                Place::Statistic(param) => param.of_mut(statistics).copy_from_slice(&values),
            }
        }
        Ok(())
    }

    /// `acts.out [R, output]` from `features [R, D]`, training mode; moves the running statistics once per slot.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, acts: &ProjectorActs, features: Buffer) -> Result<()> {
        let mut x = features;
        for (layer, at) in self.layers.iter().zip(&acts.layers) {
            on.linear(at.linear, x, layer.linear, layer.shape(acts.rows))?;
            if let Some(norm) = layer.norm(acts.slots) {
                on.batch_norm(at.normed, at.stats, at.linear, norm)?;
            }
            x = at.normed;
        }
        Ok(())
    }

    /// Overwrites `dfeatures [R, D]` and adds the gradients of the parameters, given `dout [R, output]`, which is lost:
    /// of the kind of the output where that comes from a norm, rounded where not.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        acts: &ProjectorActs,
        dfeatures: Buffer,
        dout: Buffer,
        features: Buffer,
    ) -> Result<()> {
        let last = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let at = acts.layers[i];
            let (mut dy, spare) =
                if i == last { (dout, acts.spare) } else { (acts.back[i % 2], acts.back[(i + 1) % 2]) };
            if let Some(norm) = layer.norm(acts.slots) {
                on.batch_norm_backward(dy, spare, (at.linear, at.stats), at.normed, norm)?;
            }
            if dy.kind() == Kind::Exact {
                on.round(acts.rounded, dy)?;
                dy = acts.rounded;
            }
            let (x, shape) = (if i == 0 { features } else { acts.layers[i - 1].normed }, layer.shape(acts.rows));
            on.weight_gradient(dy, x, layer.linear, shape)?;
            let target = if i == 0 { dfeatures } else { acts.back[(i + 1) % 2] };
            on.input_gradient(target, dy, layer.linear.w, shape)?;
        }
        Ok(())
    }
}

/// Activations of one layer.
#[derive(Clone, Copy, Debug)]
struct LayerActs {
    linear: Buffer,
    /// What leaves the layer: where it has no norm, `linear` itself.
    normed: Buffer,
    stats: Buffer,
}

/// Activations of the head for `rows` rows in `slots` slots, and the scratch of its backward.
#[derive(Clone, Debug)]
pub struct ProjectorActs {
    prefix: String,
    rows: usize,
    slots: usize,
    layers: Vec<LayerActs>,
    /// Gradients of the hidden layers' outputs.
    back: [Buffer; 2],
    /// Of the output's length: what its norm's backward overwrites, and the gradient before it, rounded.
    spare: Buffer,
    rounded: Buffer,
}

impl ProjectorActs {
    /// Takes the buffers; `rows` must be a multiple of `slots`. The output is f32.
    pub fn new(layout: &mut Layout, head: &Projector, rows: usize, slots: usize) -> Self {
        Self::of_kind(layout, head, rows, slots, Kind::Exact)
    }

    /// With an output of `kind`.
    pub fn of_kind(layout: &mut Layout, head: &Projector, rows: usize, slots: usize, kind: Kind) -> Self {
        assert!(slots > 0 && rows.is_multiple_of(slots), "projector: {rows} rows in {slots} slots");
        let (prefix, last) = (&head.prefix, head.layers.len() - 1);
        let layers = head.layers.iter().enumerate().map(|(i, layer)| {
            let kind = if i == last { kind } else { Kind::Rounded };
            LayerActs::new(layout, prefix, i + 1, layer, (rows, slots), kind)
        });
        let layers = layers.collect();
        let width = head.layers[last].inputs;
        let back =
            [1, 2].map(|i| layout.take("backward scratch", format!("d {prefix}layer{i}"), rows * width, Kind::Rounded));
        let mut take = |what: &str, kind| match head.layers[last].norm {
            Some(_) => {
                layout.take("backward scratch", format!("{prefix}{what}"), rows * head.layers[last].outputs, kind)
            }
            None => back[0].first(0),
        };
        let spare = take("output, spare", kind);
        let rounded = take("d output, rounded", Kind::Rounded);
        Self { prefix: prefix.clone(), rows, slots, layers, back, spare, rounded }
    }

    /// The same but for the last layer, whose output is of `kind`: for a forward before that of `self`.
    pub fn before(&self, layout: &mut Layout, head: &Projector, kind: Kind) -> Self {
        let (mut this, number) = (self.clone(), self.layers.len());
        let sizes = (self.rows, self.slots);
        let name = format!("{COPY}{}", self.prefix);
        this.layers[number - 1] = LayerActs::new(layout, &name, number, &head.layers[number - 1], sizes, kind);
        this
    }

    /// R.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The head's output `[R, output]` of the last forward.
    pub fn out(&self) -> Buffer {
        self.layers[self.layers.len() - 1].normed
    }

    /// Every activation in the order it was computed, by name.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let mut all = Vec::new();
        for (i, LayerActs { linear, normed, .. }) in self.layers.iter().enumerate() {
            all.push((format!("{}layer{}", self.prefix, i + 1), *linear));
            if linear != normed {
                all.push((format!("{}bn{}", self.prefix, i + 1), *normed));
            }
        }
        all
    }
}

impl LayerActs {
    fn new(
        layout: &mut Layout,
        prefix: &str,
        number: usize,
        layer: &Layer,
        (rows, slots): (usize, usize),
        kind: Kind,
    ) -> Self {
        let mut take = |what: String, len, kind| layout.take("activations", format!("{prefix}{what}"), len, kind);
        let linear = take(format!("layer{number}"), rows * layer.outputs, kind);
        if layer.norm.is_none() {
            return Self { linear, normed: linear, stats: linear.first(0) };
        }
        Self {
            linear,
            normed: take(format!("bn{number}"), rows * layer.outputs, kind),
            stats: take(format!("bn{number}.stats"), slots * 2 * layer.outputs, Kind::Exact),
        }
    }
}
