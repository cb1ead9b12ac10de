//! Captions to shards of images.
//!
//! A run is a list of units, each a shard of some captions. Ranks deal the units among themselves; a unit whose shard
//! is whole is done; an image depends on (seed, caption id, image index) and the configuration alone.

mod calibrate;
mod calibration;
mod compare;
mod config;
mod context_cache;
mod cpu;
#[cfg(cuda_kernels)]
mod cuda;
mod drawing;
mod encode;
mod fingerprint;
mod finish;
mod identity;
mod interval;
mod latents;
mod limits;
mod line;
mod lora;
mod model_folder;
mod painter;
mod pairs;
mod parts;
mod pipeline;
mod plan;
mod record;
mod regenerate;
mod run;
pub mod sampler;
mod settings;
mod shard_line;
mod sizes;
mod spare;
mod trace;
mod unit;

pub use calibrate::{Calibrate, Calibrated, calibrate};
pub use calibration::{Calibration, CalibrationFile};
pub use compare::Compared;
pub use config::{Config, ImageFormat};
pub use drawing::Drawing;
pub use encode::{Encoded, Encoding};
pub use identity::{Identity, missing};
pub use interval::Interval;
pub use line::Line;
pub use lora::Lora;
pub use model_folder::check as check_model_folder;
pub use painter::{Decoded, Drawn, NOT_FINITE, Request, Text, WHEN_NOT_FINITE, Wanted};
pub use pipeline::Pipeline;
pub use plan::{Stats, Unit};
pub use regenerate::{Comparison, Regenerated, Told, regenerate};
pub use run::run;
pub use settings::{Fp8, Precision, Settings};
pub use trace::{Flops, Trace};
