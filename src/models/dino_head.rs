//! DINO's head (arXiv 2104.14294, appendix C): three linear layers with GELU between them, unit rows, and a last layer
//! whose weights are unit rows too (a weight norm whose gain is 1 and stays so).

use crate::bail;
use crate::error::Result;
use crate::layers::training::{Buffer, Kind, Layers, Layout, Linear};
use crate::ops::linear::Shape;
use crate::rng::{Domain, Stream};
use crate::weights::{Param, ParamTable};

/// Values of the unit rows that the last layer reads.
const BOTTLENECK: usize = 256;
/// Standard deviation of the weights.
const STD: f32 = 0.02;

/// The places of the head's tensors.
#[derive(Clone, Debug)]
pub struct DinoHead {
    input: usize,
    hidden: usize,
    classes: usize,
    layers: [Linear; 3],
    /// `[K, 256]`: directions of the classes.
    directions: Param,
}

impl DinoHead {
    /// Appends the parameters, named `prefix` + `mlp.{0,2,4}.…` and, last, `last_layer.weight_v`, as in the official
    /// checkpoints.
    ///
    /// # Errors
    /// Usage error if a size is zero or absurd.
    pub fn new(input: usize, [hidden, classes]: [usize; 2], prefix: &str, table: &mut ParamTable) -> Result<Self> {
        if !(1..=65_536).contains(&hidden) || !(2..=1 << 20).contains(&classes) {
            bail!(
                Usage,
                "--head-dims {hidden},{classes}: expected 1 to 65536 hidden values and 2 to {} classes, e.g. \
                 2048,65536",
                1 << 20
            );
        }
        let mut pair = |name: &str, [outputs, inputs]: [usize; 2]| {
            let w = table.add(format!("{prefix}{name}.weight"), &[outputs, inputs]);
            Linear { w, b: Some(table.add(format!("{prefix}{name}.bias"), &[outputs])) }
        };
        let layers =
            [pair("mlp.0", [hidden, input]), pair("mlp.2", [hidden, hidden]), pair("mlp.4", [BOTTLENECK, hidden])];
        let directions = table.add(format!("{prefix}last_layer.weight_v"), &[classes, BOTTLENECK]);
        Ok(Self { input, hidden, classes, layers, directions })
    }

    /// Where the last layer's weights are.
    pub fn last_layer(&self) -> Param {
        self.directions
    }

    /// The official initial values; `first` numbers the stream of the first tensor, after those of the backbone.
    pub fn init(&self, params: &mut [f32], seed: u64, first: usize) {
        for (i, layer) in self.layers.iter().enumerate() {
            let mut stream = Stream::new(seed, Domain::Init, [(first + i) as u32, 0, 0]);
            stream.fill_trunc_normal(layer.w.of_mut(params), STD);
            if let Some(b) = layer.b {
                b.of_mut(params).fill(0.0);
            }
        }
        // PyTorch's default of a linear layer.
        let mut stream = Stream::new(seed, Domain::Init, [(first + 3) as u32, 0, 0]);
        super::init::uniform_fan_in(self.directions.of_mut(params), &mut stream, BOTTLENECK);
    }

    fn shapes(&self, rows: usize) -> [Shape; 4] {
        let Self { input, hidden, classes, .. } = *self;
        [(input, hidden), (hidden, hidden), (hidden, BOTTLENECK), (BOTTLENECK, classes)]
            .map(|(inputs, outputs)| Shape { rows, inputs, outputs })
    }

    /// `logits [R, K]` of `features [R, D]`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, acts: &DinoHeadActs, logits: Buffer, features: Buffer) -> Result<()> {
        let ([fc1, fc2, fc3], [first, second, third, last]) = (self.layers, self.shapes(acts.rows));
        let [(h1, y1), (h2, y2)] = acts.hidden;
        on.linear_gelu(y1, h1, features, fc1, first)?;
        on.linear_gelu(y2, h2, y1, fc2, second)?;
        on.linear(acts.bottleneck, y2, fc3, third)?;
        on.unit_rows(acts.unit, acts.norms, acts.bottleneck)?;
        on.round(acts.unit_rounded, acts.unit)?;
        on.unit_weights([acts.weights, acts.weights_rounded], acts.weight_norms, self.directions)?;
        on.product(logits, acts.unit_rounded, acts.weights_rounded, last)
    }

    /// Overwrites `dfeatures [R, D]`, adds the gradients of the layers and writes that of the last, given `dlogits
    /// [R, K]`; `acts` are those of the last [`DinoHead::forward`].
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        acts: &DinoHeadActs,
        dfeatures: Buffer,
        dlogits: Buffer,
        features: Buffer,
    ) -> Result<()> {
        let ([fc1, fc2, fc3], [first, second, third, last]) = (self.layers, self.shapes(acts.rows));
        let ([(h1, y1), (h2, y2)], [d1, d2]) = (acts.hidden, acts.back);
        let narrow = acts.dunit_rounded;
        on.product_backward([narrow, acts.dweights], dlogits, [acts.unit_rounded, acts.weights_rounded], last)?;
        on.unit_weights_backward(self.directions, acts.dweights, acts.weights, acts.weight_norms)?;
        on.round(acts.dunit, narrow)?;
        on.unit_rows_backward(narrow, acts.dunit, acts.unit, acts.norms)?;
        on.weight_gradient(narrow, y2, fc3, third)?;
        on.input_gradient_gelu(d2, narrow, h2, fc3.w, third)?;
        on.weight_gradient(d2, y1, fc2, second)?;
        on.input_gradient_gelu(d1, d2, h1, fc2.w, second)?;
        on.weight_gradient(d1, features, fc1, first)?;
        on.input_gradient(dfeatures, d1, fc1.w, first)
    }
}

/// Activations of the head for `rows` rows, and the scratch of its backward.
#[derive(Clone, Copy, Debug)]
pub struct DinoHeadActs {
    rows: usize,
    /// Before and after each GELU.
    hidden: [(Buffer, Buffer); 2],
    bottleneck: Buffer,
    unit: Buffer,
    unit_rounded: Buffer,
    norms: Buffer,
    weights: Buffer,
    weights_rounded: Buffer,
    weight_norms: Buffer,
    back: [Buffer; 2],
    dunit: Buffer,
    dunit_rounded: Buffer,
    dweights: Buffer,
}

impl DinoHeadActs {
    pub fn new(layout: &mut Layout, head: &DinoHead, rows: usize) -> Self {
        let (hidden, narrow, weights) = (rows * head.hidden, rows * BOTTLENECK, head.classes * BOTTLENECK);
        let mut take = |what: &str, len, kind| layout.take("activations", format!("head.{what}"), len, kind);
        let (rounded, exact) = (Kind::Rounded, Kind::Exact);
        Self {
            rows,
            hidden: [["mlp.0", "mlp.1"], ["mlp.2", "mlp.3"]]
                .map(|[h, y]| (take(h, hidden, rounded), take(y, hidden, rounded))),
            bottleneck: take("mlp.4", narrow, exact),
            unit: take("unit", narrow, exact),
            unit_rounded: take("unit, rounded", narrow, rounded),
            norms: take("norms", rows, exact),
            weights: take("last_layer.weight", weights, exact),
            weights_rounded: take("last_layer.weight, rounded", weights, rounded),
            weight_norms: take("last_layer.norms", head.classes, exact),
            back: ["d mlp.1", "d mlp.3"].map(|what| take(what, hidden, rounded)),
            dunit: take("d unit", narrow, exact),
            dunit_rounded: take("d unit, rounded", narrow, rounded),
            dweights: take("d last_layer.weight", weights, exact),
        }
    }

    /// The same buffers for fewer rows.
    pub fn first(&self, rows: usize) -> Self {
        let first = |buffer: Buffer| buffer.first(buffer.len() / self.rows * rows);
        Self {
            rows,
            hidden: self.hidden.map(|(h, y)| (first(h), first(y))),
            bottleneck: first(self.bottleneck),
            unit: first(self.unit),
            unit_rounded: first(self.unit_rounded),
            norms: first(self.norms),
            back: self.back.map(first),
            dunit: first(self.dunit),
            dunit_rounded: first(self.dunit_rounded),
            ..*self
        }
    }

    /// Every activation in the order it was computed, by name.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let [(h1, y1), (h2, y2)] = self.hidden;
        [
            ("mlp.0", h1),
            ("mlp.1", y1),
            ("mlp.2", h2),
            ("mlp.3", y2),
            ("mlp.4", self.bottleneck),
            ("unit rows", self.unit),
            ("last_layer's unit weights", self.weights),
        ]
        .map(|(name, values)| (format!("head.{name}"), values))
        .to_vec()
    }
}
