//! Random erasing (Zhong et al. 2020, arXiv 1708.04896) as timm does it "per pixel": a rectangle becomes noise that is
//! N(0, 1) once pictures are normalised by ImageNet's mean and standard deviation. Pictures are bytes still, so the
//! noise is brought back to bytes: rounded, and cut to 0 … 255, beyond which 3 to 4 of 100 values would be.

use super::augment::Normalize;
use crate::rng::Stream;

/// Shares of the picture's area that a rectangle may take, and its height over its width.
const AREA: [f64; 2] = [0.02, 1.0 / 3.0];
const ASPECT: [f64; 2] = [0.3, 1.0 / 0.3];

/// Erases a rectangle of `pixels [height, width, 3]` with odds `odds`; none where ten in turn do not fit. Every
/// decision takes its numbers from `stream` in a fixed order.
pub fn erase(pixels: &mut [u8], width: usize, odds: f64, stream: &mut Stream) {
    if f64::from(stream.uniform()) >= odds {
        return;
    }
    let height = pixels.len() / (3 * width);
    let between = |stream: &mut Stream, [low, high]: [f64; 2]| low + (high - low) * f64::from(stream.uniform());
    for _ in 0..10 {
        let area = between(stream, AREA) * (width * height) as f64;
        let aspect = between(stream, ASPECT.map(f64::ln)).exp();
        let side = |square: f64| square.sqrt().round_ties_even() as usize;
        let (h, w) = (side(area * aspect), side(area / aspect));
        if w < width && h < height {
            let (top, left) = (stream.below(height - h + 1), stream.below(width - w + 1));
            let mut noise = vec![0.0; 3 * w];
            for y in top..top + h {
                stream.fill_normal(&mut noise);
                let row = &mut pixels[3 * (y * width + left)..][..3 * w];
                for (i, (value, noise)) in row.iter_mut().zip(&noise).enumerate() {
                    let (mean, std) = (Normalize::IMAGENET_MEAN[i % 3], Normalize::IMAGENET_STD[i % 3]);
                    *value = (255.0 * (noise * std + mean)).round() as u8;
                }
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Domain;

    /// Of 2,000 pictures a quarter lose a rectangle of the allowed size, whose noise has ImageNet's mean and spread.
    #[test]
    fn a_quarter_loses_a_rectangle() {
        let (width, height) = (40, 30);
        let (mut erased, mut shares) = (0, Vec::new());
        let mut reds: Vec<f64> = Vec::new();
        for i in 0..2000 {
            // A value that noise hardly ever has in all three channels.
            let mut pixels = vec![0u8; 3 * width * height];
            pixels.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[255, 0, 255]));
            erase(&mut pixels, width, 0.25, &mut Stream::new(3, Domain::SelfTest, [i, 0, 0]));
            let changed: Vec<usize> =
                (0..width * height).filter(|&at| pixels[3 * at..3 * at + 3] != [255, 0, 255]).collect();
            let Some((&first, &last)) = changed.first().zip(changed.last()) else { continue };
            erased += 1;
            shares.push(changed.len() as f64 / (width * height) as f64);
            reds.extend(changed.iter().map(|&at| f64::from(pixels[3 * at])));
            let (left, right) = (changed.iter().map(|at| at % width).min(), changed.iter().map(|at| at % width).max());
            let box_of = (right.unwrap() - left.unwrap() + 1) * (last / width - first / width + 1);
            assert!(box_of - changed.len() < 3, "{box_of} {}", changed.len());
        }
        assert!((420..580).contains(&erased), "{erased}");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        assert!(shares.iter().all(|share| (0.015..0.35).contains(share)) && (0.13..0.2).contains(&mean(&shares)));
        let red = mean(&reds);
        let spread = (mean(&reds.iter().map(|v| (v - red).powi(2)).collect::<Vec<_>>())).sqrt();
        assert!((red - 123.7).abs() < 2.0 && (spread - 57.0).abs() < 2.0, "{red} ± {spread}");
    }
}
