//! Generation runs of the bundled model on a simulated device.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use stablerep::image;
use stablerep::shards::Shards;
use tempfile::TempDir;

use crate::support::{Model, stablerep, text};

/// Two captions × two images of the bundled model, in two steps unless told otherwise: small, because a simulator
/// computes them.
pub struct Run {
    folder: TempDir,
}

impl Run {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let captions = "a photo of a dark plain slim dress\na photo of a light patterned wide bag\n";
        fs::write(folder.path().join("captions.txt"), captions).unwrap();
        Self { folder }
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

    /// The binary with these words and the bundled model.
    pub fn call(&self, model: Model, line: &str) -> Output {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-sd");
        let line = format!("{line} --model {}", tiny.display());
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
