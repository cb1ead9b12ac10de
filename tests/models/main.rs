//! Networks against the reference libraries' outputs (tests/fixtures).

mod diffusion;
mod projector;
mod support;
mod vit;
