use std::path::Path;

use stablerep::weights::SafeTensors;

pub fn fixture(name: &str) -> SafeTensors {
    SafeTensors::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// PyTorch's `[N, C, H, W]` to this program's `[N, H, W, C]`.
pub fn nhwc(x: &[f32], n: usize, c: usize, h: usize, w: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for i in 0..n * h * w {
        let (image, pixel) = (i / (h * w), i % (h * w));
        out.extend((0..c).map(|channel| x[(image * c + channel) * h * w + pixel]));
    }
    out
}

/// Fails where `got` differs from `want` by more than `tolerance` of the largest wanted value.
#[track_caller]
pub fn assert_near(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(0.0f32, |m, v| m.max(v.abs())).max(1e-12);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs() / scale;
        assert!(
            error <= tolerance,
            "{what}[{i}]: got {got}, wanted {want}: error {error:e} of the largest value {scale}"
        );
    }
}
