//! The two 16-bit storage types of the generator's kernels.

use std::fmt;

use half::{bf16, f16};

use super::memory::Element;

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
pub trait Half: Element {
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

/// Calls the launch function of the first kernel for f16, of the second for bf16:
/// `by_type!(T, groupnorm_apply_f16 | groupnorm_apply_bf16, (gpu, at, y, x))`.
macro_rules! by_type {
    ($t:ty, $f16:ident | $bf16:ident, $arguments:tt) => {
        match <$t as $crate::device::cuda::Half>::DTYPE {
            $crate::device::cuda::DType::F16 => $crate::device::cuda::kernels::$f16 $arguments,
            $crate::device::cuda::DType::Bf16 => $crate::device::cuda::kernels::$bf16 $arguments,
        }
    };
}
pub(crate) use by_type;
