//! The box that one tensor copy moves, as pieces of contiguous memory.

use super::map::{Mode, TensorMap};
use crate::matrix::Swizzle;

/// A run of bytes, contiguous on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Address in shared memory, the swizzle applied.
    pub shared: u32,
    /// Address in global memory; `None` where the tensor ends: loads fill, stores and reductions skip.
    pub global: Option<u64>,
    pub bytes: u32,
}

impl TensorMap {
    /// Bytes of shared memory that one copy fills: what it adds to an mbarrier's transaction count, whether in bounds
    /// or not.
    pub fn box_bytes(&self) -> u32 {
        let elements = match self.mode {
            Mode::Tiled { .. } => self.counts().into_iter().product(),
            Mode::Im2col { channels, pixels, .. } => channels as u32 * pixels as u32,
        };
        elements * self.data_type.bytes()
    }

    /// Elements of a tiled box along each dimension, element strides considered.
    fn counts(&self) -> [u32; 5] {
        match self.mode {
            Mode::Tiled { extent } => {
                std::array::from_fn(|i| (extent[i] as u32).div_ceil(self.element_strides[i] as u32))
            }
            Mode::Im2col { .. } => [1; 5],
        }
    }

    /// Calls back with every piece of the box at `coordinates`, in order of shared memory before the swizzle.
    /// `shared` is the box's address in shared memory, `offsets` the im2col offsets of W, H, D. Stores in im2col mode
    /// have none.
    ///
    /// # Errors
    /// The callback's.
    pub fn pieces<E>(
        &self,
        coordinates: &[i32],
        offsets: &[u16],
        shared: u32,
        mut f: impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        debug_assert_eq!(coordinates.len(), self.rank());
        match self.mode {
            Mode::Tiled { .. } => self.tiled(coordinates, shared, &mut f),
            Mode::Im2col { lower, upper, channels, pixels } => {
                self.im2col(coordinates, offsets, shared, [lower, upper], [channels, pixels], &mut f)
            }
        }
    }

    fn tiled<E>(&self, coordinates: &[i32], shared: u32, f: &mut impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        let counts = self.counts();
        let mut start = [0i64; 5];
        start.iter_mut().zip(coordinates).for_each(|(s, c)| *s = *c as i64);
        let pitch = counts[0] * self.data_type.bytes();
        let mut at = shared;
        let mut index = [0u32; 5];
        loop {
            let mut row = Some(self.address);
            for i in 1..self.rank() {
                let x = start[i] + (index[i] * self.element_strides[i] as u32) as i64;
                row = row.filter(|_| (0..self.dims[i] as i64).contains(&x)).map(|a| a + x as u64 * self.strides[i]);
            }
            self.row(row, start[0], counts[0], at, f)?;
            at += pitch;
            let mut i = 1;
            loop {
                if i >= self.rank() {
                    return Ok(());
                }
                index[i] += 1;
                if index[i] < counts[i] {
                    break;
                }
                index[i] = 0;
                i += 1;
            }
        }
    }

    /// Pixels in order W, H, D, N within the bounding box, from the one at `coordinates` on; `offsets` move each.
    fn im2col<E>(
        &self,
        coordinates: &[i32],
        offsets: &[u16],
        shared: u32,
        [lower, upper]: [[i16; 3]; 2],
        [channels, pixels]: [u16; 2],
        f: &mut impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let last = self.rank() - 1;
        let mut pixel = [0i64; 5];
        pixel.iter_mut().zip(coordinates).for_each(|(p, c)| *p = *c as i64);
        let pitch = channels as u32 * self.data_type.bytes();
        for n in 0..pixels as u32 {
            let mut row = Some(self.address);
            for (i, base) in pixel.iter().enumerate().take(last + 1).skip(1) {
                let offset = if i < last { offsets.get(i - 1).copied().unwrap_or(0) } else { 0 };
                let x = base + offset as i64;
                row = row.filter(|_| (0..self.dims[i] as i64).contains(&x)).map(|a| a + x as u64 * self.strides[i]);
            }
            self.row(row, pixel[0], channels as u32, shared + n * pitch, f)?;
            for i in 1..=last {
                if i == last {
                    pixel[i] += 1;
                    break;
                }
                pixel[i] += self.element_strides[i] as i64;
                if pixel[i] < self.dims[i] as i64 + upper[i - 1] as i64 {
                    break;
                }
                pixel[i] = lower[i - 1] as i64;
            }
        }
        Ok(())
    }

    /// The pieces of `count` elements along dimension 0 from `x`, in the row at `row` (`None`: all out of bounds).
    fn row<E>(
        &self,
        row: Option<u64>,
        x: i64,
        count: u32,
        shared: u32,
        f: &mut impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = self.data_type.bytes();
        let total = count * size;
        // In-bounds bytes of the row: [first, end).
        let inside = |edge: i64| ((edge - x).clamp(0, count as i64) as u32) * size;
        let (first, end) = if row.is_some() { (inside(0), inside(self.dims[0] as i64)) } else { (total, total) };
        let mut at = 0;
        while at < total {
            let mut stop = if at < first {
                first
            } else if at < end {
                end
            } else {
                total
            };
            if self.swizzle != Swizzle::None {
                stop = stop.min((at / 16 + 1) * 16);
            }
            let global = row.filter(|_| (first..end).contains(&at));
            f(Piece {
                shared: self.swizzle.apply(shared + at),
                global: global.map(|a| a.wrapping_add_signed(x * size as i64 + at as i64)),
                bytes: stop - at,
            })?;
            at = stop;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Im2colArgs, TiledArgs};

    /// A tensor whose every byte is its address (from 16, modulo 251), and the box a map cuts from it.
    fn load(map: &TensorMap, coordinates: &[i32], offsets: &[u16], shared: u32) -> Vec<u8> {
        let mut out = vec![0xee; shared as usize + map.box_bytes() as usize];
        let mut seen = 0;
        map.pieces(coordinates, offsets, shared, |p: Piece| {
            for i in 0..p.bytes {
                out[(p.shared + i) as usize] = p.global.map_or(0, |a| byte(a + i as u64));
            }
            seen += p.bytes;
            Ok::<(), ()>(())
        })
        .expect("the callback does not fail");
        assert_eq!(seen, map.box_bytes());
        out.split_off(shared as usize)
    }

    fn byte(address: u64) -> u8 {
        1 + (address % 251) as u8
    }

    /// One element of the tensor, or zeros outside it.
    fn element(dims: &[u64], strides: &[u64], size: u64, at: &[i64]) -> Vec<u8> {
        if at.iter().zip(dims).any(|(x, d)| *x < 0 || *x >= *d as i64) {
            return vec![0; size as usize];
        }
        let outer: u64 = at[1..].iter().zip(strides).map(|(x, s)| *x as u64 * s).sum();
        (0..size).map(|i| byte(16 + at[0] as u64 * size + outer + i)).collect()
    }

    #[test]
    fn tiled_boxes_of_every_rank() {
        let dims = [11, 7, 5, 4, 3];
        let strides = [48, 48 * 7 + 16, 2000, 9008];
        for rank in 1..=5 {
            for swizzle in 0..2 {
                for steps in [[1; 5], [1, 2, 1, 3, 1]] {
                    let box_dim = [8, 4, 3, 3, 2];
                    let map = TensorMap::encode_tiled(&TiledArgs {
                        data_type: if swizzle == 0 { 9 } else { 7 },
                        rank,
                        address: 16,
                        global_dim: &dims,
                        global_strides: &strides,
                        box_dim: &box_dim,
                        element_strides: &steps,
                        interleave: 0,
                        swizzle,
                        l2_promotion: 0,
                        oob_fill: 0,
                    })
                    .expect("legal");
                    let rank = rank as usize;
                    let size = map.data_type().bytes() as u64;
                    for start in [[0, 0, 0, 0, 0], [5, 4, 3, 2, 1], [-3, -1, -2, 0, -1], [40, 0, 0, 0, 0]] {
                        let got = load(&map, &start[..rank], &[], 256);
                        let counts: Vec<u32> =
                            (0..rank).map(|i| if i == 0 { 8 } else { box_dim[i].div_ceil(steps[i]) }).collect();
                        let total: u32 = counts.iter().product();
                        for n in 0..total {
                            let (mut rest, mut at) = (n, vec![]);
                            for i in 0..rank {
                                let step = if i == 0 { 1 } else { steps[i] };
                                at.push(start[i] as i64 + (rest % counts[i] * step) as i64);
                                rest /= counts[i];
                            }
                            let linear = 256 + n * size as u32;
                            let placed = (map.swizzle().apply(linear) - 256) as usize;
                            let want = element(&dims, &strides, size, &at);
                            assert_eq!(got[placed..placed + size as usize], want, "rank {rank} {start:?} element {n}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn im2col_is_the_convolution_it_stands_for() {
        // 3×3 filter, padding 1, stride 2, of 8 channels of f32 (32 bytes), 2 images of 5×6 (W×H).
        let (dims, strides) = ([8u64, 5, 6, 2], [32u64, 160, 960]);
        let map = TensorMap::encode_im2col(&Im2colArgs {
            data_type: 7,
            rank: 4,
            address: 16,
            global_dim: &dims,
            global_strides: &strides,
            lower_corner: &[-1, -1],
            upper_corner: &[-1, -1],
            channels_per_pixel: 8,
            pixels_per_column: 10,
            element_strides: &[1, 2, 2, 1],
            interleave: 0,
            swizzle: 1,
            l2_promotion: 0,
            oob_fill: 0,
        })
        .expect("legal");
        // Output pixels: 3 along W, 3 along H.
        let output = |pixel: i64| (pixel % 3, pixel / 3 % 3, pixel / 9);
        for first in [0i64, 4, 13] {
            let (q, p, n) = output(first);
            for (s, r) in [(0u16, 0u16), (1, 2), (2, 1)] {
                let start = [0, (q * 2 - 1) as i32, (p * 2 - 1) as i32, n as i32];
                let got = load(&map, &start, &[s, r], 512);
                for pixel in 0..10 {
                    let (q, p, n) = output(first + pixel);
                    for c in 0..8 {
                        let at = [c, q * 2 - 1 + s as i64, p * 2 - 1 + r as i64, n];
                        let linear = 512 + (pixel * 32 + c * 4) as u32;
                        let placed = (map.swizzle().apply(linear) - 512) as usize;
                        assert_eq!(got[placed..placed + 4], element(&dims, &strides, 4, &at), "{first} {pixel} {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn unswizzled_rows_are_one_piece_and_edges_cut_them() {
        let map = TensorMap::encode_tiled(&TiledArgs {
            data_type: 9,
            rank: 2,
            address: 0x1000,
            global_dim: &[100, 3],
            global_strides: &[208],
            box_dim: &[64, 2],
            element_strides: &[1, 1],
            interleave: 0,
            swizzle: 0,
            l2_promotion: 0,
            oob_fill: 0,
        })
        .expect("legal");
        let mut pieces = vec![];
        map.pieces(&[90, 2], &[], 128, |p| {
            pieces.push(p);
            Ok::<(), ()>(())
        })
        .expect("the callback does not fail");
        let piece = |shared, global, bytes| Piece { shared, global, bytes };
        let want = [piece(128, Some(0x1000 + 416 + 180), 20), piece(148, None, 108), piece(256, None, 128)];
        assert_eq!(pieces, want);
    }
}
