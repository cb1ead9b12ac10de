//! Integer arithmetic, and the way from a root to floating point.

use super::*;
use Alu::*;

impl<'a> Decoder<'_, '_, 'a> {
    /// Roots that integers and floats share.
    pub(super) fn arithmetic(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let ty = st.ty()?;
        match ty {
            Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => return self.half(root, ty, st),
            Type::F32 | Type::F64 => return self.float(root, ty, st),
            _ => {}
        }
        let carry_out = st.m.flag("cc");
        if carry_out {
            return self.carry_op(root, ty, false, true, st);
        }
        let sat = st.m.flag("sat");
        let relu = st.m.flag("relu");
        if sat && (ty != Type::S32 || !matches!(root, "add" | "sub" | "mad")) || relu && !matches!(root, "min" | "max")
        {
            return Err(format!(".sat or .relu of {ty:?} is not modelled"));
        }
        if matches!(root, "mul" | "mad") {
            return self.multiply(root, ty, sat, st);
        }
        let f = match (root, ty) {
            ("add", Type::S32) if sat => AddSatS32,
            ("sub", Type::S32) if sat => SubSatS32,
            ("add", Type::U16x2 | Type::S16x2) => AddB16x2,
            ("add", Type::U16 | Type::S16) => AddB16,
            ("add", Type::U32 | Type::S32) => AddB32,
            ("add", Type::U64 | Type::S64) => AddB64,
            ("sub", Type::U16 | Type::S16) => SubB16,
            ("sub", Type::U32 | Type::S32) => SubB32,
            ("sub", Type::U64 | Type::S64) => SubB64,
            ("div", Type::U16) => DivU16,
            ("div", Type::S16) => DivS16,
            ("div", Type::U32) => DivU32,
            ("div", Type::S32) => DivS32,
            ("div", Type::U64) => DivU64,
            ("div", Type::S64) => DivS64,
            ("min", Type::S32) if relu => MinReluS32,
            ("max", Type::S32) if relu => MaxReluS32,
            ("min", Type::U16) => MinU16,
            ("min", Type::S16) => MinS16,
            ("min", Type::U32) => MinU32,
            ("min", Type::S32) => MinS32,
            ("min", Type::U64) => MinU64,
            ("min", Type::S64) => MinS64,
            ("min", Type::U16x2) => MinU16x2,
            ("min", Type::S16x2) => MinS16x2,
            ("max", Type::U16) => MaxU16,
            ("max", Type::S16) => MaxS16,
            ("max", Type::U32) => MaxU32,
            ("max", Type::S32) => MaxS32,
            ("max", Type::U64) => MaxU64,
            ("max", Type::S64) => MaxS64,
            ("max", Type::U16x2) => MaxU16x2,
            ("max", Type::S16x2) => MaxS16x2,
            ("abs", Type::S16) => AbsS16,
            ("abs", Type::S32) => AbsS32,
            ("abs", Type::S64) => AbsS64,
            ("neg", Type::S16) => NegS16,
            ("neg", Type::S32) => NegS32,
            ("neg", Type::S64) => NegS64,
            _ => return Err(format!("not modelled for {ty:?}")),
        };
        self.plain(f, ty, ty, st, 0)
    }

    /// An instruction whose sources all have type `ty`.
    pub(super) fn plain(
        &mut self,
        f: Alu,
        d_ty: Type,
        ty: Type,
        st: &mut Decode<'_, '_, 'a>,
        imm: u32,
    ) -> Result<(), Refusal> {
        let n = f.sources().len();
        st.at_most(n + 1)?;
        let d = self.destination(st.operand(0)?, d_ty, st.scope)?;
        let mut sources = [REG_SINK; 3];
        for (i, source) in sources.iter_mut().enumerate().take(n) {
            // A second or third operand of another width (shift amounts, accumulators) has its own type.
            let wide = f.sources()[i];
            let ty = if wide == ty.wide() { ty } else { widened(ty, wide) };
            *source = self.source(st.operand(i + 1)?, ty, st.scope)?;
        }
        self.alu(st, f, d, &sources[..n], imm);
        Ok(())
    }

    fn multiply(&mut self, root: &str, ty: Type, sat: bool, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let mad = root == "mad";
        let Some(part) = st.m.one_of(&[("lo", 'l'), ("hi", 'h'), ("wide", 'w')]) else {
            return Err("no .lo, .hi or .wide".into());
        };
        let f = match (part, ty, mad) {
            ('l', Type::U16 | Type::S16, false) => MulLoB16,
            ('l', Type::U32 | Type::S32, false) => MulLoB32,
            ('l', Type::U64 | Type::S64, false) => MulLoB64,
            ('h', Type::U16, false) => MulHiU16,
            ('h', Type::S16, false) => MulHiS16,
            ('h', Type::U32, false) => MulHiU32,
            ('h', Type::S32, false) => MulHiS32,
            ('h', Type::U64, false) => MulHiU64,
            ('h', Type::S64, false) => MulHiS64,
            ('w', Type::U16, false) => MulWideU16,
            ('w', Type::S16, false) => MulWideS16,
            ('w', Type::U32, false) => MulWideU32,
            ('w', Type::S32, false) => MulWideS32,
            ('l', Type::U16 | Type::S16, true) => MadLoB16,
            ('l', Type::U32 | Type::S32, true) => MadLoB32,
            ('l', Type::U64 | Type::S64, true) => MadLoB64,
            ('h', Type::U16, true) => MadHiU16,
            ('h', Type::S16, true) => MadHiS16,
            ('h', Type::U32, true) => MadHiU32,
            ('h', Type::S32, true) if sat => MadHiSatS32,
            ('h', Type::S32, true) => MadHiS32,
            ('h', Type::U64, true) => MadHiU64,
            ('h', Type::S64, true) => MadHiS64,
            ('w', Type::U16, true) => MadWideU16,
            ('w', Type::S16, true) => MadWideS16,
            ('w', Type::U32, true) => MadWideU32,
            ('w', Type::S32, true) => MadWideS32,
            _ => return Err(format!("not modelled for {ty:?}")),
        };
        let d_ty = if part == 'w' { double(ty) } else { ty };
        st.at_most(3 + usize::from(mad))?;
        let d = self.destination(st.operand(0)?, d_ty, st.scope)?;
        let a = self.source(st.operand(1)?, ty, st.scope)?;
        let b = self.source(st.operand(2)?, ty, st.scope)?;
        let c = if mad { self.source(st.operand(3)?, d_ty, st.scope)? } else { REG_SINK };
        self.alu(st, f, d, &[a, b, c], 0);
        Ok(())
    }

    /// `addc`, `subc`, `madc`.
    pub(super) fn carry(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let ty = st.ty()?;
        let out = st.m.flag("cc");
        self.carry_op(&root[..3], ty, true, out, st)
    }

    fn carry_op(
        &mut self,
        root: &str,
        ty: Type,
        carry_in: bool,
        carry_out: bool,
        st: &mut Decode<'_, '_, 'a>,
    ) -> Result<(), Refusal> {
        if !matches!(ty, Type::U32 | Type::S32 | Type::B32 | Type::U64 | Type::S64 | Type::B64) {
            return Err(format!("carry of {ty:?}"));
        }
        let op = match root {
            "add" => CarryOp::Add,
            "sub" => CarryOp::Sub,
            "mad" if st.m.flag("lo") => CarryOp::MadLo,
            "mad" if st.m.flag("hi") => {
                if ty.signed() {
                    CarryOp::MadHiSigned
                } else {
                    CarryOp::MadHi
                }
            }
            _ => return Err("carry is not modelled here".into()),
        };
        let mad = root == "mad";
        st.at_most(3 + usize::from(mad))?;
        let d = self.destination(st.operand(0)?, ty, st.scope)?;
        let a = self.source(st.operand(1)?, ty, st.scope)?;
        let b = self.source(st.operand(2)?, ty, st.scope)?;
        let c = if mad { self.source(st.operand(3)?, ty, st.scope)? } else { REG_SINK };
        self.emit(st.guard, Op::Carry { op, wide: ty.wide(), d, a, b, c, carry_in, carry_out });
        Ok(())
    }

    /// Integer roots that floats do not share.
    pub(super) fn integer(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        match root {
            "mul24" | "mad24" => {
                let ty = st.ty()?;
                let high = match st.m.one_of(&[("lo", false), ("hi", true)]) {
                    Some(high) => high,
                    None => return Err("no .lo or .hi".into()),
                };
                let f = match (high, ty) {
                    (false, Type::U32) => Mul24LoU32,
                    (true, Type::U32) => Mul24HiU32,
                    (false, Type::S32) => Mul24LoS32,
                    (true, Type::S32) => Mul24HiS32,
                    _ => return Err(format!("not modelled for {ty:?}")),
                };
                let d = self.destination(st.operand(0)?, ty, st.scope)?;
                let a = self.source(st.operand(1)?, ty, st.scope)?;
                let b = self.source(st.operand(2)?, ty, st.scope)?;
                if root == "mul24" {
                    st.at_most(3)?;
                    self.alu(st, f, d, &[a, b], 0);
                } else {
                    st.at_most(4)?;
                    let c = self.source(st.operand(3)?, ty, st.scope)?;
                    let product = self.temporary(false);
                    self.alu(st, f, product, &[a, b], 0);
                    self.alu(st, AddB32, d, &[product, c], 0);
                }
                Ok(())
            }
            "bfi" => {
                let ty = st.ty()?;
                let f = if ty.wide() { BfiB64 } else { BfiB32 };
                st.at_most(5)?;
                let d = self.destination(st.operand(0)?, ty, st.scope)?;
                let a = self.source(st.operand(1)?, ty, st.scope)?;
                let b = self.source(st.operand(2)?, ty, st.scope)?;
                let position = self.source(st.operand(3)?, Type::U32, st.scope)?;
                let length = self.source(st.operand(4)?, Type::U32, st.scope)?;
                let packed = self.temporary(false);
                self.alu(st, PackPosLen, packed, &[position, length], 0);
                self.alu(st, f, d, &[a, b, packed], 0);
                Ok(())
            }
            "dp4a" | "dp2a" => {
                let high = root == "dp2a" && st.m.one_of(&[("lo", false), ("hi", true)]).ok_or("no .lo or .hi")?;
                let (a, b) = (st.ty()?, st.ty()?);
                let imm = u32::from(a.signed()) | u32::from(b.signed()) << 1 | u32::from(high) << 2;
                self.plain(if root == "dp4a" { Dp4a } else { Dp2a }, Type::U32, Type::U32, st, imm)
            }
            "szext" | "bmsk" => {
                let wrap = st.m.one_of(&[("clamp", false), ("wrap", true)]).ok_or("no .clamp or .wrap")?;
                let ty = st.ty()?;
                let f = match (root, ty) {
                    ("bmsk", Type::B32) => Bmsk,
                    ("szext", Type::U32) => SzextU32,
                    ("szext", Type::S32) => SzextS32,
                    _ => return Err(format!("not modelled for {ty:?}")),
                };
                self.plain(f, Type::U32, Type::U32, st, u32::from(wrap))
            }
            "popc" | "clz" | "bfind" => {
                let shift = st.m.flag("shiftamt");
                let ty = st.ty()?;
                let f = match (root, ty) {
                    ("popc", Type::B32) => PopcB32,
                    ("popc", Type::B64) => PopcB64,
                    ("clz", Type::B32) => ClzB32,
                    ("clz", Type::B64) => ClzB64,
                    ("bfind", Type::U32) => BfindU32,
                    ("bfind", Type::S32) => BfindS32,
                    ("bfind", Type::U64) => BfindU64,
                    ("bfind", Type::S64) => BfindS64,
                    _ => return Err(format!("not modelled for {ty:?}")),
                };
                self.plain(f, Type::U32, ty, st, u32::from(shift))
            }
            _ => {
                let ty = st.ty()?;
                let f = match (root, ty) {
                    ("rem", Type::U16) => RemU16,
                    ("rem", Type::S16) => RemS16,
                    ("rem", Type::U32) => RemU32,
                    ("rem", Type::S32) => RemS32,
                    ("rem", Type::U64) => RemU64,
                    ("rem", Type::S64) => RemS64,
                    ("sad", Type::U16) => SadU16,
                    ("sad", Type::S16) => SadS16,
                    ("sad", Type::U32) => SadU32,
                    ("sad", Type::S32) => SadS32,
                    ("sad", Type::U64) => SadU64,
                    ("sad", Type::S64) => SadS64,
                    ("brev", Type::B32) => BrevB32,
                    ("brev", Type::B64) => BrevB64,
                    ("bfe", Type::U32) => BfeU32,
                    ("bfe", Type::S32) => BfeS32,
                    ("bfe", Type::U64) => BfeU64,
                    ("bfe", Type::S64) => BfeS64,
                    ("fns", Type::B32) => Fns,
                    _ => return Err(format!("not modelled for {ty:?}")),
                };
                self.plain(f, ty, ty, st, 0)
            }
        }
    }

    /// Logic and shifts.
    pub(super) fn bits_or_predicates(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let ty = st.ty()?;
        if ty == Type::Pred {
            let n = if root == "not" { 2 } else { 3 };
            st.at_most(n)?;
            let d = self.predicate_destination(st.operand(0)?, st.scope)?;
            let a = self.predicate(st.operand(1)?, st.scope)?;
            let (op, a, b) = match root {
                "not" => (BoolOp::And, PredSrc { negated: !a.negated, ..a }, PredSrc::TRUE),
                "and" => (BoolOp::And, a, self.predicate(st.operand(2)?, st.scope)?),
                "or" => (BoolOp::Or, a, self.predicate(st.operand(2)?, st.scope)?),
                "xor" => (BoolOp::Xor, a, self.predicate(st.operand(2)?, st.scope)?),
                _ => return Err("not modelled for predicates".into()),
            };
            self.emit(st.guard, Op::Predicate { op, d, a, b });
            return Ok(());
        }
        let f = match (root, ty) {
            ("and", Type::B16 | Type::B32) => AndB32,
            ("and", Type::B64) => AndB64,
            ("or", Type::B16 | Type::B32) => OrB32,
            ("or", Type::B64) => OrB64,
            ("xor", Type::B16 | Type::B32) => XorB32,
            ("xor", Type::B64) => XorB64,
            ("not", Type::B16) => NotB16,
            ("not", Type::B32) => NotB32,
            ("not", Type::B64) => NotB64,
            ("cnot", Type::B16) => CnotB16,
            ("cnot", Type::B32) => CnotB32,
            ("cnot", Type::B64) => CnotB64,
            ("shl", Type::B16) => ShlB16,
            ("shl", Type::B32) => ShlB32,
            ("shl", Type::B64) => ShlB64,
            ("shr", Type::B16 | Type::U16) => ShrU16,
            ("shr", Type::B32 | Type::U32) => ShrU32,
            ("shr", Type::B64 | Type::U64) => ShrU64,
            ("shr", Type::S16) => ShrS16,
            ("shr", Type::S32) => ShrS32,
            ("shr", Type::S64) => ShrS64,
            _ => return Err(format!("not modelled for {ty:?}")),
        };
        if matches!(root, "shl" | "shr") {
            st.at_most(3)?;
            let d = self.destination(st.operand(0)?, ty, st.scope)?;
            let a = self.source(st.operand(1)?, ty, st.scope)?;
            let b = self.source(st.operand(2)?, Type::U32, st.scope)?;
            self.alu(st, f, d, &[a, b], 0);
            return Ok(());
        }
        self.plain(f, ty, ty, st, 0)
    }
}

/// The type of an operand that is as wide as `wide` says, next to operands of type `ty`.
fn widened(ty: Type, wide: bool) -> Type {
    match (wide, ty.signed()) {
        (true, true) => Type::S64,
        (true, false) => Type::U64,
        (false, true) => Type::S32,
        (false, false) => Type::U32,
    }
}

fn double(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        _ => Type::S64,
    }
}
