//! An update of a ViT's parameters with its head, in tensors of a block's sizes.

use half::bf16;

use super::cuda::{Buffers, Table, Tensors, update};
use super::{Lars, Tensor};
use crate::ops::bench::{Case, Size, Work};
use crate::ops::optimizer::cuda::Guard;

pub fn cases(size: Size) -> Vec<Case> {
    let (tensors, each) = (size.pick(144, 4), size.pick(590_592, 4_096));
    let len = tensors * each;
    let name = ("lars", "update f32", format!("{tensors} tensors of {each}"));
    vec![Case::new(name, Work { bytes: (30 * len) as f64, ..Work::default() }, move |inputs| {
        let tensor = |number: usize| Tensor { range: number * each..(number + 1) * each, scaled: true };
        let table = Table::new(&(0..tensors).map(tensor).collect::<Vec<_>>());
        let lars = Lars { lr: 0.0, momentum: 0.9, weight_decay: 1e-6, trust: 1e-3 };
        let [pieces, first, scaled] =
            [inputs.upload(&table.pieces)?, inputs.upload(&table.first)?, inputs.upload(&table.scaled)?];
        let (settings, scratch) = (inputs.upload(&lars.settings())?, inputs.room::<f64>(table.scratch_len())?);
        let (p, m, g) = (inputs.normal::<f32>(len)?, inputs.room::<f32>(len)?, inputs.normal::<f32>(len)?);
        let (rounded, squares, loss) = (inputs.room::<bf16>(len)?, inputs.room::<f64>(1)?, inputs.room::<f32>(1)?);
        Ok(move |gpu: &_| {
            let buffers = Buffers { p: p.view(), m: m.view(), rounded: rounded.view() };
            let tensors = Tensors { pieces: pieces.view(), first: first.view(), scaled: scaled.view() };
            let guard = Guard { sum_of_squares: squares.view(), loss: Some(loss.view()) };
            update(gpu, buffers, g.view(), tensors, settings.view(), guard, scratch.view())
        })
    })]
}
