//! Probes and their data sets.

mod attention;
mod dataset;
mod distance;
mod diversity;
mod edges;
mod encoder;
mod few_shot;
mod fid;
mod knn;
mod language;
mod linear_probe;
mod logistic;
mod nearest;
mod probe;
mod published;
mod transfer;
mod transform;
