//! The memory of a run, by the sizes of its parts.

use super::config::FidConfig;
use super::extractor::Extractor;
use crate::device::Plan;
use crate::error::Result;
use crate::eval::encoder::feature_memory;
use crate::eval::evaluator::take;
use crate::eval::features;
use crate::models::inception::SIDE;

/// Everything that is held beside network and pictures: of `real` pictures and of `most` in a generated set.
///
/// # Errors
/// None.
pub(super) fn plan(
    config: &FidConfig,
    width: usize,
    (real, most): (usize, usize),
    extractor: &Extractor,
) -> Result<Plan> {
    let mut plan = Plan::dry();
    take(&mut plan, "features", "real", &[real, width]);
    take(&mut plan, "features", "generated", &[most, width]);
    // In f64: two factors of covariances, a covariance beside its factor before the rank is known, the product.
    take(&mut plan, "Fréchet distance", "covariances", &[5, width, width, 2]);
    if let Some(subsets) = config.kernel {
        let size = subsets.size.min(real).min(most);
        take(&mut plan, "kernel distance", "products", &[size, size, 2]);
        take(&mut plan, "kernel distance", "subsets", &[2, size, width, 2]);
    }
    if config.neighbours.is_some() {
        take(&mut plan, "neighbours", "distances", &[rayon::current_num_threads(), 2 * 256, real.max(most), 2]);
    }
    match extractor {
        Extractor::Inception { network, .. } => {
            take(&mut plan, "Inception", "pictures that wait", &[2, network.batch(), 3 * SIDE * SIDE]);
            take(&mut plan, "Inception", "activations", &[network.activations()?]);
        }
        Extractor::Encoder { encoder, .. } => {
            let images = features::BATCH.min(real.max(most));
            take(&mut plan, "encoder", "pixels", &[images, encoder.vit().config().image_len()]);
            feature_memory(&mut plan, encoder.vit(), images);
        }
    }
    Ok(plan)
}
