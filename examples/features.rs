//! Features of raw images by any encoder, to compare with other tools value by value:
//!
//!     cargo run --release --example features -- ENCODER images.safetensors features.safetensors
//!
//! ENCODER is what `stablerep probe --checkpoint` takes. The images are one tensor `images`, u8 `[N, S, S, 3]` with the encoder's S;
//! the output is one tensor `features`, f32 `[N, D]`.

use std::process::ExitCode;

use stablerep::bail;
use stablerep::error::Result;
use stablerep::eval::encoder::{Encoder, ModelSource};
use stablerep::image::Rgb8;
use stablerep::weights::{SafeTensors, write_safetensors};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, images, output] = &words[..] else {
        bail!(Usage, "usage: features ENCODER images.safetensors features.safetensors");
    };
    let encoder = Encoder::open(&ModelSource::Checkpoint {
        path: checkpoint.into(),
        heads: None,
        weights: None,
        image_size: None,
    })?;
    let file = SafeTensors::open(images)?;
    let size = encoder.vit().config().image_size;
    let n = file.shape("images").map_or(0, |shape| shape[0]);
    let pixels: Vec<u8> = file.i64("images", &[n, size, size, 3])?.into_iter().map(|v| v as u8).collect();
    let images: Vec<Rgb8> = pixels
        .chunks_exact(size * size * 3)
        .map(|data| Rgb8 { width: size, height: size, data: data.to_vec() })
        .collect();
    let features = encoder.features(&images)?;
    write_safetensors(output, &[("features".into(), vec![n, encoder.vit().config().width], &features[..])], &[])
}
