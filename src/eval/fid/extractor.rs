//! Features of pictures, by Inception or by an encoder.

use std::path::{Path, PathBuf};

use super::config::Source;
use super::inception::{Network, Resize};
use super::report::FeaturesReport;
use crate::error::Result;
use crate::eval::encoder::Encoder;
use crate::eval::features::extract_all;
use crate::eval::report::ModelReport;
use crate::eval::screen::Screened;
use crate::eval::transform::Transform;
use crate::models::inception::WIDTH;
use crate::weights::Cache;

/// What computes features.
pub(super) enum Extractor {
    Inception { network: Box<Network>, resize: Resize, path: PathBuf, cache: Cache },
    Encoder { encoder: Box<Encoder>, transform: Transform },
}

impl Extractor {
    pub(super) fn open(source: &Source) -> Result<Self> {
        Ok(match source {
            Source::Inception { path, resize, device } => Self::Inception {
                network: Box::new(Network::open(path, *device)?),
                resize: *resize,
                path: path.clone(),
                cache: Cache::open(),
            },
            Source::Encoder { model, placement, fit } => {
                let encoder = Box::new(Encoder::placed(model, placement)?);
                let side = encoder.vit().config().image_size;
                let transform = Transform::new(side, *fit, None, encoder.preprocessing())?;
                Self::Encoder { encoder, transform }
            }
        })
    }

    /// D.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Inception { .. } => WIDTH,
            Self::Encoder { encoder, .. } => encoder.vit().config().width,
        }
    }

    pub(super) fn features(&self, set: &Screened) -> Result<Vec<f32>> {
        let name = Path::new(set.images.name());
        let what = name.file_name().map_or_else(|| set.images.name().into(), |name| name.to_string_lossy());
        match self {
            Self::Inception { network, resize, cache, .. } => network.features(set, *resize, cache, &what),
            Self::Encoder { encoder, transform } => extract_all(encoder, &set.images, *transform, &what),
        }
    }

    pub(super) fn report(&self) -> FeaturesReport {
        match self {
            Self::Inception { network, resize, path, .. } => FeaturesReport::Inception {
                path: path.display().to_string(),
                sha256: network.sha256(),
                resize: *resize,
            },
            Self::Encoder { encoder, transform } => {
                FeaturesReport::Encoder { model: ModelReport::of(encoder), transform: *transform }
            }
        }
    }
}
