//! Products over e4m3 and what feeds them, across the ops that have kernels for it: what checks and measures them
//! together.

pub mod bench;
pub mod check;
