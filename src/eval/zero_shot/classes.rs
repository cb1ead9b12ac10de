//! How well classes are told apart: over all pictures, and class by class.

use serde::Serialize;

use crate::eval::language::percent;

/// Classes up to which the whole confusion is kept.
const CONFUSED: usize = 100;

/// Accuracies in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScores {
    pub images: usize,
    pub top1: f64,
    /// Whether the right class is among the five most alike; none where there are no more than five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Mean of the classes' accuracies, over classes that a picture is of.
    pub mean_per_class: f64,
    pub best: Scored,
    pub worst: Scored,
    /// Of every class that a picture is of.
    pub classes: Vec<Scored>,
    /// `[classes, classes]`: pictures of the row's class that were taken for the column's; of no more than a hundred
    /// classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<usize>>>,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    pub name: String,
    pub images: usize,
    /// Top-1 in percent.
    pub top1: f64,
}

impl ClassScores {
    /// Of pictures with these `labels`, given how alike each is to each class, `[N, classes]`; of equally similar
    /// classes the lower is taken.
    ///
    /// # Panics
    /// If there is no picture.
    pub fn of(alike: &[f32], labels: &[u32], names: Vec<String>) -> Self {
        let classes = names.len();
        let mut confusion = vec![vec![0usize; classes]; classes];
        let mut five = 0;
        for (row, &label) in alike.chunks_exact(classes).zip(labels) {
            let label = label as usize;
            // How many classes come before it: those more alike, and of equals the lower.
            let before = |(other, value): (usize, &f32)| match value.total_cmp(&row[label]) {
                std::cmp::Ordering::Greater => true,
                std::cmp::Ordering::Equal => other < label,
                std::cmp::Ordering::Less => false,
            };
            let rank = row.iter().enumerate().filter(|&entry| before(entry)).count();
            five += usize::from(rank < 5);
            let taken = row.iter().enumerate().fold(0, |best, (i, value)| if *value > row[best] { i } else { best });
            confusion[label][taken] += 1;
        }
        let scored = |(class, name): (usize, String)| {
            let images = confusion[class].iter().sum();
            (images > 0).then(|| Scored { name, images, top1: percent(confusion[class][class], images) })
        };
        let all: Vec<Scored> = names.into_iter().enumerate().filter_map(scored).collect();
        let right: usize = (0..classes).map(|class| confusion[class][class]).sum();
        let extreme = |better: fn(f64, f64) -> bool| {
            let chosen = all.iter().reduce(|best, next| if better(next.top1, best.top1) { next } else { best });
            chosen.expect("a picture is of some class").clone()
        };
        Self {
            images: labels.len(),
            top1: percent(right, labels.len()),
            top5: (classes > 5).then(|| percent(five, labels.len())),
            mean_per_class: all.iter().map(|class| class.top1).sum::<f64>() / all.len() as f64,
            best: extreme(|a, b| a > b),
            worst: extreme(|a, b| a < b),
            classes: all,
            confusion: (classes <= CONFUSED).then_some(confusion),
        }
    }

    /// Header and rows of a table.
    pub fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let header = ["zero-shot", "N", "%"].map(str::to_owned).to_vec();
        let row = |what: String, images: usize, value: f64| vec![what, images.to_string(), format!("{value:.2}")];
        let mut rows = vec![row("top-1".into(), self.images, self.top1)];
        rows.extend(self.top5.map(|top5| row("top-5".into(), self.images, top5)));
        rows.push(row(format!("mean of {} classes", self.classes.len()), self.images, self.mean_per_class));
        for (what, Scored { name, images, top1 }) in [("best", &self.best), ("worst", &self.worst)] {
            rows.push(row(format!("{what} class: {name}"), *images, *top1));
        }
        (header, rows)
    }
}
