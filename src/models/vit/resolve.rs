//! Which file or folder a path of an encoder stands for.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, Result};
use crate::weights::SafeTensors;

/// The checkpoint in the folder of a training run.
const TRAINED: &str = "checkpoint.safetensors";

/// Weights of a folder without their ending: open_clip's, timm's. Folders of a hub may hold both, and beside the former
/// the latter may be of another library.
const STEMS: [&str; 2] = ["open_clip_model", "model"];

/// Endings of pickled weights.
const PICKLES: [&str; 6] = ["pth", "pt", "bin", "ckpt", "pkl", "tar"];

/// What a path stands for.
#[derive(Debug)]
pub(super) struct Resolved {
    pub path: PathBuf,
    /// Of a folder: its weights without their ending.
    stem: Option<&'static str>,
}

impl Resolved {
    /// Opens it.
    ///
    /// # Errors
    /// As [`SafeTensors::open`].
    pub fn open(&self) -> Result<SafeTensors> {
        match self.stem {
            Some(stem) => SafeTensors::open_folder(&self.path, stem),
            None => SafeTensors::open(&self.path),
        }
    }

    /// The config called `name` that is these weights' own. A lone file may lie anywhere: only that of a folder that
    /// was asked for, or beside a file that is called as in such a folder, is.
    pub fn config(&self, name: &str) -> Option<PathBuf> {
        let named = |stem: &&str| self.path.file_stem().is_some_and(|found| found == *stem);
        let folder = match self.stem {
            Some(_) => &*self.path,
            None => self.path.parent().filter(|_| STEMS.iter().any(named))?,
        };
        Some(folder.join(name)).filter(|config| config.is_file())
    }
}

/// The file or folder that `path` stands for; what is no encoder is named as what it is.
pub(super) fn resolve(path: &Path) -> Result<Resolved> {
    let shown = path.display();
    if path.is_dir() {
        let has = |name: &str| path.join(name).exists();
        if has(TRAINED) {
            return Ok(Resolved { path: path.join(TRAINED), stem: None });
        }
        let weights = |stem: &str| {
            [".safetensors", ".fp16.safetensors", ".safetensors.index.json"]
                .iter()
                .any(|end| has(&format!("{stem}{end}")))
        };
        if let Some(stem) = STEMS.into_iter().find(|stem| weights(stem)) {
            return Ok(Resolved { path: path.to_owned(), stem: Some(stem) });
        }
        if has("metrics.jsonl") {
            bail!(Data, "{shown}: a training run that has no {TRAINED} yet; let it train until it saves one");
        }
        if has("model_index.json") {
            bail!(Data, "{shown}: a Stable Diffusion model, which draws images; expected an encoder");
        }
        let mut entries: Vec<PathBuf> =
            path.read_dir().map_err(Error::io("read folder", path))?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        if let Some(pickle) = entries.iter().find(|entry| is_pickle(entry)) {
            return Err(pickled(pickle));
        }
        bail!(
            Data,
            "{shown}: expected {TRAINED} (a training run), model.safetensors (a timm folder) or open_clip_model.safetensors \
             (open_clip's); none is there"
        );
    }
    if is_pickle(path) { Err(pickled(path)) } else { Ok(Resolved { path: path.to_owned(), stem: None }) }
}

/// Whether `path` is a file that `torch.save` wrote, by its name or its first bytes.
fn is_pickle(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if ending == "safetensors" || !path.is_file() {
        return false;
    }
    let mut start = [0; 2];
    let pickle = File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && (start == *b"PK" || (start[0] == 0x80 && (2..=5).contains(&start[1])));
    pickle || (PICKLES.contains(&ending) && ending != "tar")
}

fn pickled(path: &Path) -> Error {
    // `pytorch_model.bin` and `open_clip_pytorch_model.bin` get the names that folders are looked through for.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().replace("pytorch_", "");
    let to = path.with_file_name(stem + ".safetensors").display().to_string();
    let from = path.display().to_string();
    Error::Data(format!(
        "{from}: a PyTorch pickle, which can run code when it is opened; only safetensors are read. If you trust the file, convert it in \
         Python (pip install torch safetensors numpy):\n\
         import torch\n\
         from safetensors.torch import save_file\n\
         sd = torch.load({from:?}, map_location=\"cpu\", weights_only=False)\n\
         sd = sd.state_dict() if hasattr(sd, \"state_dict\") else sd\n\
         sd = sd.get(\"model\", sd.get(\"state_dict\", sd))\n\
         flat = {{}}\n\
         for k, v in sd.items():\n    \
             flat.update({{f\"{{k}}.{{n}}\": t for n, t in v.items()}} if isinstance(v, dict) else {{k: v}})\n\
         save_file({{k: v.clone().contiguous() for k, v in flat.items() if torch.is_tensor(v)}}, {to:?})"
    ))
}
