//! Means, covariances and the Fréchet distance of two sets of features of a file, for `benches/peers/fid.py`: f32, the
//! first set and then the second. Prints seconds and the distance as JSON.

use std::time::Instant;

use stablerep::eval::distance::frechet::Normal;
use stablerep::eval::distance::moments::Moments;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, images, width] = &arguments[..] else { return Err("expected FILE IMAGES WIDTH".into()) };
    let (images, width): (usize, usize) = (images.parse()?, width.parse()?);
    let features: Vec<f32> =
        std::fs::read(path)?.chunks_exact(4).filter_map(|word| word.try_into().ok()).map(f32::from_le_bytes).collect();
    let (first, second) = features.split_at(images * width);
    let begin = Instant::now();
    let moments = [Moments::of(first, width)?, Moments::of(second, width)?];
    let moments_seconds = begin.elapsed().as_secs_f64();
    let [a, b] = [Normal::of(&moments[0])?, Normal::of(&moments[1])?];
    let distance = a.distance(&b)?;
    let found = serde_json::json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "moments_seconds": moments_seconds,
        "distance": distance,
    });
    println!("{found}");
    Ok(())
}
