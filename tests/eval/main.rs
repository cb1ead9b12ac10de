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
mod official;
mod probe;
mod published;
#[path = "../common/scene_data.rs"]
mod scene_data;
#[path = "../common/scenes.rs"]
mod scenes;
mod segment;
mod transfer;
mod transform;
