//! Tensor maps: what `cuTensorMapEncode…` accepts, the 128 bytes it returns, and the box that one copy moves.

mod boxes;
mod encode;
mod map;

pub use boxes::Piece;
pub use encode::{Im2colArgs, Refusal, TiledArgs};
pub use map::{DataType, TensorMap};
