//! Layers that compute nothing: what memory a walk asks for, and how many FLOPs it stands for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Backend, Layers, Load, Resolution, Size, Slot, Tensor};
use crate::error::Result;
use crate::ops::activation::Activation;
use crate::ops::attention;
use crate::ops::conv;
use crate::ops::linear;

/// Sizes in place of weights.
#[derive(Debug)]
pub struct Count;

/// Columns that a product reads and writes, for each tap; of a gated layer, before the gate.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    inputs: usize,
    outputs: usize,
}

/// The second convolution of a residual block, and the 1×1 convolution of its input if that is needed.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    conv: Product,
    shortcut: Option<Product>,
}

impl Backend for Count {
    type Table = ();
    type LayerNorm = ();
    type GroupNorm = ();
    type Linear = Product;
    type KeysValues = Product;
    type Conv = Product;
    type Closing = Closing;
}

/// Whose memory is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// Copies feature maps that are read side by side, and takes an MLP through in pieces that need no slot.
    Cpu,
    Gpu,
}

/// What a walk asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rooms {
    slots: BTreeMap<Slot, BTreeSet<(usize, Size, usize)>>,
    /// Rows and channels of group norms.
    norms: BTreeSet<(usize, usize)>,
}

impl Rooms {
    /// Every slot, with rows, size and channels of the tensors that were stored there.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, impl Iterator<Item = (usize, Size, usize)> + Clone)> {
        self.slots.iter().map(|(&slot, tensors)| (slot, tensors.iter().copied()))
    }

    /// Rows and channels of all group norms.
    pub fn norms(&self) -> impl Iterator<Item = (usize, usize)> {
        self.norms.iter().copied()
    }
}

/// Counts one or more calls.
#[derive(Clone, Debug)]
pub struct Tally {
    processor: Processor,
    /// Tokens of a caption.
    tokens: usize,
    /// Two for each multiply-accumulate of products, convolutions and attention; elementwise work is not counted, and
    /// scores of later tokens, which are masked, are.
    pub flops: f64,
    pub rooms: Rooms,
}

impl Tally {
    /// For captions of `tokens` tokens.
    pub fn new(processor: Processor, tokens: usize) -> Self {
        Self { processor, tokens, flops: 0.0, rooms: Rooms::default() }
    }

    fn store(&mut self, y: Tensor) {
        if !matches!(y.slot, Slot::Input | Slot::Output) {
            self.rooms.slots.entry(y.slot).or_default().insert((y.rows, y.size, y.channels));
        }
    }

    fn product(&mut self, rows: usize, Product { inputs, outputs }: Product) {
        self.flops += linear::Shape { rows, inputs, outputs }.flops();
    }

    /// What a norm of `rows` rows of `size` gives to a product of so many inputs.
    fn normed(&mut self, (rows, size): (usize, Size), product: Product) {
        self.store(Tensor { slot: Slot::Normed, rows, size, channels: product.inputs });
    }

    fn group_normed(&mut self, (rows, size): (usize, Size), product: Product) {
        self.rooms.norms.insert((rows, product.inputs));
        self.normed((rows, size), product);
    }

    fn convolution(&mut self, y: Tensor, product: Product) {
        self.flops += conv::Shape::same(y.rows, y.size.0, y.size.1, product.inputs).flops(product.outputs);
        self.store(y);
    }
}

/// There is nothing to read.
impl Load<Count> for Count {
    fn table(&mut self, _: &str, _: usize, _: usize) -> Result<()> {
        Ok(())
    }

    fn layer_norm(&mut self, _: &str, _: usize, _: f64) -> Result<()> {
        Ok(())
    }

    fn group_norm(&mut self, _: &str, _: usize, _: usize, _: f64) -> Result<()> {
        Ok(())
    }

    fn linear(&mut self, _: &[&str], sizes: (usize, usize), _: bool, _: Activation) -> Result<Product> {
        Ok(Product { inputs: sizes.0, outputs: sizes.1 })
    }

    fn keys_values(&mut self, _: [&str; 2], (inputs, outputs): (usize, usize)) -> Result<Product> {
        Ok(Product { inputs, outputs: 2 * outputs })
    }

    fn conv(&mut self, _: &str, (inputs, outputs): (usize, usize), _: Resolution) -> Result<Product> {
        Ok(Product { inputs, outputs })
    }

    fn closing(&mut self, _: &str, _: &str, parts: &[usize], outputs: usize) -> Result<Closing> {
        let shortcut = (parts != [outputs]).then(|| Product { inputs: parts.iter().sum(), outputs });
        Ok(Closing { conv: Product { inputs: outputs, outputs }, shortcut })
    }
}

impl Layers<Count> for Tally {
    fn embed(&mut self, y: Tensor, (): &(), (): &()) -> Result<()> {
        self.store(y);
        Ok(())
    }

    fn layer_norm(&mut self, y: Tensor, _: Tensor, (): &()) -> Result<()> {
        self.store(y);
        Ok(())
    }

    fn linear(&mut self, y: Tensor, layer: &Product, _: Tensor, _: Option<Tensor>) -> Result<()> {
        self.product(y.rows * y.pixels(), *layer);
        self.store(y);
        Ok(())
    }

    fn normed_linear(&mut self, y: Tensor, layer: &Product, x: Tensor, (): &()) -> Result<()> {
        self.normed((x.rows, x.size), *layer);
        self.linear(y, layer, x, None)
    }

    fn group_normed_linear(&mut self, y: Tensor, layer: &Product, x: Tensor, (): &()) -> Result<()> {
        self.group_normed((x.rows, x.size), *layer);
        self.linear(y, layer, x, None)
    }

    fn gated_mlp(&mut self, x: Tensor, (): &(), gate: &Product, out: &Product) -> Result<()> {
        let rows = x.rows * x.pixels();
        self.product(rows, *gate);
        self.product(rows, *out);
        if self.processor == Processor::Gpu {
            self.normed((x.rows, x.size), *gate);
            self.store(Tensor { slot: Slot::Wide, channels: out.inputs, ..x });
        }
        Ok(())
    }

    fn attention(&mut self, y: Tensor, _: Tensor, heads: usize, causal: bool) -> Result<()> {
        let tokens = y.pixels();
        let head_dim = y.channels / heads;
        self.flops += attention::Shape { n: y.rows, queries: tokens, keys: tokens, heads, head_dim, causal }.flops();
        self.store(y);
        Ok(())
    }

    fn keys_values(&mut self, layer: &Product, _: usize, _: usize) -> Result<()> {
        self.product(self.tokens, *layer);
        Ok(())
    }

    fn cross_attention(&mut self, y: Tensor, queries: Tensor, _: usize, heads: usize) -> Result<()> {
        let (n, keys, head_dim) = (y.rows, self.tokens, y.channels / heads);
        self.flops += attention::Shape { n, queries: y.pixels(), keys, heads, head_dim, causal: false }.flops();
        if self.processor == Processor::Cpu {
            // Its queries are repeated where they lie.
            self.store(Tensor { rows: y.rows, ..queries });
        }
        self.store(y);
        Ok(())
    }

    fn side_by_side(&mut self, parts: &[Tensor], rows: usize) -> Result<Vec<Tensor>> {
        let joined = copy_of(parts, rows).filter(|_| self.processor == Processor::Cpu);
        let Some(joined) = joined else { return Ok(parts.to_vec()) };
        self.store(joined);
        Ok(vec![joined])
    }

    fn conv(&mut self, y: Tensor, layer: &Product, _: Tensor, _: Resolution) -> Result<()> {
        self.convolution(y, *layer);
        Ok(())
    }

    fn normed_conv(&mut self, y: Tensor, layer: &Product, _: &[Tensor], (): &(), _: Option<usize>) -> Result<()> {
        self.group_normed((y.rows, y.size), *layer);
        self.convolution(y, *layer);
        Ok(())
    }

    fn closing_conv(&mut self, y: Tensor, layer: &Closing, _: Tensor, (): &(), _: &[Tensor]) -> Result<()> {
        self.group_normed((y.rows, y.size), layer.conv);
        if let Some(shortcut) = layer.shortcut {
            self.product(y.rows * y.pixels(), shortcut);
        }
        self.convolution(y, layer.conv);
        Ok(())
    }
}

/// The copy that is needed where products read one tensor of all `rows`; none where `parts` are that.
pub(super) fn copy_of(parts: &[Tensor], rows: usize) -> Option<Tensor> {
    let needed = parts.len() > 1 || parts.iter().any(|part| part.rows < rows);
    let channels = parts.iter().map(|part| part.channels).sum();
    parts.first().filter(|_| needed).map(|part| Tensor { slot: Slot::Joined, rows, size: part.size, channels })
}

/// The largest of what `of` says; 0 of nothing.
pub(super) fn largest<T>(all: impl Iterator<Item = T>, of: impl Fn(T) -> usize) -> usize {
    all.map(of).max().unwrap_or(0)
}
