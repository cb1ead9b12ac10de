//! PTX text to kernels of decoded instructions. Anything unknown refuses the module and names its line.

mod allocate;
pub(crate) mod alu;
mod decode;
pub(crate) mod instruction;
mod lexer;
pub(crate) mod modes;
mod module;
mod parse;
mod syntax;
mod touched;
pub(crate) mod types;
mod variable;
mod visit;

pub(crate) use decode::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_START, SHARED_WINDOW};
pub(crate) use module::Code;
pub use module::{Global, Kernel, Module, Param, ParseError};
