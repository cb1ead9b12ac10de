//! Modifiers of one arithmetic instruction, packed into its constant.

use super::types::Type;
use crate::num::half::{Half, Modifiers};
use crate::num::{Cast, Format, Rounding, Saturation};

/// Rounding, saturation and formats, packed in 32 bits so that an instruction can carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes(pub u32);

const FTZ: u32 = 1 << 3;
const SAT: u32 = 1 << 4;
const RELU: u32 = 1 << 5;
const NAN: u32 = 1 << 6;
const FINITE: u32 = 1 << 7;
const PACKED: u32 = 1 << 8;
const SIGNED: u32 = 1 << 9;
const FORMAT: u32 = 12;

impl Modes {
    pub fn with_rounding(self, rounding: Rounding) -> Self {
        let code = match rounding {
            Rounding::Rn => 0,
            Rounding::Rz => 1,
            Rounding::Rm => 2,
            Rounding::Rp => 3,
            Rounding::Rna => 4,
        };
        Self(self.0 & !7 | code)
    }

    fn with(self, bit: u32, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }

    pub fn with_ftz(self, on: bool) -> Self {
        self.with(FTZ, on)
    }

    pub fn with_sat(self, on: bool) -> Self {
        self.with(SAT, on)
    }

    pub fn with_relu(self, on: bool) -> Self {
        self.with(RELU, on)
    }

    /// NaN wins in `min` and `max`.
    pub fn with_nan(self, on: bool) -> Self {
        self.with(NAN, on)
    }

    /// `.satfinite`.
    pub fn with_finite(self, on: bool) -> Self {
        self.with(FINITE, on)
    }

    /// Two values in one register.
    pub fn with_packed(self, on: bool) -> Self {
        self.with(PACKED, on)
    }

    pub fn with_signed(self, on: bool) -> Self {
        self.with(SIGNED, on)
    }

    /// The small format of a type, packed or not; `None` for others.
    pub fn with_format(self, ty: Type) -> Option<Self> {
        let (code, packed) = match ty {
            Type::F16 => (0, false),
            Type::F16x2 => (0, true),
            Type::Bf16 => (1, false),
            Type::Bf16x2 => (1, true),
            Type::Tf32 => (2, false),
            Type::E4m3 => (3, false),
            Type::E4m3x2 => (3, true),
            Type::E5m2 => (4, false),
            Type::E5m2x2 => (4, true),
            _ => return None,
        };
        Some(Self(self.0 & !(15 << FORMAT) | code << FORMAT).with_packed(packed))
    }

    /// Bits of an integer, for saturating conversions.
    pub fn with_bits(self, bits: u32) -> Self {
        Self(self.0 & !(127 << 16) | bits << 16)
    }

    #[inline(always)]
    pub fn rounding(self) -> Rounding {
        match self.0 & 7 {
            0 => Rounding::Rn,
            1 => Rounding::Rz,
            2 => Rounding::Rm,
            3 => Rounding::Rp,
            _ => Rounding::Rna,
        }
    }

    #[inline(always)]
    pub fn ftz(self) -> bool {
        self.0 & FTZ != 0
    }

    #[inline(always)]
    pub fn nan(self) -> bool {
        self.0 & NAN != 0
    }

    #[inline(always)]
    pub fn relu(self) -> bool {
        self.0 & RELU != 0
    }

    #[inline(always)]
    pub fn packed(self) -> bool {
        self.0 & PACKED != 0
    }

    #[inline(always)]
    pub fn signed(self) -> bool {
        self.0 & SIGNED != 0
    }

    #[inline(always)]
    pub fn bits(self) -> u32 {
        self.0 >> 16 & 127
    }

    #[inline(always)]
    pub fn format(self) -> Format {
        match self.0 >> FORMAT & 15 {
            0 => Format::F16,
            1 => Format::BF16,
            2 => Format::TF32,
            3 => Format::E4M3,
            _ => Format::E5M2,
        }
    }

    #[inline(always)]
    pub fn half(self) -> Half {
        if self.0 >> FORMAT & 15 == 0 { Half::F16 } else { Half::Bf16 }
    }

    #[inline(always)]
    pub fn half_modifiers(self) -> Modifiers {
        Modifiers { ftz: self.ftz(), sat: self.0 & SAT != 0, relu: self.relu() }
    }

    #[inline(always)]
    pub fn cast(self) -> Cast {
        let saturation = match (self.0 & SAT != 0, self.0 & FINITE != 0) {
            (true, _) => Saturation::Unit,
            (_, true) => Saturation::Finite,
            _ => Saturation::None,
        };
        Cast { rounding: self.rounding(), relu: self.relu(), saturation }
    }
}
