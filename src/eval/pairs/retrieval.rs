//! Retrieval: the captions of a picture among all captions, and the picture of a caption among all pictures (Karpathy &
//! Fei-Fei 2015, arXiv 1412.2306).

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::eval::dataset::Dataset;
use crate::eval::language::{LanguageJob, LanguageReport, OpenTokenizer, Shown, percent};

/// Ranks that are counted.
const RANKS: [usize; 3] = [1, 5, 10];

/// What is found: whether one that belongs there is among the first 1, 5 and 10, in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetrievalScores {
    pub pictures: usize,
    pub captions: usize,
    /// Any of its captions, given a picture.
    pub text_of_picture: [f64; 3],
    /// Its picture, given a caption.
    pub picture_of_text: [f64; 3],
}

/// Karpathy's lists (`dataset_coco.json`, `dataset_flickr30k.json`).
#[derive(Debug, Deserialize)]
struct Karpathy {
    images: Vec<Image>,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(default)]
    filepath: PathBuf,
    filename: PathBuf,
    split: String,
    sentences: Vec<Sentence>,
}

#[derive(Debug, Deserialize)]
struct Sentence {
    raw: String,
}

/// Scores the pictures of `split` in Karpathy's `list`, whose files lie below `images`, with all their captions.
///
/// # Errors
/// Errors of list, model and pictures.
pub fn retrieval(
    job: &LanguageJob,
    images: &Path,
    list: &Path,
    split: &str,
    open: OpenTokenizer<'_>,
) -> Result<LanguageReport<RetrievalScores>> {
    let mut place = job.place("retrieval", &[])?;
    let shown = list.display();
    let bytes = fs::read(list).map_err(Error::io("read", list))?;
    let Karpathy { images: all } = json::parse(&bytes)
        .map_err(|e| Error::Data(format!("{shown}: {e}; expected Karpathy's list, as dataset_coco.json is")))?;
    let chosen: Vec<&Image> = all.iter().filter(|image| image.split == split).collect();
    if chosen.is_empty() {
        let mut splits: Vec<&str> = all.iter().map(|image| image.split.as_str()).collect();
        splits.sort_unstable();
        splits.dedup();
        bail!(Usage, "--split {split}: {shown} has no picture of it; it has {}", splits.join(", "));
    }
    if let Some(image) = chosen.iter().find(|image| image.sentences.is_empty()) {
        bail!(Data, "{shown}: {} has no sentence", image.filename.display());
    }
    let model = job.model(open)?;
    place.take()?;
    let paths = chosen.iter().map(|image| images.join(&image.filepath).join(&image.filename)).collect();
    let labels = (0..chosen.len() as u32).collect();
    let names = (0..chosen.len()).map(|image| image.to_string()).collect();
    let pictures = job.pictures(&model, Dataset::of_files(format!("{shown}, {split}"), paths, labels, names))?;
    let features = job.features(&model, &pictures)?;
    let (mut texts, mut of) = (Vec::new(), Vec::new());
    for (picture, &label) in pictures.images.labels().iter().enumerate() {
        for sentence in &chosen[label as usize].sentences {
            texts.push(model.text(&sentence.raw)?);
            of.push(picture);
        }
    }
    let space = model.space();
    let scores = recalls(&space.pictures(&features), &space.texts(&texts)?, &of, space.dim());
    job.report(&place, &model, &pictures, scores)
}

/// Recalls of unit rows of `pictures [N, dim]` and `texts [M, dim]`, where text i belongs to picture `of[i]`. One that
/// is as alike as another which stands before it comes after it.
pub fn recalls(pictures: &[f32], texts: &[f32], of: &[usize], dim: usize) -> RetrievalScores {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let alike = |query: &[f32], keys: &[f32]| keys.chunks_exact(dim).map(|key| dot(query, key)).collect::<Vec<f32>>();
    // Of those that belong to the query, the place of the first.
    let rank = |alike: &[f32], belongs: &dyn Fn(usize) -> bool| {
        let better = |a: usize, b: usize| if alike[b] > alike[a] { b } else { a };
        let best = (0..alike.len()).filter(|&key| belongs(key)).reduce(better).unwrap_or(0);
        let before = |key: usize| alike[key] > alike[best] || (alike[key] == alike[best] && key < best);
        (0..alike.len()).filter(|&key| before(key)).count()
    };
    let of_pictures: Vec<usize> = pictures
        .par_chunks_exact(dim)
        .enumerate()
        .map(|(picture, row)| rank(&alike(row, texts), &|text| of[text] == picture))
        .collect();
    let of_texts: Vec<usize> = texts
        .par_chunks_exact(dim)
        .zip(of)
        .map(|(row, &own)| rank(&alike(row, pictures), &|picture| picture == own))
        .collect();
    let among = |ranks: &[usize]| RANKS.map(|k| percent(ranks.iter().filter(|&&rank| rank < k).count(), ranks.len()));
    RetrievalScores {
        pictures: of_pictures.len(),
        captions: of_texts.len(),
        text_of_picture: among(&of_pictures),
        picture_of_text: among(&of_texts),
    }
}

impl Shown for RetrievalScores {
    fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let row = |what: &str, n: usize, recalls: [f64; 3]| {
            let recalls = recalls.map(|recall| format!("{recall:.2}"));
            [what.to_owned(), n.to_string()].into_iter().chain(recalls).collect()
        };
        let rows = vec![
            row("text of a picture", self.pictures, self.text_of_picture),
            row("picture of a text", self.captions, self.picture_of_text),
        ];
        (["retrieval", "N", "R@1 %", "R@5 %", "R@10 %"].map(str::to_owned).to_vec(), rows)
    }

    fn footnotes(&self) -> Vec<String> {
        Vec::new()
    }
}
