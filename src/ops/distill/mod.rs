//! Self-distillation among K classes (DINO, arXiv 2104.14294, equations 1 to 4): the student's class probabilities of a
//! view are to be the teacher's of every other view that the teacher sees.
//!
//! Logits `s [V·n, K]` of V views of n images, of the first A views also the teacher's `t [A·n, K]`; with `P =
//! softmax((t − c)/τt)`: `L = 1/(pairs·n)·Σ_i Σ_{a < A} Σ_{v ≠ a} −Σ_k P_aik·log softmax(s_vi/τs)_k`, where `pairs` =
//! A·(V − 1). Then `c ← 0.9·c + 0.1·mean of t`: the loss sees the centre of the step before.
//!
//! FLOPs: about 30 per logit. Bytes: teacher's and student's logits twice, the gradient once.

use rayon::prelude::*;

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// Share of the centre that a step keeps.
pub const CENTRE: f32 = 0.9;

/// Sizes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub images: usize,
    /// Views of each that the student sees, V, and how many of them the teacher sees too, A.
    pub views: usize,
    pub teachers: usize,
    pub classes: usize,
    /// τs.
    pub temperature: f32,
}

impl Shape {
    /// Rows of the student, rows of the teacher.
    pub fn rows(self) -> [usize; 2] {
        [self.views * self.images, self.teachers * self.images]
    }

    /// One over the number of terms of the loss.
    pub(super) fn share(self) -> f32 {
        1.0 / (self.images * self.teachers * (self.views - 1)) as f32
    }

    pub(super) fn check(self, student: usize, teacher: usize, centre: usize) {
        let Self { images, views, teachers, classes, temperature } = self;
        assert!(images > 0 && views > 1 && (1..=views).contains(&teachers) && temperature > 0.0, "distill: {self:?}");
        let [rows, of_teacher] = self.rows();
        assert!(
            classes > 0 && centre == classes && student == rows * classes && teacher == of_teacher * classes,
            "distill: {student} and {teacher} logits for {self:?}"
        );
    }
}

/// The loss, in f64; its gradient for the student's logits goes to `ds` (overwritten). `sharpness` is 1/τt.
pub fn forward(ds: &mut [f32], s: &[f32], t: &[f32], centre: &[f32], sharpness: f32, shape: Shape) -> f64 {
    shape.check(s.len(), t.len(), centre.len());
    assert_eq!(ds.len(), s.len(), "distill: ds");
    let Shape { images, teachers, classes, temperature, .. } = shape;
    let targets: Vec<Vec<f32>> = t
        .par_chunks_exact(classes)
        .map(|t| {
            let mut p: Vec<f32> = t.iter().zip(centre).map(|(t, c)| (t - c) * sharpness).collect();
            let lse = log_sum_exp(&p);
            p.iter_mut().for_each(|value| *value = (*value - lse).exp());
            p
        })
        .collect();
    let (share, inverse) = (shape.share(), 1.0 / temperature);
    let losses: Vec<f64> = ds
        .par_chunks_exact_mut(classes)
        .zip(s.par_chunks_exact(classes))
        .enumerate()
        .map(|(row, (ds, s))| {
            let (view, image) = (row / images, row % images);
            ds.iter_mut().zip(s).for_each(|(log_p, s)| *log_p = s * inverse);
            let lse = log_sum_exp(ds);
            let others: Vec<&[f32]> =
                (0..teachers).filter(|&a| a != view).map(|a| &targets[a * images + image][..]).collect();
            let mut loss = 0.0;
            for (k, value) in ds.iter_mut().enumerate() {
                let (q, log_p) = (others.iter().map(|p| p[k]).sum::<f32>(), *value - lse);
                loss -= f64::from(q) * f64::from(log_p);
                *value = share * inverse * (others.len() as f32 * log_p.exp() - q);
            }
            loss
        })
        .collect();
    f64::from(share) * losses.iter().sum::<f64>()
}

/// Moves `centre [K]` by the teacher's logits `t [rows, K]`.
pub fn centre(centre: &mut [f32], t: &[f32]) {
    let classes = centre.len();
    assert!(!t.is_empty() && t.len().is_multiple_of(classes), "distill: {} logits of {classes} classes", t.len());
    let rows = t.len() / classes;
    centre.par_iter_mut().enumerate().for_each(|(k, centre)| {
        let sum: f64 = t.iter().skip(k).step_by(classes).map(|&t| f64::from(t)).sum();
        *centre = *centre * CENTRE + (1.0 - CENTRE) * (sum / rows as f64) as f32;
    });
}

fn log_sum_exp(x: &[f32]) -> f32 {
    let top = x.iter().fold(f32::NEG_INFINITY, |top, &value| top.max(value));
    let sum: f64 = x.iter().map(|value| f64::from((value - top).exp())).sum();
    top + sum.ln() as f32
}
