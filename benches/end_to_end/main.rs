//! Images per second of whole jobs, one JSON line per measurement, as `benches/peers/*.py` print them for PyTorch:
//!
//!     cargo bench --bench end_to_end -- [generate|train_vit_s|train_demo|loss]… [--seconds 10] [--threads 2]
//!
//! `benches/peers/compare.py` runs both in turn and prints the ratios. Also train_vit_ti and train_vit_b.
//!
//! One network that stays in memory, called whenever a line on standard input says so, for `benches/peers/cpu.py`:
//!
//!     cargo bench --bench end_to_end -- calls NETWORK --inputs FILE --model PATH [--precision f32] [--threads 2]
//!
//! `calls.rs` says what is written and read.

mod calls;
mod harness;
mod networks;
mod training;

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use stablerep::bail;
use stablerep::device::{self, Heap, Plan};
use stablerep::error::Result;
use stablerep::generate::{Drawing, Fp8, Pipeline, Request, Settings, Wanted};
use stablerep::ops::contrastive::{self, Batch, Queue};
use stablerep::ops::gemm::Operands;
use stablerep::ops::l2norm;
use stablerep::ops::sampler_step::NoiseKey;
use stablerep::rng::{Domain, Stream};

use harness::{Options, measure};
use training::Training;

/// As the program has it.
#[global_allocator]
static HEAP: Heap = Heap;

const BENCHES: [&str; 4] = ["generate", "train_vit_s", "train_demo", "loss"];

fn main() -> ExitCode {
    if !std::env::args().any(|word| word == "--bench") {
        println!("measures under `cargo bench` only");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<()> {
    let options = Options::read()?;
    device::set_threads(Some(options.threads))?;
    if let [calls, network] = &options.names[..]
        && calls == "calls"
    {
        return calls::run(network, &options);
    }
    let all = BENCHES.map(str::to_owned);
    let names = if options.names.is_empty() { &all[..] } else { &options.names[..] };
    for name in names {
        match name.as_str() {
            "generate" => generate(&options)?,
            "loss" => loss(&options),
            _ => match training::shape(name) {
                Some(shape) => train(&options, name, shape)?,
                None => bail!(Usage, "{name}: expected generate, loss, {}", training::NAMES.join(", ")),
            },
        }
    }
    Ok(())
}

/// Four captions × four images of the bundled model, 25 steps, w = 2: captions to 8-bit pictures.
fn generate(options: &Options) -> Result<()> {
    const CAPTIONS: [&str; 4] = [
        "a photo of a dark patterned slim dress",
        "a photo of a light plain wide ankle boot",
        "a photo of a gray patterned wide bag",
        "a photo of a dark plain slim sneaker",
    ];
    let (steps, guidance_scale, images) = (25, 2.0, 16);
    let settings = Settings {
        model: &Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-sd"),
        loras: &[],
        device: device::Device::Cpu,
        precision: None,
        fp8: Fp8::Off,
        drawing: Drawing { steps, guidance_scale, ..Drawing::default() },
        store_size: None,
        batch: Some(images),
    };
    let mut pipeline = Pipeline::open(&settings, &mut Plan::new())?;
    let mut noise = vec![0.0; images * pipeline.latent_shape().iter().product::<usize>()];
    Stream::new(0, Domain::InitialNoise, [0; 3]).fill_normal(&mut noise);
    let keys: Vec<_> = (0..images).map(|i| NoiseKey { seed: 0, caption: i as u32, image: 0 }).collect();
    let details = json!({ "steps": steps, "batch": images, "guidance_scale": guidance_scale });
    measure(options, "generate", images, details, || {
        let texts = pipeline.encode_texts(&CAPTIONS).unwrap();
        let texts = (0..images).map(|i| texts[i / (images / CAPTIONS.len())].clone()).collect();
        let (keys, noise, wanted) = (keys.clone(), noise.clone(), Wanted::default());
        let request = Request { texts, keys, noise, guidance_scale, wanted, whole: false };
        let pictures = pipeline.draw(request, &mut |_| ()).unwrap().pictures;
        assert!(pictures.len() == images && !pictures[0].not_finite);
    });
    Ok(())
}

/// One training step from random weights.
fn train(options: &Options, bench: &str, shape: training::Shape) -> Result<()> {
    let (images, details) = (shape.images(), shape.details());
    let mut pixels = vec![0.0; images * shape.model.image_len()];
    Stream::new(0, Domain::InitialNoise, [0; 3]).fill_normal(&mut pixels);
    let mut training = Training::new(shape, None, pixels, Operands::F32)?;
    measure(options, bench, images, details, || {
        training.step().unwrap();
    });
    Ok(())
}

/// The multi-positive loss of 256 captions × 4 views, forward and backward, from raw features.
fn loss(options: &Options) {
    let (captions, views, width) = (256, 4, 256);
    let rows = captions * views;
    let mut raw = vec![0.0; rows * width];
    Stream::new(0, Domain::InitialNoise, [0; 3]).fill_normal(&mut raw);
    let labels: Vec<u32> = (0..rows).map(|row| (row % captions) as u32).collect();
    let zeros = || vec![0.0f32; rows * width];
    let (mut z, mut dz, mut draw) = (zeros(), zeros(), zeros());
    let (mut norms, mut lse, mut weight) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows]);
    let details = json!({ "captions": captions, "views": views, "width": width });
    measure(options, "loss", rows, details, || {
        l2norm::forward(&mut z, &mut norms, &raw, 1e-12);
        let batch = Batch { z: &z, labels: &labels, queue: Queue::default(), temperature: 0.1 };
        assert!(contrastive::forward(&mut lse, &mut weight, batch).is_finite());
        contrastive::backward(&mut dz, &lse, &weight, batch);
        l2norm::backward(&mut draw, &dz, &z, &norms, 1e-12);
    });
}
