//! Where numbers go: a progress line for people, JSON lines for scripts, event files for TensorBoard.

mod json_lines;
mod progress;
mod tensorboard;

pub use json_lines::JsonLines;
pub use progress::{Progress, rate};
pub use tensorboard::TensorBoard;
