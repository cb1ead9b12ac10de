//! `atom`, `red` and the reductions of bulk copies.

use super::allocation::Cell;
use super::fault::{Access, Fault};
use super::tlb::Tlb;
use crate::check::Kind;
use crate::num::half::{Half, Modifiers};
use crate::num::{NAN_F32, flush};

/// What is done to the value in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicOp {
    Add,
    /// `old ≥ operand ? 0 : old + 1`.
    Inc,
    /// `old = 0 or old > operand ? operand : old − 1`.
    Dec,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    /// The operand is the comparand.
    Cas,
}

/// The type of the value in memory. Bits and unsigned integers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicType {
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    Bf16,
    F16x2,
    Bf16x2,
    F32,
    F64,
}

impl AtomicType {
    pub fn bytes(self) -> usize {
        use AtomicType::*;
        match self {
            U16 | F16 | Bf16 => 2,
            U32 | S32 | F16x2 | Bf16x2 | F32 => 4,
            U64 | S64 | F64 => 8,
        }
    }
}

/// One operation on one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    pub op: AtomicOp,
    pub ty: AtomicType,
}

impl Update {
    /// The new value in memory; `None` where the instruction set has no such operation. Values are zero-extended.
    /// `flush_f32`: subnormal f32 operands and results count as zero, as they do for `add` in global memory but not in
    /// shared (PTX ISA, `atom`).
    #[inline]
    pub fn apply(self, old: u64, operand: u64, swap: u64, flush_f32: bool) -> Option<u64> {
        use AtomicOp::*;
        use AtomicType::*;
        let (o, b) = (old as u32, operand as u32);
        Some(match (self.op, self.ty) {
            (Exch, U16 | U32 | S32 | U64 | S64 | F32 | F64) => operand,
            (Cas, U16 | U32 | S32 | U64 | S64 | F32 | F64) => {
                if old == operand {
                    swap
                } else {
                    old
                }
            }
            (And, U32 | S32 | U64 | S64) => old & operand,
            (Or, U32 | S32 | U64 | S64) => old | operand,
            (Xor, U32 | S32 | U64 | S64) => old ^ operand,
            (Add, U32 | S32) => o.wrapping_add(b).into(),
            (Add, U64 | S64) => old.wrapping_add(operand),
            (Inc, U32) => {
                if o >= b {
                    0
                } else {
                    u64::from(o + 1)
                }
            }
            (Dec, U32) => {
                if o == 0 || o > b {
                    operand
                } else {
                    u64::from(o - 1)
                }
            }
            (Min, U32) => o.min(b).into(),
            (Max, U32) => o.max(b).into(),
            (Min, S32) => ((o as i32).min(b as i32) as u32).into(),
            (Max, S32) => ((o as i32).max(b as i32) as u32).into(),
            (Min, U64) => old.min(operand),
            (Max, U64) => old.max(operand),
            (Min, S64) => (old as i64).min(operand as i64) as u64,
            (Max, S64) => (old as i64).max(operand as i64) as u64,
            (Add, F32) => {
                let (x, y) = (f32::from_bits(o), f32::from_bits(b));
                let sum = if flush_f32 { flush(flush(x) + flush(y)) } else { x + y };
                if sum.is_nan() { NAN_F32 } else { sum }.to_bits().into()
            }
            (Add, F64) => (f64::from_bits(old) + f64::from_bits(operand)).to_bits(),
            (Add | Min | Max, F16 | Bf16 | F16x2 | Bf16x2) => {
                let half = if matches!(self.ty, F16 | F16x2) { Half::F16 } else { Half::Bf16 };
                let one = |x, y| match self.op {
                    Add => half.add(x, y, Modifiers::default()),
                    _ => half.min_max(x, y, self.op == Max, false, false),
                };
                match self.ty {
                    F16 | Bf16 => one(old as u16, operand as u16).into(),
                    _ => Half::both(o, b, one).into(),
                }
            }
            _ => return None,
        })
    }
}

/// The lanes' values of one element, zero-extended.
pub type Values = [u64; 32];

impl Tlb<'_> {
    /// `operands.len()` consecutive elements per lane of `mask` (1, or 2, 4, 8 for the vector forms), each atomic by
    /// itself; lanes in order. `swap` is read by [`AtomicOp::Cas`] alone. `old` receives the values before; it is as
    /// long as `operands`, or empty where nobody wants them (`red`).
    ///
    /// # Errors
    /// The mistake of the lowest lane that makes one, or an operation that the type does not have.
    pub fn atomic(
        &mut self,
        update: Update,
        addresses: &[u64; 32],
        mask: u32,
        operands: &[Values],
        swap: &Values,
        old: &mut [Values],
    ) -> Result<(), Box<Fault>> {
        let (size, bytes) = (update.ty.bytes(), update.ty.bytes() * operands.len());
        debug_assert!(old.is_empty() || old.len() == operands.len());
        let all = !0 >> (64 - bytes);
        self.each_lane(addresses, mask, bytes, Access::Atomic, |window, offset, lane| {
            if window.written(offset) & all != all {
                return Err(window.unwritten(offset, bytes, Access::Atomic));
            }
            let at = window.data.wrapping_add(offset);
            for (e, row) in operands.iter().enumerate() {
                // SAFETY: `each_lane` checked range and alignment; all accesses are atomic.
                let before = unsafe { update_one(at.add(e * size), update, row[lane], swap[lane]) };
                let before = before.ok_or_else(|| unsupported(update, addresses[lane]))?;
                if let Some(old) = old.get_mut(e) {
                    old[lane] = before;
                }
            }
            Ok(())
        })
    }

    /// Combines a range with `from`, element by element, as `cp.reduce.async.bulk` does.
    ///
    /// # Errors
    /// The range leaves its allocation, is protected, not aligned to the type, or not written.
    pub fn reduce(&mut self, update: Update, addr: u64, from: &[u8]) -> Result<(), Box<Fault>> {
        if from.is_empty() {
            return Ok(());
        }
        let size = update.ty.bytes();
        if !addr.is_multiple_of(size as u64) || !from.len().is_multiple_of(size) {
            return Err(Fault::misaligned(addr, size, Access::Atomic));
        }
        let (a, offset) = self.locate(addr, from.len(), Access::Atomic)?;
        a.check_writable(offset, from.len(), Access::Atomic)?;
        a.check_written(offset, from.len(), Access::Atomic)?;
        let at = a.at(offset, from.len());
        for (i, value) in from.chunks_exact(size).enumerate() {
            let mut operand = [0; 8];
            operand[..size].copy_from_slice(value);
            // SAFETY: `at` checked the range; the start is a multiple of the size; all accesses are atomic.
            unsafe { update_one(at.add(i * size), update, u64::from_le_bytes(operand), 0) }
                .ok_or_else(|| unsupported(update, addr))?;
        }
        Ok(())
    }
}

#[cold]
fn unsupported(update: Update, address: u64) -> Box<Fault> {
    Fault::new(Kind::Unsupported, address, format!("atomic {:?} of {:?}", update.op, update.ty))
}

/// Returns the value before, or `None` where the type has no such operation.
///
/// # Safety
/// `at` points to `update.ty` many bytes of an allocation and is aligned to them.
#[inline]
unsafe fn update_one(at: *mut u8, update: Update, operand: u64, swap: u64) -> Option<u64> {
    // SAFETY: the caller's promise, for the width that each is called with.
    unsafe {
        match update.ty.bytes() {
            2 => exchange_loop::<u16>(at, update, operand, swap),
            4 => exchange_loop::<u32>(at, update, operand, swap),
            _ => exchange_loop::<u64>(at, update, operand, swap),
        }
    }
}

/// # Safety
/// As for [`Cell::load`].
#[inline]
unsafe fn exchange_loop<T: Cell + Into<u64>>(at: *mut u8, update: Update, operand: u64, swap: u64) -> Option<u64> {
    let width = !0 >> (64 - 8 * T::BYTES);
    let (operand, swap) = (operand & width, swap & width);
    // SAFETY: the caller's promise.
    let mut current: u64 = unsafe { T::load(at) }.into();
    loop {
        let new = update.apply(current, operand, swap, true)?;
        // SAFETY: the caller's promise.
        match unsafe { T::exchange(at, current, new) } {
            Ok(_) => return Some(current),
            Err(seen) => current = seen,
        }
    }
}

#[cfg(test)]
#[path = "atomic_tests.rs"]
mod tests;
