//! Probes and their data sets.

mod dataset;
mod distance;
mod diversity;
mod encoder;
mod fid;
mod knn;
mod language;
mod linear_probe;
mod probe;
mod transform;
