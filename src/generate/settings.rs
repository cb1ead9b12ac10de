//! What a pipeline is opened for.

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::drawing::Drawing;
use super::lora::Lora;
use crate::bail;
use crate::device::Device;
use crate::error::Result;
use crate::ops::gemm::Operands;

/// In which type a device keeps feature maps and weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// What is fastest without being much coarser: on the CPU bf16 where it multiplies that faster than f32, else
    /// f32; on a GPU f16
    Auto,
    /// Full precision: the CPU's
    #[default]
    F32,
    /// 11 bits, what most Stable Diffusion models are published in
    F16,
    /// 8 bits, the range of f32; on the CPU of what products multiply, all else is f32
    Bf16,
}

impl Precision {
    /// What products on the CPU multiply.
    ///
    /// # Errors
    /// Usage error for f16, which it does not multiply.
    pub fn on_cpu(self) -> Result<Operands> {
        match self {
            Self::F32 => Ok(Operands::F32),
            Self::Auto => Ok(Operands::fastest()),
            Self::Bf16 => Ok(Operands::Bf16),
            Self::F16 => bail!(Usage, "--precision f16: the CPU computes in f32 or bf16; f16 is for --device cuda"),
        }
    }
}

/// Whether convolutions and linear layers of the UNet are computed in e4m3, 8 bits, on GPUs.
#[derive(Clone, Copy, Debug, Default)]
pub enum Fp8<'a> {
    #[default]
    Off,
    /// Not yet: how large the inputs get of the layers that could be is kept for [`super::Pipeline::ranges`].
    Observe,
    /// Those with a range.
    On(&'a Calibration),
}

/// What a pipeline is opened for.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Diffusers folder.
    pub model: &'a Path,
    /// Files that are folded into its weights.
    pub loras: &'a [Lora],
    pub device: Device,
    /// The device's usual one when absent: f32 on the CPU, f16 on a GPU.
    pub precision: Option<Precision>,
    pub fp8: Fp8<'a>,
    /// Its scale is for none where it does not guide, and then no request's may (`guides`); its seed is the requests'.
    pub drawing: Drawing,
    /// Shorter side of the stored pictures, for devices that resize; as drawn when absent.
    pub store_size: Option<usize>,
    /// Most images drawn at once; 16 on the CPU and what fits on a GPU when absent.
    pub batch: Option<usize>,
}
