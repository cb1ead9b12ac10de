//! Probes and their data sets.

mod dataset;
mod encoder;
mod few_shot;
mod knn;
mod linear_probe;
mod logistic;
mod probe;
mod published;
mod transfer;
mod transform;
