//! Zero-shot classification (Radford et al. 2021, arXiv 2103.00020, section 3.1): of the names of all classes, each in
//! some sentences, the one whose mean unit embedding is the most alike to a picture's.

use std::collections::HashMap;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::space::{Space, alike, unit_rows};
use crate::bail;
use crate::config::hex;
use crate::error::Result;
use crate::models::text_tower::Text;
use crate::models::tokenizer::{Encoding, Tokenizer};

/// The sentence where none is given.
const TEMPLATE: &str = "a photo of a {}.";

/// The names of the classes in every sentence, class by class.
#[derive(Debug)]
pub struct Prompts {
    texts: Vec<Text>,
    /// Those of each class.
    classes: Vec<Range<usize>>,
    templates: Vec<String>,
    /// What the names are known by.
    names: String,
}

impl Prompts {
    /// Of classes of one or more `names` each, in `templates` (CLIP's simplest where there are none).
    ///
    /// # Errors
    /// Usage error for a template without a place; data error for two classes that read alike, which could not be told
    /// apart.
    pub fn new(names: &[Vec<String>], templates: &[String], tokenizer: &Tokenizer) -> Result<Self> {
        let default = [TEMPLATE.to_owned()];
        let templates = if templates.is_empty() { &default[..] } else { templates };
        if let Some(template) = templates.iter().find(|template| !template.contains("{}")) {
            bail!(
                Usage,
                "--template {template:?}: expected {{}} where the name of a class goes, as in 'a photo of a {{}}.'"
            );
        }
        let (mut texts, mut classes) = (Vec::new(), Vec::new());
        for names in names {
            let start = texts.len();
            for name in names {
                for template in templates {
                    texts.push(text(&template.replace("{}", name), tokenizer)?);
                }
            }
            classes.push(start..texts.len());
        }
        let mut read: HashMap<Vec<&[u32]>, usize> = HashMap::new();
        for (class, range) in classes.iter().enumerate() {
            let ids = texts[range.clone()].iter().map(|text| &text.ids[..]).collect();
            if let Some(other) = read.insert(ids, class) {
                bail!(
                    Data,
                    "classes {other} ({}) and {class} ({}) read alike for zero-shot accuracy; give them other names, or \
                     shorter sentences (--template) than --context-length cuts",
                    shown(&names[other]),
                    shown(&names[class])
                );
            }
        }
        drop(read);
        let hash = hex(&Sha256::digest(format!("{names:?}"))[..8]);
        let names = format!("{} names (sha256 {hash}…)", names.len());
        Ok(Self { texts, classes, templates: templates.to_vec(), names })
    }

    /// How many texts there are.
    pub fn count(&self) -> usize {
        self.texts.len()
    }

    /// The sentences.
    pub fn templates(&self) -> &[String] {
        &self.templates
    }

    /// What it classifies by, by flags; names by how many they are and the beginning of a hash.
    pub fn told(&self) -> [(String, String); 2] {
        [("class-names".into(), self.names.clone()), ("template".into(), format!("{:?}", self.templates))]
    }

    /// One row `[classes, E]` each: the mean of the unit embeddings of its texts, of length 1 again.
    ///
    /// # Errors
    /// As [`Space::texts`].
    pub fn rows(&self, space: &Space<'_>) -> Result<Vec<f32>> {
        let (dim, texts) = (space.dim(), space.texts(&self.texts)?);
        let sums = self.classes.iter().flat_map(|range| {
            let texts = &texts[range.start * dim..range.end * dim];
            let sum = |i: usize| texts.iter().skip(i).step_by(dim).sum::<f32>();
            (0..dim).map(sum).collect::<Vec<f32>>()
        });
        Ok(unit_rows(&sums.collect::<Vec<f32>>(), dim))
    }

    /// How alike each picture, given its features `[N, D]`, is to each class: `[N, classes]`.
    ///
    /// # Errors
    /// As [`Space::texts`].
    pub fn compare(&self, space: &Space<'_>, pictures: &[f32]) -> Result<Vec<f32>> {
        Ok(alike(&space.pictures(pictures), &self.rows(space)?, space.dim()))
    }

    /// The class of each picture by its features `[N, D]`; of equally similar ones the lower.
    ///
    /// # Errors
    /// As [`Space::texts`].
    pub fn classify(&self, space: &Space<'_>, pictures: &[f32]) -> Result<Vec<u32>> {
        let first = |best: (u32, f32), class: (u32, &f32)| if *class.1 > best.1 { (class.0, *class.1) } else { best };
        let nearest = |alike: &[f32]| (0..).zip(alike).fold((0, f32::NEG_INFINITY), first).0;
        Ok(self.compare(space, pictures)?.chunks_exact(self.classes.len()).map(nearest).collect())
    }
}

/// `words` as a tower reads them.
///
/// # Errors
/// As the tokenizer.
pub fn text(words: &str, tokenizer: &Tokenizer) -> Result<Text> {
    let Encoding { ids, end, .. } = tokenizer.encode(words)?;
    Ok(Text { ids, end })
}

fn shown(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}
