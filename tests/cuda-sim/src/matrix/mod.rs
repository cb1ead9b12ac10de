//! Matrix instructions: fragment layouts, shared-memory descriptors and arithmetic, as pure functions on registers and
//! bytes.
//!
//! Operands are widened to f32 (exactly, for every type) and multiplied by one loop. It accumulates in f32, in order of
//! k, but where a card's tensor cores multiply 8-bit floats in fewer bits ([`Sums`]). Products of operands are exact in
//! f32, so results are the same on every host. A real card adds several products before rounding, by truncation: last
//! bits differ from it.

pub mod descriptor;
pub mod fragment;
pub mod ldmatrix;
pub mod mma;
mod narrow;
mod product;
pub mod wgmma;

pub use descriptor::{Descriptor, Swizzle};
pub use mma::Mma;
pub use product::Sums;
pub use wgmma::Wgmma;

/// Type of an operand's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
    F64,
}

impl Element {
    /// The type's name in PTX.
    pub fn parse(name: &str) -> Option<Element> {
        Some(match name {
            "f16" => Element::F16,
            "bf16" => Element::Bf16,
            "tf32" => Element::Tf32,
            "e4m3" => Element::E4m3,
            "e5m2" => Element::E5m2,
            "s8" => Element::S8,
            "u8" => Element::U8,
            "f64" => Element::F64,
            _ => return None,
        })
    }

    pub fn bytes(self) -> usize {
        match self {
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 1,
            Element::F16 | Element::Bf16 => 2,
            Element::Tf32 => 4,
            Element::F64 => 8,
        }
    }

    /// Elements of one 32-bit register.
    pub fn per_register(self) -> usize {
        4 / self.bytes().min(4)
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Element::S8 | Element::U8)
    }

    pub fn is_fp8(self) -> bool {
        matches!(self, Element::E4m3 | Element::E5m2)
    }
}

/// Type of the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulator {
    F16,
    F32,
    S32,
    F64,
}

impl Accumulator {
    /// The type's name in PTX.
    pub fn parse(name: &str) -> Option<Accumulator> {
        Some(match name {
            "f16" => Accumulator::F16,
            "f32" => Accumulator::F32,
            "s32" => Accumulator::S32,
            "f64" => Accumulator::F64,
            _ => return None,
        })
    }
}
