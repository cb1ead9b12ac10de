//! Executes the lane-wise instructions of the table in `ptx::alu`, 32 lanes at a time.
//!
//! The whole dispatch is compiled twice, for the baseline and for CPUs with AVX2 and FMA: without hardware FMA every
//! `fma.rn` would be a call into libm.

use super::helpers::*;
use super::registers::{Lanes, Registers, WideLanes};
use crate::num::{self, Format, approx, directed, flush, integer, saturate};
use crate::ptx::alu::{Alu, alu_table};
use crate::ptx::instruction::Reg;
use crate::ptx::modes::Modes;

/// A type that lanes hold in one row or two.
trait Lane: Copy {
    type Row: Copy;
    const ZERO: Self::Row;
    fn row(registers: &Registers, r: Reg) -> &Self::Row;
    fn get(row: &Self::Row, lane: usize) -> Self;
    fn set(self, row: &mut Self::Row, lane: usize);
    fn store(registers: &mut Registers, r: Reg, row: &Self::Row, mask: u32);
}

macro_rules! lane {
    ($($t:ty, $row:ty, $get:ident, $store:ident, |$bits:ident| $from:expr, |$value:ident| $into:expr;)*) => {$(
        impl Lane for $t {
            type Row = $row;
            const ZERO: $row = [0; 32];

            #[inline(always)]
            fn row(registers: &Registers, r: Reg) -> &$row {
                registers.$get(r)
            }

            #[inline(always)]
            fn get(row: &$row, lane: usize) -> Self {
                let $bits = row[lane];
                $from
            }

            #[inline(always)]
            fn set(self, row: &mut $row, lane: usize) {
                let $value = self;
                row[lane] = $into;
            }

            #[inline(always)]
            fn store(registers: &mut Registers, r: Reg, row: &$row, mask: u32) {
                registers.$store(r, row, mask);
            }
        }
    )*};
}
lane! {
    u16, Lanes, row, store, |b| b as u16, |v| u32::from(v);
    i16, Lanes, row, store, |b| b as i16, |v| u32::from(v as u16);
    u32, Lanes, row, store, |b| b, |v| v;
    i32, Lanes, row, store, |b| b as i32, |v| v as u32;
    f32, Lanes, row, store, |b| f32::from_bits(b), |v| v.to_bits();
    u64, WideLanes, wide, store_wide, |b| b, |v| v;
    i64, WideLanes, wide, store_wide, |b| b as i64, |v| v as u64;
    f64, WideLanes, wide, store_wide, |b| f64::from_bits(b), |v| v.to_bits();
}

/// Operands of one instruction.
#[derive(Clone, Copy)]
pub struct Operands {
    pub d: Reg,
    pub a: Reg,
    pub b: Reg,
    pub c: Reg,
    pub imm: u32,
}

#[inline(always)]
fn one<A: Lane, O: Lane>(g: &mut Registers, o: Operands, mask: u32, f: impl Fn(A) -> O) {
    let mut out = O::ZERO;
    let a = A::row(g, o.a);
    for l in 0..32 {
        f(A::get(a, l)).set(&mut out, l);
    }
    O::store(g, o.d, &out, mask);
}

#[inline(always)]
fn two<A: Lane, B: Lane, O: Lane>(g: &mut Registers, o: Operands, mask: u32, f: impl Fn(A, B) -> O) {
    let mut out = O::ZERO;
    let (a, b) = (A::row(g, o.a), B::row(g, o.b));
    for l in 0..32 {
        f(A::get(a, l), B::get(b, l)).set(&mut out, l);
    }
    O::store(g, o.d, &out, mask);
}

#[inline(always)]
fn three<A: Lane, B: Lane, C: Lane, O: Lane>(g: &mut Registers, o: Operands, mask: u32, f: impl Fn(A, B, C) -> O) {
    let mut out = O::ZERO;
    let (a, b, c) = (A::row(g, o.a), B::row(g, o.b), C::row(g, o.c));
    for l in 0..32 {
        f(A::get(a, l), B::get(b, l), C::get(c, l)).set(&mut out, l);
    }
    O::store(g, o.d, &out, mask);
}

macro_rules! apply {
    ($g:ident, $o:ident, $m:ident, ($a:ident: $ta:ty) -> $out:ty = $body:expr) => {
        one(
            $g,
            $o,
            $m,
            #[inline(always)]
            |$a: $ta| -> $out { $body },
        )
    };
    ($g:ident, $o:ident, $m:ident, ($a:ident: $ta:ty, $b:ident: $tb:ty) -> $out:ty = $body:expr) => {
        two(
            $g,
            $o,
            $m,
            #[inline(always)]
            |$a: $ta, $b: $tb| -> $out { $body },
        )
    };
    ($g:ident, $o:ident, $m:ident, ($a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty) -> $out:ty = $body:expr) => {
        three(
            $g,
            $o,
            $m,
            #[inline(always)]
            |$a: $ta, $b: $tb, $c: $tc| -> $out { $body },
        )
    };
}

macro_rules! dispatch {
    ($($name:ident($($arg:ident: $ty:ty),* $(; $imm:ident)?) -> $out:ty = $body:expr;)*) => {
        #[inline(always)]
        fn execute(f: Alu, g: &mut Registers, o: Operands, mask: u32) {
            match f {
                $(Alu::$name => {
                    $(let $imm = o.imm;)?
                    apply!(g, o, mask, ($($arg: $ty),*) -> $out = $body)
                })*
            }
        }
    };
}
alu_table!(dispatch);

fn baseline(f: Alu, g: &mut Registers, o: Operands, mask: u32) {
    execute(f, g, o, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn haswell(f: Alu, g: &mut Registers, o: Operands, mask: u32) {
    execute(f, g, o, mask);
}

/// The version for this CPU.
#[derive(Clone, Copy)]
pub struct Unit {
    #[cfg(target_arch = "x86_64")]
    haswell: bool,
}

impl Unit {
    pub fn detect() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            haswell: is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt"),
        }
    }

    /// AVX2, FMA and what comes with them.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn is_haswell(self) -> bool {
        self.haswell
    }

    #[inline(always)]
    pub fn run(self, f: Alu, g: &mut Registers, o: Operands, mask: u32) {
        #[cfg(target_arch = "x86_64")]
        if self.haswell {
            // SAFETY: every feature that `haswell` is compiled for was detected.
            unsafe { haswell(f, g, o, mask) };
            return;
        }
        baseline(f, g, o, mask);
    }
}
