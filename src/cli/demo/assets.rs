//! What travels inside the binary: the tiny Stable Diffusion, its captions, and photographs to be probed on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::store;

/// Path below the output folder, and content.
type Asset = (&'static str, &'static [u8]);

macro_rules! assets {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/", $path)))),+]
    };
}

/// Every bundled file. The photographs are Fashion-MNIST's (MIT, Zalando SE); their licence goes with them.
// A constant would be in the binary once for each of its uses: 14 MB.
pub static ASSETS: &[Asset] = assets![
    "captions.txt",
    "tiny-sd/model_index.json",
    "tiny-sd/scheduler/scheduler_config.json",
    "tiny-sd/text_encoder/config.json",
    "tiny-sd/text_encoder/model.safetensors",
    "tiny-sd/tokenizer/merges.txt",
    "tiny-sd/tokenizer/special_tokens_map.json",
    "tiny-sd/tokenizer/tokenizer_config.json",
    "tiny-sd/tokenizer/vocab.json",
    "tiny-sd/unet/config.json",
    "tiny-sd/unet/diffusion_pytorch_model.safetensors",
    "tiny-sd/vae/config.json",
    "tiny-sd/vae/diffusion_pytorch_model.safetensors",
    "fashion-mnist/LICENSE",
    "fashion-mnist/README.md",
    "fashion-mnist/train-images-idx3-ubyte.gz",
    "fashion-mnist/train-labels-idx1-ubyte.gz",
    "fashion-mnist/t10k-images-idx3-ubyte.gz",
    "fashion-mnist/t10k-labels-idx1-ubyte.gz",
];

/// Writes every asset below `folder` that is not there with the same bytes already.
pub fn unpack(folder: &Path) -> Result<()> {
    unpack_some(folder, "")
}

/// Writes the tiny Stable Diffusion below `folder`, and gives its folder.
pub fn unpack_model(folder: &Path) -> Result<PathBuf> {
    unpack_some(folder, "tiny-sd/")?;
    Ok(folder.join("tiny-sd"))
}

fn unpack_some(folder: &Path, start: &str) -> Result<()> {
    for (name, bytes) in ASSETS.iter().filter(|(name, _)| name.starts_with(start)) {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            store::create_dir(parent)?;
        }
        if fs::read(&path).map_or(true, |found| found != *bytes) {
            store::write_atomic(&path, bytes)?;
        }
    }
    Ok(())
}
