//! The registers of an instruction, for the allocation of rows.

use super::instruction::*;

/// How an instruction touches a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Source,
    Destination,
    /// Belongs to an asynchronous instruction, which uses it until a later wait.
    Held,
}

type Visitor<'f> = &'f mut dyn FnMut(&mut Reg, Role);

fn address(addr: &mut Addr, f: Visitor) {
    f(&mut addr.base, Role::Source);
}

fn optional(reg: &mut Option<Reg>, role: Role, f: Visitor) {
    if let Some(reg) = reg {
        f(reg, role);
    }
}

fn all(regs: &mut [Reg], role: Role, f: Visitor) {
    regs.iter_mut().for_each(|reg| f(reg, role));
}

impl Op {
    /// Calls `f` with every register operand, sources first.
    pub fn visit(&mut self, f: Visitor) {
        use Role::{Destination, Held, Source};
        match self {
            Op::Alu { f: alu, d, a, b, c, .. } => {
                for reg in [a, b, c].into_iter().take(alu.sources().len()) {
                    f(reg, Source);
                }
                f(d, Destination);
            }
            Op::Setp { a, b, .. } => {
                f(a, Source);
                f(b, Source);
            }
            Op::Selp { d, a, b, .. } => {
                f(a, Source);
                f(b, Source);
                f(d, Destination);
            }
            Op::Carry { op, d, a, b, c, .. } => {
                f(a, Source);
                f(b, Source);
                if !matches!(op, CarryOp::Add | CarryOp::Sub) {
                    f(c, Source);
                }
                f(d, Destination);
            }
            Op::Pack { d, parts, .. } => {
                all(parts, Source, f);
                f(d, Destination);
            }
            Op::Unpack { a, parts, .. } => {
                f(a, Source);
                all(parts, Destination, f);
            }
            Op::Clock { d, .. } | Op::ActiveMask { d } => f(d, Destination),
            Op::Switch { index, .. } => f(index, Source),
            Op::Load(access) => {
                address(&mut access.addr, f);
                all(&mut access.regs, Destination, f);
            }
            Op::Store(access) => {
                address(&mut access.addr, f);
                all(&mut access.regs, Source, f);
            }
            Op::Atomic(a) => {
                address(&mut a.addr, f);
                all(&mut a.src, Source, f);
                f(&mut a.swap, Source);
                all(&mut a.dst, Destination, f);
            }
            Op::IsSpace { a, .. } => f(a, Source),
            Op::MapA { d, a, rank, .. } => {
                f(a, Source);
                f(rank, Source);
                f(d, Destination);
            }
            Op::CtaRank { d, a, .. } | Op::MovMatrix { d, a } => {
                f(a, Source);
                f(d, Destination);
            }
            Op::Shuffle(s) => {
                for reg in [&mut s.a, &mut s.lane, &mut s.clamp, &mut s.members] {
                    f(reg, Source);
                }
                f(&mut s.d, Destination);
            }
            Op::Vote { d, members, .. } => {
                f(members, Source);
                f(d, Destination);
            }
            Op::Elect { d, members, .. } => {
                f(members, Source);
                f(d, Destination);
            }
            Op::Match { d, a, members, .. } | Op::Redux { d, a, members, .. } => {
                f(a, Source);
                f(members, Source);
                f(d, Destination);
            }
            Op::Barrier(b) => {
                f(&mut b.id, Source);
                optional(&mut b.threads, Source, f);
                f(&mut b.d, Destination);
            }
            Op::WarpBarrier { members } => f(members, Source),
            Op::CpAsync(c) => {
                address(&mut c.dst, f);
                address(&mut c.src, f);
                optional(&mut c.src_bytes, Source, f);
            }
            Op::CpAsyncArrive { addr, .. } => address(addr, f),
            Op::Mbarrier(m) => {
                address(&mut m.addr, f);
                match &mut m.op {
                    MbarrierOp::Init { count } => f(count, Source),
                    MbarrierOp::Inval => {}
                    MbarrierOp::Arrive { count, expect_tx, state, .. } => {
                        f(count, Source);
                        optional(expect_tx, Source, f);
                        optional(state, Destination, f);
                    }
                    MbarrierOp::ExpectTx { bytes } | MbarrierOp::CompleteTx { bytes } => f(bytes, Source),
                    MbarrierOp::Wait { phase, .. } => f(phase, Source),
                    MbarrierOp::PendingCount { d, state } => {
                        f(state, Source);
                        f(d, Destination);
                    }
                }
            }
            Op::BulkCopy(c) => {
                address(&mut c.dst, f);
                address(&mut c.src, f);
                f(&mut c.bytes, Source);
                if let Some(mbarrier) = &mut c.mbarrier {
                    address(mbarrier, f);
                }
                optional(&mut c.multicast, Source, f);
            }
            Op::RemoteStore(s) => {
                address(&mut s.to, f);
                all(&mut s.src, Source, f);
                address(&mut s.mbarrier, f);
            }
            Op::TensorCopy(c) => {
                address(&mut c.shared, f);
                address(&mut c.map, f);
                all(&mut c.coordinates, Source, f);
                all(&mut c.offsets, Source, f);
                if let Some(mbarrier) = &mut c.mbarrier {
                    address(mbarrier, f);
                }
                optional(&mut c.multicast, Source, f);
            }
            Op::LdMatrix(access) => {
                address(&mut access.addr, f);
                all(&mut access.regs, Destination, f);
            }
            Op::StMatrix(access) => {
                address(&mut access.addr, f);
                all(&mut access.regs, Source, f);
            }
            Op::Mma(m) => {
                all(&mut m.a, Source, f);
                all(&mut m.b, Source, f);
                all(&mut m.c, Source, f);
                all(&mut m.d, Destination, f);
            }
            Op::Wgmma(w) => {
                match &mut w.a {
                    WgmmaA::Registers(regs) => all(regs, Held, f),
                    WgmmaA::Descriptor(descriptor) => f(descriptor, Source),
                }
                f(&mut w.b, Source);
                all(&mut w.d, Held, f);
            }
            Op::Intrinsic(i) => match &mut **i {
                Intrinsic::Printf { format, arguments, d } => {
                    f(format, Source);
                    f(arguments, Source);
                    f(d, Destination);
                }
                Intrinsic::AssertFail { message, file, line, function } => {
                    for reg in [message, file, line, function] {
                        f(reg, Source);
                    }
                }
            },
            Op::Predicate { .. }
            | Op::Branch { .. }
            | Op::Exit
            | Op::Trap
            | Op::Nop
            | Op::Prefetch
            | Op::ClusterArrive { .. }
            | Op::ClusterWait { .. }
            | Op::Fence(_)
            | Op::Nanosleep
            | Op::CpAsyncCommit
            | Op::CpAsyncWait { .. }
            | Op::BulkCommit
            | Op::BulkWait { .. }
            | Op::WgmmaFence
            | Op::WgmmaCommit
            | Op::WgmmaWait { .. }
            | Op::SetMaxNreg { .. } => {}
        }
    }
}
