//! From a file, or a folder with one file or several, to tensors whose places are checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use safetensors::tensor::{Metadata, SafeTensorError};
use serde_json::Value;

use super::super::foreign::known_as;
use super::super::{is_lfs_pointer, lfs_pointer};
use super::{Entry, OpenFile, SafeTensors};
use crate::bail;
use crate::config::json;
use crate::device::MappedFile;
use crate::error::{Error, Result};
use crate::store;

/// Endings of pickled weights. Unpickling runs code from the file, so they are never opened.
const PICKLES: [&str; 5] = ["bin", "ckpt", "pt", "pth", "pkl"];

impl SafeTensors {
    /// Opens one file. Header length, JSON, names, dtypes, shapes and byte ranges (in the file, adjacent, without
    /// overlap, covering it to its end) are checked here.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file and what is wrong with it; pickles (`.bin`, `.ckpt`, `.pt`, …) with how to
    /// convert them.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        refuse_pickle(path)?;
        let mut this = Self {
            path: path.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: HashMap::new(),
            deltas: BTreeMap::new(),
        };
        this.add_file(path)?;
        Ok(this)
    }

    /// Opens `dir/stem.safetensors`, or the files listed by `dir/stem.safetensors.index.json`, or else the same of the
    /// variants fp16, bf16 and fp32: `dir/stem.fp16.safetensors`, `dir/stem.safetensors.index.fp16.json`.
    ///
    /// # Errors
    /// [`Error::Data`] if none is there (with how to convert, when there are only pickles), or if a listed file or
    /// tensor is absent.
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
        let text = store::read(index, store::RECORD).map_err(Error::io("read", index))?;
        if is_lfs_pointer(&text) {
            return Err(Error::Data(lfs_pointer(index)));
        }
        let value: Value = json::parse(&text)
            .map_err(|e| Error::Data(format!("{}: not JSON ({e}); download the model again", index.display())))?;
        let Some(map) = value.get("weight_map").and_then(Value::as_object) else {
            bail!(Data, "{}: expected an object `weight_map` of tensor name → file name", index.display());
        };
        let mut this = Self {
            path: index.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: HashMap::new(),
            deltas: BTreeMap::new(),
        };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (tensor, file) in map {
            let plain = |file: &&str| !file.is_empty() && !file.contains(['/', '\\']) && *file != "..";
            let Some(file) = file.as_str().filter(plain) else {
                bail!(Data, "{}: weight_map.{tensor}: expected the name of a file beside the index", index.display());
            };
            names.insert(file);
        }
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
                read: AtomicBool::new(false),
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
