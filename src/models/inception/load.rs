//! The blocks of Inception v3, and their weights from a file.

use super::network::{Block, Branch, Inception, SHRINK};
use crate::bail;
use crate::error::Result;
use crate::layers::convnet::Conv;
use crate::ops::conv2d::Window;
use crate::ops::gemm::Operands;
use crate::ops::packed::Packed;
use crate::ops::pool::Pool;
use crate::weights::SafeTensors;

/// ε of every batch norm.
const EPSILON: f64 = 1e-3;

const ONE: Window = Window::same(1, 1);
const THREE: Window = Window::same(3, 3);
const FIVE: Window = Window::same(5, 5);
const INSIDE: Window = Window::inside(3, 1);
const HALVE: Window = Window::inside(3, 2);
const ALONG: fn(usize) -> Window = |length| Window::same(1, length);
const ACROSS: fn(usize) -> Window = |length| Window::same(length, 1);

/// Name, output channels and window of a convolution.
type Layer<'a> = (&'a str, usize, Window);

impl Inception {
    /// Reads the weights; names are torchvision's.
    ///
    /// # Errors
    /// `Data` naming file and tensor.
    pub fn open(file: &SafeTensors) -> Result<Self> {
        let stem = |inputs, layers: &[Layer<'_>]| chain(file, "", inputs, layers);
        let first = [("Conv2d_1a_3x3", 32, HALVE), ("Conv2d_2a_3x3", 32, INSIDE), ("Conv2d_2b_3x3", 64, THREE)];
        let second = [("Conv2d_3b_1x1", 80, ONE), ("Conv2d_4a_3x3", 192, INSIDE)];
        let mut blocks = Vec::new();
        for (name, inputs, pooled) in [("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)] {
            blocks.push(block_a(&Part { file, name, inputs }, pooled)?);
        }
        blocks.push(block_b(&Part { file, name: "Mixed_6a", inputs: 288 })?);
        for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
            blocks.push(block_c(&Part { file, name, inputs: 768 }, inner)?);
        }
        blocks.push(block_d(&Part { file, name: "Mixed_7a", inputs: 768 })?);
        for (name, inputs, pool) in [("Mixed_7b", 1280, Pool::Average), ("Mixed_7c", 2048, Pool::Max)] {
            blocks.push(block_e(&Part { file, name, inputs }, pool)?);
        }
        Ok(Self { stem: [stem(3, &first)?, stem(64, &second)?], blocks })
    }
}

/// Where the branches of a block come from.
struct Part<'a> {
    file: &'a SafeTensors,
    name: &'a str,
    inputs: usize,
}

impl Part<'_> {
    /// Convolutions one behind the other.
    fn branch(&self, layers: &[Layer<'_>]) -> Result<Branch<Packed>> {
        self.forked(layers, &[])
    }

    /// The same, and behind them some side by side.
    fn forked(&self, layers: &[Layer<'_>], ends: &[Layer<'_>]) -> Result<Branch<Packed>> {
        let prefix = format!("{}.", self.name);
        let middle = layers.last().map_or(self.inputs, |layer| layer.1);
        let mut last = Vec::new();
        for end in ends {
            last.append(&mut chain(self.file, &prefix, middle, &[*end])?);
        }
        Ok(Branch { pool: None, chain: chain(self.file, &prefix, self.inputs, layers)?, ends: last })
    }

    /// A pool and the convolution of one pixel behind it.
    fn pooled(&self, pool: Pool, outputs: usize) -> Result<Branch<Packed>> {
        Ok(Branch { pool: Some((pool, THREE)), ..self.branch(&[("branch_pool", outputs, ONE)])? })
    }
}

fn block_a(part: &Part<'_>, pooled: usize) -> Result<Block<Packed>> {
    Ok(Block(vec![
        part.branch(&[("branch1x1", 64, ONE)])?,
        part.branch(&[("branch5x5_1", 48, ONE), ("branch5x5_2", 64, FIVE)])?,
        part.branch(&[("branch3x3dbl_1", 64, ONE), ("branch3x3dbl_2", 96, THREE), ("branch3x3dbl_3", 96, THREE)])?,
        part.pooled(Pool::Average, pooled)?,
    ]))
}

fn block_b(part: &Part<'_>) -> Result<Block<Packed>> {
    Ok(Block(vec![
        part.branch(&[("branch3x3", 384, HALVE)])?,
        part.branch(&[("branch3x3dbl_1", 64, ONE), ("branch3x3dbl_2", 96, THREE), ("branch3x3dbl_3", 96, HALVE)])?,
        shrunk(),
    ]))
}

fn block_c(part: &Part<'_>, inner: usize) -> Result<Block<Packed>> {
    let (along, across) = (ALONG(7), ACROSS(7));
    Ok(Block(vec![
        part.branch(&[("branch1x1", 192, ONE)])?,
        part.branch(&[("branch7x7_1", inner, ONE), ("branch7x7_2", inner, along), ("branch7x7_3", 192, across)])?,
        part.branch(&[
            ("branch7x7dbl_1", inner, ONE),
            ("branch7x7dbl_2", inner, across),
            ("branch7x7dbl_3", inner, along),
            ("branch7x7dbl_4", inner, across),
            ("branch7x7dbl_5", 192, along),
        ])?,
        part.pooled(Pool::Average, 192)?,
    ]))
}

fn block_d(part: &Part<'_>) -> Result<Block<Packed>> {
    Ok(Block(vec![
        part.branch(&[("branch3x3_1", 192, ONE), ("branch3x3_2", 320, HALVE)])?,
        part.branch(&[
            ("branch7x7x3_1", 192, ONE),
            ("branch7x7x3_2", 192, ALONG(7)),
            ("branch7x7x3_3", 192, ACROSS(7)),
            ("branch7x7x3_4", 192, HALVE),
        ])?,
        shrunk(),
    ]))
}

fn block_e(part: &Part<'_>, pool: Pool) -> Result<Block<Packed>> {
    let (along, across) = (ALONG(3), ACROSS(3));
    Ok(Block(vec![
        part.branch(&[("branch1x1", 320, ONE)])?,
        part.forked(&[("branch3x3_1", 384, ONE)], &[("branch3x3_2a", 384, along), ("branch3x3_2b", 384, across)])?,
        part.forked(
            &[("branch3x3dbl_1", 448, ONE), ("branch3x3dbl_2", 384, THREE)],
            &[("branch3x3dbl_3a", 384, along), ("branch3x3dbl_3b", 384, across)],
        )?,
        part.pooled(pool, 192)?,
    ]))
}

/// The input itself, smaller.
fn shrunk() -> Branch<Packed> {
    Branch { pool: Some(SHRINK), chain: Vec::new(), ends: Vec::new() }
}

fn chain(file: &SafeTensors, prefix: &str, mut inputs: usize, layers: &[Layer<'_>]) -> Result<Vec<Conv<Packed>>> {
    let mut convs = Vec::with_capacity(layers.len());
    for &(name, outputs, window) in layers {
        convs.push(conv(file, &format!("{prefix}{name}"), (inputs, outputs), window)?);
        inputs = outputs;
    }
    Ok(convs)
}

/// The convolution `name.conv` with the batch norm `name.bn` folded into it, in f64.
fn conv(file: &SafeTensors, name: &str, (inputs, outputs): (usize, usize), window: Window) -> Result<Conv<Packed>> {
    let (taps, (height, width)) = (window.taps(), window.kernel);
    let mut w = file.f32(&format!("{name}.conv.weight"), &[outputs, inputs, height, width])?;
    let norm = |what: &str| file.f32(&format!("{name}.bn.{what}"), &[outputs]);
    let (gain, shift) = (norm("weight")?, norm("bias")?);
    let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
    if let Some(at) = variance.iter().position(|v| *v < 0.0) {
        bail!(
            Data,
            "{}: {name}.bn.running_var: value {at} is {}: a variance is not negative",
            file.path().display(),
            variance[at]
        );
    }
    let mut bias = vec![0.0; outputs];
    for (o, w) in w.chunks_exact_mut(inputs * taps).enumerate() {
        let scale = f64::from(gain[o]) / (f64::from(variance[o]) + EPSILON).sqrt();
        w.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        bias[o] = (f64::from(shift[o]) - f64::from(mean[o]) * scale) as f32;
    }
    Ok(Conv { weights: Packed::from_conv(&w, Some(bias), (inputs, outputs), taps, Operands::F32), window, outputs })
}
