//! What can be multiplied, and by which kernels.

use std::cell::Cell;
use std::sync::OnceLock;
use std::thread::LocalKey;

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::kernel::Kernels;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::pair::Pair;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Operands: f32 and f64, which are values, and [`Pair`]s of values in bf16.
pub trait Scalar: Copy + Default + Send + Sync + 'static {
    /// What products sum in.
    type Sum: Sum;

    /// Length of a block of the reduction: the sums of one are added to those before.
    const BLOCK: usize;

    /// Values of the reduction in one.
    const VALUES: usize;

    /// The kernels of every instruction set that this processor has, the fastest first.
    fn all() -> Vec<&'static Kernels<Self, Self::Sum>>;

    /// The fastest kernels of this processor.
    fn kernels() -> &'static Kernels<Self, Self::Sum>;

    /// A left and a right operand of this thread, taken while in use.
    fn with_operands<R>(use_them: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R;

    /// Two buffers of this thread, taken while in use, so that a task stolen in between gets its own.
    fn with_buffers<R>(use_them: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R;
}

/// Whether this processor multiplies bf16 faster than f32.
pub fn is_fast_in_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let fast = amx::has_amx() || x86::has_fast_bf16();
    #[cfg(not(target_arch = "x86_64"))]
    let fast = false;
    fast
}

/// What products sum in: f32 or f64.
pub trait Sum: Copy + Default + std::fmt::Debug + Send + Sync + 'static {
    const ONE: Self;

    /// `self·by + plus`, rounded once.
    fn times_plus(self, by: Self, plus: Self) -> Self;

    /// Sums of this thread, taken while in use.
    fn with_sums<R>(use_them: impl FnOnce(&mut Vec<Self>) -> R) -> R;
}

/// Lends what a thread keeps; whoever asks meanwhile gets an empty one.
fn lent<B: Default, R>(kept: &'static LocalKey<Cell<B>>, use_it: impl FnOnce(&mut B) -> R) -> R {
    let mut buffer = kept.take();
    let result = use_it(&mut buffer);
    kept.set(buffer);
    result
}

macro_rules! sum {
    ($value:ty) => {
        impl Sum for $value {
            const ONE: Self = 1.0;

            #[inline(always)]
            fn times_plus(self, by: Self, plus: Self) -> Self {
                self.mul_add(by, plus)
            }

            fn with_sums<R>(use_them: impl FnOnce(&mut Vec<Self>) -> R) -> R {
                thread_local! {
                    static SUMS: Cell<Vec<$value>> = const { Cell::new(Vec::new()) };
                }
                lent(&SUMS, use_them)
            }
        }
    };
}
sum!(f32);
sum!(f64);

macro_rules! scalar {
    ($value:ty: $values:literal, $sum:ty, $block:literal, [$($has:expr => $x86:expr),*], $plain:ident) => {
        impl Scalar for $value {
            type Sum = $sum;

            const BLOCK: usize = $block;

            const VALUES: usize = $values;

            fn all() -> Vec<&'static Kernels<Self, $sum>> {
                let mut all: Vec<&'static Kernels<Self, $sum>> = Vec::new();
                #[cfg(target_arch = "x86_64")]
                {
                    use x86::*;
                    $(all.extend($has.then_some(&$x86));)*
                }
                #[cfg(target_arch = "aarch64")]
                all.push(&neon::$plain);
                all.push(&portable::$plain);
                all
            }

            fn kernels() -> &'static Kernels<Self, $sum> {
                static FASTEST: OnceLock<&'static Kernels<$value, $sum>> = OnceLock::new();
                FASTEST.get_or_init(|| Self::all()[0])
            }

            fn with_operands<R>(use_them: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R {
                thread_local! {
                    static OPERANDS: Cell<[Vec<$value>; 2]> = const { Cell::new([const { Vec::new() }; 2]) };
                }
                lent(&OPERANDS, use_them)
            }

            fn with_buffers<R>(use_them: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R {
                thread_local! {
                    static BUFFERS: Cell<[Vec<$value>; 2]> = const { Cell::new([const { Vec::new() }; 2]) };
                }
                lent(&BUFFERS, use_them)
            }
        }
    };
}
scalar!(f32: 1, f32, 512, [has_avx512() => AVX512_F32, has_avx2() => AVX2_F32], F32);
scalar!(f64: 1, f64, 256, [has_avx512() => AVX512_F64, has_avx2() => AVX2_F64], F64);
scalar!(
    Pair: 2, f32, 512,
    [
        amx::has_amx() => amx::AMX_BF16,
        has_fast_bf16() => AVX512_BF16,
        has_avx512() => AVX512_PAIRS,
        has_avx2() => AVX2_PAIRS,
        has_bf16() && !has_fast_bf16() => AVX512_BF16
    ],
    PAIRS
);
