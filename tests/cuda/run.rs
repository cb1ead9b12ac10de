//! Generation runs of the bundled model on a simulated device.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use stablerep::shards::Shards;
use stablerep::{image, weights};
use tempfile::TempDir;

use crate::support::{Model, stablerep, text};

#[path = "../common/told_guidance.rs"]
mod told_guidance;

/// Two captions × two images of the bundled model, in two steps unless told otherwise: small, because a simulator
/// computes them.
pub struct Run {
    folder: TempDir,
    model: PathBuf,
}

impl Run {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let captions = "a photo of a dark plain slim dress\na photo of a light patterned wide bag\n";
        fs::write(folder.path().join("captions.txt"), captions).unwrap();
        Self { folder, model: Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-sd") }
    }

    /// The bundled model as one that is told the guidance scale.
    pub fn told_guidance() -> Self {
        let run = Self::new();
        let model = run.path("model");
        told_guidance::model(&model);
        Self { model, ..run }
    }

    /// The bundled model with these tensors of its decoder multiplied.
    pub fn with_decoder(scaled: &[&str], by: f32) -> Self {
        let mut run = Self::new();
        let (from, to) = (run.model.clone(), run.path("model"));
        for entry in walk(&from) {
            let copy = to.join(entry.strip_prefix(&from).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&entry, copy).unwrap();
        }
        let path = to.join("vae/diffusion_pytorch_model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let wide = |name: &str| {
            let reader = weights::SafeTensors::open(&path).unwrap();
            let values = reader.f32(name, reader.shape(name).unwrap()).unwrap();
            values.iter().flat_map(|value| (value * by).to_le_bytes()).collect::<Vec<u8>>()
        };
        let scaled: Vec<(&str, Vec<u8>)> = scaled.iter().map(|name| (*name, wide(name))).collect();
        let tensors = file.iter().map(|(name, tensor)| {
            let changed = scaled.iter().find(|(other, _)| *other == name);
            let view = changed
                .map_or(Ok(tensor.clone()), |(_, bytes)| TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes));
            (name.to_owned(), view.unwrap())
        });
        let new = safetensors::serialize(tensors.collect::<Vec<_>>(), None).unwrap();
        fs::write(&path, new).unwrap();
        run.model = to;
        run
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn try_draw(&self, model: Model, name: &str, options: &str) -> Output {
        let (captions, output) = (self.path("captions.txt"), self.path(name));
        let files = format!("--captions {} --output {}", captions.display(), output.display());
        let steps = if options.contains("--steps") { "" } else { "--steps 2" };
        self.call(model, &format!("generate {files} -m 2 {steps} {options}"))
    }

    /// The binary with these words and the model.
    pub fn call(&self, model: Model, line: &str) -> Output {
        let line = format!("{line} --model {}", self.model.display());
        let words: Vec<&str> = line.split_whitespace().collect();
        stablerep(model, &words).env("STABLEREP_CACHE", self.path("cache")).output().unwrap()
    }

    /// Draws, and gives the pictures by key.
    pub fn draw(&self, model: Model, name: &str, options: &str) -> BTreeMap<String, image::Rgb8> {
        let output = self.try_draw(model, name, options);
        assert!(output.status.success(), "{options}:\n{}", text(&output));
        self.pictures(name)
    }

    /// The pictures in a folder by key.
    pub fn pictures(&self, name: &str) -> BTreeMap<String, image::Rgb8> {
        let shards = Shards::open(&[self.path(name)]).unwrap();
        let mut pictures = BTreeMap::new();
        for sample in shards.iter() {
            let bytes = sample.picture().unwrap().read().unwrap();
            pictures.insert(sample.key().to_owned(), image::decode(&bytes, sample.key()).unwrap());
        }
        pictures
    }
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
