//! Kernels for every processor: one value at a time, by the fused multiply-add of the standard library, which is slow
//! where there is no instruction for it but gives the same bits.

use super::kernel::{Kernels, ROWS_AT_MOST, Tile, each, kernels, micro, opaque};
use super::pair::Pair;

fn load<T: Copy>(at: *const T) -> T {
    // SAFETY: the kernel's caller promises the address.
    unsafe { *at }
}

fn store<T>(at: *mut T, value: T) {
    // SAFETY: as above.
    unsafe { *at = value }
}

micro!(
    scalar_f32: f32, 1, |_| (),
    sums: f32, f32, 0.0, load, store, |v: f32| v, f32::mul_add,
    operands: 0.0, load, |v: f32| v, f32::mul_add
);
micro!(
    scalar_f64: f64, 1, |_| (),
    sums: f64, f64, 0.0, load, store, |v: f64| v, f64::mul_add,
    operands: 0.0, load, |v: f64| v, f64::mul_add
);

micro!(
    scalar_pairs: Pair, 1, |_| (),
    sums: f32, f32, 0.0, load, store, |v: f32| v, f32::mul_add,
    operands: [0.0; 2], |at| load::<Pair>(at).widened(), Pair::widened,
    |a: [f32; 2], b: [f32; 2], sum| a[0].mul_add(b[0], a[1].mul_add(b[1], sum))
);

pub(super) const F32: Kernels<f32> = Kernels {
    name: "portable",
    lanes: 1,
    run: kernels!(scalar_f32: [1, 2, 3, 4] by [1, 2, 3]),
    adjacent: false,
    transpose: None,
};
pub(super) const F64: Kernels<f64> = Kernels {
    name: "portable",
    lanes: 1,
    run: kernels!(scalar_f64: [1, 2, 3, 4] by [1, 2, 3]),
    adjacent: false,
    transpose: None,
};
pub(super) const PAIRS: Kernels<Pair, f32> = Kernels {
    name: "portable",
    lanes: 1,
    run: kernels!(scalar_pairs: [1, 2, 3, 4] by [1, 2, 3]),
    adjacent: false,
    transpose: None,
};
