//! Training against PyTorch's run of the same steps, schedules, groups, chunks, bad settings.

mod chunk;
mod finetune;
#[path = "../common/labelled.rs"]
mod labelled;
mod language;
mod mae;
mod momentum;
#[path = "../common/overflow.rs"]
mod overflow;
mod queue;
#[path = "../common/recipe.rs"]
mod recipe;
mod run;
#[path = "../common/scene_data.rs"]
mod scene_data;
#[path = "../common/scenes.rs"]
mod scenes;
mod schedule;
mod segment;
mod support;
mod watch;
