//! Tensor maps: what a TMA copy needs to know of a tensor in device memory.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use cudarc::driver::sys;

use super::driver::check;
use super::element::Element;
use super::launch::argument;
use super::memory::View;
use crate::error::Result;

/// What is fetched into L2 for a copy that misses it.
const L2_PROMOTION: sys::CUtensorMapL2promotion = sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B;

/// How the 16-byte pieces of a tile's rows are spread over shared memory's banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

impl Swizzle {
    fn mode(self) -> sys::CUtensorMapSwizzle {
        use sys::CUtensorMapSwizzle as Mode;
        match self {
            Self::None => Mode::CU_TENSOR_MAP_SWIZZLE_NONE,
            Self::B32 => Mode::CU_TENSOR_MAP_SWIZZLE_32B,
            Self::B64 => Mode::CU_TENSOR_MAP_SWIZZLE_64B,
            Self::B128 => Mode::CU_TENSOR_MAP_SWIZZLE_128B,
        }
    }
}

/// Only the size matters to a copy that fills with zeros.
fn data_type<T: Element>() -> sys::CUtensorMapDataType {
    use sys::CUtensorMapDataType as Type;
    match size_of::<T>() {
        1 => Type::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        2 => Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        _ => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
    }
}

/// A square filter's walk over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    pub taps: usize,
    pub padding: usize,
    pub stride: usize,
}

/// A kernel argument of 128 opaque bytes.
#[derive(Clone, Copy, Debug)]
pub struct TensorMap(sys::CUtensorMap);

impl TensorMap {
    /// A tensor of `dims` elements (innermost first), whose outer axes are `strides` bytes apart (one fewer than dims),
    /// copied in `boxes`; what lies outside reads as zero and is not written.
    ///
    /// # Errors
    /// Device error with the arguments if the driver refuses them (16-byte alignment of address and strides, boxes of
    /// at most 256).
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
        let steps = [1u32; 5];
        let mut map = MaybeUninit::<sys::CUtensorMap>::uninit();
        // SAFETY: the arrays hold one entry per axis (one fewer for strides); the map is written whole on success.
        let encoded = unsafe {
            sys::cuTensorMapEncodeTiled(
                map.as_mut_ptr(),
                data_type::<T>(),
                dims.len() as u32,
                view.address() as *mut c_void,
                dims.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle.mode(),
                L2_PROMOTION,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        let what =
            format!("describe {view:?} as {dims:?} strides {strides:?} boxes {boxes:?} {swizzle:?} to the copy engine");
        check(encoded, &what)?;
        // SAFETY: written above.
        Ok(Self(unsafe { map.assume_init() }))
    }

    /// NHWC images `[n, height, width, channels]`, read as columns of `pixels` places of a filter's tap,
    /// `channels_per_pixel` channels each ("im2col"). A column begins at the coordinates of the filter's first tap at
    /// some place, the tap is the copy's offsets, and places follow each other along rows, columns and images; padding
    /// reads as zero.
    ///
    /// # Errors
    /// Device error with the arguments if the driver refuses them (16-byte alignment of address and strides; at most
    /// 256 channels and 1024 pixels).
    pub fn im2col<T: Element>(
        view: View<T>,
        [n, height, width, channels]: [usize; 4],
        filter: Filter,
        (channels_per_pixel, pixels): (u32, u32),
        swizzle: Swizzle,
    ) -> Result<Self> {
        assert_eq!(
            view.len(),
            n * height * width * channels,
            "tensor map: {n} × {height} × {width} × {channels} in {view:?}"
        );
        let Filter { taps, padding, stride } = filter;
        let dims = [channels, width, height, n].map(|n| n as u64);
        let pixel = (channels * size_of::<T>()) as u64;
        let strides = [pixel, pixel * dims[1], pixel * dims[1] * dims[2]];
        // Places of the first tap: from −padding on, and so that the last tap ends with the padding.
        let lower = [-(padding as i32); 2];
        let upper = [padding as i32 + 1 - taps as i32; 2];
        let steps = [1, stride as u32, stride as u32, 1];
        let mut map = MaybeUninit::<sys::CUtensorMap>::uninit();
        // SAFETY: the arrays hold one entry per axis (one fewer for strides, two for corners); the map is written whole
        // on success.
        let encoded = unsafe {
            sys::cuTensorMapEncodeIm2col(
                map.as_mut_ptr(),
                data_type::<T>(),
                dims.len() as u32,
                view.address() as *mut c_void,
                dims.as_ptr(),
                strides.as_ptr(),
                lower.as_ptr(),
                upper.as_ptr(),
                channels_per_pixel,
                pixels,
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle.mode(),
                L2_PROMOTION,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        let what = format!(
            "describe {view:?} as images {n} × {height} × {width} × {channels} under {filter:?} in columns of {channels_per_pixel} × {pixels} \
             {swizzle:?} to the copy engine"
        );
        check(encoded, &what)?;
        // SAFETY: written above.
        Ok(Self(unsafe { map.assume_init() }))
    }

    pub(super) fn argument(&self) -> *mut c_void {
        argument(&self.0)
    }
}
