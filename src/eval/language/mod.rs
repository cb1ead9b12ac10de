//! Pictures and texts in one space: what encoders that learnt from captions are scored by.

mod job;
mod model;
mod names;
mod projections;
mod prompts;
mod space;
mod templates;

pub use job::{LanguageJob, LanguageReport, Pictures, Shown, percent};
pub use model::{LanguageModel, OpenTokenizer};
pub use names::{class_names, spoken};
pub use projections::{Projections, Side};
pub use prompts::Prompts;
pub use space::{Space, alike, memory};
pub use templates::templates;
