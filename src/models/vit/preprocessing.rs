//! How weights say that photographs are prepared for them: timm's `crop_pct`, `crop_mode` and `interpolation`.

use serde_json::Value;

use crate::bail;
use crate::config::json;
use crate::error::Result;
use crate::image::{Filter, MAX_SIDE};

/// The test transform that timm's `create_transform(**resolve_model_data_config(model))` would make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// The encoder's image side over the resize length.
    pub crop_pct: f64,
    pub mode: CropMode,
    pub filter: Filter,
}

/// timm's ways to a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CropMode {
    /// The short side to the resize length, the middle cut out.
    Center,
    /// Both sides to the resize length, the middle cut out.
    Squash,
    /// The long side to the resize length, the mean colour around it.
    Border,
}

impl Preprocessing {
    /// Reads a `pretrained_cfg`; keys that it lacks or leaves null have timm's defaults.
    ///
    /// # Errors
    /// `Data` naming file and key for what timm would not take, or what is not done here.
    pub(super) fn read(pretrained: &Value, file: &str) -> Result<Self> {
        let value = |key: &str| pretrained.get(key).filter(|value| !value.is_null());
        let crop_pct = match value("crop_pct") {
            None => 0.875,
            Some(value) => match value.as_f64() {
                Some(share) if 0.0 < share && share <= 1.0 => share,
                _ => {
                    bail!(Data, "{file}: crop_pct is {}, expected a number above 0 and at most 1", json::placed(value))
                }
            },
        };
        let mode = match value("crop_mode").map(Value::as_str) {
            None | Some(Some("center")) => CropMode::Center,
            Some(Some("squash")) => CropMode::Squash,
            Some(Some("border")) => CropMode::Border,
            Some(_) => {
                bail!(
                    Data,
                    "{file}: crop_mode is {}, expected center, squash or border",
                    json::placed(&pretrained["crop_mode"])
                )
            }
        };
        let filter = match value("interpolation").map(Value::as_str) {
            None | Some(Some("bicubic")) => Filter::Bicubic,
            Some(Some("bilinear")) => Filter::Bilinear,
            Some(Some("box")) => Filter::Box,
            Some(Some("lanczos")) => Filter::Lanczos,
            Some(_) => bail!(
                Data,
                "{file}: interpolation is {}, expected bilinear, bicubic, box or lanczos: set one of these in the file",
                json::placed(&pretrained["interpolation"])
            ),
        };
        Ok(Self { crop_pct, mode, filter })
    }

    /// What to resize to for images of `size`, as timm computes it.
    ///
    /// # Errors
    /// `Data` when that is longer than resizing goes.
    pub fn resize(&self, size: usize) -> Result<usize> {
        let length = (size as f64 / self.crop_pct).floor();
        if length > MAX_SIDE as f64 {
            bail!(Data, "crop_pct {} of the weights' config asks for sides of {length}; give --resize", self.crop_pct);
        }
        Ok(length as usize)
    }
}
