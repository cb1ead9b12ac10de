//! Which instructions touch the registers of wgmma.

use std::collections::HashSet;

use super::instruction::{Intrinsic, MbarrierOp, Op, Reg, WgmmaA};
use super::module::Code;

/// A row, and whether the instruction writes it.
pub type Touch = (Reg, bool);

impl Code {
    /// Rows that the instruction at `pc` reads or writes and that some wgmma of the kernel uses; none for wgmma itself.
    #[inline]
    pub fn wgmma_registers(&self, pc: u32) -> &[Touch] {
        &self.touched.get_or_init(|| self.find_touched())[pc as usize]
    }

    fn find_touched(&self) -> Vec<Box<[Touch]>> {
        let mut used = HashSet::new();
        for instr in &self.instructions {
            if let Op::Wgmma(wgmma) = &instr.op {
                used.extend(wgmma.d.iter().copied());
                if let WgmmaA::Registers(rows) = &wgmma.a {
                    used.extend(rows.iter().copied());
                }
            }
        }
        let touched = |op: &Op| {
            let mut rows = vec![];
            op.registers(&mut |row, write| {
                if used.contains(&row) {
                    rows.push((row, write));
                }
            });
            rows.into_boxed_slice()
        };
        self.instructions.iter().map(|instr| touched(&instr.op)).collect()
    }
}

impl Op {
    /// Calls back with every register row the instruction reads (false) or writes (true), except those of wgmma. A
    /// 64-bit register is named by its first row.
    fn registers(&self, f: &mut dyn FnMut(Reg, bool)) {
        let reads = |rows: &[Reg], f: &mut dyn FnMut(Reg, bool)| rows.iter().for_each(|r| f(*r, false));
        let writes = |rows: &[Reg], f: &mut dyn FnMut(Reg, bool)| rows.iter().for_each(|r| f(*r, true));
        match self {
            Op::Alu { d, a, b, c, .. } | Op::Carry { d, a, b, c, .. } => {
                reads(&[*a, *b, *c], f);
                f(*d, true);
            }
            Op::Setp { a, b, .. } => reads(&[*a, *b], f),
            Op::Selp { d, a, b, .. } => {
                reads(&[*a, *b], f);
                f(*d, true);
            }
            Op::Pack { d, parts, .. } => {
                reads(parts, f);
                f(*d, true);
            }
            Op::Unpack { a, parts, .. } => {
                f(*a, false);
                writes(parts, f);
            }
            Op::Clock { d, .. } | Op::ActiveMask { d } => f(*d, true),
            Op::Switch { index, .. } => f(*index, false),
            Op::Load(access) => {
                f(access.addr.base, false);
                writes(&access.regs, f);
            }
            Op::Store(access) => {
                f(access.addr.base, false);
                reads(&access.regs, f);
            }
            Op::Atomic(atomic) => {
                reads(&[atomic.addr.base, atomic.swap], f);
                reads(&atomic.src, f);
                writes(&atomic.dst, f);
            }
            Op::IsSpace { a, .. } => f(*a, false),
            Op::MapA { d, a, rank, .. } => {
                reads(&[*a, *rank], f);
                f(*d, true);
            }
            Op::CtaRank { d, a, .. } | Op::MovMatrix { d, a } => {
                f(*a, false);
                f(*d, true);
            }
            Op::Shuffle(s) => {
                reads(&[s.a, s.lane, s.clamp, s.members], f);
                f(s.d, true);
            }
            Op::Vote { d, members, .. } | Op::Elect { d, members, .. } => {
                f(*members, false);
                f(*d, true);
            }
            Op::Match { d, a, members, .. } | Op::Redux { d, a, members, .. } => {
                reads(&[*a, *members], f);
                f(*d, true);
            }
            Op::Barrier(barrier) => {
                f(barrier.id, false);
                barrier.threads.iter().for_each(|r| f(*r, false));
                f(barrier.d, true);
            }
            Op::WarpBarrier { members } => f(*members, false),
            Op::CpAsync(copy) => {
                reads(&[copy.dst.base, copy.src.base], f);
                copy.src_bytes.iter().for_each(|r| f(*r, false));
            }
            Op::CpAsyncArrive { addr, .. } => f(addr.base, false),
            Op::Mbarrier(mbarrier) => {
                f(mbarrier.addr.base, false);
                match &mbarrier.op {
                    MbarrierOp::Init { count } => f(*count, false),
                    MbarrierOp::Arrive { count, expect_tx, state, .. } => {
                        f(*count, false);
                        expect_tx.iter().for_each(|r| f(*r, false));
                        state.iter().for_each(|r| f(*r, true));
                    }
                    MbarrierOp::ExpectTx { bytes } | MbarrierOp::CompleteTx { bytes } => f(*bytes, false),
                    MbarrierOp::Wait { phase, .. } => f(*phase, false),
                    MbarrierOp::PendingCount { d, state } => {
                        f(*state, false);
                        f(*d, true);
                    }
                    MbarrierOp::Inval => {}
                }
            }
            Op::BulkCopy(copy) => {
                reads(&[copy.dst.base, copy.src.base, copy.bytes], f);
                copy.mbarrier.iter().for_each(|addr| f(addr.base, false));
                copy.multicast.iter().for_each(|r| f(*r, false));
            }
            Op::TensorCopy(copy) => {
                reads(&[copy.shared.base, copy.map.base], f);
                reads(&copy.coordinates, f);
                reads(&copy.offsets, f);
                copy.mbarrier.iter().for_each(|addr| f(addr.base, false));
                copy.multicast.iter().for_each(|r| f(*r, false));
            }
            Op::LdMatrix(access) => {
                f(access.addr.base, false);
                writes(&access.regs, f);
            }
            Op::StMatrix(access) => {
                f(access.addr.base, false);
                reads(&access.regs, f);
            }
            Op::Mma(mma) => {
                [&mma.a, &mma.b, &mma.c].into_iter().for_each(|rows| reads(rows, f));
                writes(&mma.d, f);
            }
            Op::Intrinsic(intrinsic) => match **intrinsic {
                Intrinsic::Printf { format, arguments, d } => {
                    reads(&[format, arguments], f);
                    f(d, true);
                }
                Intrinsic::AssertFail { message, file, line, function } => reads(&[message, file, line, function], f),
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
            | Op::Wgmma(_)
            | Op::SetMaxNreg { .. } => {}
        }
    }
}
