//! Networks against the reference libraries' outputs (tests/fixtures).

mod diffusion;
mod inception;
mod mae;
mod names;
mod projector;
mod support;
mod text_tower;
mod vit;
