//! The binary as its users meet it: whole commands, exit codes, messages, files.

#[path = "../common/binary.rs"]
mod binary;
mod common;

mod bad_eval;
mod bad_generate;
mod bad_probe;
mod bad_train;
mod bench;
mod captions;
mod checkpoint;
mod config;
mod docs;
mod folder_generate;
mod generate;
mod help;
mod inspect;
mod inspect_encoder;
#[path = "../common/labelled.rs"]
mod labelled;
mod limits;
mod lost_generate;
mod model;
mod paths;
#[path = "../common/process.rs"]
mod process;
mod report;
mod resume_generate;
mod resume_train;
#[path = "../common/scene_data.rs"]
mod scene_data;
#[path = "../common/scenes.rs"]
mod scenes;
mod segment;
mod streams;
mod train_data;
mod writers_generate;
