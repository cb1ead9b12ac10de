//! Asynchronous copies and mbarriers.

use super::*;

impl<'a> Decoder<'_, '_, 'a> {
    pub(super) fn asynchronous(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        if root == "mbarrier" {
            return self.mbarrier(st);
        }
        let reduce = st.m.flag("reduce");
        if !st.m.flag("async") {
            return Err("not modelled".into());
        }
        if st.m.flag("bulk") {
            return self.bulk(reduce, st);
        }
        if st.m.flag("commit_group") {
            self.emit(st.guard, Op::CpAsyncCommit);
            return Ok(());
        }
        if st.m.flag("wait_all") {
            self.emit(st.guard, Op::CpAsyncWait { keep: None });
            return Ok(());
        }
        if st.m.flag("wait_group") {
            let keep = Some(self.count(st.operand(0)?)?);
            self.emit(st.guard, Op::CpAsyncWait { keep });
            return Ok(());
        }
        if st.m.flag("mbarrier") {
            if !st.m.flag("arrive") {
                return Err("not modelled".into());
            }
            let noinc = st.m.flag("noinc");
            let space = Self::space(st);
            st.ty()?;
            let addr = self.address(st.operand(0)?, space, st.scope)?;
            self.emit(st.guard, Op::CpAsyncArrive { addr, noinc });
            return Ok(());
        }
        st.m.one_of(&[("ca", ()), ("cg", ())]).ok_or("no .ca or .cg")?;
        if st.m.one_of(&[("shared", ()), ("shared::cta", ())]).is_none() || !st.m.flag("global") {
            return Err("only global to shared is modelled".into());
        }
        st.m.ignore(&["L2::cache_hint", "L2::64B", "L2::128B", "L2::256B"]);
        let dst = self.address(st.operand(0)?, Space::Shared, st.scope)?;
        let src = self.address(st.operand(1)?, Space::Global, st.scope)?;
        let bytes = self.count(st.operand(2)?)? as u8;
        if !matches!(bytes, 4 | 8 | 16) {
            return Err(format!("{bytes} bytes: 4, 8 or 16"));
        }
        let (mut src_bytes, mut ignore_src) = (None, None);
        match st.s.operands.get(3) {
            None => {}
            Some(operand @ Operand::Int(_)) => src_bytes = Some(self.source(operand, Type::U32, st.scope)?),
            Some(operand) => match self.predicate(operand, st.scope) {
                Ok(p) => ignore_src = Some(p),
                Err(_) => {
                    // A source size in a 32-bit register, or the cache policy in a 64-bit one.
                    if let Ok(row) = self.source(operand, Type::U32, st.scope) {
                        src_bytes = Some(row);
                    }
                }
            },
        }
        self.emit(st.guard, Op::CpAsync(Box::new(CpAsync { dst, src, bytes, src_bytes, ignore_src })));
        Ok(())
    }

    /// An immediate count.
    pub(super) fn count(&self, operand: &Operand<'a>) -> Result<u32, Refusal> {
        match operand {
            Operand::Int(value) => u32::try_from(*value).map_err(|_| format!("count {value}")),
            other => Err(format!("{other:?} must be an immediate")),
        }
    }

    fn bulk(&mut self, reduce: bool, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        if st.m.flag("commit_group") {
            self.emit(st.guard, Op::BulkCommit);
            return Ok(());
        }
        if st.m.flag("wait_group") {
            let read = st.m.flag("read");
            let keep = self.count(st.operand(0)?)?;
            self.emit(st.guard, Op::BulkWait { keep, read });
            return Ok(());
        }
        let prefetch = st.m.flag("prefetch");
        if st.m.flag("tensor") {
            return self.tensor(reduce, prefetch, st);
        }
        if prefetch {
            while st.m.next().is_some() {}
            self.emit(st.guard, Op::Prefetch);
            return Ok(());
        }
        let dst_space = match st.m.next() {
            Some("shared::cluster" | "shared::cta") => Space::Shared,
            Some("global") => Space::Global,
            other => return Err(format!("destination {other:?}")),
        };
        let src_space = match st.m.next() {
            Some("shared::cta") => Space::Shared,
            Some("global") => Space::Global,
            other => return Err(format!("source {other:?}")),
        };
        let by_mbarrier = st.m.flag("mbarrier::complete_tx::bytes");
        if !by_mbarrier && !st.m.flag("bulk_group") {
            return Err("no completion mechanism".into());
        }
        let multicast = st.m.flag("multicast::cluster");
        st.m.ignore(&["L2::cache_hint", "noftz"]);
        let reduce = match reduce {
            true => Some(Update { op: self.bulk_operation(st)?, ty: Self::atomic_type(st.ty()?)? }),
            false => None,
        };
        let dst = self.address(st.operand(0)?, dst_space, st.scope)?;
        let src = self.address(st.operand(1)?, src_space, st.scope)?;
        let bytes = self.source(st.operand(2)?, Type::U32, st.scope)?;
        let mut next = 3;
        let mbarrier = if by_mbarrier {
            next += 1;
            Some(self.address(st.operand(3)?, Space::Shared, st.scope)?)
        } else {
            None
        };
        let multicast = match multicast {
            true => Some(self.source(st.operand(next)?, Type::U16, st.scope)?),
            false => None,
        };
        let copy = BulkCopy { dst, src, bytes, mbarrier, multicast, reduce };
        self.emit(st.guard, Op::BulkCopy(Box::new(copy)));
        Ok(())
    }

    /// `st.async` and `red.async`: a store or a reduction in another block's shared memory that an mbarrier there
    /// counts.
    pub(super) fn remote(&mut self, reduce: bool, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        st.m.ignore(&["weak", "relaxed", "cluster", "shared::cluster"]);
        if !st.m.flag("mbarrier::complete_tx::bytes") {
            return Err("no completion mechanism".into());
        }
        let op = match reduce {
            true => Some(self.bulk_operation(st)?),
            false => None,
        };
        let count = st.m.one_of(&[("v2", 2usize), ("v4", 4)]).unwrap_or(1);
        let ty = st.ty()?;
        let known = match op {
            None => matches!(ty.size(), 4 | 8),
            Some(AtomicOp::Add) => matches!(ty, Type::U32 | Type::S32 | Type::U64),
            Some(AtomicOp::Min | AtomicOp::Max) => matches!(ty, Type::U32 | Type::S32),
            Some(AtomicOp::Inc | AtomicOp::Dec) => ty == Type::U32,
            Some(_) => ty == Type::B32,
        };
        if !known {
            return Err(format!("not for {ty:?}"));
        }
        st.at_most(3)?;
        let to = self.address(st.operand(0)?, Space::Shared, st.scope)?;
        let src = match st.operand(1)? {
            Operand::Vector(list) => self.sources(list, ty, st.scope)?,
            single => self.sources(std::slice::from_ref(single), ty, st.scope)?,
        };
        if src.len() != count {
            return Err(format!("{} registers for {count} elements", src.len()));
        }
        let mbarrier = self.address(st.operand(2)?, Space::Shared, st.scope)?;
        let update = match op {
            Some(op) => Some(Update { op, ty: Self::atomic_type(ty)? }),
            None => None,
        };
        let store = RemoteStore { to, src, bytes: ty.size() as u8, mbarrier, update };
        self.emit(st.guard, Op::RemoteStore(Box::new(store)));
        Ok(())
    }

    fn bulk_operation(&self, st: &mut Decode<'_, '_, 'a>) -> Result<AtomicOp, Refusal> {
        let ops = [
            ("add", AtomicOp::Add),
            ("min", AtomicOp::Min),
            ("max", AtomicOp::Max),
            ("inc", AtomicOp::Inc),
            ("dec", AtomicOp::Dec),
            ("and", AtomicOp::And),
            ("or", AtomicOp::Or),
            ("xor", AtomicOp::Xor),
        ];
        st.m.one_of(&ops).ok_or_else(|| "no reduction".into())
    }

    /// `cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor`, `cp.async.bulk.prefetch.tensor`.
    fn tensor(&mut self, reduce: bool, prefetch: bool, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let dims = [("1d", 1usize), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)];
        let rank = st.m.one_of(&dims).ok_or("no rank")?;
        let load = st.m.flag("shared::cluster")
            || !reduce && !prefetch && st.m.peek() == Some("shared::cta") && {
                // Since PTX 8.6 a load may name its own block's shared memory.
                st.m.flag("shared::cta")
            };
        let kind = if prefetch {
            st.m.ignore(&["L2", "global"]);
            TensorKind::Prefetch
        } else if load {
            if !st.m.flag("global") {
                return Err("source is not .global".into());
            }
            TensorKind::Load
        } else {
            if !st.m.flag("global") || !st.m.flag("shared::cta") {
                return Err("not .global.shared::cta".into());
            }
            if reduce { TensorKind::Reduce(self.bulk_operation(st)?) } else { TensorKind::Store }
        };
        let im2col = st.m.flag("im2col") | st.m.flag("im2col_no_offs");
        st.m.ignore(&["tile", "L2::cache_hint", "bulk_group"]);
        let by_mbarrier = st.m.flag("mbarrier::complete_tx::bytes");
        let multicast = st.m.flag("multicast::cluster");
        if by_mbarrier != (kind == TensorKind::Load) {
            return Err("completion mechanism".into());
        }
        // load: [dst], [map, coordinates], [mbar], {offsets}, mask, policy; store: [map, coordinates], [src], policy
        let (map_at, shared_at) = match kind {
            TensorKind::Load => (1, Some(0)),
            TensorKind::Prefetch => (0, None),
            _ => (0, Some(1)),
        };
        let map_operand = st.operand(map_at)?;
        let Operand::Address { coordinates, .. } = map_operand else { return Err("no tensor map".into()) };
        if coordinates.len() != rank {
            return Err(format!("{} coordinates for rank {rank}", coordinates.len()));
        }
        let map = self.address(map_operand, Space::Generic, st.scope)?;
        let coordinates = self.sources(coordinates, Type::S32, st.scope)?;
        let shared = match shared_at {
            Some(at) => self.address(st.operand(at)?, Space::Shared, st.scope)?,
            None => map,
        };
        let mut next = map_at + 1 + usize::from(shared_at == Some(1));
        let mbarrier = match by_mbarrier {
            true => Some(self.address(st.operand(next)?, Space::Shared, st.scope)?),
            false => None,
        };
        next += usize::from(by_mbarrier);
        let offsets = match st.s.operands.get(next) {
            Some(Operand::Vector(list)) if im2col => {
                next += 1;
                self.sources(list, Type::U16, st.scope)?
            }
            _ => Box::default(),
        };
        let multicast = match multicast {
            true => Some(self.source(st.operand(next)?, Type::U16, st.scope)?),
            false => None,
        };
        let copy = TensorCopy { kind, im2col, shared, map, coordinates, offsets, mbarrier, multicast };
        self.emit(st.guard, Op::TensorCopy(Box::new(copy)));
        Ok(())
    }

    fn mbarrier(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        let verb = st.m.next().ok_or("no operation")?;
        let expect_tx = st.m.flag("expect_tx");
        let no_complete = st.m.flag("noComplete");
        let parity = st.m.flag("parity");
        st.m.ignore(&["release", "acquire", "relaxed", "cta", "cluster"]);
        let space = Self::space(st);
        st.ty()?;
        if no_complete && !matches!(verb, "arrive" | "arrive_drop") {
            return Err(".noComplete is for arrivals".into());
        }
        let n = st.s.operands.len();
        let (op, at) = match verb {
            "init" => (MbarrierOp::Init { count: self.source(st.operand(1)?, Type::U32, st.scope)? }, 0),
            "inval" => (MbarrierOp::Inval, 0),
            "expect_tx" => (MbarrierOp::ExpectTx { bytes: self.source(st.operand(1)?, Type::U32, st.scope)? }, 0),
            "complete_tx" => (MbarrierOp::CompleteTx { bytes: self.source(st.operand(1)?, Type::U32, st.scope)? }, 0),
            "arrive" | "arrive_drop" => {
                // `state, [a]`, `_, [a]` or `[a]`, each with or without a count.
                let has_state = !matches!(st.operand(0)?, Operand::Address { .. });
                let at = usize::from(has_state);
                let state = match st.operand(0)? {
                    Operand::Sink | Operand::Address { .. } => None,
                    operand => Some(self.destination(operand, Type::B64, st.scope)?),
                };
                let extra = match n > at + 1 {
                    true => Some(self.source(st.operand(at + 1)?, Type::U32, st.scope)?),
                    false => None,
                };
                let one = self.constant(Constant::Bits(1), false);
                let (count, expect) =
                    if expect_tx { (one, Some(extra.ok_or("no byte count")?)) } else { (extra.unwrap_or(one), None) };
                (MbarrierOp::Arrive { count, expect_tx: expect, drop: verb == "arrive_drop", no_complete, state }, at)
            }
            "test_wait" | "try_wait" => {
                let p = self.predicate_destination(st.operand(0)?, st.scope)?;
                let ty = if parity { Type::U32 } else { Type::B64 };
                let phase = self.source(st.operand(2)?, ty, st.scope)?;
                (MbarrierOp::Wait { p, phase, parity, suspend: verb == "try_wait" }, 1)
            }
            "pending_count" => {
                let d = self.destination(st.operand(0)?, Type::U32, st.scope)?;
                let state = self.source(st.operand(1)?, Type::B64, st.scope)?;
                let base = self.bits(0, true);
                let addr = Addr { space: Space::Shared, base, wide: true, offset: 0 };
                let op = MbarrierOp::PendingCount { d, state };
                self.emit(st.guard, Op::Mbarrier(Box::new(Mbarrier { op, addr })));
                return Ok(());
            }
            other => return Err(format!("{other} is not modelled")),
        };
        let addr = self.address(st.operand(at)?, space, st.scope)?;
        self.emit(st.guard, Op::Mbarrier(Box::new(Mbarrier { op, addr })));
        Ok(())
    }
}
