//! The networks of a model on a GPU.

use std::collections::{BTreeMap, BTreeSet};

use half::bf16;
use sha2::{Digest, Sha256};

use crate::bail;
use crate::config::hex;
use crate::device::cuda::{Arena, DType, Gpu, Half, View};
use crate::error::{Error, Result};
use crate::generate::painter::NOTHING_YET;
use crate::generate::parts::Parts;
use crate::generate::settings::Fp8;
use crate::generate::spare;
use crate::layers::cuda::{self as layers, LAYOUT, Quantization, Weights};
use crate::models::clip_text::{self, ClipText};
use crate::models::unet::UNet;
use crate::models::vae::{self, Decoder};
use crate::store;
use crate::weights::{Cache, SafeTensors};

/// Refuses sizes without kernels.
pub(super) fn check(parts: &Parts<'_>) -> Result<()> {
    let eights = |what: &str, sizes: &[usize]| match sizes.iter().find(|c| !c.is_multiple_of(8)) {
        Some(c) => Err(Error::Usage(format!(
            "{what} {c}: the CUDA kernels take multiples of 8; use --device cpu for this model"
        ))),
        None => Ok(()),
    };
    let (unet, text) = (&parts.unet.0, &parts.text.0);
    eights("unet/config.json: block_out_channels", &unet.channels)?;
    eights("vae/config.json: block_out_channels", &parts.decoder.0.channels)?;
    eights("text_encoder/config.json: hidden_size or intermediate_size", &[text.width, text.mlp])?;
    let heads: Vec<usize> = unet.channels.iter().zip(&unet.heads).map(|(c, heads)| c / heads).collect();
    eights("unet/config.json: a head dimension of", &heads)?;
    eights("text_encoder/config.json: a head dimension of", &[text.width / text.heads])?;
    let latent = parts.decoder.0.latent_channels;
    if !latent.is_multiple_of(4) {
        bail!(
            Usage,
            "vae/config.json: latent_channels {latent}: the CUDA kernels take multiples of 4; use --device cpu"
        );
    }
    Ok(())
}

/// The three networks. (The UNet's timestep layers stay on the host: their results are a table.)
#[derive(Debug)]
pub(super) struct Nets<T: Half> {
    pub text: ClipText<layers::Cuda<T>>,
    pub unet: UNet<layers::Cuda<T>>,
    pub decoder: Decoder<layers::Cuda<T>>,
    /// Beside a decoder in f16, whose maps overflow from 65,504 on, the same in bf16, which has the range of f32.
    pub far: Option<Decoder<layers::Cuda<bf16>>>,
    /// Layers that are observed, and the places of what is observed.
    pub observed: Option<(BTreeSet<String>, View<f32>)>,
}

impl<T: Half> Nets<T> {
    /// Lays them out in an arena and, with a GPU, brings the weights there: from the cache, or packed now and kept for
    /// the next time.
    pub(super) fn new(arena: &mut Arena, gpu: Option<&Gpu>, parts: &Parts<'_>) -> Result<Self> {
        let prefixed = clip_text::is_prefixed(&parts.text.1);
        let old = vae::has_old_names(&parts.decoder.1);
        let text = |w: &mut Weights<'_>| ClipText::load(parts.text.0.clone(), prefixed, w);
        let unet = |w: &mut Weights<'_>| UNet::load(parts.unet.0.clone(), w);
        let decoder = |w: &mut Weights<'_>| Decoder::load(parts.decoder.0.clone(), old, w);
        let observed = matches!(parts.settings.fp8, Fp8::Observe).then(|| {
            let names = parts.unet.0.quantizable();
            let places = arena.take("calibration", "largest magnitudes", names.len());
            (names, places)
        });
        let (quantization, suffix) = match (parts.settings.fp8, &observed) {
            (Fp8::On(calibration), _) => (Quantization::Ranges(&calibration.ranges), ranges_name(&calibration.ranges)),
            (_, Some((names, places))) => (Quantization::Observe(names, *places), String::new()),
            _ => (Quantization::Off, String::new()),
        };
        let off = Quantization::Off;
        let text = bring::<T, _>(arena, gpu, parts, ("text_encoder", &parts.text.1, ""), off, text)?;
        let unet = bring::<T, _>(arena, gpu, parts, ("unet", &parts.unet.1, &suffix), quantization, unet)?;
        let files = ("vae", &parts.decoder.1, "");
        let far = |w: &mut Weights<'_>| Decoder::load(parts.decoder.0.clone(), old, w);
        let far = match T::DTYPE {
            DType::F16 => Some(bring::<bf16, _>(arena, gpu, parts, files, off, far)?),
            DType::Bf16 => None,
        };
        let decoder = bring::<T, _>(arena, gpu, parts, files, off, decoder)?;
        Ok(Self { text, unet, decoder, far, observed })
    }
}

/// Part of the name of cached weights that were packed for these ranges.
fn ranges_name(ranges: &BTreeMap<String, f32>) -> String {
    let text: String = ranges.iter().map(|(name, range)| format!("{name} {:08x}\n", range.to_bits())).collect();
    format!("-e4m3-{}", &hex(&Sha256::digest(text))[..16])
}

fn bring<T: Half, N>(
    arena: &mut Arena,
    gpu: Option<&Gpu>,
    parts: &Parts<'_>,
    (name, files, suffix): (&'static str, &SafeTensors, &str),
    quantization: Quantization<'_>,
    load: impl Fn(&mut Weights<'_>) -> Result<N>,
) -> Result<N> {
    let Some(gpu) = gpu else { return load(&mut Weights::place(arena, name, quantization)) };
    store::check_interrupt(NOTHING_YET)?;
    let mut dry = Arena::dry();
    load(&mut Weights::place(&mut dry, name, quantization))?;
    let file = format!("{}-{name}-{}{suffix}-{LAYOUT}.weights", parts.sha256, T::DTYPE);
    let cache = Cache::open();
    if let Some(bytes) = cache.get(&file).filter(|bytes| bytes.len() as u64 == dry.bytes()) {
        let mut weights = Weights::place(arena, name, quantization);
        let net = load(&mut weights)?;
        weights.upload(gpu, &bytes)?;
        return Ok(net);
    }
    let mut weights = Weights::pack(arena, name, quantization, files);
    let net = load(&mut weights)?;
    spare::check(name, files)?;
    cache.put(&file, &weights.upload_packed(gpu)?);
    Ok(net)
}
