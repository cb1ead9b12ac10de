//! Tensor copies: boxes of every rank, im2col, edges, stores and reductions.

use cuda_sim::check::Kind;
use cuda_sim::tensor::Im2colArgs;

use super::*;

/// One thread loads the box of map A at the coordinates, all store the words of shared memory.
fn load(rank: usize, coordinates: &str, mode: &str, offsets: &str, bytes: u32) -> String {
    format!(
        "{MBARRIER}
         @!%p15 bra $wait;
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r90], {bytes};
         cp.async.bulk.tensor.{rank}d.shared::cluster.global{mode}.mbarrier::complete_tx::bytes [%s], \
         [%rd30, {{{coordinates}}}], [%r90]{offsets};
         {WAIT}
         {WORDS_OUT}"
    )
}

#[test]
fn boxes_of_every_rank_and_their_edges() {
    let dims = [12u64, 5, 4, 3, 3];
    let input: Vec<f32> = (1..=dims.iter().product::<u64>()).map(|i| i as f32).collect();
    for rank in 1..=5 {
        let extent = &[8, 3, 2, 2, 2][..rank];
        let words: u32 = extent.iter().product();
        // The second box starts before the tensor and ends behind it.
        for start in [[0i64, 1, 1, 0, 1], [6, -1, 3, 2, 2]] {
            let coordinates = start[..rank].iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            let mut program = kernel(&load(rank, &coordinates, ".tile", "", 4 * words));
            let (out, from) = (program.blank(4 * words as usize), program.upload(&input));
            let map = tiled(from, &dims[..rank], extent, 0);
            runs(&mut program, &shape(words), &args(&[out], &[map]));
            let got: Vec<f32> = program.download(out, words as usize);
            for (n, got) in got.iter().enumerate() {
                let (mut rest, mut index, mut stride, mut inside) = (n as u32, 0, 1, true);
                for i in 0..rank {
                    let x = start[i] + (rest % extent[i]) as i64;
                    rest /= extent[i];
                    inside &= (0..dims[i] as i64).contains(&x);
                    index += x * stride;
                    stride *= dims[i] as i64;
                }
                let want = if inside { input[index as usize] } else { 0.0 };
                assert_eq!(*got, want, "rank {rank} from {coordinates}: word {n}");
            }
        }
    }
}

#[test]
fn im2col_gathers_the_pixels_of_a_filter_tap() {
    // 4 channels, 5 × 4 pixels, 2 images; 3 × 3 filter with padding 1: tap (2, 0) of output pixels 7 to 14.
    let dims = [4u64, 5, 4, 2];
    let input: Vec<f32> = (1..=160).map(|i| i as f32).collect();
    let mut program = kernel(&load(4, "0, 1, 0, 0", ".im2col", ", {2, 0}", 128));
    let (out, from) = (program.blank(128), program.upload(&input));
    let map = cuda_sim::tensor::TensorMap::encode_im2col(&Im2colArgs {
        data_type: 7,
        rank: 4,
        address: from,
        global_dim: &dims,
        global_strides: &[16, 80, 320],
        lower_corner: &[-1, -1],
        upper_corner: &[-1, -1],
        channels_per_pixel: 4,
        pixels_per_column: 8,
        element_strides: &[1; 4],
        interleave: 0,
        swizzle: 0,
        l2_promotion: 0,
        oob_fill: 0,
    })
    .expect("a legal map");
    runs(&mut program, &shape(32), &args(&[out], &[map]));
    let got: Vec<f32> = program.download(out, 32);
    for pixel in 0..8 {
        // Output pixel 7 is (x 2, y 1): its base pixel is (1, 0) in a row of five.
        let (x, y) = ((7 + pixel) % 5, (7 + pixel) / 5);
        let (x, y) = (x - 1 + 2, y - 1);
        let inside = (0..5).contains(&x) && (0..4).contains(&y);
        for channel in 0..4 {
            let want = if inside { input[((y * 5 + x) * 4 + channel) as usize] } else { 0.0 };
            assert_eq!(got[(pixel * 4 + channel) as usize], want, "pixel {pixel} ({x}, {y}) channel {channel}");
        }
    }
}

/// Threads write their number to shared memory; one stores the box of map A from there.
fn store(what: &str, coordinates: &str) -> String {
    format!(
        "shl.b32 %r3, %r0, 2;
         add.u32 %r4, %s, %r3;
         cvt.rn.f32.u32 %f1, %r0;
         st.shared.f32 [%r4], %f1;
         fence.proxy.async.shared::cta;
         bar.sync 0;
         setp.eq.u32 %p1, %r0, 0;
         @!%p1 bra $end;
         {what}.2d.global.shared::cta{}.tile.bulk_group [%rd30, {{{coordinates}}}], [%s];
         cp.async.bulk.commit_group;
         cp.async.bulk.wait_group 0;
         $end:",
        if what.contains("reduce") { ".add" } else { "" }
    )
}

#[test]
fn stores_stop_at_the_edges() {
    let mut program = kernel(&store("cp.async.bulk.tensor", "6, -1"));
    let to = program.upload(&[-1f32; 12 * 5]);
    let map = tiled(to, &[12, 5], &[8, 4], 0);
    runs(&mut program, &shape(32), &args(&[], &[map]));
    let got: Vec<f32> = program.download(to, 60);
    for (i, got) in got.iter().enumerate() {
        let (x, y) = (i as i32 % 12 - 6, i as i32 / 12 + 1);
        let inside = (0..6).contains(&x) && (0..4).contains(&y);
        assert_eq!(*got, if inside { (y * 8 + x) as f32 } else { -1.0 }, "{x} {y}");
    }
}

#[test]
fn reductions_add() {
    let mut program = kernel(&store("cp.reduce.async.bulk.tensor", "0, 0"));
    let to = program.upload(&[0.25f32; 32]);
    let map = tiled(to, &[8, 4], &[8, 4], 0);
    runs(&mut program, &shape(32), &args(&[], &[map]));
    let got: Vec<f32> = program.download(to, 32);
    assert!(got.iter().enumerate().all(|(i, x)| *x == 0.25 + 6.0 * i as f32), "{got:?}");
}

#[test]
fn swizzled_boxes_lie_where_reads_expect_them() {
    // 32 f32 in a row of 128 bytes, 8 rows: word w of row r is at 16-byte piece (w / 4) ^ r.
    let mut program = kernel(&load(2, "0, 0", ".tile", "", 1024));
    let input: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let (out, from) = (program.blank(1024), program.upload(&input));
    runs(&mut program, &shape(256), &args(&[out], &[tiled(from, &[32, 8], &[32, 8], 3)]));
    let got: Vec<f32> = program.download(out, 256);
    for (i, x) in input.iter().enumerate() {
        let (row, word) = (i / 32, i % 32);
        assert_eq!(got[row * 32 + ((word / 4) ^ row) * 4 + word % 4], *x);
    }
}

#[test]
fn copies_that_cannot_be() {
    let two = load(2, "0, 0", ".tile", "", 128);
    let cases = [
        (two.replace("[%s]", "[%s+64]"), Kind::Misaligned),
        (two.replace("[%s]", "[%s+8192]"), Kind::OutOfBounds),
        (two.replace("[%rd30,", "[%rd30+32,"), Kind::Misaligned),
        (two.replace("%rd30", "%rd31"), Kind::InvalidOperand), // 128 zeros are no map
        (load(1, "0", ".tile", "", 128), Kind::InvalidOperand), // a map of rank 2
        (load(3, "0, 0, 0", ".im2col", ", {0}", 128), Kind::InvalidOperand),
        (two.replace("fence.mbarrier_init.release.cluster;", "").replace("@%p15 \n", ""), Kind::ProxyFence),
        (two.replace("[%r90], 128", "[%r90], 112"), Kind::TransactionCount),
        (two.replace("[%r90], 128", "[%r90], 144"), Kind::TransactionCount),
    ];
    for (body, kind) in cases {
        let body = body.replace("@%p15 fence", "fence");
        let mut program = kernel(&body);
        let (out, from) = (program.blank(128), program.upload(&[1f32; 32]));
        finds(&mut program, &shape(32), &args(&[out], &[tiled(from, &[8, 4], &[8, 4], 0)]), kind);
    }
}
