//! Affine changes with the bits of Pillow's `Image.transform` by bicubic interpolation: every pixel is taken from where
//! a matrix says, by a cubic with slope −1 in f64 over the 4×4 pixels around it; those at a border are repeated.

/// `[a, b, c, d, e, f]`: pixel (x, y) is taken from (a·x + b·y + c, d·x + e·y + f), counted from corner to corner.
type Matrix = [f64; 6];

/// What turns a picture of (width, height) by `degrees` counterclockwise about its centre, as Pillow computes it.
pub(super) fn rotation(degrees: f64, (width, height): (f64, f64)) -> Matrix {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    let round = |x: f64| (x * 1e15).round_ties_even() / 1e15;
    let [a, b, d, e] = [angle.cos(), angle.sin(), -angle.sin(), angle.cos()].map(round);
    let (x, y) = (width / 2.0, height / 2.0);
    [a, b, a * -x + b * -y + 0.0 + x, d, e, d * -x + e * -y + 0.0 + y]
}

/// The value between `b` and `c`, `at` of the way.
#[inline(always)]
fn cubic([a, b, c, d]: [f64; 4], at: f64) -> f64 {
    let (p2, p3, p4) = (c - a, 2.0 * (a - b) + c - d, b - a - c + d);
    b + at * (p2 + at * (p3 + at * p4))
}

/// Moves `pixels [height, width, 3]`; what comes from outside is `fill`. `before` gets the pixels as they were.
pub(super) fn bicubic(
    pixels: &mut [u8],
    (width, height): (usize, usize),
    matrix: Matrix,
    fill: [u8; 3],
    before: &mut Vec<u8>,
) {
    before.clear();
    before.extend_from_slice(pixels);
    let [a, b, c, d, e, f] = matrix;
    let (w, h) = (width as f64, height as f64);
    let clamp = |at: i64, side: usize| at.clamp(0, side as i64 - 1) as usize;
    for (y, row) in pixels.chunks_exact_mut(3 * width).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let (px, py) = (x as f64 + 0.5, y as f64 + 0.5);
            let (from_x, from_y) = (a * px + b * py + c, d * px + e * py + f);
            if !(from_x >= 0.0 && from_x < w && from_y >= 0.0 && from_y < h) {
                pixel.copy_from_slice(&fill);
                continue;
            }
            let (left, top) = ((from_x - 0.5).floor(), (from_y - 0.5).floor());
            let (dx, dy) = (from_x - 0.5 - left, from_y - 0.5 - top);
            let columns = [-1, 0, 1, 2].map(|i| 3 * clamp(left as i64 + i, width));
            let rows = [-1, 0, 1, 2].map(|i| 3 * width * clamp(top as i64 + i, height));
            for (channel, value) in pixel.iter_mut().enumerate() {
                let of_row = |row: usize| cubic(columns.map(|column| f64::from(before[row + column + channel])), dx);
                *value = cubic(rows.map(of_row), dy) as u8;
            }
        }
    }
}
