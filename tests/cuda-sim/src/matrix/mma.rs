//! `mma.sync`: one warp multiplies small matrices held in registers.

use super::fragment::{a_position, b_position, c_position, widen};
use super::product::{Sums, accumulate};
use super::{Accumulator, Element};
use crate::num::warp::Lanes;
use crate::num::{f16_to_f32, f32_to_f16};

/// One form of `mma.sync.aligned.….row.col`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mma {
    rows: u8,
    k: u8,
    a: Element,
    b: Element,
    c: Accumulator,
    d: Accumulator,
    /// `.satfinite` of integer forms: the sum is clamped instead of wrapping.
    saturate: bool,
}

/// Registers of each operand: 32-bit ones, or 64-bit ones for f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub a: usize,
    pub b: usize,
    pub c: usize,
    pub d: usize,
}

impl Mma {
    /// # Errors
    /// The form that is not in the PTX ISA, or is one of those not modelled: 4-bit and 1-bit operands, `m8n8k4.f16`,
    /// block scaling, sparsity.
    pub fn new(
        [m, n, k]: [u32; 3],
        [a, b]: [Element; 2],
        [c, d]: [Accumulator; 2],
        saturate: bool,
    ) -> Result<Mma, String> {
        use Accumulator as Acc;
        let refuse = || Err(format!("mma.m{m}n{n}k{k} with {a:?}·{b:?} into {d:?} from {c:?} is not modelled"));
        let same = a == b;
        let legal = match (m, a) {
            (16, Element::F16) => same && matches!(k, 8 | 16) && c == d && matches!(d, Acc::F16 | Acc::F32),
            (16, Element::Bf16) => same && matches!(k, 8 | 16) && c == Acc::F32 && d == Acc::F32,
            (16, Element::Tf32) => same && matches!(k, 4 | 8) && c == Acc::F32 && d == Acc::F32,
            (16, Element::E4m3 | Element::E5m2) => {
                b.is_fp8() && matches!(k, 16 | 32) && c == d && matches!(d, Acc::F16 | Acc::F32)
            }
            (16, Element::S8 | Element::U8) => b.is_integer() && matches!(k, 16 | 32) && c == Acc::S32 && d == Acc::S32,
            (8, Element::S8 | Element::U8) => b.is_integer() && k == 16 && c == Acc::S32 && d == Acc::S32,
            (16, Element::F64) => same && matches!(k, 4 | 8 | 16) && c == Acc::F64 && d == Acc::F64,
            (8, Element::F64) => same && k == 4 && c == Acc::F64 && d == Acc::F64,
            _ => false,
        };
        if !legal || n != 8 || saturate && !a.is_integer() {
            return refuse();
        }
        Ok(Mma { rows: m as u8, k: k as u8, a, b, c, d, saturate })
    }

    pub fn registers(&self) -> Registers {
        let (rows, k) = (self.rows as usize, self.k as usize);
        let accumulator = |acc| match acc {
            Accumulator::F16 => rows * 8 / 64,
            _ => rows * 8 / 32,
        };
        Registers {
            a: rows * k / (32 * self.a.per_register()),
            b: k * 8 / (32 * self.b.per_register()),
            c: accumulator(self.c),
            d: accumulator(self.d),
        }
    }

    /// True for forms whose operands are f64: [`Mma::run_f64`] executes those.
    pub fn is_f64(&self) -> bool {
        self.a == Element::F64
    }

    /// `d = a·b + c` for every form but f64; slices as long as [`Mma::registers`] says. `fp8` is how the card adds
    /// products of 8-bit floats in f32.
    pub fn run(&self, fp8: Sums, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
        let (rows, k) = (self.rows as usize, self.k as usize);
        // Shapes of 8 rows leave the lower half of the tile zero.
        let (mut ta, mut tb, mut td) = ([0f32; 16 * 32], [0f32; 32 * 8], [0f32; 16 * 8]);
        let per = self.a.per_register();
        for (r, register) in a.iter().enumerate() {
            for i in 0..per {
                let values = widen(self.a, register, i);
                for (lane, value) in values.into_iter().enumerate() {
                    let (row, column) = a_position(lane, r, i, per);
                    ta[row * k + column] = value;
                }
            }
        }
        for (r, register) in b.iter().enumerate() {
            for i in 0..per {
                let values = widen(self.b, register, i);
                for (lane, value) in values.into_iter().enumerate() {
                    let (row, column) = b_position(lane, r, i, per);
                    tb[row * 8 + column] = value;
                }
            }
        }
        match self.c {
            Accumulator::F32 => each_value(rows, |v, lane, at| td[at] = f32::from_bits(c[v][lane])),
            Accumulator::F16 => {
                each_value(rows, |v, lane, at| td[at] = f16_to_f32((c[v / 2][lane] >> (16 * (v % 2))) as u16));
            }
            Accumulator::S32 | Accumulator::F64 => {}
        }
        let sums = if self.a.is_fp8() && self.d == Accumulator::F32 { fp8 } else { Sums::F32 };
        accumulate(sums, &ta[..16 * k], &tb[..k * 8], &mut td, k, 8);
        match self.d {
            Accumulator::F32 => each_value(rows, |v, lane, at| d[v][lane] = td[at].to_bits()),
            Accumulator::F16 => each_value(rows, |v, lane, at| {
                let (shift, bits) = (16 * (v % 2), f32_to_f16(td[at]) as u32);
                d[v / 2][lane] = d[v / 2][lane] & !(0xffff << shift) | bits << shift;
            }),
            // 32 products of 8-bit integers sum below 2^24: exact in f32.
            Accumulator::S32 => each_value(rows, |v, lane, at| {
                d[v][lane] = add_integers(c[v][lane], td[at], self.saturate);
            }),
            Accumulator::F64 => unreachable!("f64 forms are run_f64's"),
        }
    }

    /// `d = a·b + c` for f64 forms, 64-bit registers.
    pub fn run_f64(&self, a: &[[u64; 32]], b: &[[u64; 32]], c: &[[u64; 32]], d: &mut [[u64; 32]]) {
        let k = self.k as usize;
        let (mut ta, mut tb) = ([[0f64; 16]; 16], [[0f64; 8]; 16]);
        for lane in 0..32 {
            for (r, register) in a.iter().enumerate() {
                let (row, column) = a_position(lane, r, 0, 1);
                ta[row][column] = f64::from_bits(register[lane]);
            }
            for (r, register) in b.iter().enumerate() {
                let (row, column) = b_position(lane, r, 0, 1);
                tb[row][column] = f64::from_bits(register[lane]);
            }
        }
        for lane in 0..32 {
            for (v, (c, d)) in c.iter().zip(d.iter_mut()).enumerate() {
                let (row, column) = c_position(lane, v);
                let start = f64::from_bits(c[lane]);
                d[lane] = (0..k).fold(start, |sum, step| ta[row][step].mul_add(tb[step][column], sum)).to_bits();
            }
        }
    }
}

/// Calls back with value, lane and place in the 16×8 tile of every accumulator value.
#[inline(always)]
fn each_value(rows: usize, mut f: impl FnMut(usize, usize, usize)) {
    for v in 0..rows / 4 {
        for lane in 0..32 {
            let (row, column) = c_position(lane, v);
            f(v, lane, row * 8 + column);
        }
    }
}

/// `c + sum` as 32-bit integers, wrapping or clamped.
#[inline(always)]
pub(super) fn add_integers(c: u32, sum: f32, saturate: bool) -> u32 {
    let (c, sum) = (c as i32, sum as i32);
    (if saturate { c.saturating_add(sum) } else { c.wrapping_add(sum) }) as u32
}

#[cfg(test)]
#[allow(clippy::needless_range_loop)] // lanes and values are coordinates of the matrices too
mod tests {
    use super::*;
    use crate::num::{Cast, Format};

    /// An operand matrix of small values, exact in every type, and the registers that hold it.
    fn operand(element: Element, rows: usize, columns: usize, is_a: bool) -> (Vec<f64>, Vec<Lanes>) {
        let unsigned = element == Element::U8;
        let value = |i: usize| ((i * 29 + is_a as usize * 5) % 13) as f64 - if unsigned { 0.0 } else { 6.0 };
        let matrix: Vec<f64> = (0..rows * columns).map(value).collect();
        let per = element.per_register();
        let mut registers = vec![[0u32; 32]; rows * columns / (32 * per)];
        for (r, register) in registers.iter_mut().enumerate() {
            for (lane, register) in register.iter_mut().enumerate() {
                for i in 0..per {
                    let (row, column) = if is_a { a_position(lane, r, i, per) } else { b_position(lane, r, i, per) };
                    let x = matrix[row * columns + column];
                    let bits = match element {
                        Element::F16 => Cast::NEAREST.f64(Format::F16, x) as u32,
                        Element::Bf16 => Cast::NEAREST.f64(Format::BF16, x) as u32,
                        Element::Tf32 => (x as f32).to_bits() | 0x1fff, // the hardware ignores these bits
                        Element::E4m3 => Cast::NEAREST.f64(Format::E4M3, x) as u32,
                        Element::E5m2 => Cast::NEAREST.f64(Format::E5M2, x) as u32,
                        Element::S8 => x as i8 as u8 as u32,
                        Element::U8 => x as u8 as u32,
                        Element::F64 => unreachable!(),
                    };
                    *register |= bits << (32 / per * i);
                }
            }
        }
        (matrix, registers)
    }

    #[test]
    fn every_form_multiplies() {
        use {Accumulator::*, Element as E};
        let forms: &[(u32, u32, E, E, Accumulator)] = &[
            (16, 8, E::F16, E::F16, F32),
            (16, 16, E::F16, E::F16, F32),
            (16, 8, E::F16, E::F16, F16),
            (16, 16, E::F16, E::F16, F16),
            (16, 8, E::Bf16, E::Bf16, F32),
            (16, 16, E::Bf16, E::Bf16, F32),
            (16, 4, E::Tf32, E::Tf32, F32),
            (16, 8, E::Tf32, E::Tf32, F32),
            (16, 32, E::E4m3, E::E5m2, F32),
            (16, 16, E::E5m2, E::E4m3, F16),
            (16, 16, E::S8, E::U8, S32),
            (16, 32, E::U8, E::S8, S32),
            (8, 16, E::S8, E::S8, S32),
        ];
        for &(m, k, ea, eb, acc) in forms {
            let mma = Mma::new([m, 8, k], [ea, eb], [acc, acc], false).expect("a legal form");
            let (rows, k) = (m as usize, k as usize);
            let (a, ra) = match rows {
                16 => operand(ea, 16, k, true),
                _ => {
                    // The 8-row A has the layout of the upper half of a 16-row one, which is B's, transposed.
                    let (b, registers) = operand(ea, k, 8, false);
                    ((0..8 * k).map(|i| b[i % k * 8 + i / k]).collect(), registers)
                }
            };
            let (b, rb) = operand(eb, k, 8, false);
            let counts = mma.registers();
            assert_eq!((ra.len(), rb.len()), (counts.a, counts.b), "m{m}k{k} {ea:?}");
            let start = |v: usize, lane: usize| (v * 3 + lane) as f64 % 8.0 - 4.0;
            let mut c = vec![[0u32; 32]; counts.c];
            for lane in 0..32 {
                for v in 0..rows / 4 {
                    let x = start(v, lane);
                    match acc {
                        F32 => c[v][lane] = (x as f32).to_bits(),
                        S32 => c[v][lane] = x as i32 as u32,
                        F16 => c[v / 2][lane] |= (f32_to_f16(x as f32) as u32) << (16 * (v % 2)),
                        F64 => unreachable!(),
                    }
                }
            }
            let mut d = vec![[0xdead_beefu32; 32]; counts.d];
            mma.run(Sums::F32, &ra, &rb, &c, &mut d);
            for lane in 0..32 {
                for v in 0..rows / 4 {
                    let (row, column) = c_position(lane, v);
                    let dot: f64 = (0..k).map(|s| a[row * k + s] * b[s * 8 + column]).sum();
                    let got = match acc {
                        F32 => f32::from_bits(d[v][lane]) as f64,
                        S32 => d[v][lane] as i32 as f64,
                        F16 => f16_to_f32((d[v / 2][lane] >> (16 * (v % 2))) as u16) as f64,
                        F64 => unreachable!(),
                    };
                    assert_eq!(got, start(v, lane) + dot, "m{m}k{k} {ea:?} lane {lane} value {v}");
                }
            }
        }
    }

    #[test]
    fn f64_forms_multiply() {
        for (m, k) in [(8u32, 4u32), (16, 4), (16, 8), (16, 16)] {
            let mma = Mma::new([m, 8, k], [Element::F64; 2], [Accumulator::F64; 2], false).expect("a legal form");
            let counts = mma.registers();
            let (a_at, b_at) =
                (|r: usize, c: usize| (r * 3 + c) as f64 - 7.5, |r: usize, c: usize| (r * 5) as f64 - c as f64);
            let lanes = |n: usize, f: &dyn Fn(usize, usize) -> f64| -> Vec<[u64; 32]> {
                (0..n).map(|r| std::array::from_fn(|lane| f(r, lane).to_bits())).collect()
            };
            let a = lanes(counts.a, &|r, lane| {
                let (row, column) = a_position(lane, r, 0, 1);
                a_at(row, column)
            });
            let b = lanes(counts.b, &|r, lane| {
                let (row, column) = b_position(lane, r, 0, 1);
                b_at(row, column)
            });
            let c = lanes(counts.c, &|v, lane| (v + lane) as f64);
            let mut d = c.clone();
            assert!(mma.is_f64());
            mma.run_f64(&a, &b, &c, &mut d);
            for lane in 0..32 {
                for (v, d) in d.iter().enumerate() {
                    let (row, column) = c_position(lane, v);
                    let dot: f64 = (0..k as usize).map(|s| a_at(row, s) * b_at(s, column)).sum();
                    assert_eq!(f64::from_bits(d[lane]), (v + lane) as f64 + dot);
                }
            }
        }
    }

    #[test]
    fn integers_wrap_or_clamp() {
        let form =
            |saturate| Mma::new([16, 8, 16], [Element::U8; 2], [Accumulator::S32; 2], saturate).expect("a legal form");
        let (a, b, c) = ([[0x0101_0101; 32]; 2], [[0x0202_0202; 32]; 1], [[i32::MAX as u32 - 1; 32]; 4]);
        let mut d = [[0; 32]; 4];
        form(true).run(Sums::F32, &a, &b, &c, &mut d);
        assert_eq!(d[3][17] as i32, i32::MAX);
        form(false).run(Sums::F32, &a, &b, &c, &mut d);
        assert_eq!(d[3][17] as i32, i32::MIN + 30);
    }

    /// Only sums of 8-bit floats in f32 are the card's.
    #[test]
    fn narrow_sums_are_those_of_8_bit_floats_in_f32() {
        let sum = |element: Element, format, accumulator| {
            let one = Cast::NEAREST.f64(format, 1.0) as u32;
            let (k, copies) = if element.is_fp8() { (32, 0x0101_0101) } else { (16, 0x0001_0001) };
            let ones = one * copies;
            let mma = Mma::new([16, 8, k], [element; 2], [accumulator; 2], false).expect("a legal form");
            let start = match accumulator {
                Accumulator::F16 => (f32_to_f16(16384.0) as u32) * 0x0001_0001,
                _ => 16384f32.to_bits(),
            };
            let counts = mma.registers();
            let (a, b, c) = (vec![[ones; 32]; counts.a], vec![[ones; 32]; counts.b], vec![[start; 32]; counts.c]);
            let mut d = vec![[0; 32]; counts.d];
            mma.run(Sums::Narrow, &a, &b, &c, &mut d);
            match accumulator {
                Accumulator::F16 => f16_to_f32(d[0][0] as u16),
                _ => f32::from_bits(d[0][0]),
            }
        };
        use {Accumulator::*, Element as E};
        assert_eq!(sum(E::E4m3, Format::E4M3, F32), 16384.0);
        assert_eq!(sum(E::E5m2, Format::E5M2, F32), 16384.0);
        assert_eq!(sum(E::E4m3, Format::E4M3, F16), 16384.0 + 32.0);
        assert_eq!(sum(E::F16, Format::F16, F32), 16384.0 + 16.0);
        assert_eq!(sum(E::Bf16, Format::BF16, F32), 16384.0 + 16.0);
    }

    #[test]
    fn forms_outside_the_isa_are_refused_by_name() {
        let refused = Mma::new([16, 8, 32], [Element::F16; 2], [Accumulator::F32; 2], false);
        assert!(refused.is_err_and(|text| text.contains("m16n8k32")));
        assert!(Mma::new([8, 8, 4], [Element::F16; 2], [Accumulator::F16; 2], false).is_err());
        assert!(Mma::new([16, 8, 16], [Element::F16, Element::Bf16], [Accumulator::F32; 2], false).is_err());
        assert!(Mma::new([16, 8, 16], [Element::Bf16; 2], [Accumulator::F16; 2], false).is_err());
        assert!(Mma::new([16, 8, 16], [Element::F16; 2], [Accumulator::F32; 2], true).is_err());
    }
}
