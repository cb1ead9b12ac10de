//! PTX text to kernels of decoded instructions. Anything unknown refuses the module and names its line.

mod module;

pub use module::{Global, Kernel, Module, Param, ParseError};
