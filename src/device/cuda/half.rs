//! The two 16-bit storage types of the generator's kernels.

use std::fmt;

use half::{bf16, f16};

use super::element::KernelType;

/// Which 16-bit type tensors are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 11 bits of precision, up to 65,504.
    F16,
    /// 8 bits of precision, the range of f32.
    Bf16,
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// A 16-bit storage type.
pub trait Half: KernelType {
    const DTYPE: DType;
    /// To nearest, ties to even.
    fn round(value: f32) -> Self;
    fn widen(self) -> f32;
}

impl Half for f16 {
    const DTYPE: DType = DType::F16;

    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Half for bf16 {
    const DTYPE: DType = DType::Bf16;

    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }
}
