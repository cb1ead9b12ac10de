//! Training against PyTorch's run of the same steps, schedules, groups, bad settings.

mod run;
mod schedule;
mod support;
