//! Tensor maps: the encoders of the C API over [`TensorMap`].

use std::ffi::c_int;

use super::errors::{CUresult, Outcome, call, fail, not_modelled};
use super::ffi::{DevicePtr, HostPtr, In};
use super::state::driver;
use crate::tensor::{Im2colArgs, Refusal, TensorMap, TiledArgs};

/// `CUtensorMap`: 128 bytes that only the hardware reads.
const BYTES: usize = 128;
/// Alignment that the API asks of it.
const ALIGN: usize = 64;

fn check(map: HostPtr, rank: u32) -> Outcome {
    if let Some(device) = &driver()?.device
        && device.model.sm < 90
    {
        return fail(CUresult::NOT_SUPPORTED, format!("{} has no tensor maps", device.model.name));
    }
    if map.is_null() || !map.0.is_multiple_of(ALIGN) {
        return fail(CUresult::INVALID_VALUE, format!("tensorMap {:#x} is not a multiple of {ALIGN}", map.0));
    }
    if !(1..=5).contains(&rank) {
        return fail(CUresult::INVALID_VALUE, format!("tensorRank {rank} is not within 1..=5"));
    }
    Ok(())
}

fn store(map: HostPtr, encoded: Result<TensorMap, Refusal>) -> Outcome {
    match encoded {
        Ok(encoded) => {
            // SAFETY: not null, and the API asks for a CUtensorMap.
            unsafe { map.bytes_mut(BYTES) }.copy_from_slice(&encoded.to_bytes());
            Ok(())
        }
        Err(Refusal::Invalid(text)) => fail(CUresult::INVALID_VALUE, text),
        Err(Refusal::NotModelled(text)) => not_modelled(text),
    }
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // the API's own list
pub extern "C" fn cuTensorMapEncodeTiled(
    map: HostPtr,
    data_type: u32,
    rank: u32,
    address: DevicePtr,
    global_dim: In<u64>,
    global_strides: In<u64>,
    box_dim: In<u32>,
    element_strides: In<u32>,
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    oob_fill: u32,
) -> CUresult {
    call("cuTensorMapEncodeTiled", || {
        check(map, rank)?;
        let n = rank as usize;
        // SAFETY: the API asks for arrays of as many elements as the rank, strides one less.
        let encoded = unsafe {
            TensorMap::encode_tiled(&TiledArgs {
                data_type,
                rank,
                address,
                global_dim: global_dim.slice(n)?,
                global_strides: global_strides.slice(n - 1)?,
                box_dim: box_dim.slice(n)?,
                element_strides: element_strides.slice(n)?,
                interleave,
                swizzle,
                l2_promotion,
                oob_fill,
            })
        };
        store(map, encoded)
    })
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // the API's own list
pub extern "C" fn cuTensorMapEncodeIm2col(
    map: HostPtr,
    data_type: u32,
    rank: u32,
    address: DevicePtr,
    global_dim: In<u64>,
    global_strides: In<u64>,
    lower_corner: In<c_int>,
    upper_corner: In<c_int>,
    channels_per_pixel: u32,
    pixels_per_column: u32,
    element_strides: In<u32>,
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    oob_fill: u32,
) -> CUresult {
    call("cuTensorMapEncodeIm2col", || {
        check(map, rank)?;
        let n = rank as usize;
        // SAFETY: the API asks for arrays of as many elements as the rank, strides one less, corners two less.
        let encoded = unsafe {
            TensorMap::encode_im2col(&Im2colArgs {
                data_type,
                rank,
                address,
                global_dim: global_dim.slice(n)?,
                global_strides: global_strides.slice(n - 1)?,
                lower_corner: lower_corner.slice(n.saturating_sub(2))?,
                upper_corner: upper_corner.slice(n.saturating_sub(2))?,
                channels_per_pixel,
                pixels_per_column,
                element_strides: element_strides.slice(n)?,
                interleave,
                swizzle,
                l2_promotion,
                oob_fill,
            })
        };
        store(map, encoded)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTensorMapReplaceAddress(map: HostPtr, address: DevicePtr) -> CUresult {
    call("cuTensorMapReplaceAddress", || {
        check(map, 1)?;
        // SAFETY: not null, and the API asks for an encoded CUtensorMap.
        let bytes = unsafe { map.bytes(BYTES) };
        let known = bytes.try_into().ok().and_then(TensorMap::from_bytes);
        let Some(known) = known else { return fail(CUresult::INVALID_VALUE, "not an encoded tensor map") };
        store(map, known.with_address(address))
    })
}
