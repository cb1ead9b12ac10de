//! ARO (Yuksekgonul et al. 2023, arXiv 2210.01936): whether a model tells a caption from one whose words stand for
//! something else in another order: relations and attributes of Visual Genome, and shuffled captions of COCO or
//! Flickr30k.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::eval::dataset::{Dataset, Region};
use crate::eval::language::{LanguageJob, LanguageReport, OpenTokenizer, Shown, percent};

/// Pairs of attributes with fewer cases have no part in the mean of VG-Attribution.
const ATTRIBUTE_CASES: usize = 25;

/// One case of the authors' lists (`visual_genome_relation.json`, `visual_genome_attribution.json`), or of a list of
/// shuffled captions.
#[derive(Debug, Deserialize)]
struct Case {
    #[serde(alias = "image")]
    image_path: PathBuf,
    #[serde(default)]
    bbox_x: Option<usize>,
    #[serde(default)]
    bbox_y: Option<usize>,
    #[serde(default)]
    bbox_w: Option<usize>,
    #[serde(default)]
    bbox_h: Option<usize>,
    #[serde(default)]
    relation_name: Option<String>,
    #[serde(default)]
    attributes: Option<Vec<String>>,
    #[serde(default)]
    true_caption: Option<String>,
    #[serde(default)]
    false_caption: Option<String>,
    /// The true one first.
    #[serde(default)]
    captions: Option<Vec<String>>,
}

/// What kind of cases a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Relation,
    Attribution,
    Order,
}

/// What is found; accuracies in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AroScores {
    pub kind: Kind,
    pub cases: usize,
    /// Over all cases.
    pub accuracy: f64,
    /// Mean over relations or pairs of attributes, but for those that have no part in it; none of orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// How many the mean is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// Of every relation or pair of attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub of_groups: BTreeMap<String, Group>,
}

/// A relation or a pair of attributes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    pub cases: usize,
    pub accuracy: f64,
    /// Whether it has part in the mean.
    pub counted: bool,
}

/// A list that was read and checked.
struct Cases {
    kind: Kind,
    /// Captions of each case, the true one first.
    captions: Vec<Vec<String>>,
    groups: Vec<String>,
    regions: Vec<Region>,
    paths: Vec<PathBuf>,
}

impl Cases {
    fn read(list: &Path, images: &Path) -> Result<Self> {
        let shown = list.display();
        let bytes = fs::read(list).map_err(Error::io("read", list))?;
        let cases: Vec<Case> = json::parse(&bytes).map_err(|e| {
            Error::Data(format!(
                "{shown}: {e}; expected a list of cases, as visual_genome_relation.json is, or of captions"
            ))
        })?;
        let kind = match cases.first() {
            None => bail!(Data, "{shown}: no case in it"),
            Some(Case { captions: Some(_), .. }) => Kind::Order,
            Some(Case { relation_name: Some(_), .. }) => Kind::Relation,
            Some(_) => Kind::Attribution,
        };
        let mut read = Self { kind, captions: Vec::new(), groups: Vec::new(), regions: Vec::new(), paths: Vec::new() };
        for (number, case) in cases.into_iter().enumerate() {
            let wrong = |what: &str| Error::Data(format!("{shown}: case {}: {what}", number + 1));
            let path = images.join(&case.image_path);
            let (captions, group) = match kind {
                Kind::Order => {
                    let captions = case.captions.filter(|captions| captions.len() > 1);
                    let captions = captions.ok_or_else(|| wrong("`captions`: expected the true one and others"))?;
                    if captions[1..].iter().all(|other| *other == captions[0]) {
                        return Err(wrong("`captions`: all are the true one, which nothing can be told from"));
                    }
                    (captions, String::new())
                }
                Kind::Relation | Kind::Attribution => {
                    let (Some(right), Some(other)) = (case.true_caption, case.false_caption) else {
                        return Err(wrong("expected `true_caption` and `false_caption`"));
                    };
                    let group = match (kind, case.relation_name, case.attributes) {
                        (Kind::Relation, Some(name), _) => name,
                        (Kind::Relation, None, _) => return Err(wrong("expected `relation_name`")),
                        (_, _, Some(pair)) => pair.join("_"),
                        (_, _, None) => return Err(wrong("expected `attributes`")),
                    };
                    (vec![right, other], group)
                }
            };
            let corner = (case.bbox_x, case.bbox_y, case.bbox_w, case.bbox_h);
            read.regions.push(match corner {
                (None, None, None, None) => Region::Whole,
                (Some(x), Some(y), Some(width), Some(height)) if width > 0 && height > 0 => {
                    Region::Box { x, y, width, height }
                }
                _ => {
                    return Err(wrong(
                        "expected bbox_x, bbox_y, bbox_w and bbox_h, of a box that is not empty, or none of them",
                    ));
                }
            });
            read.captions.push(captions);
            read.groups.push(group);
            read.paths.push(path);
        }
        Ok(read)
    }
}

/// Scores the cases of `list`, whose pictures lie below `images`. Relations that `left_out` names have no part in the
/// mean.
///
/// # Errors
/// Errors of list, model and pictures.
pub fn aro(
    job: &LanguageJob,
    images: &Path,
    list: &Path,
    left_out: &[String],
    open: OpenTokenizer<'_>,
) -> Result<LanguageReport<AroScores>> {
    let mut place = job.place("aro", &[])?;
    let Cases { kind, captions, groups, regions, paths } = Cases::read(list, images)?;
    if !left_out.is_empty() && kind != Kind::Relation {
        bail!(Usage, "--leave-out: {} has no relations; leave --leave-out out", list.display());
    }
    if let Some(name) = left_out.iter().find(|name| !groups.contains(name)) {
        bail!(Usage, "--leave-out: {}: there is no relation called {name:?} in it", list.display());
    }
    let model = job.model(open)?;
    place.take()?;
    // The label of a picture is its case, by which it is known when the damaged ones are gone.
    let labels = (0..paths.len() as u32).collect();
    let names = (0..paths.len()).map(|case| case.to_string()).collect();
    let set = Dataset::of_files(list.display().to_string(), paths, labels, names).with_regions(regions);
    let pictures = job.pictures(&model, set)?;
    let cases: Vec<usize> = pictures.images.labels().iter().map(|&case| case as usize).collect();
    let features = job.features(&model, &pictures)?;
    let space = model.space();
    let (rows, dim) = (space.pictures(&features), space.dim());
    // Captions of other cases are often the same.
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut texts = Vec::new();
    for caption in cases.iter().flat_map(|&case| &captions[case]) {
        if !places.contains_key(caption.as_str()) {
            places.insert(caption, texts.len());
            texts.push(model.text(caption)?);
        }
    }
    let texts = space.texts(&texts)?;
    let mut right = Vec::with_capacity(cases.len());
    for (&case, picture) in cases.iter().zip(rows.chunks_exact(dim)) {
        let alike = |caption: &String| {
            let text = &texts[places[caption.as_str()] * dim..][..dim];
            picture.iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let scores: Vec<f64> = captions[case].iter().map(alike).collect();
        // Of equally similar captions, the same ones among them, the authors take the first in their order: the false
        // one where there are two, the true one of several.
        right.push(match kind {
            Kind::Order => scores[1..].iter().all(|other| *other <= scores[0]),
            Kind::Relation | Kind::Attribution => scores[0] > scores[1],
        });
    }
    let scores = scores(kind, &right, &cases.iter().map(|&case| groups[case].as_str()).collect::<Vec<_>>(), left_out);
    job.report(&place, &model, &pictures, scores)
}

fn scores(kind: Kind, right: &[bool], groups: &[&str], left_out: &[String]) -> AroScores {
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (group, &right) in groups.iter().zip(right) {
        let [correct, cases] = counts.entry(group).or_default();
        (*correct, *cases) = (*correct + usize::from(right), *cases + 1);
    }
    let of_groups: BTreeMap<String, Group> = match kind {
        Kind::Order => BTreeMap::new(),
        Kind::Relation | Kind::Attribution => counts
            .into_iter()
            .map(|(name, [correct, cases])| {
                let counted = match kind {
                    Kind::Attribution => cases >= ATTRIBUTE_CASES,
                    _ => !left_out.iter().any(|other| other == name),
                };
                (name.to_owned(), Group { cases, accuracy: percent(correct, cases), counted })
            })
            .collect(),
    };
    let counted: Vec<f64> = of_groups.values().filter(|group| group.counted).map(|group| group.accuracy).collect();
    let mean = (!counted.is_empty()).then(|| counted.iter().sum::<f64>() / counted.len() as f64);
    AroScores {
        kind,
        cases: right.len(),
        accuracy: percent(right.iter().filter(|right| **right).count(), right.len()),
        mean,
        groups: (kind != Kind::Order).then_some(counted.len()),
        of_groups,
    }
}

impl Shown for AroScores {
    fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let what = match self.kind {
            Kind::Relation => "relations",
            Kind::Attribution => "pairs of attributes",
            Kind::Order => "orders",
        };
        let row = |what: String, n: usize, value: f64| vec![what, n.to_string(), format!("{value:.2}")];
        let mut rows = vec![row(format!("{what}, all cases"), self.cases, self.accuracy)];
        if let (Some(mean), Some(groups)) = (self.mean, self.groups) {
            rows.push(row(format!("mean over {what}"), groups, mean));
        }
        (["ARO", "N", "%"].map(str::to_owned).to_vec(), rows)
    }

    fn footnotes(&self) -> Vec<String> {
        match self.kind {
            Kind::Relation => vec!["Published means leave out symmetric relations: --leave-out FILE.".into()],
            Kind::Attribution => {
                vec![format!("Pairs with fewer than {ATTRIBUTE_CASES} cases have no part in the mean.")]
            }
            Kind::Order => Vec::new(),
        }
    }
}
