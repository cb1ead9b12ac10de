use super::*;

/// A legal 3-D bf16 map, changed by `edit`.
fn tiled(edit: impl FnOnce(&mut TiledArgs<'static>)) -> Result<TensorMap, Refusal> {
    let mut args = TiledArgs {
        data_type: 9,
        rank: 3,
        address: 0x7f00_0000_0100,
        global_dim: &[100, 50, 7],
        global_strides: &[208, 20800],
        box_dim: &[64, 32, 2],
        element_strides: &[1, 1, 1],
        interleave: 0,
        swizzle: 3,
        l2_promotion: 2,
        oob_fill: 0,
    };
    edit(&mut args);
    TensorMap::encode_tiled(&args)
}

fn im2col(edit: impl FnOnce(&mut Im2colArgs<'static>)) -> Result<TensorMap, Refusal> {
    let mut args = Im2colArgs {
        data_type: 9,
        rank: 4,
        address: 0x100,
        global_dim: &[64, 10, 12, 3],
        global_strides: &[128, 1280, 15360],
        lower_corner: &[-1, -1],
        upper_corner: &[-1, -1],
        channels_per_pixel: 64,
        pixels_per_column: 128,
        element_strides: &[1, 1, 1, 1],
        interleave: 0,
        swizzle: 3,
        l2_promotion: 0,
        oob_fill: 0,
    };
    edit(&mut args);
    TensorMap::encode_im2col(&args)
}

fn refused(result: Result<TensorMap, Refusal>, argument: &str) {
    match result {
        Err(Refusal::Invalid(text)) => assert!(text.contains(argument), "{text} does not name {argument}"),
        other => panic!("{argument}: {other:?}"),
    }
}

#[test]
fn tiled_requirements() {
    assert!(tiled(|_| {}).is_ok());
    refused(tiled(|a| a.rank = 0), "tensorRank");
    refused(tiled(|a| a.rank = 6), "tensorRank");
    refused(tiled(|a| a.data_type = 40), "tensorDataType");
    refused(tiled(|a| a.address += 8), "globalAddress");
    refused(tiled(|a| a.address = 0), "globalAddress");
    refused(tiled(|a| a.global_dim = &[100, 0, 7]), "globalDim[1]");
    refused(tiled(|a| a.global_dim = &[100, 50, (1 << 32) + 1]), "globalDim[2]");
    assert!(tiled(|a| a.global_dim = &[100, 50, 1 << 32]).is_ok());
    refused(tiled(|a| a.global_strides = &[200, 20800]), "globalStrides[0]");
    refused(tiled(|a| a.global_strides = &[208, 1 << 40]), "globalStrides[1]");
    refused(tiled(|a| a.box_dim = &[64, 257, 2]), "boxDim[1]");
    refused(tiled(|a| a.box_dim = &[64, 32, 0]), "boxDim[2]");
    refused(tiled(|a| a.box_dim = &[60, 32, 2]), "boxDim[0]"); // 120 bytes
    refused(tiled(|a| a.box_dim = &[72, 32, 2]), "swizzle"); // 144 bytes of 128
    assert!(tiled(|a| (a.box_dim, a.swizzle) = (&[72, 32, 2], 0)).is_ok());
    refused(tiled(|a| a.swizzle = 2), "swizzle"); // 128 bytes of 64
    refused(tiled(|a| a.swizzle = 7), "swizzle");
    refused(tiled(|a| a.element_strides = &[1, 9, 1]), "elementStrides[1]");
    refused(tiled(|a| a.element_strides = &[0, 1, 1]), "elementStrides[0]");
    refused(tiled(|a| a.interleave = 3), "interleave");
    refused(tiled(|a| (a.interleave, a.rank) = (1, 2)), "tensorRank");
    refused(tiled(|a| (a.interleave, a.swizzle) = (2, 0)), "interleave");
    refused(tiled(|a| (a.interleave, a.swizzle, a.address) = (2, 1, 0x110)), "globalAddress");
    refused(tiled(|a| a.l2_promotion = 4), "l2Promotion");
    refused(tiled(|a| a.oob_fill = 2), "oobFill");
    refused(tiled(|a| (a.oob_fill, a.data_type) = (1, 1)), "oobFill");
    refused(tiled(|a| a.global_strides = &[208]), "globalStrides");
}

#[test]
fn im2col_requirements() {
    assert!(im2col(|_| {}).is_ok());
    refused(im2col(|a| a.rank = 2), "tensorRank");
    refused(im2col(|a| a.lower_corner = &[-129, 0]), "pixelBoxLowerCorner[0]");
    refused(im2col(|a| a.upper_corner = &[0, 128]), "pixelBoxUpperCorner[1]");
    let rank3 = |lower: &'static [i32]| {
        im2col(|a| (a.rank, a.lower_corner, a.upper_corner, a.global_dim) = (3, lower, &[40], &[64, 10, 3]))
    };
    assert!(rank3(&[-32768]).is_ok());
    refused(rank3(&[32768]), "pixelBoxLowerCorner[0]");
    let rank5 = |lower: &'static [i32]| {
        im2col(|a| {
            (a.rank, a.lower_corner, a.upper_corner) = (5, lower, &[0, 0, 15]);
            a.global_dim = &[64, 10, 12, 3, 2];
            (a.global_strides, a.element_strides) = (&[128, 1280, 15360, 46080], &[1; 5]);
        })
    };
    assert!(rank5(&[-16, 0, 0]).is_ok());
    refused(rank5(&[-17, 0, 0]), "pixelBoxLowerCorner[0]");
    refused(im2col(|a| a.upper_corner = &[-11, 0]), "pixelBoxLowerCorner[0]"); // 10 - 11 + 1 pixels
    refused(im2col(|a| a.channels_per_pixel = 257), "channelsPerPixel");
    refused(im2col(|a| a.channels_per_pixel = 128), "channelsPerPixel"); // past the swizzle
    refused(im2col(|a| a.pixels_per_column = 1025), "pixelsPerColumn");
}

#[test]
fn what_is_not_modelled_says_so() {
    let not_modelled = |result| matches!(result, Err(Refusal::NotModelled(_)));
    assert!(not_modelled(tiled(|a| a.interleave = 1)));
    assert!(not_modelled(tiled(|a| a.data_type = 13)));
    assert!(not_modelled(tiled(|a| a.swizzle = 4)));
    assert!(not_modelled(tiled(|a| a.box_dim = &[32, 32, 2])));
}

#[test]
fn the_address_can_be_replaced() {
    let map = tiled(|_| {}).expect("legal");
    assert_eq!(map.with_address(0x500).map(|m| m.address()), Ok(0x500));
    refused(map.with_address(0x508), "globalAddress");
}
