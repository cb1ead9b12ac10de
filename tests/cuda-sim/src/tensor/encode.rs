//! `cuTensorMapEncodeTiled` and `cuTensorMapEncodeIm2col`: every requirement of the driver API reference, each refused
//! with the name of the argument.

use std::fmt;

use super::map::{DataType, Mode, TensorMap, swizzle_from_raw};
use crate::matrix::Swizzle;

/// Why a tensor map is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The driver returns `CUDA_ERROR_INVALID_VALUE`.
    Invalid(String),
    /// The driver would accept it; the simulator does not model it.
    NotModelled(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Invalid(text) => f.write_str(text),
            Refusal::NotModelled(text) => write!(f, "not modelled: {text}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Arguments of `cuTensorMapEncodeTiled`, enumerations as their C values. Arrays hold at least `rank` elements
/// (`global_strides` one less).
#[derive(Clone, Copy, Debug)]
pub struct TiledArgs<'a> {
    pub data_type: u32,
    pub rank: u32,
    pub address: u64,
    pub global_dim: &'a [u64],
    /// Bytes, of all dimensions but the first.
    pub global_strides: &'a [u64],
    pub box_dim: &'a [u32],
    pub element_strides: &'a [u32],
    pub interleave: u32,
    pub swizzle: u32,
    pub l2_promotion: u32,
    pub oob_fill: u32,
}

/// Arguments of `cuTensorMapEncodeIm2col`. The corner arrays hold `rank - 2` offsets, for W, H, D in that order.
#[derive(Clone, Copy, Debug)]
pub struct Im2colArgs<'a> {
    pub data_type: u32,
    pub rank: u32,
    pub address: u64,
    pub global_dim: &'a [u64],
    pub global_strides: &'a [u64],
    pub lower_corner: &'a [i32],
    pub upper_corner: &'a [i32],
    pub channels_per_pixel: u32,
    pub pixels_per_column: u32,
    pub element_strides: &'a [u32],
    pub interleave: u32,
    pub swizzle: u32,
    pub l2_promotion: u32,
    pub oob_fill: u32,
}

macro_rules! require {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(Refusal::Invalid(format!($($text)*)));
        }
    };
}

impl TensorMap {
    /// # Errors
    /// The first argument that breaks a requirement.
    pub fn encode_tiled(args: &TiledArgs) -> Result<TensorMap, Refusal> {
        require!((1..=5).contains(&args.rank), "tensorRank {} is not within 1..=5", args.rank);
        let mut map = common(&Common {
            data_type: args.data_type,
            rank: args.rank,
            address: args.address,
            dims: args.global_dim,
            strides: args.global_strides,
            element_strides: args.element_strides,
            interleave: args.interleave,
            swizzle: args.swizzle,
            l2_promotion: args.l2_promotion,
            oob_fill: args.oob_fill,
        })?;
        let rank = map.rank();
        require!(args.box_dim.len() >= rank, "boxDim holds {} of {rank} dimensions", args.box_dim.len());
        let mut extent = [1; 5];
        for (i, &n) in args.box_dim[..rank].iter().enumerate() {
            require!((1..=256).contains(&n), "boxDim[{i}] = {n} is not within 1..=256");
            extent[i] = n as u16;
        }
        inner("boxDim[0]", args.box_dim[0], &map)?;
        map.mode = Mode::Tiled { extent };
        Ok(map)
    }

    /// # Errors
    /// The first argument that breaks a requirement.
    pub fn encode_im2col(args: &Im2colArgs) -> Result<TensorMap, Refusal> {
        require!((3..=5).contains(&args.rank), "tensorRank {} of an im2col map is not within 3..=5", args.rank);
        let mut map = common(&Common {
            data_type: args.data_type,
            rank: args.rank,
            address: args.address,
            dims: args.global_dim,
            strides: args.global_strides,
            element_strides: args.element_strides,
            interleave: args.interleave,
            swizzle: args.swizzle,
            l2_promotion: args.l2_promotion,
            oob_fill: args.oob_fill,
        })?;
        let spatial = map.rank() - 2;
        // 16 bits hold all offsets: one of 16, two of 8 or three of 5 (with one to spare).
        let reach = [1 << 15, 1 << 7, 1 << 4][spatial - 1];
        let corner = |name: &str, given: &[i32]| -> Result<[i16; 3], Refusal> {
            require!(given.len() >= spatial, "{name} holds {} of {spatial} offsets", given.len());
            let mut corner = [0; 3];
            for (i, &c) in given[..spatial].iter().enumerate() {
                let high = reach - 1;
                require!(
                    (-reach..reach).contains(&c),
                    "{name}[{i}] = {c} is not within {}..={high} of rank {}",
                    -reach,
                    args.rank
                );
                corner[i] = c as i16;
            }
            Ok(corner)
        };
        let lower = corner("pixelBoxLowerCorner", args.lower_corner)?;
        let upper = corner("pixelBoxUpperCorner", args.upper_corner)?;
        for i in 0..spatial {
            let pixels = map.dims[i + 1] as i64 + upper[i] as i64 - lower[i] as i64;
            require!(
                pixels > 0,
                "pixelBoxLowerCorner[{i}] = {} and pixelBoxUpperCorner[{i}] = {} leave no pixel of {}",
                lower[i],
                upper[i],
                map.dims[i + 1]
            );
        }
        let (channels, pixels) = (args.channels_per_pixel, args.pixels_per_column);
        require!((1..=256).contains(&channels), "channelsPerPixel {channels} is not within 1..=256");
        require!((1..=1024).contains(&pixels), "pixelsPerColumn {pixels} is not within 1..=1024");
        inner("channelsPerPixel", channels, &map)?;
        map.mode = Mode::Im2col { lower, upper, channels: channels as u16, pixels: pixels as u16 };
        Ok(map)
    }

    /// `cuTensorMapReplaceAddress`.
    ///
    /// # Errors
    /// A misaligned address.
    pub fn with_address(mut self, address: u64) -> Result<TensorMap, Refusal> {
        require!(address.is_multiple_of(16), "globalAddress {address:#x} is not a multiple of 16");
        self.address = address;
        Ok(self)
    }
}

struct Common<'a> {
    data_type: u32,
    rank: u32,
    address: u64,
    dims: &'a [u64],
    strides: &'a [u64],
    element_strides: &'a [u32],
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    oob_fill: u32,
}

/// What both encoders require, of a rank already checked. The mode is left for the caller.
fn common(args: &Common) -> Result<TensorMap, Refusal> {
    let rank = args.rank as usize;
    let not_modelled = |text: &str| Err(Refusal::NotModelled(text.to_string()));
    let data_type = match (DataType::from_raw(args.data_type), args.data_type) {
        (Some(data_type), _) => data_type,
        (None, 13..=15) => return not_modelled("tensorDataType of packed 4- or 6-bit elements"),
        (None, raw) => return Err(Refusal::Invalid(format!("tensorDataType {raw} does not exist"))),
    };
    require!(args.interleave <= 2, "interleave {} does not exist", args.interleave);
    require!(args.interleave == 0 || rank >= 3, "tensorRank {rank} with an interleaved layout is below 3");
    let swizzle = match (swizzle_from_raw(args.swizzle), args.swizzle) {
        (Some(swizzle), _) => swizzle,
        (None, 4..=6) => return not_modelled("swizzle of 128 bytes with atoms of 32 or 64, which this card lacks"),
        (None, raw) => return Err(Refusal::Invalid(format!("swizzle {raw} does not exist"))),
    };
    require!(args.interleave != 2 || swizzle == Swizzle::B32, "interleave 32B requires swizzle 32B");
    require!(args.l2_promotion <= 3, "l2Promotion {} does not exist", args.l2_promotion);
    require!(args.oob_fill <= 1, "oobFill {} does not exist", args.oob_fill);
    require!(args.oob_fill == 0 || data_type.is_float(), "oobFill with NaN requires a floating-point tensorDataType");
    let unit = if args.interleave == 2 { 32 } else { 16 };
    require!(args.address.is_multiple_of(unit), "globalAddress {:#x} is not a multiple of {unit}", args.address);
    require!(args.address != 0, "globalAddress is null");
    require!(args.dims.len() >= rank, "globalDim holds {} of {rank} dimensions", args.dims.len());
    require!(args.strides.len() + 1 >= rank, "globalStrides holds {} of {} strides", args.strides.len(), rank - 1);
    require!(args.element_strides.len() >= rank, "elementStrides holds {} of {rank}", args.element_strides.len());
    let (mut dims, mut strides, mut element_strides) = ([1; 5], [0; 5], [1; 5]);
    for (i, &n) in args.dims[..rank].iter().enumerate() {
        require!((1..=1 << 32).contains(&n), "globalDim[{i}] = {n} is not within 1..=2^32");
        dims[i] = n;
    }
    strides[0] = data_type.bytes() as u64;
    for (i, &s) in args.strides[..rank - 1].iter().enumerate() {
        require!(s.is_multiple_of(unit), "globalStrides[{i}] = {s} is not a multiple of {unit}");
        require!(s < 1 << 40, "globalStrides[{i}] = {s} is not below 2^40");
        strides[i + 1] = s;
    }
    for (i, &s) in args.element_strides[..rank].iter().enumerate() {
        require!((1..=8).contains(&s), "elementStrides[{i}] = {s} is not within 1..=8");
        // The first has no effect without interleaving.
        element_strides[i] = if i == 0 { 1 } else { s as u8 };
    }
    if args.interleave != 0 {
        return not_modelled("interleaved layouts NC/8HWC8 and NC/16HWC16");
    }
    Ok(TensorMap {
        data_type,
        rank: rank as u8,
        swizzle,
        fill_nan: args.oob_fill == 1,
        address: args.address,
        dims,
        strides,
        element_strides,
        mode: Mode::Tiled { extent: [1; 5] },
    })
}

/// The innermost extent: whole 16-byte units, and within the swizzle's span.
fn inner(name: &str, elements: u32, map: &TensorMap) -> Result<(), Refusal> {
    let (bytes, span) = (elements * map.data_type.bytes(), map.swizzle.span());
    require!(bytes.is_multiple_of(16), "{name} = {elements} is {bytes} bytes, not a multiple of 16");
    if map.swizzle != Swizzle::None {
        require!(bytes <= span, "{name} = {elements} is {bytes} bytes, more than the swizzle's {span}");
        if bytes < span {
            // Such rows are padded to the span in shared memory, in a way no document spells out.
            return Err(Refusal::NotModelled(format!("{name} = {elements} is {bytes} bytes of the swizzle's {span}")));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
