//! The same pictures drawn in two ways: beside each other, and how far apart.

use std::path::Path;

use super::line::Line;
use super::painter::Drawn;
use super::pipeline::Pipeline;
use crate::captions::Caption;
use crate::error::Result;
use crate::image::sheet::{SheetRow, contact_sheet};
use crate::image::{Difference, Rgb8, encode_png};
use crate::metrics::Progress;
use crate::ops::sampler_step::NoiseKey;
use crate::store;

/// How the first picture of a caption is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub seed: u64,
    pub guidance_scale: f32,
    /// Every call of the network whole and guided, whatever the pipeline was opened for.
    pub whole: bool,
}

/// The first picture of every caption, as `generate` with the same settings draws it.
pub(super) fn draw(pipeline: &mut Pipeline, way: Way, captions: &[Caption], progress: &Progress) -> Result<Vec<Rgb8>> {
    let mut pictures = Vec::with_capacity(captions.len());
    let mut land = |drawn: Drawn| {
        progress.note("");
        progress.advance(drawn.pictures.len() as u64);
        pictures.extend(drawn.pictures.into_iter().map(|picture| picture.image));
    };
    let (batch, calls) = (pipeline.batch(), pipeline.calls());
    let mut line = Line::new(pipeline, |call| progress.note(format!("step {call} of {calls}")));
    for captions in captions.chunks(batch) {
        // Ids were checked against 2^32 when the captions were read.
        let key = |caption: &Caption| NoiseKey { seed: way.seed, caption: caption.id as u32, image: 0 };
        let texts: Vec<&str> = captions.iter().map(|caption| caption.text.as_str()).collect();
        let mut request = line.pipeline().request(&texts, captions.iter().map(key).collect(), way.guidance_scale)?;
        request.whole = way.whole;
        if let Some(((), drawn)) = line.push((), request)? {
            land(drawn);
        }
    }
    while let Some(((), drawn)) = line.pop()? {
        land(drawn);
    }
    Ok(pictures)
}

/// Pictures of every caption, drawn in two ways.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    pub captions: &'a [Caption],
    pub before: Vec<Rgb8>,
    pub after: Vec<Rgb8>,
}

impl Pairs<'_> {
    fn iter(&self) -> impl Iterator<Item = (&str, &Rgb8, &Rgb8)> {
        let pictures = self.before.iter().zip(&self.after);
        self.captions.iter().zip(pictures).map(|(caption, (a, b))| (caption.text.as_str(), a, b))
    }

    /// How far the second is from the first, by caption.
    pub(super) fn differences(&self) -> Vec<(String, Difference)> {
        self.iter().filter_map(|(caption, a, b)| Some((caption.to_owned(), Difference::of(a, b)?))).collect()
    }

    /// Writes both of each, side by side, as PNG.
    pub(super) fn write(&self, path: &Path, title: &str) -> Result<()> {
        let rows: Vec<SheetRow> = self
            .iter()
            .map(|(caption, a, b)| SheetRow {
                notes: vec![
                    String::new(),
                    Difference::of(a, b).map_or(String::new(), |d| format!("{:.1} dB", d.psnr())),
                ],
                ..SheetRow::new(caption.to_owned(), vec![a.clone(), b.clone()])
            })
            .collect();
        store::write_atomic(path, &encode_png(&contact_sheet(title, &rows)?)?)
    }
}
