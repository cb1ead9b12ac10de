//! How far apart two pictures of one size are.

use super::Rgb8;

/// Differences of 8-bit values over all pixels and channels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Of absolute differences.
    pub mean: f64,
    pub largest: u8,
    /// Mean of squared differences.
    pub squared: f64,
}

impl Difference {
    /// Of `a` and `b`, or none if their sizes differ or they have no pixels.
    pub fn of(a: &Rgb8, b: &Rgb8) -> Option<Self> {
        if (a.width, a.height) != (b.width, b.height) || a.data.is_empty() {
            return None;
        }
        let apart = || a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b));
        let count = a.data.len() as f64;
        Some(Self {
            mean: apart().map(f64::from).sum::<f64>() / count,
            largest: apart().max().unwrap_or(0),
            squared: apart().map(|d| f64::from(d).powi(2)).sum::<f64>() / count,
        })
    }

    /// Peak signal-to-noise ratio, dB: `10·lg(255² / mean square)`; infinite for equal pictures.
    pub fn psnr(self) -> f64 {
        10.0 * (255.0 * 255.0 / self.squared).log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_one_channel_in_four_pixels() {
        let a = Rgb8::filled(2, 2, [10, 20, 30]);
        let mut b = a.clone();
        (b.data[0], b.data[11]) = (16, 22);
        let difference = Difference::of(&a, &b).unwrap();
        assert_eq!(difference, Difference { mean: 14.0 / 12.0, largest: 8, squared: 100.0 / 12.0 });
        assert!((difference.psnr() - 38.9226).abs() < 1e-4);
        assert_eq!(Difference::of(&a, &a).unwrap().psnr(), f64::INFINITY);
        assert_eq!(Difference::of(&a, &Rgb8::filled(4, 1, [0; 3])), None);
    }
}
