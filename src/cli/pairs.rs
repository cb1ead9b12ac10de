//! How far two drawings of the same pictures are apart, in words.

use crate::answer;
use crate::image::Difference;

/// Says it of `what` and all its pictures, by caption, and names the caption whose are furthest apart.
pub fn tell(what: &str, differences: &[(String, Difference)]) {
    let count = differences.len().max(1) as f64;
    let mean = differences.iter().map(|(_, d)| d.mean).sum::<f64>() / count;
    let psnr = differences.iter().map(|(_, d)| d.psnr()).sum::<f64>() / count;
    answer!("{what}, {} images: 8-bit values differ by {mean:.2} on average, PSNR {psnr:.1} dB", differences.len());
    if let Some((caption, worst)) = differences.iter().max_by(|(_, a), (_, b)| a.squared.total_cmp(&b.squared)) {
        answer!("furthest apart: {:.2}, at most {}, {:.1} dB: {caption}", worst.mean, worst.largest, worst.psnr());
    }
}
