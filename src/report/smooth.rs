//! Long curves in few points.

/// Points of a curve at most.
const POINTS: usize = 300;

/// `points` in groups of equal length, of which each is its mean; as they are where they are few.
pub fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points;
    }
    let each = points.len().div_ceil(POINTS);
    let mean = |group: &[(f64, f64)]| {
        let n = group.len() as f64;
        (group.iter().map(|point| point.0).sum::<f64>() / n, group.iter().map(|point| point.1).sum::<f64>() / n)
    };
    points.chunks(each).map(mean).collect()
}
