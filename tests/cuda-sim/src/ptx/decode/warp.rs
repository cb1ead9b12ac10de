//! Instructions of warps and blocks: shuffles, votes, barriers, fences.

use super::*;

impl<'a> Decoder<'_, '_, 'a> {
    pub(super) fn warp(&mut self, root: &str, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        match root {
            "shfl" => self.shuffle(st),
            "vote" => {
                self.sync(st)?;
                let modes = [
                    ("all", VoteMode::All),
                    ("any", VoteMode::Any),
                    ("uni", VoteMode::Uni),
                    ("ballot", VoteMode::Ballot),
                ];
                let mode = st.m.one_of(&modes).ok_or("no mode")?;
                st.ty()?;
                let (d, p) = match mode {
                    VoteMode::Ballot => (self.destination(st.operand(0)?, Type::B32, st.scope)?, PRED_SINK),
                    _ => (REG_SINK, self.predicate_destination(st.operand(0)?, st.scope)?),
                };
                let src = self.predicate(st.operand(1)?, st.scope)?;
                let members = self.source(st.operand(2)?, Type::B32, st.scope)?;
                self.emit(st.guard, Op::Vote { mode, d, p, src, members });
                Ok(())
            }
            "match" => {
                let all = st.m.one_of(&[("all", true), ("any", false)]).ok_or("no mode")?;
                self.sync(st)?;
                let ty = st.ty()?;
                let (d, p) = self.with_predicate(st, Type::B32)?;
                let a = self.source(st.operand(1)?, ty, st.scope)?;
                let members = self.source(st.operand(2)?, Type::B32, st.scope)?;
                self.emit(st.guard, Op::Match { all, wide: ty.wide(), d, p, a, members });
                Ok(())
            }
            "redux" => {
                self.sync(st)?;
                let ops = [
                    ("add", AtomicOp::Add),
                    ("min", AtomicOp::Min),
                    ("max", AtomicOp::Max),
                    ("and", AtomicOp::And),
                    ("or", AtomicOp::Or),
                    ("xor", AtomicOp::Xor),
                ];
                let op = st.m.one_of(&ops).ok_or("no operation")?;
                let ty = st.ty()?;
                if !matches!(ty, Type::U32 | Type::S32 | Type::B32) {
                    return Err(format!("not modelled for {ty:?}"));
                }
                let d = self.destination(st.operand(0)?, ty, st.scope)?;
                let a = self.source(st.operand(1)?, ty, st.scope)?;
                let members = self.source(st.operand(2)?, Type::B32, st.scope)?;
                self.emit(st.guard, Op::Redux { op, signed: ty.signed(), d, a, members });
                Ok(())
            }
            "activemask" => {
                st.ty()?;
                let d = self.destination(st.operand(0)?, Type::B32, st.scope)?;
                self.emit(st.guard, Op::ActiveMask { d });
                Ok(())
            }
            "elect" => {
                self.sync(st)?;
                let (d, p) = self.with_predicate(st, Type::B32)?;
                let members = self.source(st.operand(1)?, Type::B32, st.scope)?;
                self.emit(st.guard, Op::Elect { d, p, members });
                Ok(())
            }
            "bar" | "barrier" => self.barrier(root == "bar", st),
            "membar" => {
                st.m.ignore(&["cta", "gl", "sys"]);
                if st.m.flag("proxy") {
                    return self.fence_proxy(st);
                }
                self.emit(st.guard, Op::Fence(Fence::Memory));
                Ok(())
            }
            "fence" => {
                if st.m.flag("proxy") {
                    return self.fence_proxy(st);
                }
                let init = st.m.flag("mbarrier_init");
                st.m.ignore(&["sc", "acq_rel", "acquire", "release", "cta", "cluster", "gpu", "sys"]);
                st.m.ignore(&["sync_restrict::shared::cta", "sync_restrict::shared::cluster"]);
                self.emit(st.guard, Op::Fence(if init { Fence::MbarrierInit } else { Fence::Memory }));
                Ok(())
            }
            "griddepcontrol" => {
                // Launches of one stream run one after the other here, which the instruction allows.
                st.m.one_of(&[("wait", ()), ("launch_dependents", ())]).ok_or("no form")?;
                self.emit(st.guard, Op::Nop);
                Ok(())
            }
            "setmaxnreg" => {
                let increase = st.m.one_of(&[("inc", true), ("dec", false)]).ok_or("no .inc or .dec")?;
                self.sync(st)?;
                st.m.ignore(&["aligned"]);
                st.ty()?;
                let Operand::Int(registers) = st.operand(0)? else { return Err("no count".into()) };
                let registers = *registers as u32;
                if !(24..=256).contains(&registers) || !registers.is_multiple_of(8) {
                    return Err(format!("{registers} registers: 24 to 256 in steps of 8"));
                }
                self.emit(st.guard, Op::SetMaxNreg { registers, increase });
                Ok(())
            }
            _ => {
                st.ty()?;
                self.emit(st.guard, Op::Nanosleep);
                Ok(())
            }
        }
    }

    /// `.sync`: the old forms without it are gone from sm_70 on.
    fn sync(&self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        if st.m.flag("sync") { Ok(()) } else { Err("without .sync is not modelled".into()) }
    }

    /// `d` or `d|p`.
    fn with_predicate(&mut self, st: &Decode<'_, '_, 'a>, ty: Type) -> Result<(Reg, Pred), Refusal> {
        match st.operand(0)? {
            Operand::Pair(d, p) => Ok((self.destination(d, ty, st.scope)?, self.predicate_destination(p, st.scope)?)),
            d => Ok((self.destination(d, ty, st.scope)?, PRED_SINK)),
        }
    }

    fn shuffle(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        self.sync(st)?;
        let modes = [("up", ShflMode::Up), ("down", ShflMode::Down), ("bfly", ShflMode::Bfly), ("idx", ShflMode::Idx)];
        let mode = st.m.one_of(&modes).ok_or("no mode")?;
        let ty = st.ty()?;
        st.at_most(5)?;
        let (d, p) = self.with_predicate(st, ty)?;
        let a = self.source(st.operand(1)?, ty, st.scope)?;
        let lane = self.source(st.operand(2)?, Type::U32, st.scope)?;
        let clamp = self.source(st.operand(3)?, Type::U32, st.scope)?;
        let members = self.source(st.operand(4)?, Type::B32, st.scope)?;
        self.emit(st.guard, Op::Shuffle(Box::new(Shuffle { mode, d, p, a, lane, clamp, members })));
        Ok(())
    }

    fn barrier(&mut self, bar: bool, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        if bar && st.m.flag("warp") {
            self.sync(st)?;
            let members = self.source(st.operand(0)?, Type::B32, st.scope)?;
            self.emit(st.guard, Op::WarpBarrier { members });
            return Ok(());
        }
        if st.m.flag("cluster") {
            let wait = st.m.one_of(&[("arrive", false), ("wait", true)]).ok_or("no .arrive or .wait")?;
            let relaxed = st.m.flag("relaxed");
            st.m.ignore(&["release", "acquire"]);
            let aligned = st.m.flag("aligned");
            let op = if wait { Op::ClusterWait { aligned } } else { Op::ClusterArrive { release: !relaxed, aligned } };
            self.emit(st.guard, op);
            return Ok(());
        }
        st.m.ignore(&["cta"]);
        let mode = match st.m.one_of(&[("sync", 's'), ("arrive", 'a'), ("red", 'r')]).ok_or("no mode")? {
            's' => BarrierMode::Sync,
            'a' => BarrierMode::Arrive,
            _ => {
                st.m.one_of(&[("popc", BarrierMode::RedPopc), ("and", BarrierMode::RedAnd), ("or", BarrierMode::RedOr)])
                    .ok_or("no reduction")?
            }
        };
        let aligned = st.m.flag("aligned") || bar;
        let (mut d, mut p, mut src, mut first) = (REG_SINK, PRED_SINK, PredSrc::TRUE, 0);
        let mut last = st.s.operands.len();
        if !matches!(mode, BarrierMode::Sync | BarrierMode::Arrive) {
            st.ty()?;
            match mode {
                BarrierMode::RedPopc => d = self.destination(st.operand(0)?, Type::U32, st.scope)?,
                _ => p = self.predicate_destination(st.operand(0)?, st.scope)?,
            }
            (first, last) = (1, last - 1);
            src = self.predicate(st.operand(last)?, st.scope)?;
        }
        let id = self.source(st.operand(first)?, Type::U32, st.scope)?;
        let threads = match last - first {
            1 => None,
            2 => Some(self.source(st.operand(first + 1)?, Type::U32, st.scope)?),
            n => return Err(format!("{n} operands")),
        };
        if mode == BarrierMode::Arrive && threads.is_none() {
            return Err("arrive needs a thread count".into());
        }
        self.emit(st.guard, Op::Barrier(Box::new(Barrier { mode, id, threads, aligned, d, p, src })));
        Ok(())
    }

    fn fence_proxy(&mut self, st: &mut Decode<'_, '_, 'a>) -> Result<(), Refusal> {
        st.m.ignore(&["bi"]);
        let kinds = [
            ("async", Fence::ProxyAsync),
            ("async::generic", Fence::ProxyAsync),
            ("alias", Fence::ProxyOther),
            ("tensormap", Fence::ProxyOther),
            ("tensormap::generic", Fence::ProxyOther),
        ];
        let fence = st.m.one_of(&kinds).ok_or("proxy not modelled")?;
        st.m.ignore(&[
            "global",
            "shared::cta",
            "shared::cluster",
            "acquire",
            "release",
            "cta",
            "cluster",
            "gpu",
            "sys",
        ]);
        st.m.ignore(&["sync_restrict::shared::cta", "sync_restrict::shared::cluster"]);
        self.emit(st.guard, Op::Fence(fence));
        Ok(())
    }
}
