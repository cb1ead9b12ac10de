//! Zero-shot classification (Radford et al. 2021, arXiv 2103.00020, section 3.1): of the names of all classes, each in
//! some sentences, the one whose mean unit embedding is the most alike to a picture's. Texts are embedded on the CPU.

use std::collections::HashMap;
use std::fs;

use sha2::{Digest, Sha256};

use crate::bail;
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::layers::training::cpu::{Call, Memory};
use crate::layers::training::{Layout, UNIT_EPS};
use crate::models::text_tower::{Text, TextActs, TextConfig, TextTower};
use crate::models::tokenizer::{Encoding, Tokenizer};
use crate::ops::l2norm;
use crate::ops::linear::{self, Shape};
use crate::say;
use crate::train::job::WatchConfig;
use crate::train::method::ZeroShot;
use crate::weights::Param;

/// The sentence where none is given.
const TEMPLATE: &str = "a photo of a {}.";

/// Texts that go through the tower at once.
const AT_ONCE: usize = 32;

/// The names of the classes in every sentence, class by class.
#[derive(Debug)]
pub(super) struct Prompts {
    texts: Vec<Text>,
    templates: usize,
    /// All names and all sentences.
    words: [String; 2],
}

impl Prompts {
    /// Of the names in the file that `config` gives, or of `classes`; none, which is said, where these are numbers.
    ///
    /// # Errors
    /// Usage error for a template without a place, data error for a file that does not name every class.
    pub fn of(config: &WatchConfig, classes: &[String], tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let names: Vec<String> = match &config.class_names {
            Some(path) => {
                let bytes = fs::read(path).map_err(Error::io("read", path))?;
                let Ok(text) = String::from_utf8(bytes) else {
                    bail!(Data, "--class-names {}: its names are not UTF-8; save it as UTF-8", path.display());
                };
                let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
                let blank = names.iter().position(String::is_empty);
                if names.len() != classes.len() || blank.is_some() {
                    bail!(
                        Data,
                        "--class-names {}: {} lines{}, expected one name for each of the {} classes, in the order of their labels",
                        path.display(),
                        names.len(),
                        blank.map_or(String::new(), |line| format!(", the {}. blank", line + 1)),
                        classes.len()
                    );
                }
                names
            }
            None if classes.iter().all(|name| name.chars().all(|c| c.is_ascii_digit())) => {
                say!("note: the classes of the photographs are numbers; for zero-shot accuracy give --class-names");
                return Ok(None);
            }
            None => classes.iter().map(|name| name.replace('_', " ")).collect(),
        };
        let default = [TEMPLATE.to_owned()];
        let templates = if config.templates.is_empty() { &default[..] } else { &config.templates };
        if let Some(template) = templates.iter().find(|template| !template.contains("{}")) {
            bail!(
                Usage,
                "--template {template:?}: expected {{}} where the name of a class goes, as in 'a photo of a {{}}.'"
            );
        }
        let text = |(name, template): (&String, &String)| {
            let Encoding { ids, end, .. } = tokenizer.encode(&template.replace("{}", name))?;
            Ok(Text { ids, end })
        };
        let pairs = names.iter().flat_map(|name| templates.iter().map(move |template| (name, template)));
        let texts: Vec<Text> = pairs.map(text).collect::<Result<_>>()?;
        let mut read: HashMap<Vec<&[u32]>, usize> = HashMap::new();
        for (class, texts) in texts.chunks_exact(templates.len()).enumerate() {
            if let Some(other) = read.insert(texts.iter().map(|text| &text.ids[..]).collect(), class) {
                bail!(
                    Data,
                    "classes {other} ({:?}) and {class} ({:?}) read alike for zero-shot accuracy; give them other names, or \
                     shorter sentences (--template) than --context-length cuts",
                    names[other],
                    names[class]
                );
            }
        }
        drop(read);
        let words = [&names[..], templates].map(|words| format!("{words:?}"));
        Ok(Some(Self { texts, templates: templates.len(), words }))
    }

    /// What it scores on, by flags; names by how many they are and the beginning of a hash.
    pub fn told(&self) -> [(String, String); 2] {
        let [names, templates] = &self.words;
        let hash: String = Sha256::digest(names)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let names = format!("{} names (sha256 {hash}…)", self.texts.len() / self.templates);
        [("class-names".into(), names), ("template".into(), templates.clone())]
    }

    /// The class of each picture by its features `[N, D]`.
    ///
    /// # Errors
    /// None on the CPU but what its layers say.
    pub fn classify(&self, of: ZeroShot<'_>, params: &[f32], pictures: &[f32]) -> Result<Vec<u32>> {
        let [image, text] = of.projections;
        let texts = unit(&embed(of.tower, params, &self.texts)?, text, of.tower.config().width, params);
        let width = of.tower.config().width;
        let dim = text.len / width;
        let means: Vec<f32> = texts
            .chunks_exact(self.templates * dim)
            .flat_map(|texts| {
                let sum = |i: usize| texts.iter().skip(i).step_by(dim).sum::<f32>();
                (0..dim).map(sum).collect::<Vec<f32>>()
            })
            .collect();
        let (classes, pictures) = (unit_rows(&means, dim), unit(pictures, image, image.len / dim, params));
        let shape = Shape { rows: pictures.len() / dim, inputs: dim, outputs: classes.len() / dim };
        let mut alike = vec![0.0; shape.rows * shape.outputs];
        linear::forward(&mut alike, &pictures, &classes, None, shape);
        // Of equally similar classes the lower wins.
        let first = |best: (u32, f32), class: (u32, &f32)| if *class.1 > best.1 { (class.0, *class.1) } else { best };
        let nearest = |alike: &[f32]| (0..).zip(alike).fold((0, f32::NEG_INFINITY), first).0;
        Ok(alike.chunks_exact(shape.outputs).map(nearest).collect())
    }
}

/// What the tower takes on the CPU.
pub(super) fn memory(config: &TextConfig) -> Plan {
    let mut plan = Plan::dry();
    let mut layout = Layout::default();
    TextActs::in_passing(&mut layout, config, AT_ONCE);
    Memory::take(&mut plan, &layout);
    plan
}

/// Features `[texts, D]`.
fn embed(tower: &TextTower, params: &[f32], texts: &[Text]) -> Result<Vec<f32>> {
    let config = tower.config();
    let mut layout = Layout::default();
    let at_once = AT_ONCE.min(texts.len());
    TextActs::in_passing(&mut layout, config, at_once);
    let mut memory = Memory::take(&mut Plan::new(), &layout);
    let mut features = Vec::with_capacity(texts.len() * config.width);
    for texts in texts.chunks(AT_ONCE) {
        // The last ones may be fewer, at the beginning of the same buffers.
        let acts = TextActs::in_passing(&mut Layout::default(), config, texts.len());
        let mut numbers = Vec::new();
        TextActs::numbers(config, texts, &mut numbers);
        let mut call = Call { numbers: &numbers, ..Call::new(&mut memory, params) };
        tower.forward(&mut call, &acts)?;
        features.extend_from_slice(call.memory.read(acts.features()));
    }
    Ok(features)
}

/// Unit rows `[N, E]` of what the matrix `at [E, D]` makes of `features [N, D]`.
fn unit(features: &[f32], at: Param, inputs: usize, params: &[f32]) -> Vec<f32> {
    let shape = Shape { rows: features.len() / inputs, inputs, outputs: at.len / inputs };
    let mut embedded = vec![0.0; shape.rows * shape.outputs];
    linear::forward(&mut embedded, features, at.of(params), None, shape);
    unit_rows(&embedded, shape.outputs)
}

fn unit_rows(x: &[f32], dim: usize) -> Vec<f32> {
    let (mut y, mut norms) = (vec![0.0; x.len()], vec![0.0; x.len() / dim]);
    l2norm::forward(&mut y, &mut norms, x, UNIT_EPS);
    y
}
