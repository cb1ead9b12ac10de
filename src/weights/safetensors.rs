//! Safetensors files (header of names, dtypes, shapes and byte ranges, then raw little-endian data): read through a memory map,
//! everything checked before use; written atomically.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError};
use serde_json::{Map, Value, json};

use super::foreign::known_as;
use super::{is_lfs_pointer, lfs_pointer};
use crate::bail;
use crate::config::json;
use crate::device::MappedFile;
use crate::error::{Error, Result};
use crate::store::AtomicFile;

/// Endings of pickled weights. Unpickling runs code from the file, so they are never opened.
const PICKLES: [&str; 5] = ["bin", "ckpt", "pt", "pth", "pkl"];

/// Values converted per rayon task.
const CHUNK: usize = 1 << 16;

/// One safetensors file, or the files of a sharded one, open for reading.
#[derive(Debug)]
pub struct SafeTensors {
    path: PathBuf,
    files: Vec<OpenFile>,
    tensors: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    bytes: MappedFile,
}

#[derive(Clone, Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

impl SafeTensors {
    /// Opens one file. Header length, JSON, names, dtypes, shapes and byte ranges (in the file, adjacent, without overlap,
    /// covering it to its end) are checked here.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file and what is wrong with it; pickles (`.bin`, `.ckpt`, `.pt`, …) with how to convert them.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        refuse_pickle(path)?;
        let mut this =
            Self { path: path.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new(), metadata: HashMap::new() };
        this.add_file(path)?;
        Ok(this)
    }

    /// Opens `dir/stem.safetensors`, or the files listed by `dir/stem.safetensors.index.json`, or else the same of the
    /// variants fp16, bf16 and fp32: `dir/stem.fp16.safetensors`, `dir/stem.safetensors.index.fp16.json`.
    ///
    /// # Errors
    /// [`Error::Data`] if none is there (with how to convert, when there are only pickles), or if a listed file or tensor is absent.
    pub fn open_folder(dir: impl AsRef<Path>, stem: &str) -> Result<Self> {
        let dir = dir.as_ref();
        for variant in ["", ".fp16", ".bf16", ".fp32"] {
            let single = dir.join(format!("{stem}{variant}.safetensors"));
            if single.exists() {
                return Self::open(single);
            }
            let index = dir.join(format!("{stem}.safetensors.index{variant}.json"));
            if index.exists() {
                return Self::open_index(dir, &index);
            }
        }
        if !dir.is_dir() {
            bail!(Data, "{}: no such folder; expected the weights of the model in it", dir.display());
        }
        for variant in ["", ".fp16", ".bf16", ".fp32"] {
            for ending in PICKLES {
                refuse_pickle_if_present(&dir.join(format!("{stem}{variant}.{ending}")))?;
                refuse_pickle_if_present(&dir.join(format!("pytorch_model{variant}.{ending}")))?;
            }
        }
        let listing = std::fs::read_dir(dir).map_err(Error::io("list", dir))?;
        let mut others: Vec<String> = listing
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".safetensors"))
            .collect();
        others.sort();
        bail!(
            Data,
            "{}: expected {stem}.safetensors or {stem}.safetensors.index.json, perhaps of variant fp16 or bf16; neither is there{}",
            dir.display(),
            match others.first() {
                None => String::new(),
                Some(name) if name.contains("-of-") =>
                    format!("; {name} is one of several files, and their index is missing"),
                Some(name) => format!("; if {name} is what should be read, rename it"),
            }
        )
    }

    fn open_index(dir: &Path, index: &Path) -> Result<Self> {
        let text = std::fs::read(index).map_err(Error::io("read", index))?;
        if is_lfs_pointer(&text) {
            return Err(Error::Data(lfs_pointer(index)));
        }
        let value: Value = json::parse(&text)
            .map_err(|e| Error::Data(format!("{}: not JSON ({e}); download the model again", index.display())))?;
        let Some(map) = value.get("weight_map").and_then(Value::as_object) else {
            bail!(Data, "{}: expected an object `weight_map` of tensor name → file name", index.display());
        };
        let mut this =
            Self { path: index.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new(), metadata: HashMap::new() };
        let mut names: Vec<&str> = Vec::new();
        for (tensor, file) in map {
            let plain = |file: &&str| !file.is_empty() && !file.contains(['/', '\\']) && *file != "..";
            let Some(file) = file.as_str().filter(plain) else {
                bail!(Data, "{}: weight_map.{tensor}: expected the name of a file beside the index", index.display());
            };
            if !names.contains(&file) {
                names.push(file);
            }
        }
        names.sort_unstable();
        for name in names {
            let path = dir.join(name);
            refuse_pickle(&path)?;
            if !path.exists() {
                bail!(Data, "{}: lists {name}, which is not there; download the model again", index.display());
            }
            this.add_file(&path)?;
        }
        if let Some(absent) = map.keys().find(|name| !this.contains(name)) {
            bail!(Data, "{}: lists tensor `{absent}`, which none of its files holds", index.display());
        }
        Ok(this)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let bytes = MappedFile::open(path)?;
        let (data_start, header) = read_header(path, &bytes)?;
        let file = self.files.len();
        for (name, info) in header.tensors() {
            let entry = Entry {
                file,
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data_start + info.data_offsets.0,
                end: data_start + info.data_offsets.1,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                bail!(Data, "{}: tensor `{name}` is also in another file of this model", path.display());
            }
        }
        if let Some(metadata) = header.metadata() {
            self.metadata.extend(metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        self.files.push(OpenFile { path: path.to_path_buf(), bytes });
        Ok(())
    }

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

    /// Tensor `name` as f32 (stored as F64, F32, F16 or BF16).
    ///
    /// # Errors
    /// [`Error::Data`] if it is absent (with the nearest names), or has another shape or another kind of dtype.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (entry, bytes) = self.find(name, shape)?;
        Ok(match entry.dtype {
            Dtype::F32 => convert(bytes, f32::from_le_bytes),
            Dtype::F16 => convert(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => convert(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
            _ => return Err(self.wrong_dtype(name, entry, "F32, F16, BF16 or F64")),
        })
    }

    /// As [`SafeTensors::f32`], of numbers alone.
    ///
    /// # Errors
    /// Also [`Error::Data`] if a value is NaN or infinite, in the file or as f32.
    pub fn finite_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.f32(name, shape)?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            bail!(
                Data,
                "{}: tensor `{name}` holds values that are not finite (number {at} is {}): of a run that diverged, or damaged; take \
                 another file",
                self.path.display(),
                values[at]
            );
        }
        Ok(values)
    }

    /// Tensor `name` as integers (stored as U8, I32 or I64). Errors as [`SafeTensors::f32`].
    pub fn i64(&self, name: &str, shape: &[usize]) -> Result<Vec<i64>> {
        let (entry, bytes) = self.find(name, shape)?;
        Ok(match entry.dtype {
            Dtype::U8 => bytes.iter().map(|&b| i64::from(b)).collect(),
            Dtype::I32 => convert(bytes, |b| i64::from(i32::from_le_bytes(b))),
            Dtype::I64 => convert(bytes, i64::from_le_bytes),
            _ => return Err(self.wrong_dtype(name, entry, "U8, I32 or I64")),
        })
    }

    /// Tensor `name` as f64, exactly as stored. Errors as [`SafeTensors::f32`].
    pub fn f64(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let (entry, bytes) = self.find(name, shape)?;
        Ok(match entry.dtype {
            Dtype::F64 => convert(bytes, f64::from_le_bytes),
            Dtype::F32 => convert(bytes, |b| f64::from(f32::from_le_bytes(b))),
            _ => return Err(self.wrong_dtype(name, entry, "F64 or F32")),
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
        Ok((entry, &file.bytes[entry.start..entry.end]))
    }

    fn wrong_dtype(&self, name: &str, entry: &Entry, expected: &str) -> Error {
        let path = self.files[entry.file].path.display();
        Error::Data(format!(
            "{path}: tensor `{name}` has dtype {:?}, expected {expected}; convert it first",
            entry.dtype
        ))
    }

    /// The three names with the smallest edit distance.
    fn nearest(&self, name: &str) -> String {
        let mut ranked: Vec<(usize, &str)> = self.names().map(|n| (edit_distance(n, name), n)).collect();
        ranked.sort_unstable();
        if ranked.is_empty() {
            return "none: the file holds no tensors".into();
        }
        ranked.iter().take(3).map(|(_, n)| format!("`{n}`")).collect::<Vec<_>>().join(", ")
    }
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata)> {
    let shown = path.display();
    if let Some(what) = known_as(path, bytes) {
        return Err(Error::Data(what));
    }
    if bytes.len() < 8 {
        bail!(Data, "{shown}: {} bytes are no safetensors file (it starts with an 8-byte header length)", bytes.len());
    }
    let length = u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]);
    if length > 100_000_000 {
        bail!(
            Data,
            "{shown}: not a safetensors file (its first 8 bytes give a header of {length} bytes; the limit is 100 MB)"
        );
    }
    if length > bytes.len() as u64 - 8 {
        bail!(
            Data,
            "{shown}: truncated inside its header (needs {} bytes, the file has {}); download it again",
            8 + length,
            bytes.len()
        );
    }
    let (length, metadata) = safetensors::SafeTensors::read_metadata(bytes).map_err(|error| {
        Error::Data(match error {
            SafeTensorError::InvalidOffset(name) => format!(
                "{shown}: the byte range of tensor `{name}` overlaps another one or leaves a gap; the file is damaged, \
                 download it again"
            ),
            SafeTensorError::MetadataIncompleteBuffer => format!(
                "{shown}: the header's tensors do not end where the file ends ({} bytes): truncated, or with bytes \
                 appended; download it again",
                bytes.len()
            ),
            other => format!("{shown}: not a valid safetensors header: {other}; download the file again"),
        })
    })?;
    Ok((8 + length, metadata))
}

fn refuse_pickle(path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if PICKLES.contains(&ending) {
        bail!(
            Data,
            "{}: a pickle can run code when it is opened, so only safetensors are read; convert it in Python on a machine you can \
             lose: `StableDiffusionPipeline.from_pretrained(dir).save_pretrained(new_dir, safe_serialization=True)`, or for one \
             file `safetensors.torch.save_file(torch.load(file, weights_only=True), new_file)`",
            path.display()
        );
    }
    Ok(())
}

fn refuse_pickle_if_present(path: &Path) -> Result<()> {
    if path.exists() { refuse_pickle(path) } else { Ok(()) }
}

/// Decodes little-endian values of `W` bytes, in parallel chunks.
fn convert<T: Copy + Default + Send, const W: usize>(bytes: &[u8], decode: impl Fn([u8; W]) -> T + Sync) -> Vec<T> {
    let mut out = vec![T::default(); bytes.len() / W];
    out.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * W)).for_each(|(out, bytes)| {
        for (slot, raw) in out.iter_mut().zip(bytes.chunks_exact(W)) {
            let mut value = [0u8; W];
            value.copy_from_slice(raw);
            *slot = decode(value);
        }
    });
    out
}

fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// A tensor to be written: name, shape, values.
pub type NamedTensor<'a> = (String, Vec<usize>, &'a [f32]);

/// Writes `tensors` as F32 and `metadata` as the header's free text, atomically (temporary name, fsync, rename).
///
/// # Errors
/// [`Error::Io`] if the file cannot be written, [`Error::Failed`] if a shape does not fit its values or a name comes twice.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &[NamedTensor<'_>],
    metadata: &[(&str, String)],
) -> Result<()> {
    let path = path.as_ref();
    let mut header = Map::new();
    if !metadata.is_empty() {
        let texts: Map<String, Value> = metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        header.insert("__metadata__".into(), Value::Object(texts));
    }
    let mut offset = 0;
    for (name, shape, data) in tensors {
        let len: usize = shape.iter().product();
        if len != data.len() {
            bail!(Failed, "{}: tensor `{name}`: {} values do not fill shape {shape:?}", path.display(), data.len());
        }
        let end = offset + 4 * len;
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]});
        if header.insert(name.clone(), entry).is_some() {
            bail!(Failed, "{}: tensor `{name}` is given twice", path.display());
        }
        offset = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // The data starts at a multiple of 8, as the format advises for mapped reading.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = AtomicFile::create(path)?;
    let failed = || Error::io("write", path);
    file.write_all(&(text.len() as u64).to_le_bytes()).map_err(failed())?;
    file.write_all(&text).map_err(failed())?;
    for (_, _, data) in tensors {
        for chunk in data.chunks(CHUNK) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            file.write_all(&bytes).map_err(failed())?;
        }
    }
    file.commit()
}
