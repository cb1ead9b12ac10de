//! `cvt` among all types.

use super::*;
use crate::num::Rounding;
use crate::ptx::modes::Modes;
use Alu::*;

fn is_float(ty: Type) -> bool {
    matches!(ty, Type::F32 | Type::F64 | Type::F16 | Type::Bf16)
}

fn is_small(ty: Type) -> bool {
    Modes::default().with_format(ty).is_some()
}

impl<'a> Decoder<'_, '_, 'a> {
    pub(super) fn cvt(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let integral = st.m.integer_rounding();
        let rounding = st.m.rounding();
        let (ftz, sat, relu) = (st.m.flag("ftz"), st.m.flag("sat"), st.m.flag("relu"));
        let finite = st.m.flag("satfinite");
        let (to, from) = (st.ty()?, st.ty()?);
        let modes = Modes::default()
            .with_rounding(integral.or(rounding).unwrap_or(Rounding::Rn))
            .with_ftz(ftz)
            .with_sat(sat)
            .with_relu(relu)
            .with_finite(finite);
        // Packed results of two f32, and pairs of eight-bit floats.
        match (to, from) {
            (Type::F16x2 | Type::Bf16x2 | Type::E4m3x2 | Type::E5m2x2, Type::F32) => {
                st.at_most(3)?;
                let d = self.destination(st.operand(0)?, to, st.scope)?;
                let a = self.source(st.operand(1)?, from, st.scope)?;
                let b = self.source(st.operand(2)?, from, st.scope)?;
                let modes = modes.with_format(to).ok_or("format")?;
                let plain = modes == Modes::default().with_format(to).ok_or("format")?;
                let f = match to {
                    Type::F16x2 if plain => CvtF32x2ToF16x2,
                    Type::Bf16x2 if plain => CvtF32x2ToBf16x2,
                    _ => CvtF32x2ToSmall,
                };
                self.alu(st, f, d, &[a, b], modes.0);
                return Ok(());
            }
            (Type::F16x2, Type::E4m3x2 | Type::E5m2x2) => {
                let modes = modes.with_format(from).ok_or("format")?;
                return self.plain(CvtFp8x2ToF16x2, to, from, st, modes.0);
            }
            (Type::E4m3x2 | Type::E5m2x2, Type::F16x2) => {
                let modes = modes.with_format(to).ok_or("format")?;
                return self.plain(CvtF16x2ToFp8x2, to, from, st, modes.0);
            }
            _ => {}
        }
        st.at_most(2)?;
        let (d, d_wide) = self.destination_any(st.operand(0)?, to, st.scope)?;
        let (a, a_wide) = self.source_any(st.operand(1)?, from, st.scope)?;
        let a = if a_wide && !from.wide() { self.narrowed(st, a) } else { a };
        if d_wide && !to.wide() {
            // The result goes through 32 bits and is extended by its own sign.
            let narrow = self.temporary(false);
            self.convert(st, narrow, a, to, from, integral.is_some(), modes, sat)?;
            let narrow_signed = if to.signed() && to.size() < 4 {
                let full = self.temporary(false);
                self.alu(st, if to.size() == 1 { CvtS8 } else { CvtS16 }, full, &[narrow], 0);
                full
            } else {
                narrow
            };
            self.alu(st, if to.signed() { CvtS32ToS64 } else { CvtU32ToU64 }, d, &[narrow_signed], 0);
            return Ok(());
        }
        self.convert(st, d, a, to, from, integral.is_some(), modes, sat)?;
        if to.signed() && to.size() < 4 && self.declared_size(st.operand(0)?, st.scope) == Some(4) {
            self.alu(st, if to.size() == 1 { CvtS8 } else { CvtS16 }, d, &[d], 0);
        }
        Ok(())
    }

    /// The low half of a 64-bit register.
    fn narrowed(&mut self, st: &Decode<'_, '_, 'a>, a: Reg) -> Reg {
        let low = self.temporary(false);
        self.alu(st, CvtB64ToB32, low, &[a], 0);
        low
    }

    #[allow(clippy::too_many_arguments)]
    fn convert(
        &mut self,
        st: &mut Decode<'_, '_, 'a>,
        d: Reg,
        a: Reg,
        to: Type,
        from: Type,
        integral: bool,
        modes: Modes,
        sat: bool,
    ) -> Result<(), Refusal> {
        let imm = modes.0;
        match (is_float(to) || is_small(to), is_float(from) || is_small(from)) {
            (false, false) => self.integers(st, d, a, to, from, sat),
            (true, false) => {
                let f32 = |this: &mut Self, d: Reg, st: &mut Decode<'_, '_, 'a>| -> Result<(), Refusal> {
                    match from {
                        // Exact in f32 or rounded once: the device rounds the integer itself.
                        Type::U64 => this.alu(st, CvtU64ToF32, d, &[a], imm),
                        Type::S64 => this.alu(st, CvtS64ToF32, d, &[a], imm),
                        _ => {
                            let wide = this.extended(st, a, from)?;
                            this.alu(st, CvtS64ToF32, d, &[wide], imm);
                        }
                    }
                    Ok(())
                };
                let near = modes.rounding() == Rounding::Rn && !sat;
                match (to, from) {
                    (Type::F32, Type::S32) if near => self.alu(st, CvtS32ToF32, d, &[a], 0),
                    (Type::F32, Type::U32) if near => self.alu(st, CvtU32ToF32, d, &[a], 0),
                    (Type::F32, _) => {
                        f32(self, d, st)?;
                        if sat {
                            self.alu(st, SatF32, d, &[d], 0);
                        }
                    }
                    (Type::F64, Type::U64) => self.alu(st, CvtU64ToF64, d, &[a], imm),
                    (Type::F64, Type::S64) => self.alu(st, CvtS64ToF64, d, &[a], imm),
                    (Type::F64, _) => {
                        let wide = self.extended(st, a, from)?;
                        self.alu(st, CvtS64ToF64, d, &[wide], imm);
                    }
                    (Type::F16 | Type::Bf16, _) => {
                        let modes = modes.with_format(to).ok_or("format")?.with_signed(from != Type::U64);
                        let wide = if from.wide() { a } else { self.extended(st, a, from)? };
                        self.alu(st, CvtInt64ToHalf, d, &[wide], modes.0);
                    }
                    _ => return Err(format!("{from:?} to {to:?} is not modelled")),
                }
                Ok(())
            }
            (false, true) => {
                if !integral {
                    return Err("no integer rounding".into());
                }
                let a = self.as_f32(st, a, from)?;
                let modes = modes.with_bits(to.size() as u32 * 8).with_signed(to.signed());
                let f = match (from == Type::F64, to.wide()) {
                    (false, false) if to.size() == 4 && to.signed() => CvtF32ToS32,
                    (false, false) => CvtF32ToInt32,
                    (false, true) => CvtF32ToInt64,
                    (true, false) => CvtF64ToInt32,
                    (true, true) => CvtF64ToInt64,
                };
                self.alu(st, f, d, &[a], modes.0);
                Ok(())
            }
            (true, true) => self.floats(st, d, a, to, from, integral, modes, sat),
        }
    }

    /// A 16-bit float as f32, exactly; f32 and f64 stay.
    fn as_f32(&mut self, st: &Decode<'_, '_, 'a>, a: Reg, from: Type) -> Result<Reg, Refusal> {
        let f = match from {
            Type::F16 => CvtF16ToF32,
            Type::Bf16 => CvtBf16ToF32,
            _ => return Ok(a),
        };
        let full = self.temporary(false);
        self.alu(st, f, full, &[a], 0);
        Ok(full)
    }

    /// An integer of at most 32 bits as s64, by its own sign.
    fn extended(&mut self, st: &Decode<'_, '_, 'a>, a: Reg, from: Type) -> Result<Reg, Refusal> {
        let (low, wide) = (self.temporary(false), self.temporary(true));
        let f = match from {
            Type::U8 => CvtU8,
            Type::U16 => CvtU16,
            Type::S8 => CvtS8,
            Type::S16 => CvtS16,
            Type::U32 | Type::S32 => MovB32,
            _ => return Err(format!("conversion from {from:?} is not modelled")),
        };
        self.alu(st, f, low, &[a], 0);
        self.alu(st, if from.signed() { CvtS32ToS64 } else { CvtU32ToU64 }, wide, &[low], 0);
        Ok(wide)
    }

    /// Integer to integer: extension by the source's sign, then truncation or saturation.
    fn integers(
        &mut self,
        st: &mut Decode<'_, '_, 'a>,
        d: Reg,
        a: Reg,
        to: Type,
        from: Type,
        sat: bool,
    ) -> Result<(), Refusal> {
        if sat {
            let wide = if from.wide() { a } else { self.extended(st, a, from)? };
            let modes = Modes::default().with_bits(to.size() as u32 * 8).with_signed(to.signed());
            let f = if from == Type::U64 { CvtSatUint } else { CvtSatInt };
            if to.wide() {
                self.alu(st, f, d, &[wide], modes.0);
            } else {
                let full = self.temporary(true);
                self.alu(st, f, full, &[wide], modes.0);
                self.alu(st, CvtB64ToB32, d, &[full], 0);
                self.truncated(st, d, to);
            }
            return Ok(());
        }
        match (to.size(), from.size()) {
            (8, 8) => self.alu(st, MovB64, d, &[a], 0),
            (8, 4) => self.alu(st, if from.signed() { CvtS32ToS64 } else { CvtU32ToU64 }, d, &[a], 0),
            (8, _) => {
                let wide = self.extended(st, a, from)?;
                self.alu(st, MovB64, d, &[wide], 0);
            }
            (_, 8) => {
                self.alu(st, CvtB64ToB32, d, &[a], 0);
                self.truncated(st, d, to);
            }
            (to_size, from_size) => {
                let f = match from {
                    _ if to_size <= from_size => MovB32,
                    Type::U8 => CvtU8,
                    Type::U16 => CvtU16,
                    Type::S8 => CvtS8,
                    Type::S16 => CvtS16,
                    _ => MovB32,
                };
                self.alu(st, f, d, &[a], 0);
                self.truncated(st, d, to);
            }
        }
        Ok(())
    }

    /// Leaves the bits of a 8- or 16-bit result only; rows of 16-bit registers have zeros above. An s8 in a wider
    /// register is extended by its sign.
    fn truncated(&mut self, st: &Decode<'_, '_, 'a>, d: Reg, to: Type) {
        match to {
            Type::U8 | Type::B8 => self.alu(st, CvtU8, d, &[d], 0),
            Type::S8 => self.alu(st, CvtS8ToB16, d, &[d], 0),
            Type::U16 | Type::S16 | Type::B16 => self.alu(st, CvtU16, d, &[d], 0),
            _ => {}
        }
    }

    /// Float to float.
    #[allow(clippy::too_many_arguments)]
    fn floats(
        &mut self,
        st: &mut Decode<'_, '_, 'a>,
        d: Reg,
        a: Reg,
        to: Type,
        from: Type,
        integral: bool,
        modes: Modes,
        sat: bool,
    ) -> Result<(), Refusal> {
        let plain = modes == Modes::default();
        match (to, from) {
            (Type::F32, Type::F16) if plain && !integral => self.alu(st, CvtF16ToF32, d, &[a], 0),
            (Type::F32, Type::Bf16) if plain && !integral => self.alu(st, CvtBf16ToF32, d, &[a], 0),
            (Type::F16, Type::F32) if plain && !integral => self.alu(st, CvtF32ToF16, d, &[a], 0),
            (Type::Bf16, Type::F32) if plain && !integral => self.alu(st, CvtF32ToBf16, d, &[a], 0),
            (Type::F64, Type::F64) => self.alu(st, if integral { RintF64 } else { MovB64 }, d, &[a], modes.0),
            (Type::F64, _) => {
                let a = self.as_f32(st, a, from)?;
                self.alu(st, CvtF32ToF64, d, &[a], modes.0);
            }
            (Type::F32, Type::F64) => {
                self.alu(st, CvtF64ToF32, d, &[a], modes.0);
                if modes.ftz() {
                    self.alu(st, FtzF32, d, &[d], 0);
                }
                if sat {
                    self.alu(st, SatF32, d, &[d], 0);
                }
            }
            (_, Type::F64) => {
                let modes = modes.with_format(to).ok_or_else(|| format!("{from:?} to {to:?}"))?;
                self.alu(st, CvtF64ToSmall, d, &[a], modes.0);
            }
            (_, Type::F32 | Type::F16 | Type::Bf16) => {
                let mut a = self.as_f32(st, a, from)?;
                if modes.ftz() {
                    let flushed = self.temporary(false);
                    self.alu(st, FtzF32, flushed, &[a], 0);
                    a = flushed;
                }
                if integral {
                    let whole = self.temporary(false);
                    self.alu(st, RintF32, whole, &[a], modes.0);
                    a = whole;
                }
                match modes.with_format(to) {
                    Some(modes) => self.alu(st, CvtF32ToSmall, d, &[a], modes.0),
                    None => self.alu(st, if sat { SatF32 } else { MovB32 }, d, &[a], 0),
                }
            }
            _ => return Err(format!("{from:?} to {to:?} is not modelled")),
        }
        Ok(())
    }
}
