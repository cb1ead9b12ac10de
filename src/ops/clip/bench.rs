//! Gradients of a ViT-B/16, in 150 tensors, of which none is cut.

use crate::ops::bench::{Case, Size, Work};
use crate::ops::clip::cuda::{Table, clip};
use crate::ops::shapes::parameters;

pub fn cases(size: Size) -> Vec<Case> {
    let len = parameters(size);
    let work = Work { bytes: 4.0 * len as f64, ..Work::default() };
    vec![Case::new(("clip", "tensor by tensor", format!("[{len}]")), work, move |inputs| {
        let each = len.div_ceil(150);
        let ranges: Vec<_> = (0..len).step_by(each).map(|start| start..len.min(start + each)).collect();
        let table = Table::new(&ranges);
        let (g, pieces, first) =
            (inputs.scaled(len, 1e-6)?, inputs.upload(&table.pieces)?, inputs.upload(&table.first)?);
        let scratch = inputs.room(table.pieces.len() / 3)?;
        Ok(move |gpu: &_| clip(gpu, g.view(), (pieces.view(), first.view()), 3.0, scratch.view()))
    })]
}
