//! The memory plan of a probe, by the sizes of its parts: what it will allocate, so that it can be refused before any
//! work.

use super::encoder::feature_memory;
use super::evaluator::{Evaluator, Sizes, take};
use super::features::BATCH;
use crate::device::Plan;
use crate::models::vit::Vit;

/// What to change when a probe does not fit into memory.
pub(super) const SMALLER: &str = "lower --batch or the number of --lrs, leave --knn out, or probe with fewer images or classes, or on a smaller encoder";

/// Everything that [`super::probe_encoder`] holds beside encoder and photographs.
pub(super) fn plan(evaluators: &[&dyn Evaluator], vit: &Vit, sizes: Sizes) -> Plan {
    let mut plan = Plan::dry();
    let Sizes { train, test, width, on_gpu, .. } = sizes;
    take(&mut plan, "features", "test", &[test, width]);
    if evaluators.iter().any(|evaluator| evaluator.reads_train_features()) {
        take(&mut plan, "features", "train", &[train, width]);
    }
    let images = BATCH.min(train.max(test));
    if !on_gpu {
        take(&mut plan, "encoder", "pixels", &[images, vit.config().image_len()]);
        feature_memory(&mut plan, vit, images);
    }
    evaluators.iter().for_each(|evaluator| evaluator.plan(&mut plan, sizes));
    plan
}
