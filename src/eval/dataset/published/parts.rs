//! What a published data set is made of: images with classes, and which of them are for what.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::eval::dataset::labelled::{Dataset, Images};

/// What images are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Train,
    Val,
    Test,
}

/// A data set as its authors divided it.
#[derive(Debug)]
pub struct Published {
    /// All images.
    pub images: Dataset,
    pub train: Vec<usize>,
    /// Empty where the authors hold out none.
    pub val: Vec<usize>,
    pub test: Vec<usize>,
    /// Where an image may show several things: their names. The classes of `images` are then the sets of them that
    /// occur, each a text of `0` and `1` by the order of these names.
    pub things: Option<Vec<String>>,
}

impl Published {
    /// The images of one part.
    pub fn part(&self, part: Part) -> Dataset {
        let (indices, what) = match part {
            Part::Train => (&self.train, "train"),
            Part::Val => (&self.val, "val"),
            Part::Test => (&self.test, "test"),
        };
        self.images.part(indices, format!("{} ({what})", self.images.name()))
    }
}

/// Files, their classes and their parts, as they are read from lists.
#[derive(Debug, Default)]
pub struct Listing {
    paths: Vec<PathBuf>,
    classes: Vec<String>,
    parts: Vec<Part>,
}

impl Listing {
    pub fn add(&mut self, path: PathBuf, class: String, part: Part) {
        self.paths.push(path);
        self.classes.push(class);
        self.parts.push(part);
    }

    /// The data set `name`: classes in the order of their names.
    pub fn publish(self, name: String) -> Published {
        let mut numbers: BTreeMap<&str, u32> = self.classes.iter().map(|class| (class.as_str(), 0)).collect();
        numbers.values_mut().zip(0..).for_each(|(number, next)| *number = next);
        let labels = self.classes.iter().map(|class| numbers[class.as_str()]).collect();
        let names = numbers.keys().map(ToString::to_string).collect();
        let of = |part| (0..self.parts.len()).filter(|&i| self.parts[i] == part).collect();
        let (train, val, test) = (of(Part::Train), of(Part::Val), of(Part::Test));
        let images = Dataset::new(name, labels, names, Images::Files(self.paths));
        Published { images, train, val, test, things: None }
    }
}
