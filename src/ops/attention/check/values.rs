//! V as an operand of Hopper's kernels: at a head's own 40, 80 or 160 columns, whose layout no document describes, and
//! in whole spans of 64.

use half::f16;

use super::compare::{FEW, compare_by, on_gpu, packed, shape, width};
use crate::bail;
use crate::device::cuda::Arch;
use crate::error::Result;
use crate::ops::attention::cuda::hopper::reads_parts_of_spans;
use crate::ops::attention::cuda::{Heads, Values, Variant};
use crate::ops::attention::{self, Tokens};
use crate::ops::check::Case;
use crate::ops::gemm::Threads;

/// The UNet's heads by the kernels that multiply V in one way.
fn by_values(case: &Case, values: Values) -> Result<()> {
    for shape in [shape(1, 131, 2, 40), shape(2, 97, 1, 80), shape(1, 200, 1, 160)] {
        let (device, rounded) = case.half::<f16>(&packed(case, shape, 1.0))?;
        let part = |i: usize| Tokens { data: &rounded[i * width(shape)..], stride: 3 * width(shape) };
        let mut want = vec![0.0; shape.n * shape.queries * width(shape)];
        attention::forward(&mut want, part(0), part(1), part(2), shape, Threads::All);
        compare_by(case, shape, &device, &want, &[Variant::Hopper { sms: FEW, values }])?;
    }
    Ok(())
}

/// Whether only Hopper has what is to be checked, and this is none.
fn is_no_hopper(case: &Case) -> bool {
    let other = case.gpu().arch() != Arch::Sm90;
    if other {
        case.skip("only Hopper has these kernels");
    }
    other
}

/// The faster kernels, right on a card that reads parts of spans; elsewhere nobody uses them.
pub fn own_columns(case: &Case) -> Result<()> {
    if is_no_hopper(case) {
        return Ok(());
    }
    match (by_values(case, Values::Own), reads_parts_of_spans(case.gpu())?) {
        (result, true) => {
            case.say("used on this card");
            result
        }
        (Err(_), false) => {
            case.skip("wrong on this card, so not used: see the next line");
            Ok(())
        }
        (Ok(()), false) => bail!(Failed, "right here, but wrong when the program tried them first"),
    }
}

/// The fallback, right on every card, and with the same bits.
pub fn whole_spans(case: &Case) -> Result<()> {
    if is_no_hopper(case) {
        return Ok(());
    }
    by_values(case, Values::Spans)?;
    if !reads_parts_of_spans(case.gpu())? {
        case.say("used on this card, which is slower but right");
        return Ok(());
    }
    for shape in [shape(1, 200, 2, 40), shape(1, 150, 1, 80), shape(1, 100, 1, 160)] {
        let (device, _) = case.half::<f16>(&packed(case, shape, 1.0))?;
        let parts = [0, 1, 2].map(|i| Heads::part(device.view(), i, 3, width(shape)));
        let [own, spans] =
            [Values::Own, Values::Spans].map(|values| on_gpu(case, Variant::Hopper { sms: FEW, values }, parts, shape));
        case.same(&format!("{shape:?}"), &spans?, &own?)?;
    }
    case.say("not needed on this card");
    Ok(())
}
