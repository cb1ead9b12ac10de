//! Pictures from the decoder and their halves.

use crate::image::{Filter, columns_first, weight_table};
use crate::ops::bench::{Case, Size, Work};
use crate::ops::pixels::cuda::{Resize, Tables, resize, to_u8};
use crate::ops::shapes::decoder_rows;

const OP: &str = "pixels";

pub fn cases(size: Size) -> Vec<Case> {
    let (n, side) = (decoder_rows(size), size.pick(512, 64));
    vec![to_bytes(n, side), halved(n, side)]
}

fn to_bytes(n: usize, side: usize) -> Case {
    let values = 3 * n * side * side;
    let work = Work { bytes: 5.0 * values as f64, ..Work::default() };
    Case::new((OP, "to 8 bits", format!("[{n}, {side}, {side}, 3]")), work, move |inputs| {
        let (x, y) = (inputs.normal(values)?, inputs.room(values)?);
        let flags = inputs.room(n)?;
        Ok(move |gpu: &_| to_u8(gpu, y.view(), flags.view(), x.view()))
    })
}

fn halved(n: usize, side: usize) -> Case {
    let (from, to) = ((side, side), (side / 2, side / 2));
    let shape = Resize { n, from, to, columns_first: columns_first(from, to) };
    // Read, between the passes, written.
    let bytes = (3 * n * (side * side + side * side + side * side / 4)) as f64;
    let name = (OP, "halved, bicubic", format!("[{n}, {side}, {side}, 3]"));
    Case::new(name, Work { bytes, ..Work::default() }, move |inputs| {
        let weights = inputs.upload(&weight_table(side, side / 2, Filter::Bicubic))?;
        let (x, between) = (inputs.bytes(3 * n * side * side)?, inputs.room(shape.between_len())?);
        let y = inputs.room(3 * n * side * side / 4)?;
        Ok(move |gpu: &_| {
            let tables = Tables { along: weights.view(), across: weights.view() };
            resize(gpu, y.view(), between.view(), x.view(), tables, shape)
        })
    })
}
