//! Labelled pictures and their views, which the host makes whole: what devices see of them has the model's side.

use std::sync::Arc;

use rayon::prelude::*;

use super::super::views::Augmenter;
use super::batch::{Mixed, Row};
use crate::error::Result;
use crate::image::Rgb8;
use crate::ops::augment::AugmentParams;
use crate::ops::erase::erase;
use crate::ops::mix::Mix;
use crate::ops::rand_augment::RandAugment;
use crate::rng::Stream;

/// Which labelled pictures are drawn, each by itself, and how they are changed behind crop and flip.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// A class that is not below this is refused, where it is given.
    pub classes: Option<usize>,
    pub rand_augment: RandAugment,
    /// Odds that a rectangle is replaced by noise.
    pub erase: f64,
    pub mix: Mix,
}

impl Labelled {
    /// Makes the views of `rows` of this side: crop and flip, then what is drawn from the row's stream, which goes on
    /// where its crop left it; then rows are mixed as `batch` says. What a row was made of gives way to its view.
    ///
    /// # Errors
    /// Whatever resizing refuses.
    pub(super) fn finish(&self, rows: &mut [Row], streams: Vec<Stream>, mut batch: Stream, side: usize) -> Result<()> {
        let view = |augmenter: &mut Augmenter, (row, mut stream): (&Row, Stream)| -> Result<Vec<u8>> {
            let mut pixels = augmenter.pixels(&row.image, &row.params, side)?.to_vec();
            let mut scratch = Vec::new();
            for change in self.rand_augment.draw(&mut stream) {
                change.apply(&mut pixels, side, &mut scratch);
            }
            erase(&mut pixels, side, self.erase, &mut stream);
            Ok(pixels)
        };
        let views: Vec<Vec<u8>> =
            rows.par_iter().zip(streams).map_init(Augmenter::default, view).collect::<Result<_>>()?;
        let mixing = self.mix.draw(&mut batch, (side, side));
        let labels: Vec<u32> = rows.iter().map(|row| row.label).collect();
        rows.par_iter_mut().enumerate().for_each(|(i, row)| {
            let other = views.len() - 1 - i;
            let mut data = views[i].clone();
            if let Some(mixing) = mixing {
                mixing.apply(&mut data, &views[other], side);
                row.mixed = Some(Mixed { label: labels[other], share: mixing.share((side, side)) });
            }
            row.image = Arc::new(Rgb8 { width: side, height: side, data });
            row.params = AugmentParams::whole(side, side);
        });
        Ok(())
    }
}
