//! The networks that `calls` can call, as the program itself calls them: images are dealt to one lane per thread where
//! there are enough, and else go through in one lane that all threads share.

use std::path::Path;

use rayon::prelude::*;
use stablerep::bail;
use stablerep::device::{self, Plan};
use stablerep::error::Result;
use stablerep::eval::encoder::{Encoder, ModelSource};
use stablerep::generate::Precision;
use stablerep::layers::count::{Processor, Rooms};
use stablerep::layers::cpu::{Call, Caption, Cpu, Memory, Reader};
use stablerep::models::clip_text::{self, ClipText};
use stablerep::models::unet::{self, Time};
use stablerep::models::vae;
use stablerep::ops::gemm::Operands;
use stablerep::ops::gemm::Threads;
use stablerep::weights::SafeTensors;

use crate::training::{self, Training};

/// Something that is called.
pub trait Network {
    /// # Errors
    /// As the network's.
    fn call(&mut self) -> Result<()>;

    /// What the last call gave.
    fn outputs(&self) -> Vec<f32>;
}

/// What a network is made from.
pub struct Given<'a> {
    /// A diffusers folder, a timm folder, or of training a file of initial weights.
    pub model: &'a Path,
    pub inputs: &'a SafeTensors,
    /// What the networks are loaded in.
    pub precision: Precision,
}

/// Loads the network called `name`.
///
/// # Errors
/// `Usage` for one that is not known, or a precision that the CPU does not compute in; `Data` for weights or inputs
/// that do not fit.
pub fn open(name: &str, given: &Given<'_>) -> Result<Box<dyn Network>> {
    if given.precision.on_cpu()? != Operands::F32 && name == "features" {
        bail!(Usage, "--precision: the CPU computes {name} in f32 alone; give --precision f32");
    }
    Ok(match name {
        "unet" => Box::new(UNet::open(given)?),
        "decoder" => Box::new(Decoder::open(given)?),
        "text_encoder" => Box::new(TextEncoder::open(given)?),
        "features" => Box::new(Features::open(given)?),
        _ => match training::shape(name) {
            Some(shape) => Box::new(Step::open(shape, given)?),
            None => bail!(
                Usage,
                "calls {name}: expected unet, decoder, text_encoder, features, {}",
                training::NAMES.join(", ")
            ),
        },
    })
}

/// The tensor `name` of so many dimensions, and its shape.
fn input<const N: usize>(given: &Given<'_>, name: &str) -> Result<(Vec<f32>, [usize; N])> {
    let shape = given.inputs.shape(name).and_then(|shape| <[usize; N]>::try_from(shape).ok());
    let Some(shape) = shape else {
        bail!(Data, "{}: expected a tensor `{name}` of {N} dimensions", given.inputs.path().display());
    };
    Ok((given.inputs.f32(name, &shape)?, shape))
}

fn memory(network: &'static str, rooms: &Rooms) -> Memory {
    Memory::take(&mut Plan::new(), network, rooms)
}

/// Images that go through in one lane.
fn lane_images(images: usize) -> usize {
    let threads = rayon::current_num_threads();
    if images >= threads { images.div_ceil(threads) } else { images }
}

/// Each lane on a thread of its own; one alone on all threads.
fn on_lanes<L: Send>(lanes: &mut [L], work: impl Fn(&mut L, Threads) -> Result<()> + Sync) -> Result<()> {
    match lanes {
        [lane] => device::in_pool(|| work(lane, Threads::All)),
        lanes => lanes.par_iter_mut().try_for_each(|lane| work(lane, Threads::One)),
    }
}

/// A call of both guidance branches. Reads `sample` `[n, h, w, C]`; `text` `[captions + 1, T, D]`, the last for the
/// branch without caption, the others for equally many images each; and `timestep` `[1]`. Keys and values of the texts
/// and the biases of the timestep are made before the first call, as a run makes them once for all its steps. Gives
/// `[2n, h, w, C]`, the branch with captions first.
struct UNet {
    net: unet::UNet<Cpu>,
    time: Vec<f32>,
    captions: Vec<Caption>,
    size: (usize, usize),
    lanes: Vec<UNetLane>,
}

struct UNetLane {
    memory: Memory,
    images: usize,
    input: Vec<f32>,
    output: Vec<f32>,
    /// Adjacent rows that share a caption, and which.
    runs: Vec<(usize, usize)>,
}

impl UNet {
    fn open(given: &Given<'_>) -> Result<Self> {
        let (sample, [images, height, width, channels]) = input(given, "sample")?;
        let (text, [texts, tokens, depth]) = input(given, "text")?;
        let (timestep, [1]) = input(given, "timestep")? else {
            bail!(Data, "{}: expected one timestep", given.inputs.path().display());
        };
        if texts < 2 || !images.is_multiple_of(texts - 1) {
            bail!(Data, "{}: {images} images of {texts} texts less one", given.inputs.path().display());
        }
        let (size, each) = ((height, width), images / (texts - 1));
        let folder = given.model.join("unet");
        let config = unet::Config::open(&folder.join("config.json"))?;
        let weights = SafeTensors::open_folder(folder, "diffusion_pytorch_model")?;
        let mut from = Reader::new(&weights, given.precision.on_cpu()?);
        let time = Time::load(&config, &mut from)?.table(&timestep, 1.0).remove(0);
        let most = lane_images(images);
        let rooms = config.rooms(Processor::Cpu, most, 2 * most, size)?;
        let net = unet::UNet::load(config, &mut from)?;
        let values = height * width * channels;
        let lane = |(lane, input): (usize, &[f32])| {
            let (images, first) = (input.len() / values, lane * most);
            let captions: Vec<usize> = (first..first + images).map(|image| image / each).collect();
            let mut runs: Vec<_> = captions.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0])).collect();
            runs.push((images, texts - 1));
            let (memory, output) = (memory("unet", &rooms), vec![0.0; 2 * input.len()]);
            UNetLane { memory, images, input: input.to_vec(), output, runs }
        };
        let mut lanes: Vec<_> = sample.chunks(most * values).enumerate().map(lane).collect();
        let mut captions = Vec::new();
        for states in text.chunks_exact(tokens * depth) {
            let mut call = Call { input: states, ..Call::new(&mut lanes[0].memory, Threads::All) };
            net.tell(&mut call)?;
            captions.push(call.made);
        }
        Ok(Self { net, time, captions, size, lanes })
    }
}

impl Network for UNet {
    fn call(&mut self) -> Result<()> {
        let Self { net, time, captions, size, lanes } = self;
        on_lanes(lanes, |UNetLane { memory, images, input, output, runs }, threads| {
            let captions: Vec<_> = runs.iter().map(|&(rows, caption)| (rows, &captions[caption])).collect();
            let mut on = Call { input, output, time, captions: &captions, ..Call::new(memory, threads) };
            net.forward(&mut on, (*images, 2 * *images), *size)
        })
    }

    fn outputs(&self) -> Vec<f32> {
        let branch = |i: usize| self.lanes.iter().flat_map(move |lane| lane.output.chunks(lane.input.len()).nth(i));
        branch(0).chain(branch(1)).flatten().copied().collect()
    }
}

/// Reads `latents` `[n, h, w, C]`, already divided by the scaling factor. Gives `[n, H, W, 3]`.
struct Decoder {
    net: vae::Decoder<Cpu>,
    size: (usize, usize),
    lanes: Vec<DecoderLane>,
}

struct DecoderLane {
    memory: Memory,
    images: usize,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Decoder {
    fn open(given: &Given<'_>) -> Result<Self> {
        let (latents, [images, height, width, channels]) = input(given, "latents")?;
        let folder = given.model.join("vae");
        let config = vae::Config::open(&folder.join("config.json"))?;
        let weights = SafeTensors::open_folder(folder, "diffusion_pytorch_model")?;
        let old = vae::has_old_names(&weights);
        let net = vae::Decoder::load(config, old, &mut Reader::new(&weights, given.precision.on_cpu()?))?;
        let (config, size, most) = (net.config(), (height, width), lane_images(images));
        let (rooms, values) = (config.rooms(Processor::Cpu, most, size)?, height * width * channels);
        let picture = height * width * config.factor().pow(2) * config.out_channels;
        let lane = |input: &[f32]| {
            let images = input.len() / values;
            let (memory, output) = (memory("decoder", &rooms), vec![0.0; images * picture]);
            DecoderLane { memory, images, input: input.to_vec(), output }
        };
        Ok(Self { lanes: latents.chunks(most * values).map(lane).collect(), net, size })
    }
}

impl Network for Decoder {
    fn call(&mut self) -> Result<()> {
        let Self { net, size, lanes } = self;
        on_lanes(lanes, |DecoderLane { memory, images, input, output }, threads| {
            net.decode(&mut Call { input, output, ..Call::new(memory, threads) }, *images, *size)
        })
    }

    fn outputs(&self) -> Vec<f32> {
        self.lanes.iter().flat_map(|lane| &lane.output).copied().collect()
    }
}

/// Reads `ids` `[n, T]`, integers. Gives the hidden states `[n, T, D]` after the last norm. All threads share a call.
struct TextEncoder {
    net: ClipText<Cpu>,
    memory: Memory,
    ids: Vec<u32>,
    texts: usize,
    states: Vec<f32>,
}

impl TextEncoder {
    fn open(given: &Given<'_>) -> Result<Self> {
        let folder = given.model.join("text_encoder");
        let config = clip_text::Config::open(&folder.join("config.json"))?;
        let texts = given.inputs.shape("ids").map_or(1, |shape| shape[0]);
        let ids: Vec<u32> = given.inputs.i64("ids", &[texts, config.tokens])?.iter().map(|&id| id as u32).collect();
        config.check(&ids.chunks(config.tokens).collect::<Vec<_>>())?;
        let memory = memory("text encoder", &config.rooms(Processor::Cpu, texts)?);
        let weights = SafeTensors::open_folder(folder, "model")?;
        let prefixed = clip_text::is_prefixed(&weights);
        let net = ClipText::load(config, prefixed, &mut Reader::new(&weights, given.precision.on_cpu()?))?;
        Ok(Self { net, memory, ids, texts, states: Vec::new() })
    }
}

impl Network for TextEncoder {
    fn call(&mut self) -> Result<()> {
        let mut call = Call { ids: &self.ids, ..Call::new(&mut self.memory, Threads::All) };
        let states = self.net.encode(&mut call, self.texts)?;
        self.states = call.read(states).to_vec();
        Ok(())
    }

    fn outputs(&self) -> Vec<f32> {
        self.states.clone()
    }
}

/// Reads `pixels` `[n, S, S, 3]`, normalised. Gives features `[n, D]`.
struct Features {
    encoder: Encoder,
    pixels: Vec<f32>,
    features: Vec<f32>,
}

impl Features {
    fn open(given: &Given<'_>) -> Result<Self> {
        let path = given.model.to_owned();
        let source = ModelSource::Checkpoint { path, heads: None, weights: None, image_size: None };
        let encoder = Encoder::open(&source)?;
        let (pixels, [images, ..]) = input::<4>(given, "pixels")?;
        if pixels.len() != images * encoder.vit().config().image_len() {
            bail!(Data, "{}: pixels of another size than the encoder's", given.inputs.path().display());
        }
        Ok(Self { encoder, pixels, features: Vec::new() })
    }
}

impl Network for Features {
    fn call(&mut self) -> Result<()> {
        self.features = self.encoder.features_of(&self.pixels)?;
        Ok(())
    }

    fn outputs(&self) -> Vec<f32> {
        self.features.clone()
    }
}

/// A training step, which changes the weights. Reads `pixels` `[captions · views, S, S, 3]`, view-major. Gives the loss
/// and the norm of the gradient.
struct Step {
    training: Training,
    outputs: [f64; 2],
}

impl Step {
    fn open(shape: training::Shape, given: &Given<'_>) -> Result<Self> {
        let side = shape.model.image_size;
        let pixels = given.inputs.f32("pixels", &[shape.images(), side, side, shape.model.channels])?;
        let training = Training::new(shape, Some(given.model), pixels, given.precision.on_cpu()?)?;
        Ok(Self { training, outputs: [0.0; 2] })
    }
}

impl Network for Step {
    fn call(&mut self) -> Result<()> {
        let outcome = self.training.step()?;
        self.outputs = [outcome.loss, outcome.grad_norm];
        Ok(())
    }

    fn outputs(&self) -> Vec<f32> {
        self.outputs.map(|value| value as f32).to_vec()
    }
}
