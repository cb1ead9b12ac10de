//! Fits the 45 logistic regressions of `eval transfer` to the features of a file, for `benches/peers/logistic.py`: rows
//! of f32, then labels of u32. Prints seconds, objectives and iterations as JSON.

use std::time::Instant;

use stablerep::eval::logistic::design::{Design, Standard};
use stablerep::eval::logistic::loss::Targets;
use stablerep::eval::logistic::{LIMITS, fit};
use stablerep::eval::transfer::protocol::lambdas;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, images, width, classes] = &arguments[..] else {
        return Err("expected FILE IMAGES WIDTH CLASSES".into());
    };
    let (images, width, classes): (usize, usize, usize) = (images.parse()?, width.parse()?, classes.parse()?);
    let words: Vec<u32> =
        std::fs::read(path)?.chunks_exact(4).filter_map(|w| w.try_into().ok()).map(u32::from_le_bytes).collect();
    let (features, labels) = words.split_at(images * width);
    let features: Vec<f32> = features.iter().map(|bits| f32::from_bits(*bits)).collect();
    let begin = Instant::now();
    let design = Design::new(&Standard::of(&features, width), &features);
    let strengths: Vec<f64> = lambdas().iter().rev().map(|lambda| 1.0 / lambda).collect();
    let fits = fit(&design, &[Targets::Classes { labels, classes }], &strengths, LIMITS, |_| ())?.concat();
    let found = serde_json::json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "objectives": fits.iter().map(|fit| fit.objective).collect::<Vec<_>>(),
        "iterations": fits.iter().map(|fit| fit.iterations).collect::<Vec<_>>(),
    });
    println!("{found}");
    Ok(())
}
