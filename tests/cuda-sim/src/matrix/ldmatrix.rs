//! `ldmatrix`, `stmatrix` and `movmatrix`: 8×8 matrices of 16-bit elements between rows of 16 bytes and a register.
//!
//! Lane l holds elements 2t and 2t+1 of row g (g = l / 4, t = l % 4), or of column g with `.trans`. Row r of matrix i
//! is addressed by lane 8i + r.

use crate::num::warp::Lanes;

/// The rows of one matrix.
pub type Rows = [[u8; 16]; 8];

/// The lane whose address operand names row `row` of matrix `matrix`.
#[inline(always)]
pub fn address_lane(matrix: usize, row: usize) -> usize {
    8 * matrix + row
}

/// The register each lane receives from `ldmatrix`.
pub fn load(rows: &Rows, transpose: bool) -> Lanes {
    let mut out = [0; 32];
    for (lane, out) in out.iter_mut().enumerate() {
        let (g, t) = (lane / 4, lane % 4);
        *out = match transpose {
            false => u32::from_le_bytes([0, 1, 2, 3].map(|byte| rows[g][4 * t + byte])),
            true => element(rows, 2 * t, g) as u32 | (element(rows, 2 * t + 1, g) as u32) << 16,
        };
    }
    out
}

/// The rows `stmatrix` writes from a register.
pub fn store(register: &Lanes, transpose: bool) -> Rows {
    let mut rows = [[0; 16]; 8];
    for (lane, value) in register.iter().enumerate() {
        let (g, t) = (lane / 4, lane % 4);
        for (half, value) in [*value as u16, (*value >> 16) as u16].into_iter().enumerate() {
            let (row, column) = if transpose { (2 * t + half, g) } else { (g, 2 * t + half) };
            rows[row][2 * column..2 * column + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    rows
}

/// `movmatrix.sync.aligned.m8n8.trans.b16`: the transpose, register to register.
pub fn transpose(register: &Lanes) -> Lanes {
    load(&store(register, false), true)
}

fn element(rows: &Rows, row: usize, column: usize) -> u16 {
    u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Element (r, c) is 16r + c.
    fn numbered() -> Rows {
        let mut rows = [[0; 16]; 8];
        for (r, row) in rows.iter_mut().enumerate() {
            for c in 0..8 {
                row[2 * c] = (16 * r + c) as u8;
            }
        }
        rows
    }

    #[test]
    fn lanes_hold_pairs_of_a_row_or_of_a_column() {
        let plain = load(&numbered(), false);
        assert_eq!(plain[0], 0x0001_0000);
        assert_eq!(plain[7], 0x0017_0016); // row 1, columns 6 and 7
        assert_eq!(plain[29], 0x0073_0072);
        let transposed = load(&numbered(), true);
        assert_eq!(transposed[0], 0x0010_0000);
        assert_eq!(transposed[7], 0x0071_0061); // rows 6 and 7 of column 1
    }

    #[test]
    fn stores_undo_loads() {
        let rows = numbered();
        assert_eq!(store(&load(&rows, false), false), rows);
        assert_eq!(store(&load(&rows, true), true), rows);
        assert_eq!(transpose(&load(&rows, false)), load(&rows, true));
        assert_eq!(transpose(&transpose(&load(&rows, false))), load(&rows, false));
        assert_eq!(address_lane(3, 7), 31);
    }
}
