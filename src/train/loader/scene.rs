//! Pictures with the class numbers of their pixels, and their views, which the host makes whole, as mmsegmentation's
//! recipe for ADE20k does: a random scale, a random crop in which no class takes most, a flip, and changes of colour.

use std::sync::Arc;

use rayon::prelude::*;

use super::batch::Row;
use crate::error::Result;
use crate::image::{Classes, Filter, IGNORED, LabelMap, Resampler, Rgb8};
use crate::ops::augment::{self, AugmentParams, Normalize, bounded_short_side};
use crate::ops::photometric::Photometric;
use crate::rng::Stream;

/// Smallest and largest of what a short side becomes, in sides of a crop.
const SCALES: [f32; 2] = [0.5, 2.0];
/// How often a crop is drawn while one class has more than its share.
const TRIES: usize = 10;
/// Of the labelled pixels.
const SHARE: f64 = 0.75;

/// Which class numbers mean what, and whether views are drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    pub classes: Classes,
    /// Otherwise a view is the picture's own corner at its own scale.
    pub random: bool,
}

impl Scene {
    /// Makes the views of `rows` of this side, drawn from the row's stream; what a row was made of gives way to its
    /// view.
    ///
    /// # Errors
    /// Whatever resizing refuses.
    pub(super) fn finish(&self, rows: &mut [Row], streams: Vec<Stream>, side: usize) -> Result<()> {
        rows.par_iter_mut().zip(streams).try_for_each(|(row, mut stream)| {
            let Some(map) = row.map.take() else { return Ok(()) };
            let (image, labels) = self.view(&row.image, &map, &mut stream, side)?;
            (row.image, row.map) = (Arc::new(image), Some(Arc::new(labels)));
            row.params = AugmentParams::whole(side, side);
            Ok(())
        })
    }

    fn view(&self, image: &Rgb8, map: &LabelMap, stream: &mut Stream, side: usize) -> Result<(Rgb8, LabelMap)> {
        let (width, height) = if self.random {
            let scale = f64::from(stream.uniform_in(SCALES[0], SCALES[1]));
            bounded_short_side((image.width, image.height), side as f64 * scale)
        } else {
            (image.width, image.height)
        };
        let numbers: [u8; 256] = std::array::from_fn(|number| self.classes.label(number as u8));
        let corner = |stream: &mut Stream| match self.random {
            true => [width, height].map(|length| stream.below(length.saturating_sub(side) + 1)),
            false => [0, 0],
        };
        let mut at = corner(stream);
        let mut labels = cut_labels(map, (width, height), at, side, &numbers);
        for _ in 1..if self.random { TRIES } else { 1 } {
            if !one_takes_most(&labels) {
                break;
            }
            at = corner(stream);
            labels = cut_labels(map, (width, height), at, side, &numbers);
        }
        let mut view = cut(image, (width, height), at, side)?;
        let mut labels = LabelMap { width: side, height: side, data: labels };
        if self.random {
            if stream.uniform() < 0.5 {
                augment::flip(&mut view.data, side);
                labels.data.chunks_exact_mut(side).for_each(<[u8]>::reverse);
            }
            Photometric::draw(stream).apply(&mut view.data);
        }
        Ok((view, labels))
    }
}

/// The part of `image`, resized to `(width, height)`, that begins at `[x, y]` and has `side` pixels a side; what is
/// beyond it is filled.
fn cut(image: &Rgb8, (width, height): (usize, usize), [x, y]: [usize; 2], side: usize) -> Result<Rgb8> {
    let (wide, high) = (side.min(width - x), side.min(height - y));
    let (across, down) = (image.width as f64 / width as f64, image.height as f64 / height as f64);
    let within = |at: usize, step: f64, end: usize| (at as f64 * step).min(end as f64);
    let part = [
        within(x, across, image.width),
        within(y, down, image.height),
        within(x + wide, across, image.width),
        within(y + high, down, image.height),
    ];
    let mut pixels = Vec::new();
    Resampler::default().part(&mut pixels, (wide, high), image, part, Filter::Bilinear)?;
    let mut view = Rgb8::filled(side, side, Normalize::IMAGENET_FILL);
    for (row, from) in view.data.chunks_exact_mut(3 * side).zip(pixels.chunks_exact(3 * wide)) {
        row[..3 * wide].copy_from_slice(from);
    }
    Ok(view)
}

/// The same of its labels, by the nearest pixel.
fn cut_labels(
    map: &LabelMap,
    (width, height): (usize, usize),
    [x, y]: [usize; 2],
    side: usize,
    numbers: &[u8; 256],
) -> Vec<u8> {
    let mut labels = vec![IGNORED; side * side];
    let (wide, high) = (side.min(width - x), side.min(height - y));
    let columns: Vec<usize> = (x..x + wide).map(|x| x * map.width / width).collect();
    for (row, to) in labels.chunks_exact_mut(side).take(high).enumerate() {
        let from = map.row((y + row) * map.height / height);
        to.iter_mut().zip(&columns).for_each(|(to, &column)| *to = numbers[usize::from(from[column])]);
    }
    labels
}

/// Whether one of several classes has more than its share of the labelled pixels.
fn one_takes_most(labels: &[u8]) -> bool {
    let mut counts = [0usize; 256];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let labelled = &counts[..usize::from(IGNORED)];
    let (all, most) = (labelled.iter().sum::<usize>(), labelled.iter().max().copied().unwrap_or(0));
    let several = labelled.iter().filter(|&&count| count > 0).count() > 1;
    !(several && most as f64 / (all as f64) < SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_alone_or_above_its_share_is_drawn_again() {
        let labels = |of: [usize; 2], ignored| [vec![3; of[0]], vec![7; of[1]], vec![IGNORED; ignored]].concat();
        assert!(one_takes_most(&labels([4, 0], 0)));
        assert!(one_takes_most(&labels([3, 1], 100)));
        assert!(!one_takes_most(&labels([2, 1], 100)));
        assert!(one_takes_most(&labels([0, 0], 4)));
    }

    /// Of random views, each pixel's label is that of the colour it shows; what is beyond the picture has none.
    #[test]
    fn labels_stay_with_their_pixels() {
        let (width, height) = (20, 14);
        let halves = |x: usize| if x < 10 { 0u8 } else { 200 };
        let data = (0..width * height).flat_map(|i| [halves(i % width); 3]).collect();
        let image = Rgb8 { width, height, data };
        let labels = (0..width * height).map(|i| 1 + u8::from(i % width >= 10)).collect();
        let map = LabelMap { width, height, data: labels };
        let scene = Scene { classes: Classes { count: 2, first: 1 }, random: true };
        let mut seen = [0; 3];
        for id in 0..50 {
            let mut stream = Stream::new(5, crate::rng::Domain::Augmentation, [0, id, 0]);
            let (view, labels) = scene.view(&image, &map, &mut stream, 16).unwrap();
            for (i, label) in labels.data.iter().enumerate() {
                let edge = i % 16 == 0 || i % 16 == 15 || [labels.data[i - 1], labels.data[i + 1]] != [*label; 2];
                let red = view.data[3 * i];
                match label {
                    _ if edge => {}
                    0 => assert!(red < 100, "view {id}, pixel {i}: {red}"),
                    1 => assert!(red > 90, "view {id}, pixel {i}: {red}"),
                    _ => {}
                }
                seen[usize::from(*label).min(2)] += 1;
            }
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
    }
}
