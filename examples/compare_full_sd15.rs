//! Full-size Stable Diffusion 1.5 with random weights against diffusers: text encoder, one UNet call of batch 2, one
//! VAE decode.
//!
//!     python dev/golden/full_sd15.py FOLDER        # once: 2.1 GB of weights and diffusers' outputs
//!     cargo run --release --example compare_full_sd15 -- FOLDER [bf16]
//!
//! Prints the relative error and the seconds of each part; fails above 1e-4, in bf16 above 5e-2. Takes 7 GB of memory.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use stablerep::bail;
use stablerep::device::Plan;
use stablerep::error::Result;
use stablerep::layers::count::{Processor, Rooms};
use stablerep::layers::cpu::{Call, Caption, Memory, Reader};
use stablerep::models::clip_text::{self, ClipText};
use stablerep::models::unet::{self, Time, UNet};
use stablerep::models::vae::{self, Decoder};
use stablerep::ops::gemm::Operands;
use stablerep::ops::gemm::Threads;
use stablerep::weights::SafeTensors;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (folder, operands) = match words[..] {
        [folder] => (folder, Operands::F32),
        [folder, "bf16"] => (folder, Operands::Bf16),
        _ => {
            eprintln!("usage: compare_full_sd15 FOLDER [bf16] (FOLDER made by dev/golden/full_sd15.py)");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(folder), operands) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(folder: &Path, operands: Operands) -> Result<()> {
    let (model, reference) = (folder.join("model"), SafeTensors::open(folder.join("reference.safetensors"))?);
    text_encoder(&model, &reference, operands)?;
    decoder(&model, &reference, operands)?;
    unet_call(&model, &reference, operands)
}

fn memory(rooms: &Rooms) -> Memory {
    Memory::take(&mut Plan::new(), "network", rooms)
}

fn text_encoder(model: &Path, reference: &SafeTensors, operands: Operands) -> Result<()> {
    let weights = SafeTensors::open_folder(model.join("text_encoder"), "model")?;
    let config = clip_text::Config::open(&model.join("text_encoder/config.json"))?;
    let mut memory = memory(&config.rooms(Processor::Cpu, 2)?);
    let encoder = ClipText::load(config, clip_text::is_prefixed(&weights), &mut Reader::new(&weights, operands))?;
    let ids = reference.i64("text.ids", &[2, 77])?;
    let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
    let start = Instant::now();
    let mut call = Call { ids: &ids, ..Call::new(&mut memory, Threads::All) };
    let hidden = encoder.encode(&mut call, 2)?;
    report(
        "text encoder, 2 captions",
        operands,
        call.read(hidden),
        &reference.f32("text.hidden", &[2, 77, 768])?,
        start,
    )
}

fn decoder(model: &Path, reference: &SafeTensors, operands: Operands) -> Result<()> {
    let weights = SafeTensors::open_folder(model.join("vae"), "diffusion_pytorch_model")?;
    let config = vae::Config::open(&model.join("vae/config.json"))?;
    let mut memory = memory(&config.rooms(Processor::Cpu, 1, (64, 64))?);
    let decoder = Decoder::load(config, vae::has_old_names(&weights), &mut Reader::new(&weights, operands))?;
    let latents = nhwc(&reference.f32("vae.latents", &[1, 4, 64, 64])?, 1, 4);
    let mut image = vec![0.0; 512 * 512 * 3];
    let start = Instant::now();
    let mut call = Call { input: &latents, output: &mut image, ..Call::new(&mut memory, Threads::All) };
    decoder.decode(&mut call, 1, (64, 64))?;
    report("VAE decode, 512×512", operands, &image, &nhwc(&reference.f32("vae.image", &[1, 3, 512, 512])?, 1, 3), start)
}

fn unet_call(model: &Path, reference: &SafeTensors, operands: Operands) -> Result<()> {
    let start = Instant::now();
    let weights = SafeTensors::open_folder(model.join("unet"), "diffusion_pytorch_model")?;
    let config = unet::Config::open(&model.join("unet/config.json"))?;
    let mut memory = memory(&config.rooms(Processor::Cpu, 2, 2, (64, 64))?);
    let mut from = Reader::new(&weights, operands);
    let time = Time::load(&config, &mut from)?.table(&[981.0], 1.0);
    let unet = UNet::load(config, &mut from)?;
    println!("UNet of {:.2} GB read in {:.1} s", from.bytes() as f64 / 1e9, start.elapsed().as_secs_f64());
    let text = reference.f32("unet.context", &[2, 77, 768])?;
    let mut captions: Vec<Caption> = Vec::new();
    for states in text.chunks_exact(77 * 768) {
        let mut call = Call { input: states, ..Call::new(&mut memory, Threads::All) };
        unet.tell(&mut call)?;
        captions.push(call.made);
    }
    let captions: Vec<_> = captions.iter().map(|caption| (1, caption)).collect();
    let shape = [2, 4, 64, 64];
    let x = nhwc(&reference.f32("unet.x", &shape)?, 2, 4);
    let mut out = vec![0.0; x.len()];
    let start = Instant::now();
    let call = Call::new(&mut memory, Threads::All);
    let mut call = Call { input: &x, output: &mut out, time: &time[0], captions: &captions, ..call };
    unet.forward(&mut call, (2, 2), (64, 64))?;
    report("UNet call, batch 2, 64×64", operands, &out, &nhwc(&reference.f32("unet.eps_t981", &shape)?, 2, 4), start)
}

fn nhwc(x: &[f32], n: usize, c: usize) -> Vec<f32> {
    let pixels = x.len() / n / c;
    (0..x.len()).map(|i| x[(i / pixels / c * c + i % c) * pixels + i / c % pixels]).collect()
}

/// Prints ‖got − want‖ / ‖want‖ and the largest difference over the largest value.
fn report(what: &str, operands: Operands, got: &[f32], want: &[f32], start: Instant) -> Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(g - w)));
    let error = difference / norm(&mut want.iter().map(|&w| f64::from(w)));
    let top = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / top;
    println!("{what}: relative error {error:.1e}, largest {worst:.1e}, {seconds:.2} s");
    // `error` is compared so that NaN fails.
    let most = if operands == Operands::F32 { 1e-4 } else { 5e-2 };
    if error <= most && f64::from(worst) <= most {
        Ok(())
    } else {
        bail!(Failed, "{what}: expected at most {most:.0e}")
    }
}
