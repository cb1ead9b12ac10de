//! Matrix instructions.

use super::*;
use crate::matrix::{self, Accumulator, Element};

fn element(word: Option<&str>) -> Result<Element, Refusal> {
    word.and_then(Element::parse).ok_or_else(|| format!("operand type {word:?} is not modelled"))
}

fn accumulator(word: Option<&str>) -> Result<Accumulator, Refusal> {
    word.and_then(Accumulator::parse).ok_or_else(|| format!("accumulator type {word:?} is not modelled"))
}

/// `m64n128k16`.
fn shape(word: &str) -> Option<(u32, u32, u32)> {
    let (m, rest) = word.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k').unwrap_or((rest, "0"));
    Some((m.parse().ok()?, n.parse().ok()?, k.parse().ok()?))
}

impl<'a> Decoder<'_, '_, 'a> {
    pub(super) fn matrix(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        st.m.ignore(&["sync", "aligned"]);
        match root {
            "wgmma" => self.wgmma(st),
            "mma" => self.mma(st),
            "movmatrix" => {
                st.m.ignore(&["m8n8", "trans"]);
                st.ty()?;
                let d = self.destination(st.operand(0)?, Type::B32, st.scope)?;
                let a = self.source(st.operand(1)?, Type::B32, st.scope)?;
                self.emit(st.guard, Op::MovMatrix { d, a });
                Ok(())
            }
            _ => {
                let load = root == "ldmatrix";
                if !st.m.flag("m8n8") {
                    return Err("only .m8n8 is modelled".into());
                }
                let count = st.m.one_of(&[("x1", 1usize), ("x2", 2), ("x4", 4)]).ok_or("no count")?;
                let transpose = st.m.flag("trans");
                st.m.one_of(&[("shared", ()), ("shared::cta", ())]).ok_or("not .shared")?;
                if st.ty()? != Type::B16 {
                    return Err("only .b16 is modelled".into());
                }
                let (value, address) = if load { (0, 1) } else { (1, 0) };
                let addr = self.address(st.operand(address)?, Space::Shared, st.scope)?;
                let list = match st.operand(value)? {
                    Operand::Vector(list) => list.clone(),
                    other => vec![other.clone()],
                };
                if list.len() != count {
                    return Err(format!("{} registers for {count} matrices", list.len()));
                }
                let regs = match load {
                    true => self.destinations(&list, Type::B32, st.scope)?,
                    false => self.sources(&list, Type::B32, st.scope)?,
                };
                let access = Box::new(MatrixAccess { addr, regs, transpose });
                self.emit(st.guard, if load { Op::LdMatrix(access) } else { Op::StMatrix(access) });
                Ok(())
            }
        }
    }

    fn vector(operand: &Operand<'a>) -> Result<Vec<Operand<'a>>, Refusal> {
        match operand {
            Operand::Vector(list) => Ok(list.clone()),
            other => Err(format!("{other:?} is no vector")),
        }
    }

    fn mma(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let (m, n, k) = st.m.next().and_then(shape).ok_or("no shape")?;
        if !st.m.flag("row") || !st.m.flag("col") {
            return Err("only .row.col is modelled".into());
        }
        let saturate = st.m.flag("satfinite");
        let (d_type, a_type, b_type, c_type) = (st.m.next(), st.m.next(), st.m.next(), st.m.next());
        st.at_most(4)?;
        let (a_type, b_type) = (element(a_type)?, element(b_type)?);
        let (c_type, d_type) = (accumulator(c_type)?, accumulator(d_type)?);
        let form = matrix::Mma::new([m, n, k], [a_type, b_type], [c_type, d_type], saturate)?;
        // f64 fragments are 64-bit registers.
        let ty = if form.is_f64() { Type::F64 } else { Type::B32 };
        let d = self.destinations(&Self::vector(st.operand(0)?)?, ty, st.scope)?;
        let a = self.sources(&Self::vector(st.operand(1)?)?, ty, st.scope)?;
        let b = self.sources(&Self::vector(st.operand(2)?)?, ty, st.scope)?;
        let c = self.sources(&Self::vector(st.operand(3)?)?, ty, st.scope)?;
        let expected = form.registers();
        if [a.len(), b.len(), c.len(), d.len()] != [expected.a, expected.b, expected.c, expected.d] {
            return Err(format!("number of registers; expected {expected:?}"));
        }
        self.emit(st.guard, Op::Mma(Box::new(Mma { form, d, a, b, c })));
        Ok(())
    }

    fn wgmma(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        if st.m.flag("fence") {
            self.emit(st.guard, Op::WgmmaFence);
            return Ok(());
        }
        if st.m.flag("commit_group") {
            self.emit(st.guard, Op::WgmmaCommit);
            return Ok(());
        }
        if st.m.flag("wait_group") {
            let keep = self.count(st.operand(0)?)?;
            self.emit(st.guard, Op::WgmmaWait { keep });
            return Ok(());
        }
        if !st.m.flag("mma_async") {
            return Err("not modelled".into());
        }
        let (m, n, k) = st.m.next().and_then(shape).ok_or("no shape")?;
        let saturate = st.m.flag("satfinite");
        let (d_type, a_type, b_type) = (st.m.next(), st.m.next(), st.m.next());
        let (d_type, a_type, b_type) = (accumulator(d_type)?, element(a_type)?, element(b_type)?);
        let a = match st.operand(1)? {
            Operand::Vector(list) if list.len() == 4 => WgmmaA::Registers(self.sources(list, Type::B32, st.scope)?),
            Operand::Vector(list) => return Err(format!("{} registers of A", list.len())),
            descriptor => WgmmaA::Descriptor(self.source(descriptor, Type::B64, st.scope)?),
        };
        let b = self.source(st.operand(2)?, Type::B64, st.scope)?;
        let scale_d = self.predicate(st.operand(3)?, st.scope)?;
        // Float forms have the signs of A and B, 16-bit ones the orders too: of both, or of B where A is in registers.
        let immediates: Vec<i64> = st.s.operands[4..].iter().map(|o| self.signed_count(o)).collect::<Result<_, _>>()?;
        let sixteen = a_type.bytes() == 2;
        let registers = matches!(a, WgmmaA::Registers(_));
        let (negate_a, negate_b, transpose_a, transpose_b) = match immediates[..] {
            [] if a_type.is_integer() => (false, false, false, false),
            [a, b] if !sixteen && !a_type.is_integer() => (a == -1, b == -1, false, false),
            [a, b, tb] if sixteen && registers => (a == -1, b == -1, false, tb == 1),
            [a, b, ta, tb] if sixteen && !registers => (a == -1, b == -1, ta == 1, tb == 1),
            _ => return Err(format!("immediates {immediates:?}")),
        };
        let form = matrix::Wgmma {
            n: n as usize,
            a: a_type,
            b: b_type,
            d: d_type,
            negate_a,
            negate_b,
            transpose_a,
            transpose_b,
            saturate,
        };
        let form = form.check([m, n, k])?;
        let d = self.destinations(&Self::vector(st.operand(0)?)?, Type::B32, st.scope)?;
        if d.len() != form.d_registers() {
            return Err(format!("{} accumulators, {} expected", d.len(), form.d_registers()));
        }
        self.code.wgmma = true;
        self.emit(st.guard, Op::Wgmma(Box::new(Wgmma { form, d, a, b, scale_d })));
        Ok(())
    }

    fn signed_count(&self, operand: &Operand<'a>) -> Result<i64, Refusal> {
        match operand {
            Operand::Int(value) if matches!(*value as i64, -1..=1) => Ok(*value as i64),
            other => Err(format!("{other:?} is not -1, 0 or 1")),
        }
    }
}
