//! Types of values on the device.

use std::fmt;

use bytemuck::Pod;
use half::{bf16, f16};

/// What device memory can hold: plain values whose every bit pattern is one.
pub trait Element: Pod + Send + Sync + fmt::Debug {}
impl<T: Pod + Send + Sync + fmt::Debug> Element for T {}

/// A type for which there are kernels of their own; their names end in it.
pub trait KernelType: Element {
    const NAME: &'static str;
}

impl KernelType for f16 {
    const NAME: &'static str = "f16";
}

impl KernelType for bf16 {
    const NAME: &'static str = "bf16";
}

impl KernelType for f32 {
    const NAME: &'static str = "f32";
}
