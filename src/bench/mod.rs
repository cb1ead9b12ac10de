//! `stablerep bench`: how fast this machine does the work. On the simulated driver, which knows no time, launches and
//! bytes are counted.

mod counts;
mod generate;
#[cfg(cuda_kernels)]
pub mod kernels;
mod machine;
#[cfg(cuda_kernels)]
mod plan;
mod table;
mod train;

pub use counts::Counts;
pub use generate::{Length, Options as GenerateOptions, generate};
pub use machine::{Age, Machine};
#[cfg(cuda_kernels)]
pub use plan::plan;
pub use train::{Options as TrainOptions, train};
