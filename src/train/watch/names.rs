//! The names of the classes that a run is scored by.

use crate::error::Result;
use crate::eval::language::{Prompts, class_names, spoken};
use crate::models::tokenizer::Tokenizer;
use crate::say;
use crate::train::job::WatchConfig;

/// Of the names in the file that `config` gives, or of `classes`; none, which is said, where these are numbers.
///
/// # Errors
/// As [`Prompts::new`] and [`class_names`].
pub fn prompts(config: &WatchConfig, classes: &[String], tokenizer: &Tokenizer) -> Result<Option<Prompts>> {
    let names = match &config.class_names {
        Some(path) => Some(class_names("--class-names", path, classes.len())?),
        None => spoken(classes),
    };
    let Some(names) = names else {
        say!("note: the classes of the photographs are numbers; for zero-shot accuracy give --class-names");
        return Ok(None);
    };
    Prompts::new(&names, &config.templates, tokenizer).map(Some)
}
