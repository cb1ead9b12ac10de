//! Loads, stores, atomics, address arithmetic.

use super::*;
use Alu::*;

/// Where the windows of the generic address space lie: the upper 32 bits of an address.
pub const SHARED_WINDOW: u64 = 0x0100;
pub const LOCAL_WINDOW: u64 = 0x0200;
pub const PARAM_WINDOW: u64 = 0x0300;

impl<'a> Decoder<'_, '_, 'a> {
    pub(super) fn memory(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        match root {
            "st" | "red" if st.m.flag("async") => self.remote(root == "red", st),
            "ld" | "ldu" | "st" => self.access(root == "st", st),
            "atom" | "red" => self.atomic(root == "red", st),
            "cvta" => self.cvta(st),
            "isspacep" => {
                let (space, own_block) =
                    st.m.one_of(&[
                        ("global", (Space::Global, false)),
                        ("const", (Space::Global, false)),
                        ("shared", (Space::Shared, true)),
                        ("shared::cta", (Space::Shared, true)),
                        ("shared::cluster", (Space::Shared, false)),
                        ("local", (Space::Local, false)),
                        ("param", (Space::Param, false)),
                    ])
                    .ok_or("no state space")?;
                let p = self.predicate_destination(st.operand(0)?, st.scope)?;
                let a = self.source(st.operand(1)?, Type::U64, st.scope)?;
                self.emit(st.guard, Op::IsSpace { p, a, space, own_block });
                Ok(())
            }
            "mapa" | "getctarank" => {
                let shared = st.m.flag("shared::cluster");
                let ty = st.ty()?;
                let d_ty = if root == "mapa" { ty } else { Type::U32 };
                let d = self.destination(st.operand(0)?, d_ty, st.scope)?;
                let a = self.source(st.operand(1)?, ty, st.scope)?;
                if root == "mapa" {
                    let rank = self.source(st.operand(2)?, Type::U32, st.scope)?;
                    self.emit(st.guard, Op::MapA { wide: ty.wide(), generic: !shared, d, a, rank });
                } else {
                    self.emit(st.guard, Op::CtaRank { wide: ty.wide(), d, a });
                }
                Ok(())
            }
            "createpolicy" => {
                // Cache policies are hints: a token that nobody looks into.
                while st.m.next().is_some() {}
                let d = self.destination(st.operand(0)?, Type::B64, st.scope)?;
                let zero = self.bits(0, true);
                self.alu(st, MovB64, d, &[zero], 0);
                Ok(())
            }
            _ => {
                // prefetch, discard, applypriority change nothing that a program can see.
                while st.m.next().is_some() {}
                self.emit(st.guard, Op::Prefetch);
                Ok(())
            }
        }
    }

    /// The state space suffix; generic without.
    pub(super) fn space(st: &mut Decode<'_, '_, 'a>) -> Space {
        st.m.one_of(&[
            ("global", Space::Global),
            ("const", Space::Global),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            ("shared::cluster", Space::Shared),
            ("local", Space::Local),
            ("param", Space::Param),
            ("param::entry", Space::Param),
            ("param::func", Space::Param),
        ])
        .unwrap_or(Space::Generic)
    }

    fn access(&mut self, store: bool, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let space = Self::space(st);
        let acquire = st.m.flag("acquire");
        let release = st.m.flag("release");
        let strong = st.m.flag("volatile") | st.m.flag("relaxed") | st.m.flag("mmio") | acquire | release;
        st.m.ignore(&["weak", "cta", "cluster", "gpu", "sys", "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt"]);
        st.m.ignore(&["L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last"]);
        st.m.ignore(&["L1::no_allocate", "L2::evict_first", "L2::evict_last", "L2::evict_normal"]);
        st.m.ignore(&["L2::64B", "L2::128B", "L2::256B", "level::eviction_priority", "unified"]);
        let cache_hint = st.m.flag("L2::cache_hint");
        let count = st.m.one_of(&[("v2", 2usize), ("v4", 4)]).unwrap_or(1);
        let ty = st.ty()?;
        if ty.size() == 0 || ty.size() > 8 {
            return Err(format!("access of {ty:?} is not modelled"));
        }
        st.at_most(2 + usize::from(cache_hint))?;
        let (value, address) = if store { (1, 0) } else { (0, 1) };
        let addr = self.address(st.operand(address)?, space, st.scope)?;
        if store && addr.space == Space::Param {
            return Err("store to a kernel parameter".into());
        }
        let single;
        let list: &[Operand<'a>] = match st.operand(value)? {
            Operand::Vector(list) => list,
            other => {
                single = [other.clone()];
                &single
            }
        };
        if list.len() != count {
            return Err(format!("{} registers for {count} elements", list.len()));
        }
        let mut wide = None;
        let mut regs = Vec::with_capacity(count);
        for operand in list {
            let (reg, is_wide) = if store {
                self.source_any(operand, ty, st.scope)?
            } else {
                self.destination_any(operand, ty, st.scope)?
            };
            let sink = reg == REG_SINK;
            if !sink && *wide.get_or_insert(is_wide) != is_wide {
                return Err("registers of different widths".into());
            }
            regs.push(reg);
        }
        let used = self.used_bytes.take().unwrap_or(u64::MAX);
        let access = Access {
            addr,
            bytes: ty.size() as u8,
            signed: ty.signed(),
            wide: wide.unwrap_or(ty.wide()),
            regs: regs.into(),
            used,
            strong,
        };
        self.emit(st.guard, if store { Op::Store(Box::new(access)) } else { Op::Load(Box::new(access)) });
        Ok(())
    }

    fn atomic(&mut self, red: bool, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let space = Self::space(st);
        st.m.ignore(&[
            "acq_rel",
            "acquire",
            "release",
            "relaxed",
            "cta",
            "cluster",
            "gpu",
            "sys",
            "noftz",
            "L2::cache_hint",
        ]);
        let count = st.m.one_of(&[("v2", 2usize), ("v4", 4), ("v8", 8)]).unwrap_or(1);
        let ops = [
            ("add", AtomicOp::Add),
            ("inc", AtomicOp::Inc),
            ("dec", AtomicOp::Dec),
            ("min", AtomicOp::Min),
            ("max", AtomicOp::Max),
            ("and", AtomicOp::And),
            ("or", AtomicOp::Or),
            ("xor", AtomicOp::Xor),
            ("exch", AtomicOp::Exch),
            ("cas", AtomicOp::Cas),
        ];
        let op = st.m.one_of(&ops).ok_or("no operation")?;
        let ty = st.ty()?;
        let known = match op {
            AtomicOp::Add => !matches!(ty, Type::B32 | Type::B64 | Type::B16),
            AtomicOp::Inc | AtomicOp::Dec => ty == Type::U32,
            AtomicOp::Min | AtomicOp::Max => {
                matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64)
                    || count > 1 && matches!(ty, Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2)
            }
            AtomicOp::And | AtomicOp::Or | AtomicOp::Xor => matches!(ty, Type::B32 | Type::B64),
            AtomicOp::Exch => matches!(ty, Type::B32 | Type::B64),
            AtomicOp::Cas => matches!(ty, Type::B16 | Type::B32 | Type::B64),
        };
        if !known || ty.size() < 2 || ty.size() > 8 {
            return Err(format!("not modelled for {ty:?}"));
        }
        let first = usize::from(!red);
        let addr = self.address(st.operand(first)?, space, st.scope)?;
        let vector = |o: &Operand<'a>| -> Vec<Operand<'a>> {
            match o {
                Operand::Vector(list) => list.clone(),
                other => vec![other.clone()],
            }
        };
        let src = self.sources(&vector(st.operand(first + 1)?), ty, st.scope)?;
        let dst = if red { Box::default() } else { self.destinations(&vector(st.operand(0)?), ty, st.scope)? };
        if src.len() != count || !red && dst.len() != count {
            return Err(format!("operands are not vectors of {count}"));
        }
        let swap = match op {
            AtomicOp::Cas => self.source(st.operand(first + 2)?, ty, st.scope)?,
            _ => REG_SINK,
        };
        let update = Update { op, ty: Self::atomic_type(ty)? };
        let atomic = Atomic { update, addr, dst, src, swap };
        self.emit(st.guard, Op::Atomic(Box::new(atomic)));
        Ok(())
    }

    /// The type of a value in memory that atomics and reductions change.
    pub(super) fn atomic_type(ty: Type) -> Result<AtomicType, Refusal> {
        Ok(match ty {
            Type::B16 | Type::U16 => AtomicType::U16,
            Type::B32 | Type::U32 => AtomicType::U32,
            Type::S32 => AtomicType::S32,
            Type::B64 | Type::U64 => AtomicType::U64,
            Type::S64 => AtomicType::S64,
            Type::F16 => AtomicType::F16,
            Type::Bf16 => AtomicType::Bf16,
            Type::F16x2 => AtomicType::F16x2,
            Type::Bf16x2 => AtomicType::Bf16x2,
            Type::F32 => AtomicType::F32,
            Type::F64 => AtomicType::F64,
            _ => return Err(format!("not modelled for {ty:?}")),
        })
    }

    fn cvta(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let to = st.m.flag("to");
        let space = Self::space(st);
        let ty = st.ty()?;
        if ty != Type::U64 {
            return Err("generic addresses have 64 bits".into());
        }
        st.at_most(2)?;
        let d = self.destination(st.operand(0)?, ty, st.scope)?;
        let mut a = self.source(st.operand(1)?, ty, st.scope)?;
        // The address of a `.param` variable of a call lies in local memory.
        let space = match (space, st.operand(1)?) {
            (Space::Param, Operand::Name(name, _))
                if matches!(self.scopes.find(st.scope, name), Some(Symbol::Local(_))) =>
            {
                Space::Local
            }
            _ => space,
        };
        let window = match space {
            Space::Shared => SHARED_WINDOW << 32,
            Space::Local => LOCAL_WINDOW << 32,
            Space::Param => PARAM_WINDOW << 32,
            _ => 0,
        };
        let mut f = MovB64;
        let mut window_row = REG_SINK;
        if window != 0 {
            (f, window_row) = (if to { SubB64 } else { AddB64 }, self.bits(window, true));
        }
        if a == REG_SINK {
            a = self.bits(0, true);
        }
        self.alu(st, f, d, &[a, window_row], 0);
        Ok(())
    }
}
