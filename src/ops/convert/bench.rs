//! ViT-B/16's parameters into bf16, and latents on their way in.

use half::{bf16, f16};

use super::cuda::{scaled, to_bf16};
use crate::device::cuda::Half;
use crate::ops::bench::{Case, Number, Size, Work, stored};
use crate::ops::shapes::{parameters, unet_rows};

const OP: &str = "convert";

pub fn cases(size: Size) -> Vec<Case> {
    vec![latents::<f16>(size), latents::<bf16>(size), rounded(size)]
}

fn rounded(size: Size) -> Case {
    let len = parameters(size);
    let work = Work { bytes: (6 * len) as f64, ..Work::default() };
    Case::new((OP, "f32 to bf16", format!("[{len}]")), work, move |inputs| {
        let (x, y) = (inputs.normal::<f32>(len)?, inputs.room::<bf16>(len)?);
        Ok(move |gpu: &_| to_bf16(gpu, y.view(), x.view()))
    })
}

fn latents<T: Half + Number>(size: Size) -> Case {
    let (n, side) = (unet_rows(size), size.pick(64, 8));
    let values = 4 * n * side * side;
    let name = (OP, stored::<T>("latents to"), format!("[{n}, {side}, {side}, 4]"));
    Case::new(name, Work { bytes: 6.0 * values as f64, ..Work::default() }, move |inputs| {
        let (x, y) = (inputs.normal(values)?, inputs.room::<T>(values)?);
        Ok(move |gpu: &_| scaled(gpu, y.view(), x.view(), 1.0 / 0.18215))
    })
}
