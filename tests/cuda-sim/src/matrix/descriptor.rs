//! The 64-bit matrix descriptor of `wgmma`: where an operand's 16-byte pieces lie in shared memory.
//!
//! An operand is always 32 bytes wide along k. The hardware walks it in pieces of 16 bytes; with S the swizzle's span
//! (32, 64 or 128 bytes) and the two byte offsets L (leading) and B (stride):
//!
//! | major | swizzle | address of a piece, less the start |
//! |---|---|---|
//! | k (piece p of row r) | none | `16·(r % 8) + B·(r / 8) + L·p` |
//! | k | S | `S·(r % 8) + B·(r / 8) + 16·p` |
//! | mn (piece p of row k) | none | `16·(k % 8) + L·(k / 8) + B·p` |
//! | mn | S | `S·(k % 8) + B·(k / 8) + 16·(p % (S / 16)) + L·(p / (S / 16))` |
//!
//! Then address bits from 7 up are exclusive-or'ed into bits from 4 up (3 bits for 128, 2 for 64, 1 for 32), on the
//! absolute shared-memory address, as tensor copies write it.

/// How 16-byte pieces are permuted within a span of 32, 64 or 128 bytes, by tensor copies and by `wgmma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

impl Swizzle {
    /// Bytes of the span, 16 without a swizzle.
    pub fn span(self) -> u32 {
        match self {
            Swizzle::None => 16,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// Where the pattern repeats: destinations and operands start at multiples of this, or name a base offset.
    pub fn period(self) -> u32 {
        match self {
            Swizzle::None => 16,
            swizzle => 8 * swizzle.span(),
        }
    }

    /// The address a byte really lies at.
    #[inline(always)]
    pub fn apply(self, address: u32) -> u32 {
        self.apply_from(address, 0)
    }

    /// As [`Swizzle::apply`], where the pattern starts `base` rows of 128 bytes off its period.
    #[inline(always)]
    pub fn apply_from(self, address: u32, base: u32) -> u32 {
        let mask = self.span() / 16 - 1;
        address ^ ((address >> 7).wrapping_sub(base) & mask) << 4
    }
}

/// A decoded descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Shared-memory address of the first piece, of 18 bits.
    pub start: u32,
    pub leading: u32,
    pub stride: u32,
    pub base_offset: u32,
    pub swizzle: Swizzle,
}

/// Bits of a descriptor that have no meaning and must be zero.
const RESERVED: u64 = 0b11 << 14 | 0b11 << 30 | 0b111 << 46 | 0x3ff << 52;

impl Descriptor {
    /// # Errors
    /// Reserved bits that are set.
    pub fn from_bits(bits: u64) -> Result<Descriptor, String> {
        if bits & RESERVED != 0 {
            return Err(format!("matrix descriptor {bits:#018x} sets reserved bits {:#x}", bits & RESERVED));
        }
        let field = |at: u32| (bits >> at & 0x3fff) as u32 * 16;
        Ok(Descriptor {
            start: field(0),
            leading: field(16),
            stride: field(32),
            base_offset: (bits >> 49 & 7) as u32,
            swizzle: match bits >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
        })
    }

    /// The bits a kernel would build.
    pub fn to_bits(self) -> u64 {
        let encode = |bytes: u32| ((bytes & 0x3ffff) >> 4) as u64;
        let mode = match self.swizzle {
            Swizzle::None => 0,
            Swizzle::B128 => 1,
            Swizzle::B64 => 2,
            Swizzle::B32 => 3u64,
        };
        encode(self.start)
            | encode(self.leading) << 16
            | encode(self.stride) << 32
            | (self.base_offset as u64) << 49
            | mode << 62
    }

    /// Addresses of a k-major operand's pieces: two of each of `rows` rows, in that order.
    pub fn k_major(self, rows: usize, out: &mut Vec<u32>) {
        let (row, piece) = match self.swizzle {
            Swizzle::None => (16, self.leading),
            swizzle => (swizzle.span(), 16),
        };
        out.clear();
        for r in 0..rows as u32 {
            let at = self.start + row * (r % 8) + self.stride * (r / 8);
            out.extend([self.place(at), self.place(at + piece)]);
        }
    }

    /// Addresses of an mn-major operand's pieces (8 elements of 16 bits): `mn / 8` of each of 16 rows of k.
    pub fn mn_major(self, mn: usize, out: &mut Vec<u32>) {
        let per_span = self.swizzle.span() / 16;
        // Without a swizzle the two offsets change places.
        let (next_span, next_rows) = match self.swizzle {
            Swizzle::None => (self.stride, self.leading),
            _ => (self.leading, self.stride),
        };
        out.clear();
        for k in 0..16u32 {
            let at = self.start + self.swizzle.span() * (k % 8) + next_rows * (k / 8);
            for p in 0..mn as u32 / 8 {
                out.push(self.place(at + 16 * (p % per_span) + next_span * (p / per_span)));
            }
        }
    }

    #[inline(always)]
    fn place(self, address: u32) -> u32 {
        self.swizzle.apply_from(address & 0x3ffff, self.base_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(swizzle: Swizzle) -> Descriptor {
        Descriptor { start: 0x4000, leading: 0x200, stride: 0x400, base_offset: 0, swizzle }
    }

    #[test]
    fn bits_round_trip() {
        for swizzle in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128] {
            let d = Descriptor { base_offset: 5, ..descriptor(swizzle) };
            assert_eq!(Descriptor::from_bits(d.to_bits()), Ok(d));
        }
        // The usual k-major 128-byte one: start / 16, leading 1, stride 1024 / 16, mode 1 in the top bits.
        let bits = 0x400 | 1 << 16 | 64 << 32 | 1 << 62;
        let d = Descriptor::from_bits(bits).expect("no reserved bits");
        assert_eq!((d.start, d.leading, d.stride, d.swizzle), (0x4000, 16, 1024, Swizzle::B128));
        assert!(Descriptor::from_bits(bits | 1 << 53).is_err());
    }

    #[test]
    fn swizzles_permute_their_period() {
        for swizzle in [Swizzle::B32, Swizzle::B64, Swizzle::B128] {
            let mut places: Vec<u32> = (0..1024).step_by(16).map(|a| swizzle.apply(a)).collect();
            assert!(places.iter().zip((0..1024).step_by(16)).all(|(p, a)| p / swizzle.span() == a / swizzle.span()));
            places.sort_unstable();
            assert!(places.iter().zip((0..1024).step_by(16)).all(|(p, a)| *p == a));
            assert_eq!(swizzle.apply(swizzle.period() + 48), swizzle.period() + swizzle.apply(48));
        }
        assert_eq!(Swizzle::B128.apply(0x380), 0x3f0);
        assert_eq!(Swizzle::B64.apply(0x180), 0x1b0);
        assert_eq!(Swizzle::B32.apply(0x080), 0x090);
        // A pattern that starts at row 3 sees row 3 unpermuted.
        assert_eq!(Swizzle::B128.apply_from(0x180, 3), 0x180);
        assert_eq!(Swizzle::B128.apply_from(0x100, 3), 0x170);
    }

    #[test]
    fn k_major_pieces() {
        let mut at = vec![];
        descriptor(Swizzle::B128).k_major(64, &mut at);
        assert_eq!(at.len(), 128);
        assert_eq!(&at[..4], &[0x4000, 0x4010, 0x4090, 0x4080]); // row 1 swaps its pieces
        assert_eq!(at[2 * 8], 0x4400); // row 8: one stride on
        descriptor(Swizzle::None).k_major(16, &mut at);
        assert_eq!(&at[..4], &[0x4000, 0x4200, 0x4010, 0x4210]);
        assert_eq!(at[2 * 9], 0x4410);
        // The next 16 of k within a 128-byte span: only the start moves, by 32 bytes.
        Descriptor { start: 0x4020, ..descriptor(Swizzle::B128) }.k_major(8, &mut at);
        assert_eq!(&at[2..4], &[0x40b0, 0x40a0]);
    }

    #[test]
    fn mn_major_pieces() {
        let mut at = vec![];
        Descriptor { leading: 0x800, ..descriptor(Swizzle::B128) }.mn_major(128, &mut at);
        assert_eq!(at.len(), 16 * 16);
        assert_eq!((at[0], at[7], at[8]), (0x4000, 0x4070, 0x4800)); // 64 elements, then the leading offset
        assert_eq!((at[16], at[17]), (0x4090, 0x4080)); // k = 1
        assert_eq!(at[16 * 8], 0x4400); // k = 8: the stride offset
        descriptor(Swizzle::None).mn_major(16, &mut at);
        assert_eq!((at[0], at[1], at[2], at[16]), (0x4000, 0x4400, 0x4010, 0x4200));
        descriptor(Swizzle::B32).mn_major(32, &mut at);
        assert_eq!((at[1], at[2]), (0x4010, 0x4200));
    }
}
