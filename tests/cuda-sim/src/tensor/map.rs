//! The tensor map itself, and its 128 bytes.

use crate::matrix::Swizzle;
use crate::num::{Cast, Format, flush};

/// `CUtensorMapDataType`, without the packed 4- and 6-bit types of later cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DataType {
    U8,
    U16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
    Bf16,
    F32Ftz,
    Tf32,
    Tf32Ftz,
}

impl DataType {
    const ALL: [DataType; 13] = [
        DataType::U8,
        DataType::U16,
        DataType::U32,
        DataType::I32,
        DataType::U64,
        DataType::I64,
        DataType::F16,
        DataType::F32,
        DataType::F64,
        DataType::Bf16,
        DataType::F32Ftz,
        DataType::Tf32,
        DataType::Tf32Ftz,
    ];

    /// From the value of the C enumeration.
    pub fn from_raw(raw: u32) -> Option<DataType> {
        Self::ALL.get(raw as usize).copied()
    }

    pub fn bytes(self) -> u32 {
        use DataType::*;
        match self {
            U8 => 1,
            U16 | F16 | Bf16 => 2,
            U32 | I32 | F32 | F32Ftz | Tf32 | Tf32Ftz => 4,
            U64 | I64 | F64 => 8,
        }
    }

    pub fn is_float(self) -> bool {
        use DataType::*;
        matches!(self, F16 | F32 | F64 | Bf16 | F32Ftz | Tf32 | Tf32Ftz)
    }
}

/// Which elements one copy moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Elements along each dimension, before element strides thin them out.
    Tiled { extent: [u16; 5] },
    /// Corners of the bounding box for W, H, D (in that order) and the size of one column.
    Im2col { lower: [i16; 3], upper: [i16; 3], channels: u16, pixels: u16 },
}

/// An encoded tensor map. Dimension 0 is the innermost everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    pub(super) data_type: DataType,
    pub(super) rank: u8,
    pub(super) swizzle: Swizzle,
    /// Out-of-bounds elements are NaN, not zero.
    pub(super) fill_nan: bool,
    pub(super) address: u64,
    /// Elements along each dimension, up to 2^32.
    pub(super) dims: [u64; 5],
    /// Bytes from one element to the next along each dimension; the first is the element's size.
    pub(super) strides: [u64; 5],
    pub(super) element_strides: [u8; 5],
    pub(super) mode: Mode,
}

const MAGIC: u64 = u64::from_le_bytes(*b"simTMAP1");

/// Appends little-endian fields to the image, or takes them from it.
struct Cursor<'a> {
    bytes: &'a mut [u8; 128],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, value: u64, bytes: usize) {
        self.bytes[self.at..self.at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        self.at += bytes;
    }

    fn take(&mut self, bytes: usize) -> u64 {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.bytes[self.at..self.at + bytes]);
        self.at += bytes;
        u64::from_le_bytes(value)
    }
}

impl TensorMap {
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn swizzle(&self) -> Swizzle {
        self.swizzle
    }

    pub fn is_im2col(&self) -> bool {
        matches!(self.mode, Mode::Im2col { .. })
    }

    /// What out-of-bounds elements of a load become, repeated over 16 bytes.
    pub fn fill(&self) -> [u8; 16] {
        let element: u64 = match (self.fill_nan, self.data_type.bytes()) {
            (false, _) => 0,
            (true, 2) => 0x7fff_7fff_7fff_7fff,
            (true, 4) => 0x7fff_ffff_7fff_ffff,
            (true, _) => 0x7fff_ffff_ffff_ffff,
        };
        std::array::from_fn(|i| element.to_le_bytes()[i % 8])
    }

    /// What a load does to in-bounds elements on their way: the ftz types flush subnormals, the tf32 types round to
    /// nearest. `bytes` are whole elements.
    pub fn convert(&self, bytes: &mut [u8]) {
        let (ftz, tf32) = match self.data_type {
            DataType::F32Ftz => (true, false),
            DataType::Tf32 => (false, true),
            DataType::Tf32Ftz => (true, true),
            _ => return,
        };
        for element in bytes.chunks_exact_mut(4) {
            let mut x = f32::from_le_bytes([element[0], element[1], element[2], element[3]]);
            if ftz {
                x = flush(x);
            }
            let bits = if tf32 { Cast::NEAREST.f32(Format::TF32, x) } else { x.to_bits() };
            element.copy_from_slice(&bits.to_le_bytes());
        }
    }

    /// The map's 128 bytes. Their layout is the simulator's own; it ends in a checksum.
    pub fn to_bytes(&self) -> [u8; 128] {
        let mut image = [0; 128];
        let mut c = Cursor { bytes: &mut image, at: 0 };
        c.put(MAGIC, 8);
        c.put(self.data_type as u64, 1);
        c.put(self.rank as u64, 1);
        c.put(self.swizzle as u64, 1);
        c.put(self.fill_nan as u64, 1);
        c.put(self.is_im2col() as u64, 1);
        c.put(self.address, 8);
        for i in 0..5 {
            c.put(self.dims[i], 5);
            c.put(self.strides[i], 5);
            c.put(self.element_strides[i] as u64, 1);
        }
        match self.mode {
            Mode::Tiled { extent } => extent.into_iter().for_each(|n| c.put(n as u64, 2)),
            Mode::Im2col { lower, upper, channels, pixels } => {
                lower.into_iter().chain(upper).for_each(|corner| c.put(corner as u16 as u64, 2));
                c.put(channels as u64, 2);
                c.put(pixels as u64, 2);
            }
        }
        debug_assert!(c.at <= 120);
        let sum = checksum(&image);
        image[120..].copy_from_slice(&sum.to_le_bytes());
        image
    }

    /// The map in these bytes, or nothing if no encoder wrote them as they are.
    pub fn from_bytes(bytes: &[u8; 128]) -> Option<TensorMap> {
        let mut image = *bytes;
        let sum = u64::from_le_bytes(bytes[120..].try_into().ok()?);
        let mut c = Cursor { bytes: &mut image, at: 0 };
        if c.take(8) != MAGIC || sum != checksum(bytes) {
            return None;
        }
        let data_type = DataType::from_raw(c.take(1) as u32)?;
        let rank = c.take(1) as u8;
        let swizzle = swizzle_from_raw(c.take(1) as u32)?;
        let (fill_nan, im2col) = (c.take(1) != 0, c.take(1) != 0);
        let address = c.take(8);
        let (mut dims, mut strides, mut element_strides) = ([0; 5], [0; 5], [0; 5]);
        for i in 0..5 {
            dims[i] = c.take(5);
            strides[i] = c.take(5);
            element_strides[i] = c.take(1) as u8;
        }
        let mode = match im2col {
            false => Mode::Tiled { extent: std::array::from_fn(|_| c.take(2) as u16) },
            true => Mode::Im2col {
                lower: std::array::from_fn(|_| c.take(2) as i16),
                upper: std::array::from_fn(|_| c.take(2) as i16),
                channels: c.take(2) as u16,
                pixels: c.take(2) as u16,
            },
        };
        Some(TensorMap { data_type, rank, swizzle, fill_nan, address, dims, strides, element_strides, mode })
    }
}

/// `CUtensorMapSwizzle` of this card.
pub(super) fn swizzle_from_raw(raw: u32) -> Option<Swizzle> {
    [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].get(raw as usize).copied()
}

/// FNV-1a of all but the checksum's own place.
fn checksum(image: &[u8; 128]) -> u64 {
    image[..120].iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ *b as u64).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            data_type: DataType::Bf16,
            rank: 4,
            swizzle: Swizzle::B64,
            fill_nan: true,
            address: 0x7f12_3456_7890,
            dims: [1 << 32, 2, 3, 4, 1],
            strides: [2, 16, (1 << 40) - 16, 64, 0],
            element_strides: [1, 2, 8, 1, 1],
            mode: Mode::Im2col { lower: [-128, 127, 0], upper: [-1, 5, 0], channels: 256, pixels: 1024 },
        }
    }

    #[test]
    fn bytes_round_trip_and_damage_shows() {
        let tiled = TensorMap { mode: Mode::Tiled { extent: [256, 1, 7, 3, 1] }, ..map() };
        for map in [map(), tiled] {
            let bytes = map.to_bytes();
            assert_eq!(TensorMap::from_bytes(&bytes), Some(map));
            for i in 0..128 {
                let mut damaged = bytes;
                damaged[i] ^= 0x10;
                assert_eq!(TensorMap::from_bytes(&damaged), None, "byte {i}");
            }
        }
        assert_eq!(TensorMap::from_bytes(&[0; 128]), None);
    }

    #[test]
    fn types_have_the_c_values() {
        assert_eq!(DataType::from_raw(9), Some(DataType::Bf16));
        assert_eq!(DataType::from_raw(7).map(DataType::bytes), Some(4));
        assert_eq!(DataType::from_raw(13), None);
        assert!(DataType::ALL.iter().enumerate().all(|(i, t)| *t as usize == i));
    }

    #[test]
    fn conversions_on_the_way() {
        let tf32 = TensorMap { data_type: DataType::Tf32, ..map() };
        let mut bytes = [0x3f80_1001u32, 1].map(u32::to_le_bytes).concat();
        tf32.convert(&mut bytes);
        assert_eq!(bytes[..4], 0x3f80_2000u32.to_le_bytes());
        let ftz = TensorMap { data_type: DataType::F32Ftz, ..map() };
        let mut bytes = [0x3f80_1001u32, 0x8000_0001].map(u32::to_le_bytes).concat();
        ftz.convert(&mut bytes);
        assert_eq!(bytes, [0x3f80_1001u32, 0x8000_0000].map(u32::to_le_bytes).concat());
        assert_eq!(map().fill()[..4], [0xff, 0x7f, 0xff, 0x7f]);
    }
}
