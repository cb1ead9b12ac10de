//! The projection head of contrastive training: Linear → BatchNorm → ReLU → Linear → BatchNorm → ReLU → Linear, no norm
//! at its end.
//!
//! The official head runs once per view slot (the k-th images of all captions), so each slot is normalised on its own
//! and the running statistics move once per slot. Rows are view-major here, and only the batch norms see slots: the
//! linears take all rows at once.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::layers::training::{Affine, BatchNorm, Buffer, Kind, Layers, Layout};
use crate::models::init;
use crate::ops::linear::Shape;
use crate::rng::{Domain, Stream};
use crate::weights::{Param, ParamTable, SafeTensors};

/// Sizes of the head.
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

/// The places of the head's tensors in the flat parameter buffer, and of its running statistics in a buffer of their
/// own.
#[derive(Clone, Debug)]
pub struct Projector {
    config: ProjectorConfig,
    /// Weight and bias of layer1, layer2, layer3.
    layers: [Affine; 3],
    /// gamma and beta of bn1, bn2.
    norms: [Affine; 2],
    /// Running mean and variance of bn1, bn2.
    running: [[Param; 2]; 2],
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
        if [input, hidden, output].iter().any(|&size| size == 0 || size > 65_536) {
            bail!(Usage, "--head-dims {hidden},{output}: expected two sizes of 1 to 65536, e.g. 4096,256");
        }
        let mut names = Vec::new();
        let mut pair = |name: &str, shape: &[usize]| {
            [("weight", shape), ("bias", &shape[..1])].map(|(what, shape)| {
                let name = format!("{name}.{what}");
                let param = table.add(format!("{prefix}{name}"), shape);
                names.push((name, shape.to_vec(), Place::Parameter(param)));
                param
            })
        };
        let layer1 = pair("layer1", &[hidden, input]);
        let bn1 = pair("bn1", &[hidden]);
        let layer2 = pair("layer2", &[hidden, hidden]);
        let bn2 = pair("bn2", &[hidden]);
        let layer3 = pair("layer3", &[output, hidden]);
        let running = [1, 2].map(|i| {
            ["running_mean", "running_var"].map(|what| {
                let name = format!("bn{i}.{what}");
                let param = statistics.add(format!("{prefix}{name}"), &[hidden]);
                names.push((name, vec![hidden], Place::Statistic(param)));
                param
            })
        });
        let (layers, norms) = ([layer1, layer2, layer3], [bn1, bn2]);
        Ok(Self { config: config.clone(), layers, norms, running, names, prefix: prefix.to_owned() })
    }

    pub fn config(&self) -> &ProjectorConfig {
        &self.config
    }

    /// PyTorch's default initial values. `first` numbers the stream of the first tensor, after those of the backbone.
    pub fn init(&self, params: &mut [f32], statistics: &mut [f32], seed: u64, first: usize) {
        let sizes = [self.config.input, self.config.hidden, self.config.hidden];
        for (i, (layer, fan_in)) in self.layers.iter().zip(sizes).enumerate() {
            for (j, param) in layer.iter().enumerate() {
                let mut stream = Stream::new(seed, Domain::Init, [(first + 2 * i + j) as u32, 0, 0]);
                init::uniform_fan_in(param.of_mut(params), &mut stream, fan_in);
            }
        }
        for [gamma, beta] in self.norms {
            gamma.of_mut(params).fill(1.0);
            beta.of_mut(params).fill(0.0);
        }
        for [mean, var] in self.running {
            mean.of_mut(statistics).fill(0.0);
            var.of_mut(statistics).fill(1.0);
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

    fn shapes(&self, rows: usize) -> [Shape; 3] {
        let ProjectorConfig { input, hidden, output } = self.config;
        [(input, hidden), (hidden, hidden), (hidden, output)].map(|(inputs, outputs)| Shape { rows, inputs, outputs })
    }

    fn norm(&self, i: usize, slots: usize) -> BatchNorm {
        BatchNorm { affine: self.norms[i], running: self.running[i], slots }
    }

    /// `acts.out [R, output]` from `features [R, D]`, training mode; moves the running statistics once per slot.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, acts: &ProjectorActs, features: Buffer) -> Result<()> {
        let shapes = self.shapes(acts.rows);
        let mut x = features;
        for (i, layer) in acts.layers.iter().enumerate() {
            on.linear(layer.linear, x, self.layers[i].into(), shapes[i])?;
            on.batch_norm_relu(layer.relu, layer.stats, layer.linear, self.norm(i, acts.slots))?;
            x = layer.relu;
        }
        on.linear(acts.out, x, self.layers[2].into(), shapes[2])
    }

    /// Overwrites `dfeatures [R, D]` and adds the gradients of the parameters, given `dout [R, output]`.
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
        let shapes = self.shapes(acts.rows);
        let inputs = [features, acts.layers[0].relu, acts.layers[1].relu];
        on.weight_gradient(dout, inputs[2], self.layers[2].into(), shapes[2])?;
        on.input_gradient(acts.back[1], dout, self.layers[2][0], shapes[2])?;
        for i in [1, 0] {
            let Hidden { linear, relu, stats } = acts.layers[i];
            let (dy, spare) = (acts.back[i], acts.back[1 - i]);
            on.batch_norm_relu_backward(dy, spare, (linear, stats), relu, self.norm(i, acts.slots))?;
            on.weight_gradient(dy, inputs[i], self.layers[i].into(), shapes[i])?;
            let target = if i == 0 { dfeatures } else { spare };
            on.input_gradient(target, dy, self.layers[i][0], shapes[i])?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Hidden {
    linear: Buffer,
    relu: Buffer,
    stats: Buffer,
}

/// Activations of the head for `rows` rows in `slots` slots, and the scratch of its backward.
#[derive(Clone, Copy, Debug)]
pub struct ProjectorActs {
    rows: usize,
    slots: usize,
    layers: [Hidden; 2],
    out: Buffer,
    /// Gradients of the hidden layers' outputs.
    back: [Buffer; 2],
}

impl ProjectorActs {
    /// Takes the buffers; `rows` must be a multiple of `slots`.
    pub fn new(layout: &mut Layout, head: &Projector, rows: usize, slots: usize) -> Self {
        assert!(slots > 0 && rows.is_multiple_of(slots), "projector: {rows} rows in {slots} slots");
        let ProjectorConfig { hidden, output, .. } = head.config;
        let group = "activations";
        let layers = [1, 2].map(|i| Hidden {
            linear: layout.take(group, format!("image_mlp.layer{i}"), rows * hidden, Kind::Rounded),
            relu: layout.take(group, format!("image_mlp.bn{i}"), rows * hidden, Kind::Rounded),
            stats: layout.take(group, format!("image_mlp.bn{i}.stats"), slots * 2 * hidden, Kind::Exact),
        });
        let out = layout.take(group, "image_mlp.layer3", rows * output, Kind::Exact);
        let back = [1, 2]
            .map(|i| layout.take("backward scratch", format!("d image_mlp.layer{i}"), rows * hidden, Kind::Rounded));
        Self { rows, slots, layers, out, back }
    }

    /// The head's output `[R, output]` of the last forward.
    pub fn out(&self) -> Buffer {
        self.out
    }

    /// Every activation in the order it was computed, by name.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let mut all = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            all.push((format!("image_mlp.layer{}", i + 1), layer.linear));
            all.push((format!("image_mlp.bn{}", i + 1), layer.relu));
        }
        all.push(("image_mlp.layer3".into(), self.out));
        all
    }
}
