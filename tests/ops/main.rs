//! Ops against references: f64 formulas, goldens of the field's libraries, central differences.

mod gemm;
