//! The register file of a warp: rows of 32 lanes.

use crate::ptx::instruction::Reg;

/// One 32-bit register of a warp.
pub type Lanes = [u32; 32];
/// One 64-bit register of a warp.
pub type WideLanes = [u64; 32];

/// Two rows, so that 64-bit registers (always at even rows) are aligned.
#[repr(C, align(256))]
#[derive(Clone, Copy)]
struct Pair([Lanes; 2]);

pub struct Registers {
    pairs: Box<[Pair]>,
}

impl Registers {
    /// Rows that programs have not written hold a pattern that shows: NaN as a float, huge as an index. The storage of
    /// a warp that has ended is used again.
    pub fn new(rows: usize, spare: Option<Registers>) -> Self {
        let blank = Pair([[0xffff_dead; 32]; 2]);
        match spare {
            Some(mut spare) if spare.pairs.len() == rows.div_ceil(2) => {
                spare.pairs.fill(blank);
                spare
            }
            _ => Self { pairs: vec![blank; rows.div_ceil(2)].into() },
        }
    }

    #[inline(always)]
    pub fn row(&self, r: Reg) -> &Lanes {
        &self.pairs[r as usize / 2].0[r as usize % 2]
    }

    #[inline(always)]
    pub fn row_mut(&mut self, r: Reg) -> &mut Lanes {
        &mut self.pairs[r as usize / 2].0[r as usize % 2]
    }

    #[inline(always)]
    pub fn wide(&self, r: Reg) -> &WideLanes {
        debug_assert_eq!(r % 2, 0);
        // SAFETY: a pair is 256 initialised bytes aligned to 256, the size of 32 u64, for which any bits are valid.
        unsafe { &*(&raw const self.pairs[r as usize / 2]).cast() }
    }

    #[inline(always)]
    pub fn wide_mut(&mut self, r: Reg) -> &mut WideLanes {
        debug_assert_eq!(r % 2, 0);
        // SAFETY: as in `wide`; the borrow of `self` is exclusive.
        unsafe { &mut *(&raw mut self.pairs[r as usize / 2]).cast() }
    }

    /// All rows, for code that addresses many at once.
    pub fn rows_mut(&mut self) -> &mut [Lanes] {
        // SAFETY: `Pair` is `repr(C)` with no padding (two arrays of 128 bytes, size 256), so n pairs are 2n rows.
        unsafe { std::slice::from_raw_parts_mut(self.pairs.as_mut_ptr().cast(), self.pairs.len() * 2) }
    }

    /// Stores where the mask is set.
    #[inline(always)]
    pub fn store(&mut self, r: Reg, values: &Lanes, mask: u32) {
        let row = self.row_mut(r);
        if mask == u32::MAX {
            *row = *values;
        } else {
            for l in 0..32 {
                let keep = (mask >> l & 1).wrapping_sub(1);
                row[l] = row[l] & keep | values[l] & !keep;
            }
        }
    }

    #[inline(always)]
    pub fn store_wide(&mut self, r: Reg, values: &WideLanes, mask: u32) {
        let row = self.wide_mut(r);
        if mask == u32::MAX {
            *row = *values;
        } else {
            for l in 0..32 {
                let keep = u64::from(mask >> l & 1).wrapping_sub(1);
                row[l] = row[l] & keep | values[l] & !keep;
            }
        }
    }
}

/// The set lanes of a mask, lowest first.
#[inline(always)]
pub fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(lane)
    })
}
