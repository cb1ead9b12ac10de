//! FairFace (Kärkkäinen & Joo 2021, arXiv 1908.04913): faces by race, by gender and by both, zero-shot, and how far the
//! worst class lies behind the best.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::classes::{ClassScores, Scored};
use crate::bail;
use crate::captions::rows::{Dialect, Rows};
use crate::error::{Error, Result};
use crate::eval::dataset::Dataset;
use crate::eval::language::{LanguageJob, LanguageReport, OpenTokenizer, Prompts, Shown};

/// Races as the list of faces writes them, and as they are said.
const RACES: [(&str, &str); 7] = [
    ("Black", "black"),
    ("East Asian", "east asian"),
    ("Indian", "indian"),
    ("Latino_Hispanic", "latino hispanic"),
    ("Middle Eastern", "middle eastern"),
    ("Southeast Asian", "southeast asian"),
    ("White", "white"),
];

const GENDERS: [(&str, &str); 2] = [("Male", "man"), ("Female", "woman")];

/// The three problems.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FairFaceScores {
    /// "a photo of a {race} person".
    pub race: ClassScores,
    /// "a photo of a {man or woman}".
    pub gender: ClassScores,
    /// "a photo of a {race} {man or woman}".
    pub race_and_gender: ClassScores,
}

/// A face: file, race, gender.
type Face = (String, usize, usize);

/// Reads the authors' list of faces: csv with the columns file, gender and race.
///
/// # Errors
/// `Data` naming the line for what is no such list; `Io` when it cannot be read.
fn faces(list: &Path) -> Result<Vec<Face>> {
    let shown = list.display();
    let bytes = fs::read(list).map_err(Error::io("read", list))?;
    let mut rows =
        Rows::new(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes), Dialect { delimiter: b',', quotes: true });
    let mut fields: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut places: Option<[usize; 3]> = None;
    let mut faces = Vec::new();
    while let Some(row) = rows.next(&mut fields) {
        let line = row.map_err(|fault| Error::Data(format!("{shown}: line {}: {}", fault.line, fault.why)))?;
        let text = |field: usize| String::from_utf8_lossy(&fields[field]).trim().to_owned();
        let Some([file, gender, race]) = places else {
            let place = |name: &str| (0..fields.len()).find(|&field| text(field) == name);
            let [Some(file), Some(gender), Some(race)] = ["file", "gender", "race"].map(place) else {
                bail!(
                    Data,
                    "{shown}: line {line}: expected the columns file, gender and race, as in fairface_label_val.csv"
                );
            };
            places = Some([file, gender, race]);
            continue;
        };
        if fields.len() == 1 && text(0).is_empty() {
            continue;
        }
        if fields.len() <= file.max(gender).max(race) {
            bail!(Data, "{shown}: line {line}: {} columns, fewer than its first line names", fields.len());
        }
        let known = |names: &[(&str, &str)], field: usize, what: &str| {
            let written = text(field);
            names.iter().position(|(name, _)| *name == written).ok_or_else(|| {
                let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
                Error::Data(format!("{shown}: line {line}: {what} {written:?}: expected one of {}", names.join(", ")))
            })
        };
        faces.push((text(file), known(&RACES, race, "race")?, known(&GENDERS, gender, "gender")?));
    }
    if faces.is_empty() {
        bail!(Data, "{shown}: no face in it");
    }
    Ok(faces)
}

/// Scores the faces that `list` names, whose files lie below `images`.
///
/// # Errors
/// Errors of list, model and pictures.
pub fn fairface(
    job: &LanguageJob,
    images: &Path,
    list: &Path,
    open: OpenTokenizer<'_>,
) -> Result<LanguageReport<FairFaceScores>> {
    let mut place = job.place("fairface", &[])?;
    let faces = faces(list)?;
    let model = job.model(open)?;
    place.take()?;
    let paths = faces.iter().map(|(file, _, _)| images.join(file)).collect();
    // A label for both, from which either is had when the damaged ones are gone.
    let labels = faces.iter().map(|&(_, race, gender)| (race * GENDERS.len() + gender) as u32).collect();
    let pairs = RACES.iter().flat_map(|(race, _)| GENDERS.iter().map(move |(gender, _)| format!("{race}, {gender}")));
    let pictures =
        job.pictures(&model, Dataset::of_files(list.display().to_string(), paths, labels, pairs.collect()))?;
    let features = job.features(&model, &pictures)?;
    let score = |names: Vec<String>, noun: &str, label: fn(u32) -> u32| {
        let said = |name: &String| vec![format!("{} {name}{noun}", article(name))];
        let texts: Vec<Vec<String>> = names.iter().map(said).collect();
        let prompts = Prompts::new(&texts, &["a photo of {}".to_owned()], model.tokenizer())?;
        let alike = prompts.compare(&model.space(), &features)?;
        let labels: Vec<u32> = pictures.images.labels().iter().map(|&both| label(both)).collect();
        Ok(ClassScores::of(&alike, &labels, names))
    };
    let said = |names: &[(&str, &str)]| names.iter().map(|(_, said)| (*said).to_owned()).collect::<Vec<String>>();
    let both = RACES.iter().flat_map(|(_, race)| GENDERS.iter().map(move |(_, gender)| format!("{race} {gender}")));
    let scores = FairFaceScores {
        race: score(said(&RACES), " person", |both| both / GENDERS.len() as u32)?,
        gender: score(said(&GENDERS), "", |both| both % GENDERS.len() as u32)?,
        race_and_gender: score(both.collect(), "", |both| both)?,
    };
    job.report(&place, &model, &pictures, scores)
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

impl Shown for FairFaceScores {
    fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let header = ["faces by", "N", "top-1 %", "mean of classes %", "best class", "%", "worst class", "%"];
        let row = |what: &str, scores: &ClassScores| {
            let two = |value: f64| format!("{value:.2}");
            let class = |scored: &Scored| [scored.name.clone(), two(scored.top1)];
            let first = [what.to_owned(), scores.images.to_string(), two(scores.top1), two(scores.mean_per_class)];
            first.into_iter().chain(class(&scores.best)).chain(class(&scores.worst)).collect()
        };
        let rows =
            vec![row("race", &self.race), row("gender", &self.gender), row("race and gender", &self.race_and_gender)];
        (header.map(str::to_owned).to_vec(), rows)
    }

    fn footnotes(&self) -> Vec<String> {
        vec!["The paper does not say which of these its worst class is of.".into()]
    }
}
