//! Safetensors files (header of names, dtypes, shapes and byte ranges, then raw little-endian data): read through a
//! memory map, everything checked before use; written atomically.

mod open;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::bail;
use crate::config::spelling::edit_distance;
use crate::device::MappedFile;
use crate::error::{Error, Result};
use crate::weights::delta::Delta;

pub use write::{NamedTensor, write_safetensors};

/// Values converted per rayon task.
const CHUNK: usize = 1 << 16;

/// Characters of a name that are compared with another one.
const LONG: usize = 256;

/// One safetensors file, or the files of a sharded one, open for reading.
#[derive(Debug)]
pub struct SafeTensors {
    path: PathBuf,
    files: Vec<OpenFile>,
    tensors: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
    /// What is added to tensors when they are read as f32.
    deltas: BTreeMap<String, Vec<Delta>>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    bytes: MappedFile,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
    /// Whether its values were asked for.
    read: AtomicBool,
}

impl SafeTensors {
    /// The file (or the index) this was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every file that holds data.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names of the tensors whose values nobody has asked for, sorted.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().filter(|(_, entry)| !entry.read.load(Ordering::Relaxed)).map(|(name, _)| name.as_str())
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of tensor `name`, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// How many values all tensors hold together.
    pub fn values(&self) -> u64 {
        self.tensors.values().map(|entry| entry.shape.iter().product::<usize>() as u64).sum()
    }

    /// Shapes of all tensors.
    pub fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        self.tensors.values().map(|entry| &entry.shape[..])
    }

    /// Dtype of tensor `name` as the file spells it (`F32`, `BF16`, …), if there is one.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|entry| format!("{:?}", entry.dtype))
    }

    /// The free text stored under `key` in the header's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Every key of the header's `__metadata__` with its text, sorted.
    pub fn metadata_entries(&self) -> Vec<(&str, &str)> {
        let mut entries: Vec<_> = self.metadata.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        entries.sort_unstable();
        entries
    }

    /// Tensor `name` as f32 (stored as F64, F32, F16 or BF16). Values are numbers: of networks, and of what networks
    /// read, a single NaN becomes a NaN everywhere.
    ///
    /// # Errors
    /// [`Error::Data`] if it is absent (with the nearest names), has another shape or another kind of dtype, or holds
    /// values that are NaN or infinite, in the file or as f32.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (entry, bytes) = self.find(name, shape)?;
        let (mut values, bad) = match entry.dtype {
            Dtype::F32 => convert(bytes, f32::from_le_bytes, is_bad),
            Dtype::F16 => convert(bytes, |b| f16::from_le_bytes(b).to_f32(), is_bad),
            Dtype::BF16 => convert(bytes, |b| bf16::from_le_bytes(b).to_f32(), is_bad),
            Dtype::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32, is_bad),
            _ => return Err(self.wrong_dtype(name, entry, "F32, F16, BF16 or F64")),
        };
        if bad == 0 {
            self.deltas.get(name).into_iter().flatten().for_each(|delta| delta.add_to(&mut values));
            return Ok(values);
        }
        let first = values.iter().position(|value| !value.is_finite()).unwrap_or_default();
        bail!(
            Data,
            "{}: tensor `{name}`: {bad} of its {} values are not finite (the first, number {first}, is {}): of a run that \
             diverged, or damaged; take another file",
            self.files[entry.file].path.display(),
            values.len(),
            values[first]
        )
    }

    /// From now on adds `delta`, which has to be of its size, to what [`SafeTensors::f32`] reads of tensor `name`.
    pub fn add_delta(&mut self, name: &str, delta: Delta) {
        self.deltas.entry(name.to_owned()).or_default().push(delta);
    }

    /// The weight `[n, k]` of the layer `name`, stored so or as that of a 1×1 convolution, `[n, k, 1, 1]`. Errors as
    /// [`SafeTensors::f32`].
    pub fn matrix(&self, name: &str, k: usize, n: usize) -> Result<Vec<f32>> {
        let weight = format!("{name}.weight");
        let convolution = self.shape(&weight).is_some_and(|shape| shape.len() == 4);
        let shape: &[usize] = if convolution { &[n, k, 1, 1] } else { &[n, k] };
        self.f32(&weight, shape)
    }

    /// Tensor `name` as integers (stored as U8, I32 or I64). Errors as [`SafeTensors::f32`].
    pub fn i64(&self, name: &str, shape: &[usize]) -> Result<Vec<i64>> {
        let (entry, bytes) = self.find(name, shape)?;
        Ok(match entry.dtype {
            Dtype::U8 => bytes.iter().map(|&b| i64::from(b)).collect(),
            Dtype::I32 => convert(bytes, |b| i64::from(i32::from_le_bytes(b)), |_| false).0,
            Dtype::I64 => convert(bytes, i64::from_le_bytes, |_| false).0,
            _ => return Err(self.wrong_dtype(name, entry, "U8, I32 or I64")),
        })
    }

    /// Tensor `name` as f64, exactly as stored, what is no number included. Errors as [`SafeTensors::f32`].
    pub fn f64(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let (entry, bytes) = self.find(name, shape)?;
        Ok(match entry.dtype {
            Dtype::F64 => convert(bytes, f64::from_le_bytes, |_| false).0,
            Dtype::F32 => convert(bytes, |b| f64::from(f32::from_le_bytes(b)), |_| false).0,
            Dtype::F16 => convert(bytes, |b| f16::from_le_bytes(b).to_f64(), |_| false).0,
            Dtype::BF16 => convert(bytes, |b| bf16::from_le_bytes(b).to_f64(), |_| false).0,
            _ => return Err(self.wrong_dtype(name, entry, "F64, F32, F16 or BF16")),
        })
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<(&Entry, &[u8])> {
        let Some(entry) = self.tensors.get(name) else {
            bail!(
                Data,
                "{}: no tensor `{name}` (expected, with shape {shape:?}); the nearest names are {}; is this the right model?",
                self.path.display(),
                self.nearest(name)
            );
        };
        let file = &self.files[entry.file];
        if entry.shape != shape {
            bail!(
                Data,
                "{}: tensor `{name}` has shape {:?}, expected {shape:?}; do the weights belong to this config.json?",
                file.path.display(),
                entry.shape
            );
        }
        entry.read.store(true, Ordering::Relaxed);
        Ok((entry, &file.bytes[entry.start..entry.end]))
    }

    fn wrong_dtype(&self, name: &str, entry: &Entry, expected: &str) -> Error {
        let path = self.files[entry.file].path.display();
        Error::Data(format!(
            "{path}: tensor `{name}` has dtype {:?}, expected {expected}; convert it first",
            entry.dtype
        ))
    }

    /// The three names with the smallest edit distance. Of names without end only their ends are compared.
    fn nearest(&self, name: &str) -> String {
        let mut ranked: Vec<(usize, &str)> = self.names().map(|n| (edit_distance(end(n), end(name)), n)).collect();
        ranked.sort_unstable();
        if ranked.is_empty() {
            return "none: the file holds no tensors".into();
        }
        ranked.iter().take(3).map(|(_, n)| format!("`{n}`")).collect::<Vec<_>>().join(", ")
    }
}

/// The last characters of a name.
fn end(name: &str) -> &str {
    name.char_indices().rev().nth(LONG).map_or(name, |(at, _)| &name[at..])
}

/// Whether no computation can begin with it.
fn is_bad(value: f32) -> bool {
    !value.is_finite()
}

/// Decodes little-endian values of `W` bytes, in parallel chunks; counts those that are `bad`.
fn convert<T: Copy + Default + Send, const W: usize>(
    bytes: &[u8],
    decode: impl Fn([u8; W]) -> T + Sync,
    bad: impl Fn(T) -> bool + Sync,
) -> (Vec<T>, usize) {
    let mut out = vec![T::default(); bytes.len() / W];
    let chunks = out.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * W));
    let count = |(out, bytes): (&mut [T], &[u8])| {
        for (slot, raw) in out.iter_mut().zip(bytes.chunks_exact(W)) {
            let mut value = [0u8; W];
            value.copy_from_slice(raw);
            *slot = decode(value);
        }
        out.iter().filter(|value| bad(**value)).count()
    };
    let bad = chunks.map(count).sum();
    (out, bad)
}
