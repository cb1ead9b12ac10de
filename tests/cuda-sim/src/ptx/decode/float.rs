//! Floating-point arithmetic and functions.

use super::*;
use crate::num::Rounding;
use crate::ptx::modes::Modes;
use Alu::*;

impl<'a> Decoder<'_, '_, 'a> {
    /// f32 and f64 forms of the shared roots.
    pub(super) fn float(&mut self, root: &str, ty: Type, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let rounding = st.m.rounding();
        let (ftz, sat) = (st.m.flag("ftz"), st.m.flag("sat"));
        let (nan, xorsign) = (st.m.flag("NaN"), st.m.flag("xorsign"));
        let xorsign = xorsign && st.m.flag("abs");
        let (approx, full) = (st.m.flag("approx"), st.m.flag("full"));
        let f32 = ty == Type::F32;
        if !f32 && (ftz || sat || nan || xorsign || approx || full) {
            return Err("modifier not allowed for .f64".into());
        }
        if approx || full {
            if root != "div" {
                return Err(".approx is not allowed here".into());
            }
            let imm = Modes::default().with_ftz(ftz).0;
            return self.plain(if full { DivFullF32 } else { DivApproxF32 }, ty, ty, st, imm);
        }
        let near = matches!(rounding, None | Some(Rounding::Rn));
        let imm = Modes::default().with_rounding(rounding.unwrap_or(Rounding::Rn)).with_ftz(ftz).0;
        let root = if root == "mad" { "fma" } else { root };
        // (instruction, flushes by itself)
        let (f, flushes) = match (root, f32, near) {
            ("add", true, true) => {
                if ftz {
                    (AddF32Ftz, true)
                } else {
                    (AddF32, false)
                }
            }
            ("sub", true, true) => {
                if ftz {
                    (SubF32Ftz, true)
                } else {
                    (SubF32, false)
                }
            }
            ("mul", true, true) => {
                if ftz {
                    (MulF32Ftz, true)
                } else {
                    (MulF32, false)
                }
            }
            ("fma", true, true) => {
                if ftz {
                    (FmaF32Ftz, true)
                } else {
                    (FmaF32, false)
                }
            }
            ("add", true, false) => (AddF32Round, false),
            ("sub", true, false) => (SubF32Round, false),
            ("mul", true, false) => (MulF32Round, false),
            ("fma", true, false) => (FmaF32Round, false),
            ("div", true, true) => (DivF32, false),
            ("div", true, false) => (DivF32Round, false),
            ("min", true, _) if xorsign => (XorSignMinF32, false),
            ("max", true, _) if xorsign => (XorSignMaxF32, false),
            ("min", true, _) => (if nan { MinNanF32 } else { MinF32 }, false),
            ("max", true, _) => (if nan { MaxNanF32 } else { MaxF32 }, false),
            ("neg", true, _) => (NegF32, false),
            ("abs", true, _) => (AbsF32, false),
            ("add", false, true) => (AddF64, false),
            ("sub", false, true) => (SubF64, false),
            ("mul", false, true) => (MulF64, false),
            ("fma", false, true) => (FmaF64, false),
            ("div", false, true) => (DivF64, false),
            ("add", false, false) => (AddF64Round, false),
            ("sub", false, false) => (SubF64Round, false),
            ("mul", false, false) => (MulF64Round, false),
            ("fma", false, false) => (FmaF64Round, false),
            ("div", false, false) => (DivF64Round, false),
            ("min", false, _) => (MinF64, false),
            ("max", false, _) => (MaxF64, false),
            ("neg", false, _) => (NegF64, false),
            ("abs", false, _) => (AbsF64, false),
            _ => return Err("not modelled".into()),
        };
        if xorsign && nan {
            return Err(".NaN with .xorsign is not modelled".into());
        }
        self.flushed(f, ftz && !flushes, sat, ty, st, imm)
    }

    /// An instruction with flushed operands and result where it does not flush by itself, then saturation.
    fn flushed(
        &mut self,
        f: Alu,
        ftz: bool,
        sat: bool,
        ty: Type,
        st: &mut Decode<'_, '_, 'a>,
        imm: u32,
    ) -> Result<(), Refusal> {
        let n = f.sources().len();
        st.at_most(n + 1)?;
        let d = self.destination(st.operand(0)?, ty, st.scope)?;
        let mut sources = [REG_SINK; 3];
        for (i, source) in sources.iter_mut().enumerate().take(n) {
            *source = self.source(st.operand(i + 1)?, ty, st.scope)?;
            if ftz {
                let flushed = self.temporary(false);
                self.alu(st, FtzF32, flushed, &[*source], 0);
                *source = flushed;
            }
        }
        self.alu(st, f, d, &sources[..n], imm);
        if ftz {
            self.alu(st, FtzF32, d, &[d], 0);
        }
        if sat {
            self.alu(st, SatF32, d, &[d], 0);
        }
        Ok(())
    }

    /// f16, bf16 and their pairs.
    pub(super) fn half(&mut self, root: &str, ty: Type, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        match st.m.rounding() {
            None | Some(Rounding::Rn) => {}
            Some(_) => return Err("halves round to nearest".into()),
        }
        let (ftz, sat, relu, nan) = (st.m.flag("ftz"), st.m.flag("sat"), st.m.flag("relu"), st.m.flag("NaN"));
        if st.m.flag("noftz") && ftz {
            return Err(".ftz and .noftz".into());
        }
        let modes = Modes::default().with_ftz(ftz).with_sat(sat).with_relu(relu).with_nan(nan);
        let Some(modes) = modes.with_format(ty) else { return Err("not a half".into()) };
        let f = match root {
            "add" => HalfAdd,
            "sub" => HalfSub,
            "mul" => HalfMul,
            "fma" => HalfFma,
            "min" => HalfMin,
            "max" => HalfMax,
            "neg" => HalfNeg,
            "abs" => HalfAbs,
            _ => return Err(format!("not modelled for {ty:?}")),
        };
        self.plain(f, ty, ty, st, modes.0)
    }

    /// `rcp`, `sqrt`, `ex2` and the like.
    pub(super) fn function(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let (approx, ftz) = (st.m.flag("approx"), st.m.flag("ftz"));
        let rounding = st.m.rounding();
        if root == "testp" {
            let kinds =
                [("finite", 0u32), ("infinite", 1), ("number", 2), ("notanumber", 3), ("normal", 4), ("subnormal", 5)];
            let kind = st.m.one_of(&kinds).ok_or("no property")?;
            let ty = st.ty()?;
            let p = self.predicate_destination(st.operand(0)?, st.scope)?;
            let a = self.source(st.operand(1)?, ty, st.scope)?;
            st.at_most(2)?;
            let answer = self.temporary(false);
            self.alu(st, if ty == Type::F64 { TestpF64 } else { TestpF32 }, answer, &[a], kind);
            let zero = self.bits(0, false);
            let (ty, cmp, combine) = (CmpType::U32, CmpOp::Ne, BoolOp::And);
            self.emit(st.guard, Op::Setp { ty, cmp, combine, p, q: PRED_SINK, a: answer, b: zero, c: PredSrc::TRUE });
            return Ok(());
        }
        let ty = st.ty()?;
        let modes = Modes::default().with_rounding(rounding.unwrap_or(Rounding::Rn)).with_ftz(ftz);
        if root == "copysign" {
            return self.plain(if ty == Type::F64 { CopysignF64 } else { CopysignF32 }, ty, ty, st, 0);
        }
        if let Some(half) = modes.with_format(ty) {
            return match (root, approx) {
                ("ex2", true) => self.plain(HalfEx2, ty, ty, st, half.0),
                ("tanh", true) => self.plain(HalfTanh, ty, ty, st, half.0),
                _ => Err(format!("not modelled for {ty:?}")),
            };
        }
        if approx {
            let f = match (root, ty) {
                ("rcp", Type::F32) => RcpApproxF32,
                ("sqrt", Type::F32) => SqrtApproxF32,
                ("rsqrt", Type::F32) => RsqrtApproxF32,
                ("ex2", Type::F32) => Ex2F32,
                ("lg2", Type::F32) => Lg2F32,
                ("sin", Type::F32) => SinF32,
                ("cos", Type::F32) => CosF32,
                ("tanh", Type::F32) => TanhF32,
                ("rcp", Type::F64) => RcpApproxF64,
                ("rsqrt", Type::F64) => RsqrtApproxF64,
                _ => return Err(format!("not modelled for {ty:?}")),
            };
            return self.plain(f, ty, ty, st, modes.0);
        }
        if rounding.is_none() {
            return Err("neither .approx nor a rounding".into());
        }
        let f = match (root, ty) {
            ("rcp", Type::F32) => RcpF32,
            ("sqrt", Type::F32) if rounding == Some(Rounding::Rn) => SqrtF32,
            ("sqrt", Type::F32) => SqrtF32Round,
            ("rcp", Type::F64) => RcpF64,
            ("sqrt", Type::F64) if rounding == Some(Rounding::Rn) => SqrtF64,
            ("sqrt", Type::F64) => SqrtF64Round,
            _ => return Err(format!("not modelled for {ty:?}")),
        };
        self.flushed(f, ftz, false, ty, st, modes.0)
    }
}
