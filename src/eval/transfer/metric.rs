//! What the literature of transfer reports, in percent: top-1, the mean of the classes' shares, mean average precision.

/// The share of images whose class is the predicted one.
pub fn top1(predicted: &[u32], labels: &[u32]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(a, b)| a == b).count();
    100.0 * right as f64 / labels.len() as f64
}

/// The mean over the classes that `labels` holds of the share of their images that are right.
pub fn mean_per_class(predicted: &[u32], labels: &[u32]) -> f64 {
    let mut classes: std::collections::BTreeMap<u32, (usize, usize)> = Default::default();
    for (predicted, label) in predicted.iter().zip(labels) {
        let (right, all) = classes.entry(*label).or_default();
        *right += usize::from(predicted == label);
        *all += 1;
    }
    100.0 * classes.values().map(|(right, all)| *right as f64 / *all as f64).sum::<f64>() / classes.len() as f64
}

/// Average precision at eleven points (Everingham et al. 2010): the mean over recalls of 0, 0.1 … 1 of the largest
/// precision at that recall or above. Images of equal score are found together. Some image must be `present`.
pub fn average_precision(scores: &[f64], present: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let all = present.iter().filter(|present| **present).count();
    let (mut found, mut best) = (0, [0.0f64; 11]);
    for (i, &image) in order.iter().enumerate() {
        found += usize::from(present[image]);
        if order.get(i + 1).is_some_and(|&next| scores[next] == scores[image]) {
            continue;
        }
        let precision = found as f64 / (i + 1) as f64;
        // In whole numbers: three of ten are a recall of 0.3, which in binary is less than three tenths.
        for (_, best) in best.iter_mut().enumerate().filter(|(tenth, _)| 10 * found >= tenth * all) {
            *best = best.max(precision);
        }
    }
    100.0 * best.iter().sum::<f64>() / 11.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_count_alike_and_absent_ones_not() {
        let (predicted, labels) = ([0, 0, 0, 7, 7], [0, 0, 0, 0, 7]);
        assert_eq!(top1(&predicted, &labels), 80.0);
        assert_eq!(mean_per_class(&predicted, &labels), 87.5);
        assert_eq!(mean_per_class(&[3, 2], &[900_000, 2]), 50.0);
    }

    /// Scores 0.9 … 0.4 with labels 1, 0, 1, 1, 0, 1, whatever their order; ten images whose third recall is 0.3.
    #[test]
    fn eleven_points() {
        let (scores, present) = ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [true, false, true, true, false, true]);
        assert!((average_precision(&scores, &present) - 79.545_454_545_454_54).abs() < 1e-12);
        let (mut scores, mut present) = (scores, present);
        scores.reverse();
        present.reverse();
        assert!((average_precision(&scores, &present) - 79.545_454_545_454_54).abs() < 1e-12);
        assert!((average_precision(&[1.0; 4], &[true, false, false, false]) - 25.0).abs() < 1e-12);
        let present: Vec<bool> = (0..17).map(|i| !(3..10).contains(&i)).collect();
        let scores: Vec<f64> = (0..17).map(|i| -f64::from(i)).collect();
        // Precision is 1 at recalls up to 0.3, 10 of 17 at the others.
        assert!((average_precision(&scores, &present) - 100.0 * (4.0 + 7.0 * 10.0 / 17.0) / 11.0).abs() < 1e-12);
    }
}
