//! How fast a ViT with random weights makes features of 8-bit images, for `benches/peers/features.py`: rounds of one
//! batch until the seconds are spent, after one that is not counted. Prints seconds of every round as JSON.

use std::time::Instant;

use stablerep::eval::encoder::Encoder;
use stablerep::image::Rgb8;
use stablerep::models::vit::VitConfig;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, batch, seconds] = &arguments[..] else { return Err("expected MODEL BATCH SECONDS".into()) };
    let Some(model) = VitConfig::named(model) else {
        return Err("expected vit_tiny, vit_small, vit_base or vit_large".into());
    };
    let (batch, seconds): (usize, f64) = (batch.parse()?, seconds.parse()?);
    let (encoder, side) = (Encoder::random(&model, 0)?, model.image_size);
    let byte = |i: usize, at: usize| (at * 31 + at / side * 7 + i * 101) as u8;
    let image = |i| Rgb8 { width: side, height: side, data: (0..model.image_len()).map(|at| byte(i, at)).collect() };
    let images: Vec<Rgb8> = (0..batch).map(image).collect();
    encoder.features(&images)?;
    let (mut rounds, start) = (Vec::new(), Instant::now());
    while start.elapsed().as_secs_f64() < seconds || rounds.len() < 3 {
        let begin = Instant::now();
        encoder.features(&images)?;
        rounds.push(begin.elapsed().as_secs_f64());
    }
    println!("{}", serde_json::json!({ "rounds": rounds }));
    Ok(())
}
