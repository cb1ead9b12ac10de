//! Latents of one image: `[h, w, C]`, but `[C, h, w]` in the files that users see.

use crate::ops::sampler_step::NoiseKey;
use crate::rng::{Domain, Stream};

/// N(0, 1) of `[C, h, w]`, keyed by (seed, caption id, image index), as `[h, w, C]`. Drawn in the files' order, so that
/// a key has the same noise here as in a file.
pub(super) fn unit_noise(NoiseKey { seed, caption, image }: NoiseKey, [c, h, w]: [usize; 3]) -> Vec<f32> {
    let mut noise = vec![0.0; c * h * w];
    Stream::new(seed, Domain::InitialNoise, [caption, image, 0]).fill_normal(&mut noise);
    from_file(&noise, [c, h, w])
}

/// `[C, h, w]` to `[h, w, C]`.
pub(super) fn from_file(x: &[f32], [c, h, w]: [usize; 3]) -> Vec<f32> {
    transposed(x, c, h * w)
}

/// `[h, w, C]` to `[C, h, w]`.
pub(super) fn to_file(x: &[f32], [c, h, w]: [usize; 3]) -> Vec<f32> {
    transposed(x, h * w, c)
}

fn transposed(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| x[row * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_move_and_come_back() {
        let (shape, x) = ([2, 1, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(from_file(&x, shape), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(to_file(&from_file(&x, shape), shape), x);
    }
}
