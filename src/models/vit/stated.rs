//! What is said of a ViT beside its tensors.

use super::preprocessing::Preprocessing;

/// What a file says of its ViT beside the tensors: the header of this program's checkpoints, the `config.json` of a
/// timm folder, or the `open_clip_config.json` of open_clip's.
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
    pub registers: Option<usize>,
    /// Whether there is a norm before the blocks.
    pub norm_pre: Option<bool>,
    /// Whether branches are multiplied by layer scale.
    pub layer_scale: Option<bool>,
    /// Whether its GELU is OpenAI's quick one.
    pub quick_gelu: Option<bool>,
    /// Of the pixels (0 to 1) that its images are normalised with, per channel.
    pub mean: Option<[f32; 3]>,
    pub std: Option<[f32; 3]>,
    pub preprocessing: Option<Preprocessing>,
    /// Of the text tower beside it.
    pub text: Option<StatedText>,
}

/// What is said of the text tower of a CLIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatedText {
    /// Attention heads.
    pub heads: Option<usize>,
    /// Whether its GELU is the exact one.
    pub exact_gelu: bool,
    /// What makes it another than OpenAI's: `text_cfg.key is value`, or `model_cfg.custom_text is true`.
    pub refused: Option<String>,
}
