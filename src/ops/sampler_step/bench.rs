//! Guidance, a DDIM step and the next input in one pass; f16 or bf16 input.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::ops::bench::{Case, Number, Size, Work, stored};
use crate::ops::sampler_step::Step;
use crate::ops::sampler_step::cuda::{Buffers, Schedule, advance, table};
use crate::ops::shapes::unet_rows;

/// Rows of the table: more than there are calls, of which each counts one on.
const STEPS: usize = 4096;

pub fn cases(size: Size) -> Vec<Case> {
    vec![case::<f16>(size), case::<bf16>(size)]
}

fn case<T: Half + Number>(size: Size) -> Case {
    let (images, values) = (unet_rows(size) / 2, 4 * size.pick(64usize, 8).pow(2));
    let len = images * values;
    // x read and written, both branches' outputs, the input.
    let work = Work { bytes: 18.0 * len as f64, ..Work::default() };
    let name = ("sampler_step", stored::<T>("guided DDIM"), format!("[{images}, {values}]"));
    Case::new(name, work, move |inputs| {
        let (x, eps, input) = (inputs.normal::<f32>(len)?, inputs.normal::<f32>(2 * len)?, inputs.room::<T>(len)?);
        let steps = inputs.upload(&table(&vec![Step::linear(0.99, 0.01); STEPS], 7.5))?;
        let step = inputs.room::<u32>(1)?;
        Ok(move |gpu: &_| {
            let buffers = Buffers { x: x.view(), input: input.view(), history: None };
            let schedule = Schedule { table: steps.view(), step: step.view() };
            advance(gpu, buffers, eps.view(), schedule, None, images)
        })
    })
}
