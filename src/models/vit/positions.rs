//! Positions that are not learned: sines and cosines of the row and the column of a patch.

/// `[grid², width]`: the first half of the values tells the row, the second the column; each half is sin(p·ω), then
/// cos(p·ω), with ω_i = 10000^(−4i/width). Computed in f64.
///
/// # Panics
/// If the width is no multiple of 4.
pub fn sin_cos(grid: usize, width: usize) -> Vec<f32> {
    assert!(width.is_multiple_of(4), "positions of {width} values");
    let quarter = width / 4;
    let half = |place: usize| {
        let angle = move |i: usize| place as f64 * 10_000f64.powf(-(i as f64) / quarter as f64);
        (0..quarter).map(move |i| angle(i).sin()).chain((0..quarter).map(move |i| angle(i).cos()))
    };
    (0..grid * grid).flat_map(|token| half(token / grid).chain(half(token % grid)).map(|value| value as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_two_by_two() {
        let e = [[0.0, 0.0, 1.0, 1.0], [0.841_470_98, 0.009_999_833, 0.540_302_3, 0.999_95]];
        let all = sin_cos(2, 8);
        assert_eq!(all.len(), 32);
        let near = |token: usize, want: [[f32; 4]; 2]| {
            all[8 * token..8 * token + 8].iter().zip(want.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-7)
        };
        assert!(near(0, [e[0]; 2]) && near(1, e) && near(2, [e[1], e[0]]) && near(3, [e[1]; 2]), "{all:?}");
    }
}
