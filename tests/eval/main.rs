//! Probes and their data sets.

mod dataset;
mod encoder;
mod knn;
mod linear_probe;
mod logistic;
mod probe;
mod transform;
