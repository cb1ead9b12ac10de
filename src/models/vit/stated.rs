//! What is said of a ViT beside its tensors.

use super::preprocessing::Preprocessing;

/// What a file says of its ViT beside the tensors: the header of this program's checkpoints, or the `config.json` of a
/// timm folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stated {
    /// Who says it, for messages.
    pub by: String,
    pub image_size: Option<usize>,
    pub patch_size: Option<usize>,
    pub width: Option<usize>,
    pub depth: Option<usize>,
    pub heads: Option<usize>,
    /// Whether queries and keys have norms.
    pub qk_norm: Option<bool>,
    /// Of the pixels (0 to 1) that its images are normalised with, per channel.
    pub mean: Option<[f32; 3]>,
    pub std: Option<[f32; 3]>,
    pub preprocessing: Option<Preprocessing>,
}
