//! Comparisons: two rows to a mask of lanes.

use super::alu::Unit;
use super::registers::Registers;
use crate::num::{bf16_to_f32, f16_to_f32};
use crate::ptx::instruction::{CmpOp, CmpType, Reg};

#[inline(always)]
fn mask<R: Copy, T: PartialOrd + Copy>(a: &[R; 32], b: &[R; 32], op: CmpOp, get: impl Fn(R) -> T) -> u32 {
    // Only a NaN is unequal to itself.
    let nan = |x: T| x.partial_cmp(&x).is_none();
    macro_rules! each {
        (|$x:ident, $y:ident| $test:expr) => {{
            let mut out = 0;
            for l in 0..32 {
                let ($x, $y) = (get(a[l]), get(b[l]));
                out |= u32::from($test) << l;
            }
            out
        }};
    }
    match op {
        CmpOp::Eq => each!(|x, y| x == y),
        CmpOp::Ne => each!(|x, y| x != y && !nan(x) && !nan(y)),
        CmpOp::Lt => each!(|x, y| x < y),
        CmpOp::Le => each!(|x, y| x <= y),
        CmpOp::Gt => each!(|x, y| x > y),
        CmpOp::Ge => each!(|x, y| x >= y),
        CmpOp::Equ => each!(|x, y| x == y || nan(x) || nan(y)),
        CmpOp::Neu => each!(|x, y| x != y),
        CmpOp::Ltu => each!(|x, y| x < y || nan(x) || nan(y)),
        CmpOp::Leu => each!(|x, y| x <= y || nan(x) || nan(y)),
        CmpOp::Gtu => each!(|x, y| x > y || nan(x) || nan(y)),
        CmpOp::Geu => each!(|x, y| x >= y || nan(x) || nan(y)),
        CmpOp::Num => each!(|x, y| !nan(x) && !nan(y)),
        CmpOp::Nan => each!(|x, y| nan(x) || nan(y)),
    }
}

#[inline(always)]
fn execute(ty: CmpType, op: CmpOp, g: &Registers, a: Reg, b: Reg) -> u32 {
    match ty {
        CmpType::U16 => mask(g.row(a), g.row(b), op, |x| x as u16),
        CmpType::S16 => mask(g.row(a), g.row(b), op, |x| x as i16),
        CmpType::U32 => mask(g.row(a), g.row(b), op, |x| x),
        CmpType::S32 => mask(g.row(a), g.row(b), op, |x| x as i32),
        CmpType::U64 => mask(g.wide(a), g.wide(b), op, |x| x),
        CmpType::S64 => mask(g.wide(a), g.wide(b), op, |x| x as i64),
        CmpType::F16 => mask(g.row(a), g.row(b), op, |x| f16_to_f32(x as u16)),
        CmpType::Bf16 => mask(g.row(a), g.row(b), op, |x| bf16_to_f32(x as u16)),
        CmpType::F32 => mask(g.row(a), g.row(b), op, f32::from_bits),
        CmpType::F64 => mask(g.wide(a), g.wide(b), op, f64::from_bits),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn haswell(ty: CmpType, op: CmpOp, g: &Registers, a: Reg, b: Reg) -> u32 {
    execute(ty, op, g, a, b)
}

/// The lanes where the comparison holds.
#[inline(always)]
pub fn run(unit: Unit, ty: CmpType, op: CmpOp, g: &Registers, a: Reg, b: Reg) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if unit.is_haswell() {
        // SAFETY: `Unit` found every feature that `haswell` is compiled for.
        return unsafe { haswell(ty, op, g, a, b) };
    }
    execute(ty, op, g, a, b)
}
