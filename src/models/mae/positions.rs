//! Fixed positions of tokens on a square grid.

/// `[1 + grid², width]`, the class token's zeros first, then the patches in reading order: the first half of a row for
/// its column, the second for its row, each sines before cosines of place·ω, ω_i = 10000^(−i/(width/4)) (MAE's
/// `get_2d_sincos_pos_embed`, in f64).
///
/// # Panics
/// If `width` is no multiple of 4.
pub fn sin_cos(grid: usize, width: usize) -> Vec<f32> {
    assert!(width.is_multiple_of(4), "positions of width {width}");
    let quarter = width / 4;
    let along = |place: usize| {
        let angle = move |i: usize| place as f64 / 10_000f64.powf(i as f64 / quarter as f64);
        (0..quarter).map(move |i| angle(i).sin() as f32).chain((0..quarter).map(move |i| angle(i).cos() as f32))
    };
    let patches = (0..grid * grid).flat_map(|t| along(t % grid).chain(along(t / grid)));
    std::iter::repeat_n(0.0, width).chain(patches).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2×2 places of width 8, by NumPy: token 1 is column 1 of row 0.
    #[test]
    fn the_column_comes_first() {
        let (zero, one) = ([0.0, 0.0, 1.0, 1.0], [0.841_470_98, 0.009_999_833, 0.540_302_3, 0.999_95]);
        let want = [[0.0; 4], [0.0; 4], zero, zero, one, zero, zero, one, one, one].concat();
        let got = sin_cos(2, 8);
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-7, "{got} {want}");
        }
    }
}
