//! Probes and their data sets.

mod dataset;
mod encoder;
mod knn;
mod language;
mod linear_probe;
mod probe;
mod transform;
