//! How often pixels of each class were told right.

use serde::{Deserialize, Serialize};

use crate::image::Classes;

/// Pixels by their class and by what they were taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[classes, classes]`: of the class, taken for.
    counts: Vec<u64>,
}

/// Pixels whose numbers are beyond all classes; they are ignored, as those without a class are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    pub pixels: u64,
    pub pictures: usize,
    /// The first picture with one, and its highest number.
    pub first: Option<(String, u8)>,
}

/// What comes of it, in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Mean over classes of intersection over union: of those that any pixel is of or was taken for.
    pub miou: f64,
    /// Mean over classes, that any pixel is of, of the share that was told right.
    pub mean_accuracy: f64,
    /// Share of all pixels that was told right.
    pub pixel_accuracy: f64,
    pub pixels: u64,
    pub classes: Vec<ClassScore>,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    pub name: String,
    /// Pixels of it.
    pub pixels: u64,
    /// Percent; nothing where no pixel is of it or was taken for it.
    pub iou: Option<f64>,
    /// Percent; nothing where no pixel is of it.
    pub accuracy: Option<f64>,
}

impl Beyond {
    /// Counts those among the `numbers` of the picture that is called `shown`.
    pub fn add(&mut self, numbers: &[u8], classes: Classes, shown: &str) {
        let beyond = || numbers.iter().copied().filter(|&number| classes.is_beyond(number));
        if let Some(highest) = beyond().max() {
            self.pixels += beyond().count() as u64;
            self.pictures += 1;
            self.first.get_or_insert_with(|| (shown.to_owned(), highest));
        }
    }

    /// What is to be said of them, if there are any.
    pub fn told(&self, classes: Classes) -> Option<String> {
        let (shown, number) = self.first.as_ref()?;
        let Classes { count, first } = classes;
        Some(format!(
            "{} pixel(s) of {} picture(s) have numbers beyond the {count} classes, {first} to {}, and are ignored (the first: \
             {number} in {shown})",
            self.pixels,
            self.pictures,
            usize::from(first) + count - 1
        ))
    }
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts pixels by their `labels`, of which those that are no class count for nothing, and what they were `taken`
    /// for.
    pub fn add(&mut self, labels: &[u8], taken: &[u8]) {
        for (&label, &taken) in labels.iter().zip(taken).filter(|(label, _)| usize::from(**label) < self.classes) {
            self.counts[usize::from(label) * self.classes + usize::from(taken)] += 1;
        }
    }

    /// As it stands, or to go on from.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// One that was counted before; nothing where it is of other classes.
    pub fn of_counts(classes: usize, counts: Vec<u64>) -> Option<Self> {
        (counts.len() == classes * classes).then_some(Self { classes, counts })
    }

    /// The scores of classes called so; nothing where no pixel has a class.
    pub fn scores(&self, names: &[String]) -> Option<Scores> {
        let n = self.classes;
        let row = |i: usize| self.counts[i * n..(i + 1) * n].iter().sum::<u64>();
        let column = |i: usize| (0..n).map(|j| self.counts[j * n + i]).sum::<u64>();
        let share = |part: u64, of: u64| (of > 0).then(|| 100.0 * part as f64 / of as f64);
        let classes: Vec<ClassScore> = (0..n)
            .map(|i| {
                let (right, pixels) = (self.counts[i * n + i], row(i));
                ClassScore {
                    name: names.get(i).cloned().unwrap_or_else(|| i.to_string()),
                    pixels,
                    iou: share(right, pixels + column(i) - right),
                    accuracy: share(right, pixels),
                }
            })
            .collect();
        let pixels = self.counts.iter().sum();
        let right = (0..n).map(|i| self.counts[i * n + i]).sum();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        Some(Scores {
            miou: mean(classes.iter().filter_map(|class| class.iou).collect()),
            mean_accuracy: mean(classes.iter().filter_map(|class| class.accuracy).collect()),
            pixel_accuracy: share(right, pixels)?,
            pixels,
            classes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_classes_take_no_part() {
        let mut confusion = Confusion::new(4);
        // Class 2 is taken for but never there; class 3 is neither.
        confusion.add(&[0, 0, 0, 1, 1, 255, 0], &[0, 0, 1, 1, 2, 3, 0]);
        let scores = confusion.scores(&["sky".into(), "sea".into()]).unwrap();
        let ious: Vec<_> = scores.classes.iter().map(|class| class.iou).collect();
        assert_eq!(ious, [Some(75.0), Some(100.0 / 3.0), Some(0.0), None]);
        assert!((scores.miou - (75.0 + 100.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!((scores.mean_accuracy, scores.pixels), (62.5, 6));
        assert!((scores.pixel_accuracy - 100.0 * 4.0 / 6.0).abs() < 1e-12);
        assert_eq!((scores.classes[0].name.as_str(), scores.classes[3].name.as_str()), ("sky", "3"));
        assert_eq!(Confusion::new(2).scores(&[]), None);
        assert_eq!(Confusion::of_counts(3, vec![0; 4]), None);
    }
}
