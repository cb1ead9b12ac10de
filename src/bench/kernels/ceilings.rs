//! What a card reaches at best: the ceilings that kernels' times are set beside, measured as those are.

use half::bf16;

use super::cublaslt;
use super::measure::Clock;
use crate::device::cuda::{DType, Gpu, Library, Owned};
use crate::error::Result;
use crate::ops::bench::{Inputs, Product};
use crate::ops::gemm::cuda::{Epilogue, Layout, Matrix, Output, product};

/// What this card reaches at best, measured in this run (special functions: 16 per clock and multiprocessor at the
/// highest clock).
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// FLOP/s of an 8192³ product, the better of ours and cuBLASLt's.
    pub matrix: f64,
    /// Bytes per second of a copy, read and written.
    pub memory: f64,
    pub exps: f64,
    /// Of an 8192³ product, FLOP/s.
    pub ours: f64,
    pub cublaslt: Option<f64>,
    /// Microseconds between two marks with nothing between them; in every time.
    pub empty_us: f64,
}

/// Side of the product and bytes of the copy.
const SIDE: usize = 8192;
const COPY: usize = 1 << 30;

/// FLOP/s of an 8192³ product: ours and, where it is installed, cuBLASLt's.
pub fn product_rates(inputs: &Inputs, clock: &Clock, rival: Option<&Library>) -> Result<(f64, Option<f64>)> {
    let (m, flops) = (SIDE, 2.0 * (SIDE as f64).powi(3));
    let ours = {
        let (a, b, y) = (inputs.normal::<bf16>(m * m)?, inputs.normal::<bf16>(m * m)?, inputs.room::<bf16>(m * m)?);
        let matrix = |data: &Owned<bf16>| Matrix::new(data.view(), m, m);
        let (output, operands) = (Output::Bf16(matrix(&y)), (matrix(&a), matrix(&b)));
        let queue = |gpu: &Gpu| product(gpu, None, Layout::Nt, output, operands, Epilogue::Bias(None));
        flops / (clock.time(inputs.gpu(), &queue)?.median_us * 1e-6)
    };
    let plain = Product { m, n: m, k: m, dtype: DType::Bf16 };
    let cublaslt = match rival {
        Some(library) => cublaslt::best(library, inputs, clock, plain)?.map(|time| flops / (time.median_us * 1e-6)),
        None => None,
    };
    Ok((ours, cublaslt))
}

impl Ceilings {
    /// An H200 as it was measured: a bf16 product of random numbers, a copy; 16 special functions per clock of 1.83 GHz
    /// on 132 multiprocessors.
    pub const H200: Self =
        Self { matrix: 790e12, memory: 4.1e12, exps: 3.87e12, ours: 790e12, cublaslt: None, empty_us: 0.0 };

    pub fn measure(inputs: &Inputs, clock: &Clock, rival: Option<&Library>) -> Result<Self> {
        let gpu = inputs.gpu();
        let (ours, cublaslt) = product_rates(inputs, clock, rival)?;
        let memory = {
            let (from, to) = (inputs.normal::<f32>(COPY / 4)?, inputs.room::<f32>(COPY / 4)?);
            let queue = |gpu: &Gpu| gpu.copy(to.view(), from.view());
            2.0 * COPY as f64 / (clock.time(gpu, &queue)?.median_us * 1e-6)
        };
        let empty_us = clock.time(gpu, &|_| Ok(()))?.median_us;
        let exps = 16.0 * f64::from(gpu.sms()) * gpu.clock_hz()?;
        Ok(Self { matrix: ours.max(cublaslt.unwrap_or(0.0)), memory, exps, ours, cublaslt, empty_us })
    }
}
