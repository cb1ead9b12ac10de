//! The keys of a step of 8,192 images into a queue of 65,536.

use crate::ops::bench::{Case, Size, Work};
use crate::ops::queue::cuda::put;

pub fn cases(size: Size) -> Vec<Case> {
    let ((rows, slots), d) = (size.pick((8192, 65_536), (192, 500)), 256);
    let work = Work { bytes: (8 * rows * (d + 1)) as f64, ..Work::default() };
    vec![Case::new(("queue", "put f32", format!("[{rows}, {d}] in {slots} slots")), work, move |inputs| {
        let (keys, kept) = (inputs.room(slots * d)?, inputs.room(slots)?);
        let x = inputs.normal(rows * d)?;
        let labels: Vec<u32> = (0..rows as u32).collect();
        let (labels, start) = (inputs.upload(&labels)?, inputs.upload(&[(slots - rows / 2) as u32])?);
        Ok(move |gpu: &_| put(gpu, (keys.view(), kept.view()), x.view(), labels.view(), start.view()))
    })]
}
