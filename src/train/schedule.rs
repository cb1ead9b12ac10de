//! Learning rate per iteration: linear from 0 over the warm-up, then half a cosine to 0.

/// The learning rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Iterations of the run.
    pub steps: u64,
    /// Iterations of the whole cosine including the warm-up; `steps` rounded from it.
    pub length: f64,
    /// Iterations of the warm-up, may be a fraction.
    pub warmup: f64,
}

impl Schedule {
    /// The rate of iteration `step`, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup {
            return self.peak * step / self.warmup;
        }
        let progress = (step - self.warmup) / (self.length - self.warmup);
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos())
    }
}
