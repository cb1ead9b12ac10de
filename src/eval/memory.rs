//! The memory plan of a probe, by the sizes of its parts: what it will allocate, so that it can be refused before any
//! work.

use super::encoder::feature_memory;
use super::features::BATCH;
use super::heads::EVAL_ROWS;
use super::knn::QUERIES;
use super::linear_probe::{Augmentation, LinearConfig, Select};
use super::settings::ProbeSettings;
use crate::device::Plan;
use crate::models::vit::Vit;

/// What to change when a probe does not fit into memory.
pub(super) const SMALLER: &str = "lower --batch or the number of --lrs, leave --knn out, or probe with fewer images or classes, or on a smaller encoder";

/// Numbers of images and classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub train: usize,
    pub test: usize,
    pub classes: usize,
}

/// Everything that [`super::probe_encoder`] holds beside encoder and photographs.
pub(super) fn plan(settings: &ProbeSettings, vit: &Vit, sizes: Sizes) -> Plan {
    let mut plan = Plan::dry();
    let width = vit.config().width;
    let Sizes { train, test, .. } = sizes;
    let frozen = settings.linear.as_ref().is_some_and(|linear| linear.augmentation == Augmentation::None);
    take(&mut plan, "features", "test", &[test, width]);
    if settings.knn.is_some() || frozen {
        take(&mut plan, "features", "train", &[train, width]);
    }
    let images = BATCH.min(train.max(test));
    take(&mut plan, "encoder", "pixels", &[images, vit.config().image_len()]);
    feature_memory(&mut plan, vit, images);
    if let Some(linear) = &settings.linear {
        heads(&mut plan, linear, width, sizes);
    }
    if let Some(knn) = &settings.knn {
        take(&mut plan, "k-NN", "train features of length 1", &[train, width]);
        take(&mut plan, "k-NN", "test features of length 1", &[test, width]);
        // A similarity and a place, each padded to eight bytes.
        let lists = QUERIES.saturating_mul(rayon::current_num_threads());
        take(&mut plan, "k-NN", "neighbours", &[lists, knn.k.min(train), 4]);
    }
    plan
}

fn heads(plan: &mut Plan, linear: &LinearConfig, width: usize, Sizes { train, classes, .. }: Sizes) {
    let group = "linear probe";
    let batch = linear.batch.min(train);
    let columns = linear.base_lrs.len().saturating_mul(classes);
    if linear.select == Select::Val {
        take(plan, group, "features of held-out images", &[train.div_ceil(10), width]);
    }
    for _ in linear.kinds() {
        for what in ["weights", "gradients", "velocities"] {
            take(plan, group, what, &[width + 1, columns]);
        }
    }
    take(plan, group, "features of a step, as they are and normalised", &[2, batch, width]);
    take(plan, group, "logits of a step or an evaluation", &[batch.max(EVAL_ROWS.min(train)), columns]);
}

/// Counts a buffer of these sizes, as many as can be counted.
fn take(plan: &mut Plan, group: &'static str, name: &str, sizes: &[usize]) {
    plan.f32(group, name, sizes.iter().fold(1, |len: usize, size| len.saturating_mul(*size)));
}
