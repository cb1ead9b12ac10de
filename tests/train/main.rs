//! Training against PyTorch's run of the same steps, schedules, groups, bad settings.

mod momentum;
#[path = "../common/recipe.rs"]
mod recipe;
mod run;
mod schedule;
mod support;
