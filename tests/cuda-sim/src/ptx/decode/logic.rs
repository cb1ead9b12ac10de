//! Moves, logic, comparisons and selection.

use super::*;
use Alu::*;

impl<'a> Decoder<'_, '_, 'a> {
    pub(super) fn logic(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        match root {
            "lop3" => {
                let combine = st.m.one_of(&[("or", BoolOp::Or), ("and", BoolOp::And)]);
                st.ty()?;
                let lut = match st.operand(4)? {
                    Operand::Int(lut) => *lut as u32,
                    _ => return Err("the table must be an immediate".into()),
                };
                st.at_most(5 + usize::from(combine.is_some()))?;
                let (d, p) = match (st.operand(0)?, combine) {
                    // The predicate needs the result, which the program may not.
                    (Operand::Pair(d, p), Some(_)) => {
                        let d = match &**d {
                            Operand::Sink => self.temporary(false),
                            d => self.destination(d, Type::B32, st.scope)?,
                        };
                        (d, self.predicate_destination(p, st.scope)?)
                    }
                    (d, None) => (self.destination(d, Type::B32, st.scope)?, PRED_SINK),
                    _ => return Err("the form with a predicate has two results".into()),
                };
                let mut abc = [0; 3];
                for (i, r) in abc.iter_mut().enumerate() {
                    *r = self.source(st.operand(i + 1)?, Type::B32, st.scope)?;
                }
                self.alu(st, Lop3, d, &abc, lut);
                if let Some(combine) = combine {
                    let (c, b) = (self.predicate(st.operand(5)?, st.scope)?, self.bits_row(0));
                    let (ty, cmp) = (CmpType::U32, CmpOp::Ne);
                    self.emit(st.guard, Op::Setp { ty, cmp, combine, p, q: PRED_SINK, a: d, b, c });
                }
                Ok(())
            }
            "shf" => {
                let left = st.m.one_of(&[("l", true), ("r", false)]).ok_or("no direction")?;
                let wrap = st.m.one_of(&[("wrap", true), ("clamp", false)]).ok_or("no .wrap or .clamp")?;
                st.ty()?;
                let f = match (left, wrap) {
                    (true, true) => ShfLWrap,
                    (true, false) => ShfLClamp,
                    (false, true) => ShfRWrap,
                    (false, false) => ShfRClamp,
                };
                self.plain(f, Type::B32, Type::B32, st, 0)
            }
            "prmt" => {
                st.ty()?;
                let modes = [("f4e", 1u32), ("b4e", 2), ("rc8", 3), ("ecl", 4), ("ecr", 5), ("rc16", 6)];
                let mode = st.m.one_of(&modes).unwrap_or(0);
                self.plain(Prmt, Type::B32, Type::B32, st, mode)
            }
            _ => self.bits_or_predicates(root, st),
        }
    }

    pub(super) fn mov(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let ty = st.ty()?;
        st.at_most(2)?;
        let (d, a) = (st.operand(0)?, st.operand(1)?);
        if ty == Type::Pred {
            let d = self.predicate_destination(d, st.scope)?;
            let a = self.predicate(a, st.scope)?;
            self.emit(st.guard, Op::Predicate { op: BoolOp::And, d, a, b: PredSrc::TRUE });
            return Ok(());
        }
        match (d, a) {
            (Operand::Vector(parts), a) => {
                let part = part_type(ty, parts.len())?;
                let a = self.source(a, ty, st.scope)?;
                let parts = self.destinations(parts, part, st.scope)?;
                self.emit(st.guard, Op::Unpack { wide: ty.wide(), bits: part.size() as u8 * 8, a, parts });
            }
            (d, Operand::Vector(parts)) => {
                let part = part_type(ty, parts.len())?;
                let d = self.destination(d, ty, st.scope)?;
                let parts = self.sources(parts, part, st.scope)?;
                self.emit(st.guard, Op::Pack { wide: ty.wide(), bits: part.size() as u8 * 8, d, parts });
            }
            (d, Operand::Name(name, 0)) if operand::clock(name).is_some() => {
                let which = operand::clock(name).ok_or("no clock")?;
                let wide = matches!(which, Clock::Cycles64 | Clock::Globaltimer);
                if wide != ty.wide() {
                    return Err(format!("{name} has not the width of {ty:?}"));
                }
                let d = self.destination(d, ty, st.scope)?;
                self.emit(st.guard, Op::Clock { which, d });
            }
            (d, a) => {
                let d = self.destination(d, ty, st.scope)?;
                let a = self.source(a, ty, st.scope)?;
                self.alu(st, if ty.wide() { MovB64 } else { MovB32 }, d, &[a], 0);
            }
        }
        Ok(())
    }

    pub(super) fn sources(&mut self, list: &[Operand<'a>], ty: Type, scope: usize) -> Result<Box<[Reg]>, Refusal> {
        list.iter().map(|o| self.source(o, ty, scope)).collect()
    }

    pub(super) fn destinations(&mut self, list: &[Operand<'a>], ty: Type, scope: usize) -> Result<Box<[Reg]>, Refusal> {
        list.iter().map(|o| self.destination(o, ty, scope)).collect()
    }

    pub(super) fn compare(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        match root {
            "selp" => {
                let ty = st.ty()?;
                st.at_most(4)?;
                let d = self.destination(st.operand(0)?, ty, st.scope)?;
                let a = self.source(st.operand(1)?, ty, st.scope)?;
                let b = self.source(st.operand(2)?, ty, st.scope)?;
                let p = self.predicate(st.operand(3)?, st.scope)?;
                self.emit(st.guard, Op::Selp { wide: ty.wide(), d, a, b, p });
                Ok(())
            }
            "slct" => {
                st.m.ignore(&["ftz"]);
                let (ty, sign) = (st.ty()?, st.ty()?);
                st.at_most(4)?;
                let d = self.destination(st.operand(0)?, ty, st.scope)?;
                let a = self.source(st.operand(1)?, ty, st.scope)?;
                let b = self.source(st.operand(2)?, ty, st.scope)?;
                let c = self.source(st.operand(3)?, sign, st.scope)?;
                let (zero, p) = (self.bits_row(0), self.new_predicate());
                let cmp_ty = if sign == Type::F32 { CmpType::F32 } else { CmpType::S32 };
                self.setp(st.guard, cmp_ty, CmpOp::Ge, p, [c, zero]);
                self.emit(st.guard, Op::Selp { wide: ty.wide(), d, a, b, p: PredSrc { index: p, negated: false } });
                Ok(())
            }
            _ => self.set_predicate(root, st),
        }
    }

    fn bits_row(&mut self, value: u32) -> Reg {
        self.constant(Constant::Bits(u64::from(value)), false)
    }

    fn setp(&mut self, guard: PredSrc, ty: CmpType, cmp: CmpOp, p: Pred, [a, b]: [Reg; 2]) {
        let (combine, c) = (BoolOp::And, PredSrc::TRUE);
        self.emit(guard, Op::Setp { ty, cmp, combine, p, q: PRED_SINK, a, b, c });
    }

    /// `setp` and `set`.
    fn set_predicate(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let ops = [
            ("eq", CmpOp::Eq),
            ("ne", CmpOp::Ne),
            ("lt", CmpOp::Lt),
            ("le", CmpOp::Le),
            ("gt", CmpOp::Gt),
            ("ge", CmpOp::Ge),
            ("lo", CmpOp::Lt),
            ("ls", CmpOp::Le),
            ("hi", CmpOp::Gt),
            ("hs", CmpOp::Ge),
            ("equ", CmpOp::Equ),
            ("neu", CmpOp::Neu),
            ("ltu", CmpOp::Ltu),
            ("leu", CmpOp::Leu),
            ("gtu", CmpOp::Gtu),
            ("geu", CmpOp::Geu),
            ("num", CmpOp::Num),
            ("nan", CmpOp::Nan),
        ];
        let cmp = st.m.one_of(&ops).ok_or("no comparison")?;
        let combine = st.m.one_of(&[("and", BoolOp::And), ("or", BoolOp::Or), ("xor", BoolOp::Xor)]);
        let ftz = st.m.flag("ftz");
        let d_ty = if root == "set" { st.ty()? } else { Type::Pred };
        let ty = st.ty()?;
        let cmp_ty = match ty {
            Type::U16 | Type::B16 => CmpType::U16,
            Type::S16 => CmpType::S16,
            Type::U32 | Type::B32 => CmpType::U32,
            Type::S32 => CmpType::S32,
            Type::U64 | Type::B64 => CmpType::U64,
            Type::S64 => CmpType::S64,
            Type::F16 | Type::F16x2 => CmpType::F16,
            Type::Bf16 | Type::Bf16x2 => CmpType::Bf16,
            Type::F32 => CmpType::F32,
            Type::F64 => CmpType::F64,
            _ => return Err(format!("not modelled for {ty:?}")),
        };
        st.at_most(3 + usize::from(combine.is_some()))?;
        let mut ab = [0; 2];
        for (i, r) in ab.iter_mut().enumerate() {
            *r = self.source(st.operand(i + 1)?, ty, st.scope)?;
            if ftz && ty == Type::F32 {
                let flushed = self.temporary(false);
                self.alu(st, FtzF32, flushed, &[*r], 0);
                *r = flushed;
            }
        }
        let c = match combine {
            Some(_) => self.predicate(st.operand(3)?, st.scope)?,
            None => PredSrc::TRUE,
        };
        let combine = combine.unwrap_or(BoolOp::And);
        if matches!(ty, Type::F16x2 | Type::Bf16x2) {
            return self.set_pair(st, root, d_ty, cmp_ty, cmp, ab, (combine, c));
        }
        let [a, b] = ab;
        if root == "setp" {
            let (p, q) = match st.operand(0)? {
                Operand::Pair(p, q) => {
                    (self.predicate_destination(p, st.scope)?, self.predicate_destination(q, st.scope)?)
                }
                p => (self.predicate_destination(p, st.scope)?, PRED_SINK),
            };
            self.emit(st.guard, Op::Setp { ty: cmp_ty, cmp, combine, p, q, a, b, c });
            return Ok(());
        }
        let (p, q) = (self.new_predicate(), PRED_SINK);
        self.emit(st.guard, Op::Setp { ty: cmp_ty, cmp, combine, p, q, a, b, c });
        let truth = match d_ty {
            Type::F32 => 0x3f80_0000,
            Type::F16 => 0x3c00,
            Type::Bf16 => 0x3f80,
            Type::U16 | Type::S16 => 0xffff,
            Type::U32 | Type::S32 => 0xffff_ffff,
            _ => return Err(format!("result {d_ty:?} is not modelled")),
        };
        let d = self.destination(st.operand(0)?, d_ty, st.scope)?;
        let (a, b) = (self.bits_row(truth), self.bits_row(0));
        self.emit(st.guard, Op::Selp { wide: false, d, a, b, p: PredSrc { index: p, negated: false } });
        Ok(())
    }

    /// Pairs of halves: `setp` gives a predicate for each, `set` a mask or 1.0 in each half.
    #[allow(clippy::too_many_arguments)]
    fn set_pair(
        &mut self,
        st: &mut Decode<'_, '_, 'a>,
        root: &str,
        d_ty: Type,
        ty: CmpType,
        cmp: CmpOp,
        ab: [Reg; 2],
        (combine, c): (BoolOp, PredSrc),
    ) -> Result<(), Refusal> {
        let targets = match (root, st.operand(0)?) {
            ("setp", Operand::Pair(p, q)) => {
                [self.predicate_destination(p, st.scope)?, self.predicate_destination(q, st.scope)?]
            }
            ("set", _) => [self.new_predicate(), self.new_predicate()],
            _ => return Err("a comparison of pairs needs p|q".into()),
        };
        let shift = self.bits_row(16);
        // The low halves first; the comparison looks at 16 bits only.
        let mut high = [0; 2];
        for (h, r) in high.iter_mut().zip(ab) {
            *h = self.temporary(false);
            self.alu(st, ShrU32, *h, &[r, shift], 0);
        }
        for (p, [a, b]) in targets.into_iter().zip([ab, high]) {
            self.emit(st.guard, Op::Setp { ty, cmp, combine, p, q: PRED_SINK, a, b, c });
        }
        if root == "set" {
            let truth = match d_ty {
                Type::F16x2 | Type::F16 => 0x3c00,
                Type::Bf16x2 | Type::Bf16 => 0x3f80,
                _ => 0xffffu32,
            };
            let d = self.destination(st.operand(0)?, Type::B32, st.scope)?;
            let (one, zero) = (self.bits_row(truth), self.bits_row(0));
            let parts = [self.temporary(false), self.temporary(false)];
            for (part, index) in parts.into_iter().zip(targets) {
                let p = PredSrc { index, negated: false };
                self.emit(st.guard, Op::Selp { wide: false, d: part, a: one, b: zero, p });
            }
            self.emit(st.guard, Op::Pack { wide: false, bits: 16, d, parts: parts.into() });
        }
        Ok(())
    }
}

/// The type of one of `n` equal parts.
fn part_type(ty: Type, n: usize) -> Result<Type, Refusal> {
    match ty.size() / n.max(1) {
        1 if ty.size() == n => Ok(Type::B8),
        2 if ty.size() == 2 * n => Ok(Type::B16),
        4 if ty.size() == 4 * n => Ok(Type::B32),
        _ => Err(format!("{ty:?} in {n} parts")),
    }
}
