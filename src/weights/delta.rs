//! What is added to a stored tensor when it is read.

use rayon::prelude::*;

/// `factor·up·down`: a change of rank `rank` of a weight `[outputs, inputs]`, or of a convolution's, whose windows are
/// among the inputs (Hu et al. 2021, arXiv 2106.09685, eq. 3).
#[derive(Clone, Debug)]
pub struct Delta {
    /// `[outputs, rank]`.
    pub up: Vec<f32>,
    /// `[rank, inputs]`.
    pub down: Vec<f32>,
    pub rank: usize,
    pub factor: f32,
}

impl Delta {
    /// Adds it to `w [outputs, inputs]`, the products of a value in the order of the ranks.
    pub(super) fn add_to(&self, w: &mut [f32]) {
        let inputs = self.down.len() / self.rank;
        w.par_chunks_mut(inputs).zip(self.up.par_chunks(self.rank)).for_each(|(w, up)| {
            for (up, down) in up.iter().zip(self.down.chunks_exact(inputs)) {
                let by = self.factor * up;
                w.iter_mut().zip(down).for_each(|(w, down)| *w += by * down);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_is_a_product() {
        let mut w = vec![1.0; 6];
        Delta { up: vec![1.0, 2.0, 3.0, 4.0], down: vec![1.0, 0.0, -1.0, 0.5, 2.0, 0.0], rank: 2, factor: 0.5 }
            .add_to(&mut w);
        assert_eq!(w, [2.0, 3.0, 0.5, 3.5, 5.0, -0.5]);
    }
}
