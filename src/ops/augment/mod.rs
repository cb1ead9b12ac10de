//! SimCLR's augmentation as the official code composes it (optional downsample, random resized crop, colour jitter,
//! grayscale, blur, flip; `docs/method.md`), and BYOL's, whose views are unlike (with solarisation): the random
//! parameters of a view, apart from applying them, and the last step to f32.

use super::{blur, jitter};
use crate::image::Filter;
use crate::rng::Stream;

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// How strongly views differ from their image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Crop, jitter, grayscale, blur, flip.
    Strong,
    /// BYOL's (arXiv 2006.07733, table 6) in the variant of MoCo v3: as strong, with less saturation; the first view is
    /// always blurred, the second seldom, but solarised in one of five cases.
    Byol(Turn),
    /// Crop and flip.
    Weak,
    /// Crop alone: CLIP's.
    Crop,
    /// The first view as CLIP's, the others strong: SLIP's (arXiv 2112.12750).
    Slip,
    /// The whole image.
    None,
}

/// Which of two unlike views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    First,
    Second,
    /// Neither: a small crop beside them, as DINO (arXiv 2104.14294) has it: blurred in half of the cases, never
    /// solarised.
    Local,
}

impl Policy {
    /// Shares of the image's area that a crop takes, smallest and largest.
    pub fn crop_scale(self) -> [f64; 2] {
        match self {
            Self::Strong | Self::Byol(_) | Self::Slip => [0.08, 1.0],
            Self::Weak | Self::Crop => [0.5, 1.0],
            Self::None => [1.0, 1.0],
        }
    }

    /// That of view slot `slot`: unlike views take turns.
    pub fn of_slot(self, slot: usize) -> Self {
        match self {
            Self::Byol(_) if slot % 2 == 1 => Self::Byol(Turn::Second),
            Self::Byol(_) => Self::Byol(Turn::First),
            Self::Slip if slot == 0 => Self::Crop,
            Self::Slip => Self::Strong,
            other => other,
        }
    }

    /// That of a small crop beside such views.
    pub fn of_local(self) -> Self {
        match self {
            Self::Byol(_) => Self::Byol(Turn::Local),
            other => other,
        }
    }

    /// Range of the saturation, probabilities of blur and of solarisation; none where colours stay.
    fn colours(self) -> Option<([f32; 2], f32, f32)> {
        match self {
            Self::Strong => Some(([0.6, 1.4], 0.5, 0.0)),
            Self::Byol(Turn::First) => Some(([0.8, 1.2], 1.0, 0.0)),
            Self::Byol(Turn::Second) => Some(([0.8, 1.2], 0.1, 0.2)),
            Self::Byol(Turn::Local) => Some(([0.8, 1.2], 0.5, 0.0)),
            Self::Weak | Self::Crop | Self::Slip | Self::None => None,
        }
    }
}

/// What views are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    pub policy: Policy,
    /// Share of the area a crop takes, smallest and largest; [`Policy::crop_scale`] is the recipe's.
    pub crop_scale: [f64; 2],
    /// What a crop is resized by: bilinear or bicubic.
    pub filter: Filter,
    /// Whether one image in twenty is first shrunk to 64 or 128 pixels and enlarged to 256 ([`downsampled`]).
    pub downsample: bool,
}

impl Augment {
    /// That of view slot `slot`.
    pub fn of_slot(self, slot: usize) -> Self {
        let policy = self.policy.of_slot(slot);
        // SLIP's crops for texts are others than those that are compared with each other.
        let own = self.policy == Policy::Slip && policy == Policy::Crop;
        Self { policy, crop_scale: if own { policy.crop_scale() } else { self.crop_scale }, ..self }
    }

    /// That of a small crop, which takes such a share of the area.
    pub fn of_local(self, crop_scale: [f64; 2]) -> Self {
        Self { policy: self.policy.of_local(), crop_scale, ..self }
    }
}

/// Width over height of a crop, smallest and largest.
const ASPECT: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// The parameters of one view.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentParams {
    /// First resize the short side to `.0`, then to `.1`, bilinear.
    pub downsample: Option<(usize, usize)>,
    /// `[left, top, right, bottom]` of the (downsampled) image, resized to the model's size.
    pub crop: [usize; 4],
    /// What by: bilinear or bicubic.
    pub filter: Filter,
    pub jitter: Option<Jitter>,
    pub grayscale: bool,
    /// Radius σ of the blur.
    pub blur: Option<f32>,
    /// Whether values of 128 and more are inverted.
    pub solarize: bool,
    pub flip: bool,
}

/// Colour changes and their order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter {
    /// A permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue.
    pub order: [u8; 4],
    pub brightness: f32,
    pub contrast: f32,
    pub saturation: f32,
    /// Shift in turns of the colour circle.
    pub hue: f32,
}

impl AugmentParams {
    /// The whole image of `width`×`height` and nothing else.
    pub fn whole(width: usize, height: usize) -> Self {
        Self {
            downsample: None,
            crop: [0, 0, width, height],
            filter: Filter::Bilinear,
            jitter: None,
            grayscale: false,
            blur: None,
            solarize: false,
            flip: false,
        }
    }

    /// The parameters of a view of an image of `width`×`height`. Every decision takes its numbers from `stream` in a
    /// fixed order.
    pub fn draw(stream: &mut Stream, augment: &Augment, width: usize, height: usize) -> Self {
        let downsample = augment.downsample && chance(stream, 0.05);
        let low = downsample.then(|| if chance(stream, 0.5) { 64 } else { 128 });
        let sizes = low.and_then(|low| downsampled((width, height), low));
        let downsample = low.filter(|_| sizes.is_some()).map(|low| (low, HIGH));
        let (width, height) = sizes.map_or((width, height), |[_, high]| high);
        if augment.policy == Policy::None {
            return Self { downsample, filter: augment.filter, ..Self::whole(width, height) };
        }
        let crop = draw_crop(stream, augment.crop_scale, (width, height));
        let colours = augment.policy.colours();
        let (saturation, blur, solarize) = colours.unwrap_or(([1.0; 2], 0.0, 0.0));
        let coloured = colours.is_some();
        Self {
            downsample,
            crop,
            filter: augment.filter,
            jitter: (coloured && chance(stream, 0.8)).then(|| Jitter::draw(stream, saturation)),
            grayscale: coloured && chance(stream, 0.2),
            blur: (coloured && chance(stream, blur)).then(|| stream.uniform_in(0.1, 2.0)),
            solarize: solarize > 0.0 && chance(stream, solarize),
            flip: augment.policy != Policy::Crop && chance(stream, 0.5),
        }
    }

    /// Applies what follows the crop to `pixels` `[side, side, 3]`, in place: jitter, grayscale, blur,
    /// solarisation, flip.
    pub fn apply(&self, pixels: &mut [u8], side: usize, scratch: &mut blur::Scratch) {
        if let Some(jitter) = &self.jitter {
            jitter.apply(pixels);
        }
        if self.grayscale {
            jitter::grayscale(pixels);
        }
        if let Some(sigma) = self.blur {
            blur::gaussian(pixels, (side, side), sigma, scratch);
        }
        if self.solarize {
            solarize(pixels);
        }
        if self.flip {
            flip(pixels, side);
        }
    }
}

impl Jitter {
    /// The recipes' ranges: brightness and contrast 0.6–1.4, hue ±0.1, and that of the saturation.
    fn draw(stream: &mut Stream, saturation: [f32; 2]) -> Self {
        let mut order = [0, 1, 2, 3];
        stream.shuffle(&mut order);
        Self {
            order,
            brightness: stream.uniform_in(0.6, 1.4),
            contrast: stream.uniform_in(0.6, 1.4),
            saturation: stream.uniform_in(saturation[0], saturation[1]),
            hue: stream.uniform_in(-0.1, 0.1),
        }
    }

    fn apply(&self, pixels: &mut [u8]) {
        for change in self.order {
            match change {
                0 => jitter::brightness(pixels, self.brightness),
                1 => jitter::contrast(pixels, self.contrast),
                2 => jitter::saturation(pixels, self.saturation),
                _ => jitter::hue(pixels, self.hue),
            }
        }
    }
}

fn chance(stream: &mut Stream, p: f32) -> bool {
    stream.uniform() < p
}

/// torchvision's `RandomResizedCrop`: ten tries of area and aspect that must fit, else the largest centred box of an
/// allowed aspect.
fn draw_crop(stream: &mut Stream, scale: [f64; 2], (width, height): (usize, usize)) -> [usize; 4] {
    let (w, h) = (width as f64, height as f64);
    let uniform = |stream: &mut Stream, [low, high]: [f64; 2]| low + (high - low) * f64::from(stream.uniform());
    for _ in 0..10 {
        let area = w * h * uniform(stream, scale);
        let aspect = uniform(stream, ASPECT.map(f64::ln)).exp();
        let crop_width = (area * aspect).sqrt().round_ties_even() as usize;
        let crop_height = (area / aspect).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
            let top = stream.below(height - crop_height + 1);
            let left = stream.below(width - crop_width + 1);
            return [left, top, left + crop_width, top + crop_height];
        }
    }
    let (crop_width, crop_height) = match w / h {
        ratio if ratio < ASPECT[0] => (width, ((w / ASPECT[0]).round_ties_even() as usize).clamp(1, height)),
        ratio if ratio > ASPECT[1] => (((h * ASPECT[1]).round_ties_even() as usize).clamp(1, width), height),
        _ => (width, height),
    };
    let (left, top) = ((width - crop_width) / 2, (height - crop_height) / 2);
    [left, top, left + crop_width, top + crop_height]
}

/// Size after the short side is resized to `side`, the long one in proportion and truncated (torchvision's
/// `Resize(side)`).
pub fn short_side((width, height): (usize, usize), side: usize) -> (usize, usize) {
    if width <= height { (side, side * height / width) } else { (side * width / height, side) }
}

/// Size after the short side becomes `short` pixels, or the long one four times that where it would be longer: what
/// mmsegmentation's `Resize` with a scale of (4·short, short) makes of a picture.
pub fn bounded_short_side((width, height): (usize, usize), short: f64) -> (usize, usize) {
    const LONGEST: f64 = 4.0;
    let (long_is, short_is) = (width.max(height) as f64, width.min(height) as f64);
    let factor = (short / short_is).min(LONGEST * short / long_is);
    let to = |length: usize| ((length as f64 * factor + 0.5) as usize).max(1);
    (to(width), to(height))
}

/// Short side of a picture after it was shrunk and enlarged again.
const HIGH: usize = 256;
/// Long side it may have then.
const LONGEST: usize = 64 * HIGH;

/// Sizes of a picture after its short side is shrunk to `low` and enlarged to 256. None for a picture more than 64
/// times as long as wide, which is not downsampled.
pub fn downsampled(size: (usize, usize), low: usize) -> Option<[(usize, usize); 2]> {
    let low = short_side(size, low);
    let high = short_side(low, HIGH);
    (low.0.max(low.1).max(high.0.max(high.1)) <= LONGEST).then_some([low, high])
}

/// Inverts values of 128 and more, as Pillow's `solarize` does.
pub fn solarize(pixels: &mut [u8]) {
    pixels.iter_mut().filter(|value| **value >= 128).for_each(|value| *value = 255 - *value);
}

/// Mirrors each row of `[height, width, 3]`.
pub fn flip(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(3 * width) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut(3 * (width - 1 - x));
            left[3 * x..3 * x + 3].swap_with_slice(&mut right[..3]);
        }
    }
}

/// `(v / 255 − mean) / std` for every value a channel can have.
#[derive(Clone, Debug)]
pub struct Normalize {
    table: [[f32; 256]; 3],
}

impl Normalize {
    /// Means and standard deviations of ImageNet's channels.
    pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// The same of 255, as timm rounds it: what lies beyond a picture's borders.
    pub const IMAGENET_FILL: [u8; 3] = [124, 116, 104];
    pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// With the given mean and standard deviation of red, green, blue.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let channel = |c: usize| std::array::from_fn(|v| (v as f32 / 255.0 - mean[c]) / std[c]);
        Self { table: std::array::from_fn(channel) }
    }

    /// `out` and `pixels` are `[_, 3]`.
    pub fn apply(&self, out: &mut [f32], pixels: &[u8]) {
        assert_eq!(out.len(), pixels.len(), "normalize: {} values from {}", out.len(), pixels.len());
        for (out, pixel) in out.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
            for c in 0..3 {
                out[c] = self.table[c][usize::from(pixel[c])];
            }
        }
    }
}

/// The same as a kernel computes it: `v·scale + shift = (v/255 − mean)/std` of each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    pub scale: [f32; 3],
    pub shift: [f32; 3],
}

impl Scales {
    /// With the given mean and standard deviation of red, green, blue.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let (mean, std) = (mean.map(f64::from), std.map(f64::from));
        let shift = std::array::from_fn(|c| (-mean[c] / std[c]) as f32);
        Self { scale: std.map(|std| (1.0 / (255.0 * std)) as f32), shift }
    }
}

impl Default for Scales {
    /// ImageNet's.
    fn default() -> Self {
        Self::new(Normalize::IMAGENET_MEAN, Normalize::IMAGENET_STD)
    }
}

impl Default for Normalize {
    fn default() -> Self {
        Self::new(Self::IMAGENET_MEAN, Self::IMAGENET_STD)
    }
}
