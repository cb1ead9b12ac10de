//! Operands to rows: registers, constants, addresses, predicates.

use super::*;
use crate::ptx::parse::ModuleSymbol;

impl<'a> Decoder<'_, '_, 'a> {
    /// The row of a constant, made on first use.
    pub(super) fn constant(&mut self, value: Constant, wide: bool) -> Reg {
        if let Some(&row) = self.constants.get(&(value, wide)) {
            return row;
        }
        let row = self.temporary(wide);
        self.code.constants.push(ConstantRow { row, wide, value });
        self.constants.insert((value, wide), row);
        row
    }

    pub(super) fn bits(&mut self, bits: u64, wide: bool) -> Reg {
        self.constant(Constant::Bits(bits), wide)
    }

    /// The bits of an immediate of type `ty`.
    fn immediate(operand: &Operand, ty: Type) -> Result<u64, Refusal> {
        let bits = match (operand, ty) {
            (Operand::Int(0), _) => 0,
            (Operand::Int(_), Type::F32 | Type::F64) => return Err("integer where a float is expected".into()),
            (Operand::Int(value), _) => *value,
            (Operand::F32(bits), _) if ty.size() == 4 => u64::from(*bits),
            (Operand::F64(bits), Type::F32) => u64::from((f64::from_bits(*bits) as f32).to_bits()),
            (Operand::F32(bits), Type::F64) => f64::from(f32::from_bits(*bits)).to_bits(),
            (Operand::F64(bits), _) if ty.size() == 8 => *bits,
            _ => return Err(format!("{operand:?} is no immediate of type {ty:?}")),
        };
        Ok(match ty.size() {
            1 if ty.signed() => bits as i8 as i16 as u16 as u64,
            1 => bits & 0xff,
            2 => bits & 0xffff,
            4 => bits & 0xffff_ffff,
            _ => bits,
        })
    }

    /// A source of type `ty`: a register of its width, an immediate, a special register, the address of a variable.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type, scope: usize) -> Result<Reg, Refusal> {
        match operand {
            Operand::Name(name, offset) => match self.scopes.find(scope, name) {
                Some(Symbol::Register { first, ty: declared }) if *offset == 0 => {
                    if declared.wide() != ty.wide() {
                        return Err(format!("{name} is declared {declared:?}, used as {ty:?}"));
                    }
                    Ok(first)
                }
                Some(Symbol::Predicate(_)) => Err(format!("{name} is a predicate")),
                Some(_) => self.variable(name, *offset, ty.wide(), scope),
                None if *name == "WARP_SZ" => Ok(self.bits(32u64.wrapping_add_signed(*offset), ty.wide())),
                None => match special(name) {
                    Some(special) => Ok(self.constant(Constant::Special(special), ty.wide())),
                    None => self.variable(name, *offset, ty.wide(), scope),
                },
            },
            Operand::Int(_) | Operand::F32(_) | Operand::F64(_) => {
                let bits = Self::immediate(operand, ty)?;
                Ok(self.bits(bits, ty.wide()))
            }
            other => Err(format!("{other:?} is no source operand")),
        }
    }

    /// A source of any width, as loads, stores and conversions allow: its row, and whether it is 64-bit.
    pub(super) fn source_any(&mut self, operand: &Operand<'a>, ty: Type, scope: usize) -> Result<(Reg, bool), Refusal> {
        if let Operand::Name(name, 0) = operand
            && let Some(Symbol::Register { first, ty: declared }) = self.scopes.find(scope, name)
        {
            if declared.size() < ty.size() {
                return Err(format!("{name} is declared {declared:?}, narrower than {ty:?}"));
            }
            return Ok((first, declared.wide()));
        }
        Ok((self.source(operand, ty, scope)?, ty.wide()))
    }

    /// Address of a variable in its own space.
    fn variable(&mut self, name: &'a str, offset: i64, wide: bool, scope: usize) -> Result<Reg, Refusal> {
        let constant = match self.scopes.find(scope, name) {
            Some(Symbol::Shared(at) | Symbol::Local(at)) => Constant::Bits((at as u64).wrapping_add_signed(offset)),
            Some(Symbol::KernelParam(i)) => Constant::Bits((self.params[i].offset as u64).wrapping_add_signed(offset)),
            Some(_) => return Err(format!("{name} is no variable")),
            None => match self.context.symbols.get(name) {
                Some(ModuleSymbol::Global(index)) => {
                    if !wide {
                        return Err(format!("32-bit address of global {name}"));
                    }
                    Constant::Global { index: *index, offset }
                }
                Some(&ModuleSymbol::Shared(bytes, align)) => {
                    let at = match self.shared.get(name) {
                        Some(at) => *at,
                        None => {
                            let at = self.shared_end.next_multiple_of(align);
                            self.shared_end = at + bytes;
                            self.shared.insert(name, at);
                            at
                        }
                    };
                    Constant::Bits((at as u64).wrapping_add_signed(offset))
                }
                Some(&ModuleSymbol::Dynamic(align)) => {
                    self.dynamic_align = self.dynamic_align.max(align);
                    // Not shared with equal immediates: the start of dynamic memory is added at the end.
                    let row = self.temporary(wide);
                    self.dynamic_rows.push(self.code.constants.len());
                    self.code.constants.push(ConstantRow { row, wide, value: Constant::Bits(offset as u64) });
                    return Ok(row);
                }
                None => return Err(format!("{name} is not declared")),
            },
        };
        Ok(self.constant(constant, wide))
    }

    /// A destination register of type `ty`.
    pub(super) fn destination(&mut self, operand: &Operand<'a>, ty: Type, scope: usize) -> Result<Reg, Refusal> {
        let (row, wide) = self.destination_any(operand, ty, scope)?;
        if wide != ty.wide() && row != REG_SINK {
            return Err(format!("destination {operand:?} has not the width of {ty:?}"));
        }
        Ok(row)
    }

    /// A destination at least as wide as `ty`.
    pub(super) fn destination_any(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
        scope: usize,
    ) -> Result<(Reg, bool), Refusal> {
        match operand {
            Operand::Sink => Ok((REG_SINK, ty.wide())),
            Operand::Name(name, 0) => match self.scopes.find(scope, name) {
                Some(Symbol::Register { first, ty: declared }) => {
                    if declared.size() < ty.size() {
                        return Err(format!("{name} is declared {declared:?}, narrower than {ty:?}"));
                    }
                    Ok((first, declared.wide()))
                }
                _ => Err(format!("{name} is no register")),
            },
            other => Err(format!("{other:?} is no destination")),
        }
    }

    /// Bytes of the register as declared: an instruction's type may be narrower.
    pub(super) fn declared_size(&self, operand: &Operand<'a>, scope: usize) -> Option<usize> {
        match operand {
            Operand::Name(name, 0) => match self.scopes.find(scope, name) {
                Some(Symbol::Register { ty, .. }) => Some(ty.size()),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn predicate(&mut self, operand: &Operand<'a>, scope: usize) -> Result<PredSrc, Refusal> {
        let (name, negated) = match operand {
            Operand::Name(name, 0) => (*name, false),
            Operand::Not(name) => (*name, true),
            Operand::Int(value) => return Ok(PredSrc { index: PRED_TRUE, negated: *value == 0 }),
            other => return Err(format!("{other:?} is no predicate")),
        };
        match self.scopes.find(scope, name) {
            Some(Symbol::Predicate(index)) => Ok(PredSrc { index, negated }),
            _ => Err(format!("{name} is no predicate")),
        }
    }

    pub(super) fn predicate_destination(&mut self, operand: &Operand<'a>, scope: usize) -> Result<Pred, Refusal> {
        match operand {
            Operand::Sink => Ok(PRED_SINK),
            Operand::Name(..) => Ok(self.predicate(operand, scope)?.index),
            other => Err(format!("{other:?} is no predicate")),
        }
    }

    pub(super) fn new_predicate(&mut self) -> Pred {
        self.next_predicate += 1;
        (self.next_predicate - 1) as Pred
    }

    /// `[base+offset]` in a state space.
    pub(super) fn address(&mut self, operand: &Operand<'a>, space: Space, scope: usize) -> Result<Addr, Refusal> {
        let Operand::Address { base, offset, .. } = operand else {
            return Err(format!("{operand:?} is no address"));
        };
        match &**base {
            Operand::Name(name, 0) => match self.scopes.find(scope, name) {
                Some(Symbol::Register { first, ty }) if ty.size() >= 4 => {
                    Ok(Addr { space, base: first, wide: ty.wide(), offset: *offset })
                }
                Some(Symbol::Register { .. } | Symbol::Predicate(_)) => Err(format!("{name} cannot hold an address")),
                symbol => {
                    // A `.param` variable of a call lives in local memory, a kernel's in its parameter block.
                    let space = match (space, symbol) {
                        (Space::Param, Some(Symbol::Local(_))) => Space::Local,
                        (space, _) => space,
                    };
                    Ok(Addr { space, base: self.variable(name, 0, true, scope)?, wide: true, offset: *offset })
                }
            },
            Operand::Int(value) => Ok(Addr { space, base: self.bits(*value, true), wide: true, offset: *offset }),
            other => Err(format!("{other:?} is no address")),
        }
    }
}

/// Special registers with a fixed value per lane.
fn special(name: &str) -> Option<Special> {
    let (base, axis) = match name.split_once('.') {
        Some((base, "x")) => (base, Some(0)),
        Some((base, "y")) => (base, Some(1)),
        Some((base, "z")) => (base, Some(2)),
        Some(_) => return None,
        None => (name, None),
    };
    Some(match (base, axis) {
        ("%tid", Some(axis)) => Special::Tid(axis),
        ("%ntid", Some(axis)) => Special::Ntid(axis),
        ("%ctaid", Some(axis)) => Special::Ctaid(axis),
        ("%nctaid", Some(axis)) => Special::Nctaid(axis),
        ("%clusterid", Some(axis)) => Special::Clusterid(axis),
        ("%nclusterid", Some(axis)) => Special::Nclusterid(axis),
        ("%cluster_ctaid", Some(axis)) => Special::ClusterCtaid(axis),
        ("%cluster_nctaid", Some(axis)) => Special::ClusterNctaid(axis),
        ("%cluster_ctarank", None) => Special::ClusterCtarank,
        ("%cluster_nctarank", None) => Special::ClusterNctarank,
        ("%laneid", None) => Special::Laneid,
        ("%warpid", None) => Special::Warpid,
        ("%nwarpid", None) => Special::Nwarpid,
        ("%smid", None) => Special::Smid,
        ("%nsmid", None) => Special::Nsmid,
        ("%gridid", None) => Special::Gridid,
        ("%lanemask_eq", None) => Special::LanemaskEq,
        ("%lanemask_le", None) => Special::LanemaskLe,
        ("%lanemask_lt", None) => Special::LanemaskLt,
        ("%lanemask_ge", None) => Special::LanemaskGe,
        ("%lanemask_gt", None) => Special::LanemaskGt,
        ("%dynamic_smem_size", None) => Special::DynamicSharedSize,
        ("%total_smem_size", None) => Special::TotalSharedSize,
        _ => return None,
    })
}

/// Special registers that change.
pub(super) fn clock(name: &str) -> Option<Clock> {
    Some(match name {
        "%clock" => Clock::Cycles,
        "%clock_hi" => Clock::CyclesHi,
        "%clock64" => Clock::Cycles64,
        "%globaltimer" => Clock::Globaltimer,
        "%globaltimer_lo" => Clock::GlobaltimerLo,
        "%globaltimer_hi" => Clock::GlobaltimerHi,
        _ => return None,
    })
}
