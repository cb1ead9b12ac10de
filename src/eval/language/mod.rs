//! Pictures and texts in one space: what encoders that learnt from captions are scored by.

mod names;
mod prompts;
mod space;

pub use names::{class_names, spoken};
pub use prompts::Prompts;
pub use space::{Space, memory};
