//! RandAugment (Cubuk et al. 2020, arXiv 1909.13719) in the variant of timm's `rand-m9-mstd0.5-inc1`, which MAE's
//! authors fine-tune with: a few of fifteen changes in turn, each with odds ½, stronger the higher their magnitude; the
//! bits of Pillow on pictures `[height, width, 3]` u8, changed in place.
//!
//! Bytes: 6 per pixel and change. Bound by arithmetic: an affine change takes about 100 ns per pixel.

mod affine;
mod tone;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::augment::Normalize;
use super::jitter;
use crate::rng::Stream;

/// Magnitude at which a change is as strong as it may be.
const MOST: f64 = 10.0;
/// Odds of each change that was drawn.
const ODDS: f32 = 0.5;
/// Changes there are.
const KINDS: usize = 15;

/// How strongly, how often in turn, and how unevenly pictures are changed: `m9-n2-mstd0.5`, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandAugment {
    /// 0 to 10.
    pub magnitude: f64,
    /// Changes that are drawn; 0 for none.
    pub count: usize,
    /// Standard deviation of the magnitude.
    pub std: f64,
}

impl RandAugment {
    /// Pictures stay as they are.
    pub const NONE: Self = Self { magnitude: 0.0, count: 0, std: 0.0 };
}

impl FromStr for RandAugment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || {
            format!(
                "expected timm's magnitude, number of changes and standard deviation of the magnitude, such as \
                 m9-n2-mstd0.5, with a magnitude of 0 to 10 and 1 to 15 changes, or none; got `{text}`"
            )
        };
        if text == "none" {
            return Ok(Self::NONE);
        }
        let mut this = Self { magnitude: f64::NAN, count: 2, std: 0.0 };
        for part in text.split('-') {
            let at = part.find(|c: char| c.is_ascii_digit()).ok_or_else(expected)?;
            let (key, value) = part.split_at(at);
            match key {
                "m" => this.magnitude = value.parse().map_err(|_| expected())?,
                "n" => this.count = value.parse().map_err(|_| expected())?,
                "mstd" => this.std = value.parse().map_err(|_| expected())?,
                _ => return Err(expected()),
            }
        }
        let Self { magnitude, count, std } = this;
        let fits = (0.0..=MOST).contains(&magnitude) && (1..=KINDS).contains(&count) && (0.0..=100.0).contains(&std);
        if fits { Ok(this) } else { Err(expected()) }
    }
}

impl TryFrom<String> for RandAugment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RandAugment> for String {
    fn from(settings: RandAugment) -> Self {
        settings.to_string()
    }
}

impl fmt::Display for RandAugment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { magnitude, count, std } = self;
        if *count == 0 { f.write_str("none") } else { write!(f, "m{magnitude}-n{count}-mstd{std}") }
    }
}

impl RandAugment {
    /// The changes of one picture, in turn. Every decision takes its numbers from `stream` in a fixed order.
    pub fn draw(&self, stream: &mut Stream) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let kind = stream.below(KINDS);
            let skipped = stream.uniform() > ODDS;
            let mut normal = [0.0f32];
            stream.fill_normal(&mut normal);
            let magnitude = (self.magnitude + self.std * f64::from(normal[0])).clamp(0.0, MOST);
            let negative = stream.uniform() > 0.5;
            if !skipped {
                changes.push(Change::of(kind, magnitude, negative));
            }
        }
        changes
    }
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    AutoContrast,
    Equalize,
    Invert,
    /// By degrees, counterclockwise.
    Rotate(f64),
    /// So many bits of each value are kept.
    Posterize(u32),
    /// Values from here on are inverted.
    Solarize(u32),
    /// This is added to values below 128.
    SolarizeAdd(u32),
    Color(f32),
    Contrast(f32),
    Brightness(f32),
    Sharpness(f32),
    ShearX(f64),
    ShearY(f64),
    /// By a share of the width, and of the height.
    TranslateX(f64),
    TranslateY(f64),
}

impl Change {
    /// Number `kind` of timm's list of changes that grow with their magnitude (0 to 10), to the other side where it is
    /// `negative`.
    ///
    /// # Panics
    /// If there is no such number.
    pub fn of(kind: usize, magnitude: f64, negative: bool) -> Self {
        let share = magnitude / MOST;
        let signed = |most: f64| if negative { -share * most } else { share * most };
        let factor = (1.0 + signed(0.9)).max(0.1) as f32;
        match kind {
            0 => Self::AutoContrast,
            1 => Self::Equalize,
            2 => Self::Invert,
            3 => Self::Rotate(signed(30.0)),
            4 => Self::Posterize(4 - (share * 4.0) as u32),
            5 => Self::Solarize(256 - ((share * 256.0) as u32).min(256)),
            6 => Self::SolarizeAdd(((share * 110.0) as u32).min(128)),
            7 => Self::Color(factor),
            8 => Self::Contrast(factor),
            9 => Self::Brightness(factor),
            10 => Self::Sharpness(factor),
            11 => Self::ShearX(signed(0.3)),
            12 => Self::ShearY(signed(0.3)),
            13 => Self::TranslateX(signed(0.45)),
            14 => Self::TranslateY(signed(0.45)),
            _ => panic!("change {kind} of {KINDS}"),
        }
    }

    /// Applies it to `pixels [height, width, 3]`; `scratch` is overwritten.
    pub fn apply(self, pixels: &mut [u8], width: usize, scratch: &mut Vec<u8>) {
        let size = (width, pixels.len() / (3 * width));
        let (w, h) = (width as f64, size.1 as f64);
        let mut move_by = |matrix: [f64; 6]| affine::bicubic(pixels, size, matrix, Normalize::IMAGENET_FILL, scratch);
        match self {
            Self::Rotate(0.0) => {}
            Self::Rotate(degrees) => move_by(affine::rotation(degrees, (w, h))),
            Self::ShearX(factor) => move_by([1.0, factor, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(factor) => move_by([1.0, 0.0, 0.0, factor, 1.0, 0.0]),
            Self::TranslateX(share) => move_by([1.0, 0.0, share * w, 0.0, 1.0, 0.0]),
            Self::TranslateY(share) => move_by([1.0, 0.0, 0.0, 0.0, 1.0, share * h]),
            Self::AutoContrast => tone::auto_contrast(pixels),
            Self::Equalize => tone::equalize(pixels),
            Self::Invert => pixels.iter_mut().for_each(|value| *value = 255 - *value),
            Self::Posterize(bits) => tone::posterize(pixels, bits),
            Self::Solarize(from) => tone::solarize(pixels, from),
            Self::SolarizeAdd(add) => tone::solarize_add(pixels, add),
            Self::Color(factor) => jitter::saturation(pixels, factor),
            Self::Contrast(factor) => jitter::contrast(pixels, factor),
            Self::Brightness(factor) => jitter::brightness(pixels, factor),
            Self::Sharpness(factor) => tone::sharpness(pixels, size, factor, scratch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Domain;

    #[test]
    fn text_goes_both_ways() {
        for text in ["none", "m9-n2-mstd0.5", "m0-n1-mstd0", "m7.5-n15-mstd2"] {
            assert_eq!(text.parse::<RandAugment>().unwrap().to_string(), text);
        }
        assert_eq!("m9-mstd0.5".parse::<RandAugment>().unwrap().to_string(), "m9-n2-mstd0.5");
        for text in ["", "m11", "9", "m9-n0", "m9-n16", "n2", "m9-x3", "m-1", "m9-mstdx", "None"] {
            assert!(text.parse::<RandAugment>().unwrap_err().contains("such as m9-n2-mstd0.5"), "{text}");
        }
    }

    /// Half of the changes are left out, all kinds are drawn, magnitudes are spread about the mean and cut at 10.
    #[test]
    fn draws_are_timms() {
        let settings: RandAugment = "m9-n2-mstd0.5".parse().unwrap();
        let draw = |i: u32| settings.draw(&mut Stream::new(1, Domain::SelfTest, [i, 0, 0]));
        let all: Vec<Change> = (0..4000).flat_map(draw).collect();
        assert!((3800..4200).contains(&all.len()), "{}", all.len());
        let angles: Vec<f64> = all
            .iter()
            .filter_map(|change| if let Change::Rotate(angle) = change { Some(*angle) } else { None })
            .collect();
        let share =
            |keep: &dyn Fn(f64) -> bool| angles.iter().filter(|&&a| keep(a)).count() as f64 / angles.len() as f64;
        assert!((200..340).contains(&angles.len()), "{}", angles.len());
        assert!((share(&|a| a < 0.0) - 0.5).abs() < 0.1);
        assert!((share(&|a| a.abs() < 25.5) - 0.16).abs() < 0.08, "{}", share(&|a| a.abs() < 25.5));
        assert!(angles.iter().all(|a| a.abs() <= 30.0));
        let kinds: std::collections::HashSet<_> = all.iter().map(std::mem::discriminant).collect();
        assert_eq!(kinds.len(), KINDS);
    }
}
