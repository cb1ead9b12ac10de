//! Sums of products of a vector with itself in f64, `Σ w·wᵀ`: covariances and Gram matrices, of which a half is
//! computed.
//!
//! FLOPs: N·(N + BAND) for each vector of N values, in the place of 2·N².

use rayon::prelude::*;

use super::gemm::{Threads, double};

/// Rows of the sums that are added up at once.
const BAND: usize = 128;

/// The sums so far, lower triangle, in bands of rows.
#[derive(Debug)]
pub struct Squares {
    size: usize,
    bands: Vec<Vec<f64>>,
    /// The vectors that are added, `[size, vectors]`.
    block: Vec<f64>,
}

impl Squares {
    /// None yet, of vectors of `size` values.
    pub fn new(size: usize) -> Self {
        let ends = (0..size).step_by(BAND).map(|start| (start, (start + BAND).min(size)));
        Self { size, bands: ends.map(|(start, end)| vec![0.0; (end - start) * end]).collect(), block: Vec::new() }
    }

    /// Adds those of so many `vectors`; `fill(i, out)` writes value i of each of them.
    pub fn add(&mut self, vectors: usize, fill: impl Fn(usize, &mut [f64]) + Sync) {
        self.block.resize(self.size * vectors, 0.0);
        self.block.par_chunks_exact_mut(vectors.max(1)).enumerate().for_each(|(i, out)| fill(i, out));
        for (start, band) in (0..self.size).step_by(BAND).zip(&mut self.bands) {
            let end = (start + BAND).min(self.size);
            let (own, before) = (&self.block[start * vectors..end * vectors], &self.block[..end * vectors]);
            double::nt(band, own, before, (end - start, end, vectors), true, Threads::All);
        }
    }

    /// The sums `[size, size]`, exactly symmetric.
    pub fn matrix(self) -> Vec<f64> {
        let n = self.size;
        let mut matrix = vec![0.0; n * n];
        for (start, band) in (0..n).step_by(BAND).zip(self.bands) {
            let end = (start + BAND).min(n);
            for (i, row) in (start..end).zip(band.chunks_exact(end)) {
                matrix[i * n..=i * n + i].copy_from_slice(&row[..=i]);
                (0..i).for_each(|j| matrix[j * n + i] = row[j]);
            }
        }
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_definition() {
        for (size, vectors) in [(1, 3), (BAND, 2), (2 * BAND + 5, 7)] {
            let w = |i: usize, vector: usize| ((i * 13 + vector * 7) % 17) as f64 - 8.0;
            let mut squares = Squares::new(size);
            for part in [0..vectors - 1, vectors - 1..vectors] {
                let fill =
                    |i, out: &mut [f64]| out.iter_mut().zip(part.clone()).for_each(|(out, vector)| *out = w(i, vector));
                squares.add(part.len(), fill);
            }
            // Whole numbers: every order of sums gives the same bits.
            for (at, got) in squares.matrix().into_iter().enumerate() {
                let want: f64 = (0..vectors).map(|vector| w(at / size, vector) * w(at % size, vector)).sum();
                assert_eq!(got, want, "{size}: {at}");
            }
        }
        assert!(Squares::new(0).matrix().is_empty());
    }
}
