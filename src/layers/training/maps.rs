//! What a network of feature maps is made of: maps `[N, side, side, C]`, and the loss of labelled pixels.

use super::{BatchNorm, Buffer, Numbers};
use crate::error::Result;
use crate::ops::{bilinear, drop_channels, grid_pool, max_pool, neighbourhood, spread};
use crate::weights::Param;

pub use crate::ops::pixel_loss::Loss as PixelLoss;

/// Feature maps `[N, side, side, C]`.
///
/// # Errors
/// As of [`super::Layers`].
pub trait Maps {
    /// `y [N·side², 9·C]`: the 3×3 neighbourhood of every pixel of `x`, in the order (row, column, channel), zeros
    /// beyond the border: what a 3×3 convolution of padding 1 multiplies.
    fn neighbourhoods(&mut self, y: Buffer, x: Buffer, shape: neighbourhood::Shape) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`.
    fn neighbourhoods_backward(&mut self, dx: Buffer, dy: Buffer, shape: neighbourhood::Shape) -> Result<()>;

    /// Bilinear resizing, corners not aligned, to a larger or an equal size: of the map in `x [N, lead + from², C]`,
    /// whose first `lead` rows of each image are not of it, into columns of `y [N, to², columns]`; added to what is
    /// there where `add`.
    fn resize(&mut self, y: Buffer, x: Buffer, shape: bilinear::Shape, add: bool) -> Result<()>;
    /// `dx` from those columns of the gradient `dy`; added to what is there where `add`, and leading rows then stay as
    /// they are, which else become 0.
    fn resize_backward(&mut self, dx: Buffer, dy: Buffer, shape: bilinear::Shape, add: bool) -> Result<()>;

    /// `y [N, bins, bins, C]`: means of a grid of windows of `x [N, side, side, C]`.
    fn grid_pool(&mut self, y: Buffer, x: Buffer, shape: grid_pool::Shape) -> Result<()>;
    /// Adds to `dx` what comes of the gradient `dy` of `y`.
    fn grid_pool_backward(&mut self, dx: Buffer, dy: Buffer, shape: grid_pool::Shape) -> Result<()>;
    /// `y [N, ⌊side/2⌋, ⌊side/2⌋, C]`: the largest of every 2×2 pixels of `x [N, side, side, C]`.
    fn max_pool(&mut self, y: Buffer, x: Buffer, shape: max_pool::Shape) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`: to the first of equal ones.
    fn max_pool_backward(&mut self, dx: Buffer, dy: Buffer, x: Buffer, shape: max_pool::Shape) -> Result<()>;

    /// What of a transposed convolution 2×2 of stride 2 is behind its product: `y [N, 2·side, 2·side, C]` from
    /// `x [N·side², 4·C]`, in the order (row, column, channel), plus `bias [C]`.
    fn spread(&mut self, y: Buffer, x: Buffer, bias: Option<Param>, shape: spread::Shape) -> Result<()>;
    /// `dx` from the gradient `dy` of `y`; adds that of the bias.
    fn spread_backward(&mut self, dx: Buffer, dy: Buffer, bias: Option<Param>, shape: spread::Shape) -> Result<()>;

    /// Turns `x [N, pixels, C]` into `scale·x` in the channels of images whose number in `kept [N, C]` is not 0, into 0
    /// in the others; does the same to a gradient.
    fn drop_channels(&mut self, x: Buffer, kept: Numbers, scale: f32, shape: drop_channels::Shape) -> Result<()>;

    /// The cross-entropy of `logits [N, from², classes]` (f32), enlarged bilinearly to `to²`, against `labels [N·to²]`,
    /// as [`crate::ops::pixel_loss`] has it: `losses [N·to]` (f32), of which [`super::Losses::mean_loss`] takes the
    /// mean of a step, the log-sum-exp `lse [N·to²]` (f32) of every pixel, and the gradient `d` of the logits.
    fn pixel_loss(
        &mut self,
        d: Buffer,
        losses: Buffer,
        lse: Buffer,
        logits: Buffer,
        labels: Numbers,
        of: PixelLoss,
    ) -> Result<()>;

    /// `y` from `x`, of the same kind, normalised by the running statistics, and the ReLU where there is one.
    fn batch_norm_infer(&mut self, y: Buffer, x: Buffer, norm: BatchNorm) -> Result<()>;
}
