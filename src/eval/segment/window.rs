//! Windows that slide over a picture, and what they say together of each of its pixels: mmsegmentation's `slide` mode.

use rayon::prelude::*;

use crate::image::between;

/// Where windows of `side` begin along `length` pixels, so many apart; the last ends with the picture.
pub fn places(length: usize, side: usize, stride: usize) -> Vec<usize> {
    let last = length.saturating_sub(side);
    (0..=last.div_ceil(stride)).map(|i| (i * stride).min(last)).collect()
}

/// The logits `[height, width, classes]` of a picture: sums over its windows, and how many there were.
#[derive(Debug)]
pub struct Sums {
    width: usize,
    height: usize,
    classes: usize,
    logits: Vec<f32>,
    count: Vec<u16>,
}

impl Sums {
    pub fn new((width, height): (usize, usize), classes: usize) -> Self {
        Self { width, height, classes, logits: vec![0.0; width * height * classes], count: vec![0; width * height] }
    }

    /// Adds what a window of `side` pixels that begins at `[x, y]` says: `logits [from, from, classes]`, enlarged; what
    /// is beyond the picture counts for nothing.
    pub fn add(&mut self, logits: &[f32], [x, y]: [usize; 2], (from, side): (usize, usize)) {
        let (width, classes) = (self.width, self.classes);
        let columns: Vec<_> = (0..side.min(width - x)).map(|i| between(i, from, side)).collect();
        let rows = self.logits.par_chunks_exact_mut(width * classes).zip(self.count.par_chunks_exact_mut(width));
        rows.skip(y).take(side).enumerate().for_each(|(i, (sums, count))| {
            let (top, bottom, down) = between(i, from, side);
            let row = |at: usize| &logits[at * from * classes..(at + 1) * from * classes];
            let (top, bottom) = (row(top), row(bottom));
            for ((sums, count), &(left, right, along)) in
                sums.chunks_exact_mut(classes).zip(count).skip(x).zip(&columns)
            {
                let of = |at: usize| at * classes..(at + 1) * classes;
                let (a, b, c, d) = (&top[of(left)], &top[of(right)], &bottom[of(left)], &bottom[of(right)]);
                for (k, sum) in sums.iter_mut().enumerate() {
                    let above = (1.0 - along) * a[k] + along * b[k];
                    let below = (1.0 - along) * c[k] + along * d[k];
                    *sum += (1.0 - down) * above + down * below;
                }
                *count += 1;
            }
        });
    }

    /// The likeliest class of every pixel of the picture resized to `width`×`height`, of equal ones the first; nothing
    /// if a logit is not finite.
    pub fn classes(mut self, (width, height): (usize, usize)) -> Option<Vec<u8>> {
        let classes = self.classes;
        let means = self.logits.par_chunks_exact_mut(classes).zip(&self.count);
        means.for_each(|(logits, &count)| logits.iter_mut().for_each(|logit| *logit /= f32::from(count.max(1))));
        let mut best = vec![0; width * height];
        let finite = best.par_chunks_exact_mut(width).enumerate().map(|(i, row)| {
            let (top, bottom, down) = between(i, self.height, height);
            let mut finite = true;
            for (j, best) in row.iter_mut().enumerate() {
                let (left, right, along) = between(j, self.width, width);
                let at = |y: usize, x: usize| &self.logits[(y * self.width + x) * classes..][..classes];
                let (a, b, c, d) = (at(top, left), at(top, right), at(bottom, left), at(bottom, right));
                let mut most = f32::NEG_INFINITY;
                for k in 0..classes {
                    let above = (1.0 - along) * a[k] + along * b[k];
                    let below = (1.0 - along) * c[k] + along * d[k];
                    let logit = (1.0 - down) * above + down * below;
                    finite &= logit.is_finite();
                    if logit > most {
                        (most, *best) = (logit, k as u8);
                    }
                }
            }
            finite
        });
        finite.reduce(|| true, |a, b| a & b).then_some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_window_ends_with_the_picture() {
        assert_eq!(places(683, 512, 341), [0, 171]);
        assert_eq!(places(1100, 512, 341), [0, 341, 588]);
        assert_eq!(places(512, 512, 341), [0]);
        assert_eq!(places(400, 512, 341), [0]);
        assert_eq!(places(853, 512, 341), [0, 341]);
    }

    /// Windows that say the same say together what each does; the size of the picture does not matter.
    #[test]
    fn windows_agree() {
        let mut sums = Sums::new((6, 4), 3);
        let logits: Vec<f32> = (0..4).flat_map(|_| [0.25, 2.0, -1.0]).collect();
        for x in places(6, 4, 2) {
            sums.add(&logits, [x, 0], (2, 4));
        }
        assert_eq!(sums.classes((11, 3)).unwrap(), vec![1; 33]);
        let mut sums = Sums::new((2, 2), 2);
        sums.add(&[0.0, f32::NAN], [0, 0], (1, 2));
        assert_eq!(sums.classes((2, 2)), None);
    }

    /// Two places a side become four: a quarter and three quarters of the way.
    #[test]
    fn logits_are_enlarged_between_their_places() {
        let mut sums = Sums::new((4, 4), 1);
        sums.add(&[0.0, 1.0, 0.0, 1.0], [0, 0], (2, 4));
        assert_eq!(sums.logits[..4], [0.0, 0.25, 0.75, 1.0]);
    }
}
