//! `wgmma.mma_async`: four warps multiply 64×k by k×n, B (and A, or not) in shared memory.

use super::descriptor::Descriptor;
use super::fragment::{a_position, c_position, widen, widen_bytes};
use super::mma::add_integers;
use super::product::{Sums, accumulate};
use super::{Accumulator, Element};
use crate::num::warp::Lanes;
use crate::num::{f16_to_f32, f32_to_f16};

/// One form of the instruction, with its immediate operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wgmma {
    /// Columns of D: a multiple of 8 up to 256.
    pub n: usize,
    pub a: Element,
    pub b: Element,
    pub d: Accumulator,
    /// `imm-scale-a` is -1.
    pub negate_a: bool,
    /// `imm-scale-b` is -1.
    pub negate_b: bool,
    /// `imm-trans-a`: A is m-major in shared memory.
    pub transpose_a: bool,
    /// `imm-trans-b`: B is n-major.
    pub transpose_b: bool,
    /// `.satfinite` of integer forms.
    pub saturate: bool,
}

/// Tiles that one warpgroup's instructions go through; kept between them so that nothing is allocated.
#[derive(Default)]
pub struct Scratch {
    a: Vec<f32>,
    b: Vec<f32>,
    d: Vec<f32>,
    /// Addresses of the operand's 16-byte pieces, of the last [`Wgmma::pieces_a`] or [`Wgmma::pieces_b`].
    pub pieces: Vec<u32>,
}

impl Wgmma {
    /// # Errors
    /// The form that is not in the PTX ISA or not modelled.
    pub fn check(self, [m, n, k]: [u32; 3]) -> Result<Wgmma, String> {
        use Accumulator as Acc;
        let refuse =
            |why: &str| Err(format!("wgmma.m{m}n{n}k{k} with {:?}·{:?} into {:?}: {why}", self.a, self.b, self.d));
        if m != 64 || !n.is_multiple_of(8) || !(8..=256).contains(&n) || n as usize != self.n {
            return refuse("no such shape");
        }
        if k as usize * self.a.bytes() != 32 {
            return refuse("k is not 32 bytes of this type");
        }
        let legal = match self.a {
            Element::F16 => self.b == Element::F16 && matches!(self.d, Acc::F16 | Acc::F32),
            Element::Bf16 | Element::Tf32 => self.b == self.a && self.d == Acc::F32,
            Element::E4m3 | Element::E5m2 => self.b.is_fp8() && matches!(self.d, Acc::F16 | Acc::F32),
            Element::S8 | Element::U8 => self.b.is_integer() && self.d == Acc::S32,
            Element::F64 => false,
        };
        if !legal {
            return refuse("no such types");
        }
        // Integer shapes: 8, 16, 24, 32, then multiples of 16.
        if self.a.is_integer() && n > 32 && !n.is_multiple_of(16) {
            return refuse("no such shape for integers");
        }
        if (self.transpose_a || self.transpose_b) && self.a.bytes() != 2 {
            return refuse("only 16-bit operands can be transposed");
        }
        if (self.negate_a || self.negate_b) && self.a.is_integer() {
            return refuse("integer operands have no scale");
        }
        Ok(self)
    }

    /// Elements of k.
    pub fn k(&self) -> usize {
        32 / self.a.bytes()
    }

    /// Products of 8-bit floats are added in fewer bits on every card that has wgmma.
    fn sums(&self) -> Sums {
        if self.a.is_fp8() && self.d == Accumulator::F32 { Sums::Narrow } else { Sums::F32 }
    }

    /// 32-bit registers of D in each lane.
    pub fn d_registers(&self) -> usize {
        if self.d == Accumulator::F16 { self.n / 4 } else { self.n / 2 }
    }

    /// Addresses of the 16-byte pieces of A in shared memory.
    pub fn pieces_a(&self, descriptor: Descriptor, scratch: &mut Scratch) {
        match self.transpose_a {
            true => descriptor.mn_major(64, &mut scratch.pieces),
            false => descriptor.k_major(64, &mut scratch.pieces),
        }
    }

    /// Addresses of the 16-byte pieces of B; with `whole_spans`, those behind a row's last whole span in reverse.
    pub fn pieces_b(&self, descriptor: Descriptor, whole_spans: bool, scratch: &mut Scratch) {
        if !self.transpose_b {
            return descriptor.k_major(self.n, &mut scratch.pieces);
        }
        descriptor.mn_major(self.n, &mut scratch.pieces);
        if whole_spans {
            let (row, span) = (self.n / 8, descriptor.swizzle.span() as usize / 16);
            scratch.pieces.chunks_exact_mut(row).for_each(|row_pieces| row_pieces[row / span * span..].reverse());
        }
    }

    /// Reads A from the pieces just listed. `shared` is the block's shared memory from address 0.
    ///
    /// # Errors
    /// Address of the first piece that lies past its end.
    pub fn load_a(&self, shared: &[u8], scratch: &mut Scratch) -> Result<(), u32> {
        let k = self.k();
        scratch.a.resize(64 * k, 0.0);
        let mut values = [0f32; 16];
        for (i, &at) in scratch.pieces.iter().enumerate() {
            let count = widen_bytes(self.a, piece(shared, at)?, &mut values);
            if self.transpose_a {
                let (step, row) = (i / 8, i % 8 * 8);
                values[..8].iter().enumerate().for_each(|(e, v)| scratch.a[(row + e) * k + step] = *v);
            } else {
                scratch.a[i * count..(i + 1) * count].copy_from_slice(&values[..count]);
            }
        }
        self.negate(self.negate_a, &mut scratch.a);
        Ok(())
    }

    /// Takes A from the four registers of each lane of one of the four warps.
    pub fn take_a(&self, warp: usize, registers: [&Lanes; 4], scratch: &mut Scratch) {
        let (k, per) = (self.k(), self.a.per_register());
        scratch.a.resize(64 * k, 0.0);
        let rows = &mut scratch.a[warp * 16 * k..(warp + 1) * 16 * k];
        for (r, register) in registers.into_iter().enumerate() {
            for i in 0..per {
                for (lane, value) in widen(self.a, register, i).into_iter().enumerate() {
                    let (row, column) = a_position(lane, r, i, per);
                    rows[row * k + column] = value;
                }
            }
        }
        self.negate(self.negate_a, rows);
    }

    /// Reads B from the pieces just listed.
    ///
    /// # Errors
    /// As [`Wgmma::load_a`].
    pub fn load_b(&self, shared: &[u8], scratch: &mut Scratch) -> Result<(), u32> {
        let n = self.n;
        scratch.b.resize(self.k() * n, 0.0);
        let mut values = [0f32; 16];
        for (i, &at) in scratch.pieces.iter().enumerate() {
            let count = widen_bytes(self.b, piece(shared, at)?, &mut values);
            if self.transpose_b {
                let (step, column) = (i / (n / 8), i % (n / 8) * 8);
                let row = &mut scratch.b[step * n + column..][..8];
                row.iter_mut().enumerate().for_each(|(c, v)| *v = values[COLUMN[c]]);
            } else {
                let (column, step) = (fragment_order(i / 2), i % 2 * count);
                values[..count].iter().enumerate().for_each(|(e, v)| scratch.b[(step + e) * n + column] = *v);
            }
        }
        self.negate(self.negate_b, &mut scratch.b);
        Ok(())
    }

    /// D of one of the four warps: `d = a·b`, plus the old D if `keep` (the instruction's `scale-d`). `rows` names the
    /// registers of D in the warp's register file.
    pub fn multiply(&self, warp: usize, keep: bool, scratch: &mut Scratch, file: &mut [Lanes], rows: &[u32]) {
        let (n, k) = (self.n, self.k());
        let tile = &mut scratch.d;
        tile.clear();
        tile.resize(16 * n, 0.0);
        let add_after = self.d == Accumulator::S32;
        if keep && !add_after {
            self.each_register(|r, value, at| {
                let from = &file[rows[r] as usize];
                match self.d {
                    Accumulator::F16 => {
                        (0..4).for_each(|t| tile[at + t] = f16_to_f32((from[value.lane + t] >> value.shift) as u16));
                    }
                    _ => (0..4).for_each(|t| tile[at + t] = f32::from_bits(from[value.lane + t])),
                }
            });
        }
        accumulate(self.sums(), &scratch.a[warp * 16 * k..(warp + 1) * 16 * k], &scratch.b, tile, k, n);
        self.each_register(|r, value, at| {
            let to = &mut file[rows[r] as usize][value.lane..value.lane + 4];
            let sums = &tile[at..at + 4];
            match self.d {
                Accumulator::F32 => to.iter_mut().zip(sums).for_each(|(d, s)| *d = s.to_bits()),
                Accumulator::F16 => to.iter_mut().zip(sums).for_each(|(d, s)| {
                    *d = *d & !(0xffff << value.shift) | (f32_to_f16(*s) as u32) << value.shift;
                }),
                // A sum of 32 products of 8-bit integers is below 2^24, so f32 holds it exactly.
                _ => to.iter_mut().zip(sums).for_each(|(d, s)| {
                    *d = add_integers(if keep { *d } else { 0 }, *s, self.saturate);
                }),
            }
        });
    }

    /// Calls back with register, lanes and place in the tile of every four values that are neighbours in both.
    #[inline(always)]
    fn each_register(&self, mut f: impl FnMut(usize, Quad, usize)) {
        let half = self.d == Accumulator::F16;
        for v in 0..self.n / 2 {
            let (register, shift) = if half { (v / 2, 16 * (v as u32 % 2)) } else { (v, 0) };
            for g in 0..8 {
                let (row, column) = c_position(4 * g, v);
                f(register, Quad { lane: 4 * g, shift }, row * self.n + fragment_order(column));
            }
        }
    }

    fn negate(&self, negate: bool, tile: &mut [f32]) {
        if negate {
            tile.iter_mut().for_each(|x| *x = -*x);
        }
    }
}

/// Four lanes from `lane` on, at bit `shift` of the register.
struct Quad {
    lane: usize,
    shift: u32,
}

/// Tiles of B and D keep each 8 columns in the order 0 2 4 6 1 3 5 7: a register of D is four neighbours then.
const COLUMN: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Where column `column` is kept.
#[inline(always)]
fn fragment_order(column: usize) -> usize {
    column / 8 * 8 + column % 2 * 4 + column % 8 / 2
}

fn piece(shared: &[u8], at: u32) -> Result<&[u8; 16], u32> {
    shared.get(at as usize..at as usize + 16).and_then(|bytes| bytes.try_into().ok()).ok_or(at)
}

#[cfg(test)]
#[allow(clippy::needless_range_loop)] // lanes and values are coordinates of the matrices too
#[path = "wgmma_tests.rs"]
mod tests;
