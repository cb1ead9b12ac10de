//! The linear probe of the paper: ten learning rates at once on frozen features, with and without a batch norm before
//! the heads.
//!
//! lr = base · batch / 256, SGD with momentum 0.9 and no weight decay, per-iteration half-cosine to 0 without warm-up,
//! weights from N(0, 0.01). Every step takes a whole batch: what an epoch's order leaves over waits for the next epoch,
//! as in the official script (its loader's `drop_last`; behind a batch norm a batch of one image would be a row of
//! zeros). The paper reports the best head at the best evaluation on the test images; [`Select::Val`] chooses on a
//! tenth of the training images instead.

mod config;
mod evaluate;
mod report;
mod state;
mod train;

pub use config::{Augmentation, BASE_LRS, BatchNorm, LinearConfig, Select};
pub use report::{Choice, Evaluation, HeadReport, LinearReport};
pub use state::StateFile;
pub use train::{FeatureSource, ProbeData, cosine, run};
