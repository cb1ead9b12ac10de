//! Fragments: which element of a matrix each lane holds in which register.
//!
//! With g = lane / 4 and t = lane % 4, and P elements in a 32-bit register (4 for 8-bit types, 2 for 16-bit, 1 for tf32
//! and f64), all of `mma.sync` and `wgmma` follow three rules:
//! - A (rows × k): register r, element i is row `g + 8·(r odd)`, column `P·t + i + 4P·(r / 2)`;
//! - B (k × 8): register r, element i is row `P·t + i + 4P·r`, column `g`;
//! - C and D (rows × n): value v is row `g + 8·(v / 2 odd)`, column `2t + v % 2 + 8·(v / 4)`.
//!
//! Shapes with 8 rows have no second half of rows: their A is `column P·t + i`, their C values 0 and 1.

use super::Element;
use crate::num::warp::Lanes;
use crate::num::{bf16_to_f32, e4m3_to_f32, e5m2_to_f32, f16_to_f32, tf32_to_f32};

/// Row of A and column of A that element `i` of register `r` is, in a 16-row shape.
#[inline(always)]
pub fn a_position(lane: usize, r: usize, i: usize, per_register: usize) -> (usize, usize) {
    (lane / 4 + 8 * (r & 1), per_register * (lane % 4) + i + 4 * per_register * (r / 2))
}

/// Row and column of B that element `i` of register `r` is.
#[inline(always)]
pub fn b_position(lane: usize, r: usize, i: usize, per_register: usize) -> (usize, usize) {
    (per_register * (lane % 4) + i + 4 * per_register * r, lane / 4)
}

/// Row and column of C and D that value `v` is; f16 accumulators hold values 2r and 2r+1 in register r.
#[inline(always)]
pub fn c_position(lane: usize, v: usize) -> (usize, usize) {
    (lane / 4 + 8 * (v / 2 % 2), 2 * (lane % 4) + v % 2 + 8 * (v / 4))
}

/// Element `i` of every lane of a register, widened. 8-bit integers become their value.
#[inline(always)]
pub fn widen(element: Element, register: &Lanes, i: usize) -> [f32; 32] {
    #[inline(always)]
    fn map(register: &Lanes, f: impl Fn(u32) -> f32) -> [f32; 32] {
        let mut out = [0.0; 32];
        for (o, r) in out.iter_mut().zip(register) {
            *o = f(*r);
        }
        out
    }
    let (half, byte) = (16 * i, 8 * i);
    match element {
        Element::F16 => map(register, |r| f16_to_f32((r >> half) as u16)),
        Element::Bf16 => map(register, |r| bf16_to_f32((r >> half) as u16)),
        Element::Tf32 => map(register, tf32_to_f32),
        Element::E4m3 => map(register, |r| e4m3_to_f32((r >> byte) as u8)),
        Element::E5m2 => map(register, |r| e5m2_to_f32((r >> byte) as u8)),
        Element::S8 => map(register, |r| (r >> byte) as i8 as f32),
        Element::U8 => map(register, |r| (r >> byte) as u8 as f32),
        Element::F64 => unreachable!("f64 operands do not fit f32"),
    }
}

/// The elements of 16 bytes of shared memory, widened; returns how many there are.
#[inline(always)]
pub fn widen_bytes(element: Element, bytes: &[u8; 16], out: &mut [f32; 16]) -> usize {
    #[inline(always)]
    fn map<const P: usize>(bytes: &[u8; 16], out: &mut [f32; 16], f: impl Fn([u8; P]) -> f32) -> usize {
        for (o, b) in out.iter_mut().zip(bytes.chunks_exact(P)) {
            *o = f(b.try_into().expect("a chunk of that length"));
        }
        16 / P
    }
    match element {
        Element::F16 => map(bytes, out, |b: [u8; 2]| f16_to_f32(u16::from_le_bytes(b))),
        Element::Bf16 => map(bytes, out, |b: [u8; 2]| bf16_to_f32(u16::from_le_bytes(b))),
        Element::Tf32 => map(bytes, out, |b: [u8; 4]| tf32_to_f32(u32::from_le_bytes(b))),
        Element::E4m3 => map(bytes, out, |b: [u8; 1]| e4m3_to_f32(b[0])),
        Element::E5m2 => map(bytes, out, |b: [u8; 1]| e5m2_to_f32(b[0])),
        Element::S8 => map(bytes, out, |b: [u8; 1]| b[0] as i8 as f32),
        Element::U8 => map(bytes, out, |b: [u8; 1]| b[0] as f32),
        Element::F64 => unreachable!("f64 operands do not fit f32"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The per-type formulas of the PTX ISA, written out.
    #[test]
    fn positions_are_those_of_the_isa() {
        for lane in 0..32 {
            let (group, thread) = (lane >> 2, lane & 3);
            // m16n8k16 f16: a0..a7, b0..b3, c0..c3.
            for i in 0..8 {
                let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
                let column = if i < 4 { thread * 2 + (i & 1) } else { thread * 2 + (i & 1) + 8 };
                assert_eq!(a_position(lane, i / 2, i % 2, 2), (row, column));
            }
            for i in 0..4 {
                let row = if i < 2 { thread * 2 + (i & 1) } else { thread * 2 + (i & 1) + 8 };
                assert_eq!(b_position(lane, i / 2, i % 2, 2), (row, group));
                let row = if i < 2 { group } else { group + 8 };
                assert_eq!(c_position(lane, i), (row, thread * 2 + (i & 1)));
            }
            // m16n8k8 tf32.
            for i in 0..4 {
                let row = if i == 0 || i == 2 { group } else { group + 8 };
                let column = if i < 2 { thread } else { thread + 4 };
                assert_eq!(a_position(lane, i, 0, 1), (row, column));
            }
            // m16n8k32 8-bit: a0..a15, b0..b7.
            for i in 0..16 {
                let row = if i < 4 || (8..12).contains(&i) { group } else { group + 8 };
                let column = if i < 8 { thread * 4 + (i & 3) } else { thread * 4 + (i & 3) + 16 };
                assert_eq!(a_position(lane, i / 4, i % 4, 4), (row, column));
            }
            for i in 0..8 {
                let row = if i < 4 { thread * 4 + (i & 3) } else { thread * 4 + (i & 3) + 16 };
                assert_eq!(b_position(lane, i / 4, i % 4, 4), (row, group));
            }
        }
        // wgmma D of n = 16: lane 5 of a warp holds in d[6] row 1+8, column 10+8·… of the second 8 columns.
        assert_eq!(c_position(5, 6), (9, 10));
        assert_eq!(c_position(31, 5), (7, 15));
    }
}
