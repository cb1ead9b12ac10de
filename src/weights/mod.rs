//! Names, shapes and layouts of tensors: in memory (one flat parameter buffer) and on disk (safetensors).

mod params;

pub use params::{Param, ParamInfo, ParamTable, pair_mut};
