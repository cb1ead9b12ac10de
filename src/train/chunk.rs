//! How much of a step's activations a run holds at once: as it was asked for, as the folder recorded it, or as much as
//! there is memory for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::recipe::Recipe;
use crate::bail;
use crate::error::Result;

/// Chunks that are chosen are multiples of a step's images over this: not so fine that a little memory more or less
/// gives another one.
const GRAINS: usize = 128;

/// Images whose activations are held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Chunk {
    /// All of a step.
    All,
    Images(usize),
}

impl FromStr for Chunk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(images @ 1..) => Ok(Self::Images(images)),
            _ => Err(format!("expected a number of images above 0, or all; got `{text}`")),
        }
    }
}

impl TryFrom<String> for Chunk {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Chunk> for String {
    fn from(chunk: Chunk) -> Self {
        chunk.to_string()
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Images(images) => write!(f, "{images}"),
        }
    }
}

/// What a run is told to hold. What it is not told is chosen by the memory there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activations {
    pub chunk: Option<Chunk>,
    /// Whether layer norms and GELUs are computed again rather than held.
    pub recompute: Option<bool>,
}

impl Activations {
    /// What `recipe` holds.
    pub(super) fn of(recipe: &Recipe) -> Self {
        Self { chunk: Some(recipe.chunk.map_or(Chunk::All, Chunk::Images)), recompute: Some(recipe.recompute) }
    }

    /// What this says, and what it does not as `other` says it.
    pub(super) fn or(self, other: Self) -> Self {
        Self { chunk: self.chunk.or(other.chunk), recompute: self.recompute.or(other.recompute) }
    }

    /// Sets what `recipe` holds at once to the first of these that `fits`: all; all but norms and GELUs; the largest
    /// chunk without those. Where nothing fits it is the least.
    ///
    /// # Errors
    /// Usage error for a chunk of more images than a step has; those of `fits`.
    pub(super) fn settle(self, recipe: &mut Recipe, mut fits: impl FnMut(&Recipe) -> Result<bool>) -> Result<()> {
        let images = recipe.images_per_step();
        recipe.chunk = match self.chunk {
            Some(Chunk::Images(chunk)) if chunk > images => {
                bail!(Usage, "--chunk {chunk}: a step has {images} images; give fewer, or all")
            }
            Some(Chunk::Images(chunk)) => Some(chunk).filter(|&chunk| chunk < images),
            Some(Chunk::All) | None => None,
        };
        for recompute in self.recompute.map_or_else(|| vec![false, true], |recompute| vec![recompute]) {
            recipe.recompute = recompute;
            if fits(recipe)? {
                return Ok(());
            }
        }
        // Batch norms over maps are of all images of a step.
        if self.chunk.is_some() || recipe.segment.is_some() {
            return Ok(());
        }
        let grain = images.div_ceil(GRAINS);
        // Of so many grains it fits, of so many it does not.
        let (mut fit, mut not) = (0, images.div_ceil(grain));
        while not - fit > 1 {
            let middle = fit + (not - fit) / 2;
            recipe.chunk = Some(middle * grain);
            if fits(recipe)? { fit = middle } else { not = middle }
        }
        recipe.chunk = Some(fit.max(1) * grain);
        Ok(())
    }
}

/// What is said of a run that does not hold all of a step's activations.
pub(super) fn said(recipe: &Recipe) -> Option<String> {
    let again = "layer norms and GELUs are computed again in the backward";
    match (recipe.chunk, recipe.recompute) {
        (None, false) => None,
        (None, true) => Some(format!("activations: {again}")),
        (Some(chunk), recompute) => Some(format!(
            "activations: of {chunk} of {} images{} at once (--chunk), the others {}{}",
            recipe.images_per_step(),
            if recipe.local.is_some() { " and as large a share of the small crops" } else { "" },
            if recipe.method.is_contrastive() { "run forward twice" } else { "before or after them" },
            if recompute { format!("; {again}") } else { String::new() }
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 512 images a step.
    fn recipe() -> Recipe {
        let model =
            r#"{"image_size": 8, "patch_size": 8, "width": 2, "depth": 1, "heads": 1, "mlp_ratio": 1, "channels": 3}"#;
        let text = format!(
            r#"{{"data": ["shards"], "method": "stablerep", "model": {model}, "head_dims": [2, 2],
            "batch_norm": "per-slot", "batch": 128, "images_per_caption": 4, "length": {{"steps": 1}},
            "warmup": {{"steps": 0}}, "rate": {{"peak": 1}}, "weight_decay": 0, "beta1": 0, "beta2": 0,
            "temperature": 1, "augmentation": "none", "crop_scale": [1, 1], "downsample": false, "shuffle": false, "seed": 0, "max_bad": 0, "init_from": null}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// What is chosen where an image takes 8, 5 without what is computed again, and there are `room`.
    fn chosen(asked: Activations, room: usize) -> (Option<usize>, bool) {
        let mut recipe = recipe();
        let fits = |recipe: &Recipe| {
            let each = if recipe.recompute { 5 } else { 8 };
            Ok(recipe.chunk.unwrap_or(512) * each <= room)
        };
        asked.settle(&mut recipe, fits).unwrap();
        (recipe.chunk, recipe.recompute)
    }

    #[test]
    fn the_most_that_fits_is_chosen() {
        let nothing = Activations::default();
        let rooms = [8 * 512, 8 * 512 - 1, 5 * 512, 5 * 512 - 1, 5 * 30, 19, 0];
        let want = [
            (None, false),
            (None, true),
            (None, true),
            (Some(508), true),
            (Some(28), true),
            (Some(4), true),
            (Some(4), true),
        ];
        assert_eq!(rooms.map(|room| chosen(nothing, room)), want);
        // What was asked for stays.
        let chunk = |chunk| Activations { chunk: Some(chunk), recompute: None };
        assert_eq!(chosen(chunk(Chunk::Images(33)), 8 * 33), (Some(33), false));
        assert_eq!(chosen(chunk(Chunk::Images(33)), 0), (Some(33), true));
        assert_eq!(chosen(chunk(Chunk::Images(512)), 8 * 512), (None, false));
        assert_eq!(chosen(chunk(Chunk::All), 0), (None, true));
        let held = Activations { chunk: None, recompute: Some(false) };
        assert_eq!(chosen(held, 8 * 100), (Some(100), false));
        let error = chunk(Chunk::Images(513)).settle(&mut recipe(), |_| Ok(true)).unwrap_err().to_string();
        assert!(error.starts_with("--chunk 513: a step has 512 images"), "{error}");
    }

    #[test]
    fn text_goes_both_ways() {
        for text in ["all", "1", "2048"] {
            assert_eq!(text.parse::<Chunk>().unwrap().to_string(), text);
        }
        for text in ["0", "-1", "", "All", "2.5"] {
            assert!(text.parse::<Chunk>().unwrap_err().contains("above 0, or all"), "{text}");
        }
    }
}
