//! Decoded instructions: a flat enum with registers resolved to rows of the register file.
//!
//! Every source operand is a register row: immediates and launch constants have rows of their own that are filled when
//! a warp starts, so executing an instruction never asks what kind of operand it has.

use super::alu::Alu;
use crate::matrix;
pub use crate::memory::{AtomicOp, AtomicType, Update};

/// First row of a register: one row of 32 × u32, or two that hold 32 × u64.
pub type Reg = u32;

/// Index of a predicate register, a bit mask over lanes.
pub type Pred = u16;

/// Always true.
pub const PRED_TRUE: Pred = 0;
/// Where `_` predicates go.
pub const PRED_SINK: Pred = 1;
/// The carry flag of `add.cc`.
pub const PRED_CARRY: Pred = 2;
/// First predicate of the program.
pub const PRED_FIRST: Pred = 3;

/// Rows where `_` registers go (wide enough for 64 bits).
pub const REG_SINK: Reg = 0;
/// First row of the program.
pub const REG_FIRST: Reg = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredSrc {
    pub index: Pred,
    pub negated: bool,
}

impl PredSrc {
    pub const TRUE: Self = Self { index: PRED_TRUE, negated: false };
}

/// A guarded instruction.
#[derive(Debug, Clone)]
pub struct Instr {
    pub guard: PredSrc,
    pub op: Op,
}

/// A state space, as far as addresses are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Generic,
    /// Also `.const`: constants lie in device memory.
    Global,
    /// `.shared::cta` and `.shared::cluster`: the address says which block.
    Shared,
    Local,
    Param,
}

/// `[base + offset]`.
#[derive(Debug, Clone, Copy)]
pub struct Addr {
    pub space: Space,
    pub base: Reg,
    /// The base is a 64-bit register.
    pub wide: bool,
    pub offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmpType {
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    Bf16,
    F32,
    F64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmpOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// The unordered forms are true when an operand is NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoolOp {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarryOp {
    Add,
    Sub,
    MadLo,
    MadHi,
    /// `mad.hi` of signed operands.
    MadHiSigned,
}

/// Special registers that change while a warp runs; all others are constant rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Cycles,
    CyclesHi,
    Cycles64,
    Globaltimer,
    GlobaltimerLo,
    GlobaltimerHi,
}

/// A load or store of 1, 2 or 4 elements.
#[derive(Debug, Clone)]
pub struct Access {
    pub addr: Addr,
    /// Bytes of one element: 1, 2, 4, 8.
    pub bytes: u8,
    /// Sign-extend on load.
    pub signed: bool,
    /// The registers are 64-bit.
    pub wide: bool,
    pub regs: Box<[Reg]>,
    /// Bytes of the whole access that matter (`used_bytes_mask`); the others may be unwritten.
    pub used: u64,
    /// `.volatile`, `.relaxed` and stronger: takes part in synchronisation, so exempt from race detection.
    pub strong: bool,
}

/// `atom` and `red`.
#[derive(Debug, Clone)]
pub struct Atomic {
    pub update: Update,
    pub addr: Addr,
    /// Old values; empty for `red`.
    pub dst: Box<[Reg]>,
    /// One row per element of the vector (1 without `.v2` …).
    pub src: Box<[Reg]>,
    /// Swap value of `cas` (`src` is the comparand).
    pub swap: Reg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Debug, Clone)]
pub struct Shuffle {
    pub mode: ShflMode,
    pub d: Reg,
    pub p: Pred,
    pub a: Reg,
    pub lane: Reg,
    pub clamp: Reg,
    pub members: Reg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierMode {
    Sync,
    Arrive,
    RedPopc,
    RedAnd,
    RedOr,
}

/// `bar` and `barrier`.
#[derive(Debug, Clone)]
pub struct Barrier {
    pub mode: BarrierMode,
    pub id: Reg,
    /// Threads that take part; all of the block without.
    pub threads: Option<Reg>,
    pub aligned: bool,
    /// Result register of `red.popc`, predicate of `red.and` and `red.or`.
    pub d: Reg,
    pub p: Pred,
    pub src: PredSrc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// `membar`, `fence.sc`, `fence.acq_rel`: orders memory; barriers do what matters here.
    Memory,
    /// `fence.proxy.async` and its restricted forms.
    ProxyAsync,
    /// `fence.mbarrier_init`.
    MbarrierInit,
    /// `fence.proxy.alias`, `fence.proxy.tensormap`.
    ProxyOther,
}

#[derive(Debug, Clone)]
pub enum MbarrierOp {
    Init {
        count: Reg,
    },
    Inval,
    /// `state` receives the phase token. `remote`: the barrier may be another block's, and there is no token.
    Arrive {
        count: Reg,
        expect_tx: Option<Reg>,
        drop: bool,
        /// The program promises that the phase goes on.
        no_complete: bool,
        state: Option<Reg>,
    },
    ExpectTx {
        bytes: Reg,
    },
    CompleteTx {
        bytes: Reg,
    },
    /// `try_wait` may suspend; `test_wait` answers at once.
    Wait {
        p: Pred,
        phase: Reg,
        parity: bool,
        suspend: bool,
    },
    PendingCount {
        d: Reg,
        state: Reg,
    },
}

#[derive(Debug, Clone)]
pub struct Mbarrier {
    pub op: MbarrierOp,
    pub addr: Addr,
}

/// Non-bulk `cp.async`.
#[derive(Debug, Clone)]
pub struct CpAsync {
    pub dst: Addr,
    pub src: Addr,
    pub bytes: u8,
    pub src_bytes: Option<Reg>,
    /// Reads nothing and writes zeros where set.
    pub ignore_src: Option<PredSrc>,
}

/// `cp.async.bulk` and `cp.reduce.async.bulk` of plain ranges.
#[derive(Debug, Clone)]
pub struct BulkCopy {
    pub dst: Addr,
    pub src: Addr,
    pub bytes: Reg,
    /// Completion through an mbarrier; bulk groups without.
    pub mbarrier: Option<Addr>,
    pub multicast: Option<Reg>,
    pub reduce: Option<Update>,
}

/// `st.async` and, with an update, `red.async`.
#[derive(Debug, Clone)]
pub struct RemoteStore {
    pub to: Addr,
    pub src: Box<[Reg]>,
    /// Of one element: 4 or 8.
    pub bytes: u8,
    pub mbarrier: Addr,
    pub update: Option<Update>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    Load,
    Store,
    Reduce(AtomicOp),
    Prefetch,
}

/// `cp.async.bulk.tensor` and its relatives.
#[derive(Debug, Clone)]
pub struct TensorCopy {
    pub kind: TensorKind,
    pub im2col: bool,
    /// Shared memory side (unused for prefetch).
    pub shared: Addr,
    /// Generic address of the tensor map.
    pub map: Addr,
    pub coordinates: Box<[Reg]>,
    pub offsets: Box<[Reg]>,
    pub mbarrier: Option<Addr>,
    pub multicast: Option<Reg>,
}

/// Operand A of wgmma.
#[derive(Debug, Clone)]
pub enum WgmmaA {
    Registers(Box<[Reg]>),
    Descriptor(Reg),
}

#[derive(Debug, Clone)]
pub struct Wgmma {
    pub form: matrix::Wgmma,
    pub d: Box<[Reg]>,
    pub a: WgmmaA,
    /// 64-bit descriptor.
    pub b: Reg,
    /// False: D starts from zero.
    pub scale_d: PredSrc,
}

/// `ldmatrix` and `stmatrix`: `regs` holds 1, 2 or 4 matrices of 8 × 8 16-bit elements.
#[derive(Debug, Clone)]
pub struct MatrixAccess {
    pub addr: Addr,
    pub regs: Box<[Reg]>,
    pub transpose: bool,
}

#[derive(Debug, Clone)]
pub struct Mma {
    pub form: matrix::Mma,
    pub d: Box<[Reg]>,
    pub a: Box<[Reg]>,
    pub b: Box<[Reg]>,
    pub c: Box<[Reg]>,
}

/// A call of a function that the device runtime provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intrinsic {
    /// Format and argument buffer, both generic addresses, in 64-bit registers.
    Printf { format: Reg, arguments: Reg, d: Reg },
    /// Message, file, line, function.
    AssertFail { message: Reg, file: Reg, line: Reg, function: Reg },
}

#[derive(Debug, Clone)]
pub enum Op {
    Alu {
        f: Alu,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
        imm: u32,
    },
    /// `p = (a cmp b) bool c`, `q = !(a cmp b) bool c`.
    Setp {
        ty: CmpType,
        cmp: CmpOp,
        combine: BoolOp,
        p: Pred,
        q: Pred,
        a: Reg,
        b: Reg,
        c: PredSrc,
    },
    Selp {
        wide: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        p: PredSrc,
    },
    Predicate {
        op: BoolOp,
        d: Pred,
        a: PredSrc,
        b: PredSrc,
    },
    Carry {
        op: CarryOp,
        wide: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
        carry_in: bool,
        carry_out: bool,
    },
    /// Concatenates equal parts, lowest first. `bits` of one part: 8, 16, 32.
    Pack {
        wide: bool,
        bits: u8,
        d: Reg,
        parts: Box<[Reg]>,
    },
    Unpack {
        wide: bool,
        bits: u8,
        a: Reg,
        parts: Box<[Reg]>,
    },
    Clock {
        which: Clock,
        d: Reg,
    },
    Branch {
        target: u32,
    },
    Switch {
        index: Reg,
        targets: Box<[u32]>,
    },
    Exit,
    Trap,
    Nop,
    Load(Box<Access>),
    Store(Box<Access>),
    Atomic(Box<Atomic>),
    /// Bounds are not checked: a prefetch of a bad address does nothing.
    Prefetch,
    IsSpace {
        p: Pred,
        a: Reg,
        space: Space,
        own_block: bool,
    },
    /// `mapa`: address of `a` in block `rank` of the cluster.
    MapA {
        wide: bool,
        generic: bool,
        d: Reg,
        a: Reg,
        rank: Reg,
    },
    /// `getctarank`.
    CtaRank {
        wide: bool,
        d: Reg,
        a: Reg,
    },
    Shuffle(Box<Shuffle>),
    Vote {
        mode: VoteMode,
        d: Reg,
        p: Pred,
        src: PredSrc,
        members: Reg,
    },
    Match {
        all: bool,
        wide: bool,
        d: Reg,
        p: Pred,
        a: Reg,
        members: Reg,
    },
    Redux {
        op: AtomicOp,
        signed: bool,
        d: Reg,
        a: Reg,
        members: Reg,
    },
    ActiveMask {
        d: Reg,
    },
    Elect {
        d: Reg,
        p: Pred,
        members: Reg,
    },
    Barrier(Box<Barrier>),
    WarpBarrier {
        members: Reg,
    },
    ClusterArrive {
        release: bool,
        aligned: bool,
    },
    ClusterWait {
        aligned: bool,
    },
    Fence(Fence),
    Nanosleep,
    CpAsync(Box<CpAsync>),
    CpAsyncCommit,
    /// Waits until at most `keep` groups are pending; `None` waits for every copy, committed or not.
    CpAsyncWait {
        keep: Option<u32>,
    },
    CpAsyncArrive {
        addr: Addr,
        noinc: bool,
    },
    Mbarrier(Box<Mbarrier>),
    BulkCopy(Box<BulkCopy>),
    RemoteStore(Box<RemoteStore>),
    TensorCopy(Box<TensorCopy>),
    BulkCommit,
    BulkWait {
        keep: u32,
        read: bool,
    },
    LdMatrix(Box<MatrixAccess>),
    StMatrix(Box<MatrixAccess>),
    MovMatrix {
        d: Reg,
        a: Reg,
    },
    Mma(Box<Mma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait {
        keep: u32,
    },
    Wgmma(Box<Wgmma>),
    SetMaxNreg {
        registers: u32,
        increase: bool,
    },
    Intrinsic(Box<Intrinsic>),
}

/// What fills a constant row when a warp starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Constant {
    Bits(u64),
    /// Address of a global variable plus an offset; becomes `Bits` when the module is linked.
    Global {
        index: usize,
        offset: i64,
    },
    Special(Special),
}

/// Special registers whose value is fixed for a lane while its warp runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Laneid,
    Warpid,
    Nwarpid,
    Smid,
    Nsmid,
    Gridid,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    Clusterid(u8),
    Nclusterid(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    DynamicSharedSize,
    TotalSharedSize,
}

/// A constant and the row it fills.
#[derive(Debug, Clone, Copy)]
pub struct ConstantRow {
    pub row: Reg,
    pub wide: bool,
    pub value: Constant,
}
