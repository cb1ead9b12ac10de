#![doc = include_str!("../README.md")]

pub mod check;
pub mod device;
pub mod driver;
pub mod exec;
pub mod matrix;
pub mod memory;
pub mod num;
pub mod ptx;
pub mod tensor;
