//! Tensor maps: what a TMA copy needs to know of a tensor in device memory.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use cudarc::driver::sys;

use super::driver::check;
use super::launch::argument;
use super::memory::{Element, View};
use crate::error::Result;

/// How the 16-byte pieces of a tile's rows are spread over shared memory's banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

/// A kernel argument of 128 opaque bytes.
#[derive(Clone, Copy, Debug)]
pub struct TensorMap(sys::CUtensorMap);

impl TensorMap {
    /// A tensor of `dims` elements (innermost first), whose outer axes are `strides` bytes apart (one fewer than dims), copied in
    /// `boxes`; what lies outside reads as zero and is not written.
    ///
    /// # Errors
    /// Device error with the arguments if the driver refuses them (16-byte alignment of address and strides, boxes of at most 256).
    pub fn tiled<T: Element>(
        view: View<T>,
        dims: &[u64],
        strides: &[u64],
        boxes: &[u32],
        swizzle: Swizzle,
    ) -> Result<Self> {
        assert!(
            dims.len() == strides.len() + 1 && dims.len() == boxes.len(),
            "tensor map: {dims:?} {strides:?} {boxes:?}"
        );
        let last = dims.iter().skip(1).zip(strides).map(|(n, stride)| (n.max(&1) - 1) * stride).sum::<u64>();
        let end = last + dims[0] * size_of::<T>() as u64;
        assert!(end <= view.bytes() as u64, "tensor map: {dims:?} {strides:?} in {view:?}");
        use sys::CUtensorMapDataType as Type;
        let ty = match size_of::<T>() {
            1 => Type::CU_TENSOR_MAP_DATA_TYPE_UINT8,
            2 => Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            _ => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        };
        use sys::CUtensorMapSwizzle as Mode;
        let mode = match swizzle {
            Swizzle::None => Mode::CU_TENSOR_MAP_SWIZZLE_NONE,
            Swizzle::B32 => Mode::CU_TENSOR_MAP_SWIZZLE_32B,
            Swizzle::B64 => Mode::CU_TENSOR_MAP_SWIZZLE_64B,
            Swizzle::B128 => Mode::CU_TENSOR_MAP_SWIZZLE_128B,
        };
        let steps = [1u32; 5];
        let mut map = MaybeUninit::<sys::CUtensorMap>::uninit();
        // SAFETY: the arrays hold one entry per axis (one fewer for strides); the map is written whole on success.
        let encoded = unsafe {
            sys::cuTensorMapEncodeTiled(
                map.as_mut_ptr(),
                ty,
                dims.len() as u32,
                view.address() as *mut c_void,
                dims.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                mode,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        let what =
            format!("describe {view:?} as {dims:?} strides {strides:?} boxes {boxes:?} {swizzle:?} to the copy engine");
        check(encoded, &what)?;
        // SAFETY: written above.
        Ok(Self(unsafe { map.assume_init() }))
    }

    pub(super) fn argument(&self) -> *mut c_void {
        argument(&self.0)
    }
}
