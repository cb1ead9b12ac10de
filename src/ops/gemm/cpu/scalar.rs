//! What can be multiplied, and by which kernels.

use std::cell::Cell;
use std::sync::OnceLock;

use super::kernel::Kernels;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Values that are multiplied: f32 and f64.
pub trait Scalar: Copy + Default + Send + Sync + 'static {
    /// Length of a block of the reduction: the sums of one are added to those before.
    const BLOCK: usize;

    /// The kernels of every instruction set that this processor has, the fastest first.
    fn all() -> Vec<&'static Kernels<Self>>;

    /// The fastest kernels of this processor.
    fn kernels() -> &'static Kernels<Self>;

    /// Two buffers of this thread, taken while in use, so that a task stolen in between gets its own.
    fn with_buffers<R>(use_them: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R;
}

macro_rules! scalar {
    ($value:ty, $block:literal, [$avx512:ident, $avx2:ident, $plain:ident]) => {
        impl Scalar for $value {
            const BLOCK: usize = $block;

            fn all() -> Vec<&'static Kernels<Self>> {
                let mut all: Vec<&'static Kernels<Self>> = Vec::new();
                #[cfg(target_arch = "x86_64")]
                for (has, kernels) in x86::has().into_iter().zip([&x86::$avx512, &x86::$avx2]) {
                    all.extend(has.then_some(kernels));
                }
                #[cfg(target_arch = "aarch64")]
                all.push(&neon::$plain);
                all.push(&portable::$plain);
                all
            }

            fn kernels() -> &'static Kernels<Self> {
                static FASTEST: OnceLock<&'static Kernels<$value>> = OnceLock::new();
                FASTEST.get_or_init(|| Self::all()[0])
            }

            fn with_buffers<R>(use_them: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R {
                thread_local! {
                    static BUFFERS: Cell<[Vec<$value>; 2]> = const { Cell::new([const { Vec::new() }; 2]) };
                }
                let mut buffers = BUFFERS.take();
                let result = use_them(&mut buffers);
                BUFFERS.set(buffers);
                result
            }
        }
    };
}
scalar!(f32, 512, [AVX512_F32, AVX2_F32, F32]);
scalar!(f64, 256, [AVX512_F64, AVX2_F64, F64]);
