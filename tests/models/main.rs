//! Networks against the reference libraries' outputs (tests/fixtures).

mod diffusion;
mod mae;
mod names;
mod projector;
mod support;
mod vit;
