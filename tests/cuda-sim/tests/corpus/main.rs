//! The corpus: scalar programs with known answers, small whole kernels, kernels with planted mistakes.

mod bugs;
mod compiled;
mod lanes;
mod machine;
mod programs;
mod scalar;
