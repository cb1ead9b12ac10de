//! Inception's features of photographs, in the two ways that the field resizes them; those of every thousand pictures
//! are kept, by what they were computed from.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[cfg(cuda_kernels)]
use super::card::Card;
use crate::bail;
use crate::device::{Device, MappedFile};
use crate::error::{Error, Result};
use crate::eval::ahead::ahead;
use crate::eval::features::check_finite;
use crate::eval::screen::Screened;
use crate::image::{Filter, Rgb8, interpolate, resize_real};
use crate::metrics::Progress;
use crate::models::inception::{Inception, SIDE, WIDTH};
use crate::weights::{Cache, SafeTensors};

/// Pictures that go through the network at once: on the CPU, and on a GPU, where they fill 132 multiprocessors in the
/// last blocks too.
const BATCH: usize = 16;
#[cfg(cuda_kernels)]
const BATCH_ON_GPU: usize = 64;

/// Pictures whose features are kept as one file, 8 MB.
const KEPT: usize = 1024;

/// Stands in the names of kept files; another way to compute features takes another one.
const VERSION: &str = "inception 2";

/// How a picture becomes 299×299. The two differ by points of FID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Bilinear between the four nearest pixels, without antialiasing (pytorch-fid, torch-fidelity)
    PytorchFid,
    /// Pillow's bicubic filter with antialiasing, without rounding (clean-fid)
    CleanFid,
}

impl Resize {
    /// `[299, 299, 3]` as the network takes it: pytorch-fid brings 0 to 255 to −1 to 1, clean-fid subtracts 128 and
    /// divides by it.
    ///
    /// # Errors
    /// `Usage` for a picture without pixels.
    pub fn prepare(self, image: &Rgb8) -> Result<Vec<f32>> {
        Ok(match self {
            Self::PytorchFid => {
                let mut pixels = interpolate(image, SIDE, SIDE);
                pixels.iter_mut().for_each(|v| *v = 2.0 * (*v / 255.0) - 1.0);
                pixels
            }
            Self::CleanFid => {
                let mut pixels = resize_real(image, SIDE, SIDE, Filter::Bicubic)?;
                pixels.iter_mut().for_each(|v| *v = (v.clamp(0.0, 255.0) - 128.0) / 128.0);
                pixels
            }
        })
    }
}

/// The network and the hash of its file.
#[derive(Debug)]
pub struct Network {
    inception: Inception,
    sha256: [u8; 32],
    #[cfg(cuda_kernels)]
    card: Option<Card>,
}

impl Network {
    /// Opens the file that `dev/inception.py` makes, to compute on `device`.
    ///
    /// # Errors
    /// `Data` naming file and tensor; for PyTorch's own file with the command that converts it. Device error when there
    /// is no usable GPU or too little memory there.
    pub fn open(path: &Path, device: Device) -> Result<Self> {
        if path.extension().is_some_and(|ending| ending == "pth") {
            bail!(
                Data,
                "{0}: a pickle can run code when it is opened, so only safetensors are read; convert it once: \
                 python dev/inception.py {0} inception.safetensors",
                path.display()
            );
        }
        let inception = Inception::open(&SafeTensors::open(path)?)?;
        #[cfg(cuda_kernels)]
        let card = match device {
            Device::Cpu => None,
            Device::Cuda(ordinal) => Some(Card::new(ordinal, &inception, BATCH_ON_GPU, SIDE)?),
        };
        #[cfg(not(cuda_kernels))]
        let Device::Cpu = device;
        Ok(Self {
            inception,
            sha256: Sha256::digest(&*MappedFile::open(path)?).into(),
            #[cfg(cuda_kernels)]
            card,
        })
    }

    /// Pictures that it takes at once.
    pub(super) fn batch(&self) -> usize {
        #[cfg(cuda_kernels)]
        if self.card.is_some() {
            return BATCH_ON_GPU;
        }
        BATCH
    }

    /// Values of a batch in this machine's memory, beside weights and pictures.
    ///
    /// # Errors
    /// None.
    pub(super) fn activations(&self) -> Result<usize> {
        #[cfg(cuda_kernels)]
        if self.card.is_some() {
            return Ok(0);
        }
        self.inception.activations(BATCH)
    }

    /// Where its features are computed: other devices round differently.
    fn device(&self) -> &str {
        #[cfg(cuda_kernels)]
        if let Some(card) = &self.card {
            return card.gpu().name();
        }
        "cpu"
    }

    fn compute(&self, pictures: &[f32]) -> Result<Vec<f32>> {
        #[cfg(cuda_kernels)]
        if let Some(card) = &self.card {
            return card.features(pictures);
        }
        self.inception.features(pictures)
    }

    /// SHA-256 of the file, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex(&self.sha256)
    }

    /// Features `[N, 2048]` of the pictures of `set`, with a progress bar called `what`. Those of whole thousands are
    /// taken from `cache` where they are known, and put there.
    ///
    /// # Errors
    /// `Data` or `Io` naming the picture that cannot be read; `Diverged` naming one whose features are not finite;
    /// `Interrupted` on a signal.
    pub fn features(&self, set: &Screened, resize: Resize, cache: &Cache, what: &str) -> Result<Vec<f32>> {
        let images = &set.images;
        let progress = Progress::bar(images.len() as u64, what, ("image", 1));
        let mut features = Vec::with_capacity(images.len() * WIDTH);
        for (number, known_by) in set.fingerprints.chunks(KEPT).enumerate() {
            let mut hash = Sha256::new();
            hash.update(VERSION);
            hash.update(self.sha256);
            hash.update([resize as u8]);
            hash.update(self.device());
            known_by.iter().for_each(|fingerprint| hash.update(fingerprint));
            let name = format!("{}.features", hex(&hash.finalize()));
            let first = number * KEPT;
            if let Some(kept) = cache.get(&name).filter(|kept| kept.len() == 4 * known_by.len() * WIDTH) {
                features.extend(kept.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
                progress.resume_at((first + known_by.len()) as u64);
                continue;
            }
            let indices: Vec<usize> = (first..first + known_by.len()).collect();
            let batches: Vec<&[usize]> = indices.chunks(self.batch()).collect();
            let prepared = |batch: &[usize]| -> Result<Vec<f32>> {
                let each: Vec<Vec<f32>> = batch.par_iter().map(|&i| prepare(set, i, resize)).collect::<Result<_>>()?;
                Ok(each.concat())
            };
            ahead(&batches, prepared, |batch, pictures| {
                let found = self.compute(&pictures)?;
                check_finite(&found, WIDTH, |row| images.describe(batch[row]))?;
                features.extend_from_slice(&found);
                progress.advance(batch.len() as u64);
                Ok(())
            })?;
            let bytes: Vec<u8> = features[first * WIDTH..].iter().flat_map(|v| v.to_le_bytes()).collect();
            cache.put(&name, &bytes);
        }
        progress.finish();
        Ok(features)
    }
}

fn prepare(set: &Screened, index: usize, resize: Resize) -> Result<Vec<f32>> {
    let prepared = resize.prepare(&set.images.image(index)?);
    prepared.map_err(|e| Error::Data(format!("{}: {e}", set.images.describe(index))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
