//! The product to beat: cuBLASLt's best algorithm, where it is installed.

use half::{bf16, f16};

use super::measure::{Clock, Timing};
use crate::device::cuda::{DType, Half, Library};
use crate::error::Result;
use crate::ops::bench::{Inputs, Number, Product};

/// The time of the library's fastest algorithm; `None` if it has none for this product or the product does not fit the
/// device.
pub fn best(library: &Library, inputs: &Inputs, clock: &Clock, product: Product) -> Result<Option<Timing>> {
    match product.dtype {
        DType::F16 => best_of::<f16>(library, inputs, clock, product),
        DType::Bf16 => best_of::<bf16>(library, inputs, clock, product),
    }
}

fn best_of<T: Number + Half>(
    library: &Library,
    inputs: &Inputs,
    clock: &Clock,
    product: Product,
) -> Result<Option<Timing>> {
    let Product { m, n, k, .. } = product;
    let gpu = inputs.gpu();
    let needed = size_of::<T>() as u64 * (m * k + n * k + m * n) as u64;
    if needed > gpu.memory()?.0 / 10 * 9 {
        return Ok(None);
    }
    let (x, w, y) = (inputs.normal::<T>(m * k)?, inputs.normal::<T>(n * k)?, inputs.room::<T>(m * n)?);
    let proposals = library.proposals((m, n, k), product.dtype)?;
    let mut best: Option<Timing> = None;
    for i in 0..proposals.len() {
        let time = clock.time(gpu, &|_| proposals.queue(i, y.view(), x.view(), w.view()))?;
        if best.is_none_or(|best| time.median_us < best.median_us) {
            best = Some(time);
        }
    }
    Ok(best)
}
