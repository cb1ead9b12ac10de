//! The sizes of the models, and cut-down ones for the simulated driver.

use super::bench::Size;

/// A ViT in training: width, heads of 64, images per step of one GPU.
#[derive(Clone, Copy, Debug)]
pub struct Vit {
    pub d: usize,
    pub heads: usize,
    pub images: usize,
    pub tokens: usize,
}

impl Vit {
    pub fn rows(self) -> usize {
        self.images * self.tokens
    }
}

/// ViT-B/16, S/16, L/16 on pictures of 224², B first as it is what trains; its width alone and few tokens on the
/// simulated driver.
pub fn vits(size: Size) -> Vec<Vit> {
    let vit = |d, heads, images, tokens| Vit { d, heads, images, tokens };
    size.pick(vec![vit(768, 12, 512, 197), vit(384, 6, 1024, 197), vit(1024, 16, 256, 197)], vec![vit(384, 6, 1, 197)])
}

/// Both guidance branches of so many captions.
pub fn unet_rows(size: Size) -> usize {
    size.pick(64, 2)
}

/// Pictures that the decoder makes at once.
pub fn decoder_rows(size: Size) -> usize {
    size.pick(8, 1)
}

/// A side and a width of SD 1.5's UNet at 512², as the simulated driver gets them.
pub fn unet_level(size: Size, side: usize, channels: usize) -> (usize, usize) {
    (size.pick(side, (side / 4).max(4)), unet_channels(size, channels))
}

/// Channels of the UNet, a quarter of them on the simulated driver (4 stay 4).
pub fn unet_channels(size: Size, channels: usize) -> usize {
    size.pick(channels, (channels / 4).max(channels.min(8)))
}

/// Side and width of the four levels of SD 1.5's UNet at 512².
pub const UNET: [(usize, usize); 4] = [(64, 320), (32, 640), (16, 1280), (8, 1280)];

/// Heads of the UNet at every level.
pub const UNET_HEADS: usize = 8;

/// Texts encoded at once; CLIP ViT-L/14's text tower: tokens, width, heads.
pub fn texts(size: Size) -> usize {
    size.pick(64, 2)
}
pub const TEXT_TOKENS: usize = 77;
pub const TEXT_WIDTH: usize = 768;
pub const TEXT_HEADS: usize = 12;

/// Values of ViT-B/16's parameters and of a small buffer.
pub fn parameters(size: Size) -> usize {
    size.pick(86_567_656, 20_000)
}
