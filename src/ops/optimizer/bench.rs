//! One update of ViT-B/16's parameters by AdamW: f32 parameters and moments, bf16 copy, gradient cleared in the same
//! pass; one of their momentum copy; and one of as many weights of linear heads by SGD.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::optimizer::AdamW;
use crate::ops::optimizer::cuda::{Buffers, Guard, Heads, adamw, follow, sgd};
use crate::ops::shapes::parameters;

/// Learning rates of a linear probe.
const HEADS: usize = 10;

pub fn cases(size: Size) -> Vec<Case> {
    let len = parameters(size);
    // p, m, v read and written, g read and cleared, the copy written, a bit of the mask.
    let work = Work { bytes: 34.125 * len as f64, ..Work::default() };
    let adam = Case::new(("optimizer", "AdamW", format!("[{len}]")), work, move |inputs| {
        let (p, g) = (inputs.normal::<f32>(len)?, inputs.scaled::<f32>(len, 1e-3)?);
        let (m, v) = (inputs.room::<f32>(len)?, inputs.room::<f32>(len)?);
        let (rounded, decay) = (inputs.room::<bf16>(len)?, inputs.bytes(len.div_ceil(8))?);
        let update = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.1, step: 10 };
        let (settings, squares) = (inputs.upload(&update.settings())?, inputs.upload(&[1.0f64])?);
        Ok(move |gpu: &_| {
            let buffers = Buffers { p: p.view(), m: m.view(), v: v.view(), rounded: Some(rounded.view()) };
            let guard = Guard { sum_of_squares: squares.view(), loss: None };
            adamw(gpu, buffers, g.view(), decay.view(), settings.view(), guard, true)
        })
    });
    // Copy read and written, what it follows read, the rounded copy written.
    let work = Work { bytes: 14.0 * len as f64, ..Work::default() };
    let copy = Case::new(("optimizer", "momentum copy", format!("[{len}]")), work, move |inputs| {
        let (slow, fast, rounded) = (inputs.normal::<f32>(len)?, inputs.normal::<f32>(len)?, inputs.room::<bf16>(len)?);
        let (rate, squares) = (inputs.upload(&[0.01f32])?, inputs.upload(&[1.0f64])?);
        Ok(move |gpu: &_| {
            let guard = Guard { sum_of_squares: squares.view(), loss: None };
            follow(gpu, slow.view(), rounded.view(), fast.view(), rate.view(), guard)
        })
    });
    // Weight and velocity read and written, the gradient read and cleared, the rounded copy written.
    let work = Work { bytes: 26.0 * len as f64, ..Work::default() };
    let len = len / HEADS * HEADS;
    let heads = Case::new(("optimizer", "SGD of heads", format!("[{len}]")), work, move |inputs| {
        let (w, v) = (inputs.normal::<f32>(len)?, inputs.room::<f32>(len)?);
        let (g, rounded) = (inputs.scaled::<f32>(len, 1e-3)?, inputs.room::<bf16>(len)?);
        let (lrs, schedule) = (inputs.upload(&[0.1f32; HEADS])?, inputs.upload(&[1.0f32])?);
        Ok(move |gpu: &_| {
            let (weight, velocity, gradient) = (w.view(), v.view(), g.view());
            let heads = Heads { weight, velocity, rounded: Some(rounded.view()), gradient };
            sgd(gpu, heads, lrs.view(), schedule.view(), 0.9)
        })
    });
    vec![adam, copy, heads]
}
