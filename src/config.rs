//! Presets: TOML whose keys are the long flags of the command, laid over each other; and the reader of other programs'
//! JSON.

mod hex;
pub mod json;
mod recorded;
mod shell;
pub mod spelling;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::bail;
use crate::error::{Error, Result};

pub use hex::hex;
pub use recorded::{FlagNames, differences, flag_of};
pub use shell::shell_word;

/// A configuration that travels in the binary (`configs/NAME.toml`).
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! presets {
    ($($name:literal),+ $(,)?) => { &[$(Preset { name: $name, text: include_str!(concat!("../configs/", $name, ".toml")) }),+] };
}

/// Presets of `stablerep train --preset`.
pub const TRAIN_PRESETS: &[Preset] = presets![
    "demo-stablerep",
    "demo-simclr",
    "stablerep-cc12m-1x",
    "stablerep-cc12m-2x",
    "stablerep-cc12m-3x",
    "stablerep-redcaps-1x",
    "stablerep-redcaps-2x",
    "stablerep-redcaps-3x",
    "simclr-cc12m-1x",
    "simclr-redcaps-1x",
    "stablerep-plus-cc12m-1x",
    "stablerep-plus-redcaps-1x",
    "stablerep-plus-laion",
    "clip-cc12m",
    "slip-cc12m",
    "mae-cc12m",
    "demo-mae",
    "mocov3-cc12m",
    "byol-cc12m",
    "dino-cc12m",
    "finetune-vitb16",
    "segment-ade20k-vitb16",
];

/// What `stablerep train` uses where neither preset, file nor flag says otherwise.
pub const TRAIN_DEFAULTS: Preset =
    Preset { name: "train-defaults", text: include_str!("../configs/train-defaults.toml") };

/// What `--method finetune` uses in the place of some of them.
pub const FINETUNE_DEFAULTS: Preset =
    Preset { name: "finetune-defaults", text: include_str!("../configs/finetune-defaults.toml") };

/// What `--method segment` uses in the place of some of them.
pub const SEGMENT_DEFAULTS: Preset =
    Preset { name: "segment-defaults", text: include_str!("../configs/segment-defaults.toml") };

/// What `--method mae` uses in the place of some of them.
pub const MAE_DEFAULTS: Preset = Preset { name: "mae-defaults", text: include_str!("../configs/mae-defaults.toml") };

/// Lays settings over each other: a later layer's keys replace an earlier one's.
/// A key of one of the `exclusive` pairs also removes its partner, e.g. `--steps` the preset's `epochs`.
#[derive(Debug)]
pub struct Layers {
    merged: Table,
    exclusive: &'static [[&'static str; 2]],
}

impl Layers {
    pub fn new(exclusive: &'static [[&'static str; 2]]) -> Self {
        Self { merged: Table::new(), exclusive }
    }

    /// The preset called `name`.
    ///
    /// # Errors
    /// Usage error with the names that exist, if this one does not.
    pub fn preset<T: DeserializeOwned>(&mut self, presets: &[Preset], name: &str) -> Result<()> {
        let Some(preset) = presets.iter().find(|preset| preset.name == name) else {
            let names: Vec<&str> = presets.iter().map(|preset| preset.name).collect();
            bail!(Usage, "--preset {name}: no such preset; there are {}", names.join(", "));
        };
        self.text::<T>(&format!("preset {name}"), preset.text)
    }

    /// TOML text called `name`.
    ///
    /// # Errors
    /// If it is not TOML, or holds a key or type that `T` does not have (with the line).
    pub fn text<T: DeserializeOwned>(&mut self, name: &str, text: &str) -> Result<()> {
        let wrong = |e: toml::de::Error| Error::Usage(format!("{name}: {}", e.to_string().trim_end()));
        toml::from_str::<T>(text).map_err(wrong)?;
        self.lay(text.parse::<Table>().map_err(wrong)?);
        Ok(())
    }

    /// Values given on the command line; absent ones (`None`) change nothing.
    ///
    /// # Errors
    /// If a value cannot be expressed in TOML (an integer beyond 63 bits).
    pub fn flags(&mut self, flags: &impl Serialize) -> Result<()> {
        let value = Value::try_from(flags).map_err(|e| not_in_toml(flags, &e))?;
        if let Value::Table(table) = value {
            self.lay(table);
        }
        Ok(())
    }

    fn lay(&mut self, layer: Table) {
        for (key, value) in layer {
            for pair in self.exclusive.iter().filter(|pair| pair.contains(&key.as_str())) {
                pair.iter().for_each(|partner| drop(self.merged.remove(*partner)));
            }
            self.merged.insert(key, value);
        }
    }

    /// The result.
    ///
    /// # Errors
    /// If a type does not fit.
    pub fn finish<T: DeserializeOwned>(self) -> Result<T> {
        Value::Table(self.merged).try_into().map_err(|e: toml::de::Error| Error::Usage(e.to_string()))
    }
}

/// The error for flags that TOML cannot hold, by the name of the flag.
fn not_in_toml(flags: &impl Serialize, why: &toml::ser::Error) -> Error {
    let most = i64::MAX as u64;
    let flags = serde_json::to_value(flags).unwrap_or_default();
    let beyond =
        |(key, value): (&String, &serde_json::Value)| Some((key.clone(), value.as_u64().filter(|v| *v > most)?));
    Error::Usage(match flags.as_object().and_then(|map| map.iter().find_map(beyond)) {
        Some((flag, value)) => format!("--{flag} {value}: expected at most {most}"),
        None => format!("a flag's value: {why}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
    struct Settings {
        epochs: Option<f64>,
        steps: Option<u64>,
        head_dims: Option<Vec<usize>>,
    }

    #[test]
    fn later_layers_win_and_partners_leave() {
        let mut layers = Layers::new(&[["epochs", "steps"]]);
        layers.text::<Settings>("preset", "epochs = 3.5\nhead-dims = [4, 2]").unwrap();
        layers.flags(&Settings { steps: Some(7), ..Settings::default() }).unwrap();
        let want = Settings { epochs: None, steps: Some(7), head_dims: Some(vec![4, 2]) };
        assert_eq!(layers.finish::<Settings>().unwrap(), want);
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line() {
        let mut layers = Layers::new(&[]);
        let error = layers.text::<Settings>("my.toml", "epochs = 1.0\nepoch = 2\n").unwrap_err().to_string();
        assert!(error.contains("my.toml") && error.contains("line 2") && error.contains("epoch"), "{error}");
        let error = layers.preset::<Settings>(TRAIN_PRESETS, "nope").unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("stablerep-cc12m-1x"), "{error}");
    }
}
