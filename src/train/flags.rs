//! What the settings of a run are called on the command line: for messages, and for the file that gives the same run
//! again.

use std::path::Path;

use serde_json::Value;
use toml::{Table, Value as Toml};

use super::chunk::Chunk;
use super::job::{CONFIG_TOML, Config, WatchConfig};
use super::recipe::Recipe;
use crate::config::{FlagNames, flag_of};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::vit::VitConfig;

/// Flags of the recorded settings whose names differ; those without a name are no part of what a folder belongs to.
pub const FLAGS: &FlagNames = &[
    ("model.mlp_ratio", "mlp_ratio"),
    ("model.channels", "channels"),
    ("cpu_precision", "--precision"),
    ("batch_norm", "--bn"),
    ("length.epochs", "--epochs"),
    ("length.steps", "--steps"),
    ("warmup.epochs", "--warmup-epochs"),
    ("warmup.steps", "--warmup-steps"),
    ("rate.base", "--blr"),
    ("rate.peak", "--lr"),
    ("shuffle", "shuffle (--no-shuffle)"),
    ("language.tokenizer", ""),
    ("language.words", "what --tokenizer names"),
    ("language.vocabulary", "the vocabulary of --tokenizer"),
    ("language.any_caption", "--any-caption"),
    ("language.context", "--context-length"),
    ("language.width", "--text-width"),
    ("language.depth", "--text-depth"),
    ("language.heads", "--text-heads"),
    ("language.embed_dim", "--embed-dim"),
    ("language.projection", "--projection"),
    ("language.weight", "--text-weight"),
    ("local", "--local-crops"),
    ("local.crops", "--local-crops"),
    ("local.size", "--local-size"),
    ("local.scale", "--local-scale"),
    ("max_bad", ""),
    ("mae.decoder_width", "--decoder-width"),
    ("mae.decoder_depth", "--decoder-depth"),
    ("mae.decoder_heads", "--decoder-heads"),
    ("mae.mask_ratio", "--mask-ratio"),
    ("finetune.classes", "--classes"),
    ("finetune.pool", "--pool"),
    ("finetune.layer_decay", "--layer-decay"),
    ("finetune.label_smoothing", "--label-smoothing"),
    ("finetune.ema", "--ema"),
    ("finetune.rand_augment", "--rand-augment"),
    ("finetune.erase", "--erase"),
    ("finetune.mixup", "--mixup"),
    ("finetune.cutmix", "--cutmix"),
    ("finetune.mix_switch", "--mix-switch"),
    ("segment.head", "--segmentation-head"),
    ("segment.classes", "--classes"),
    ("segment.first_label", "--first-label"),
    ("segment.layer_decay", "--layer-decay"),
    ("segment.auxiliary", "--auxiliary-weight"),
    ("segment.drop_channels", "--drop-channels"),
    ("max_bad_updates", ""),
    // Known by what they hold, not by where they lie: `data.json`.
    ("data", ""),
    ("weights", "the weights of --data"),
    ("init_from", ""),
];

/// The run as a file for `stablerep train --config`: every setting, whatever the defaults of a later version are.
///
/// # Errors
/// If a value cannot be expressed in TOML.
pub fn toml(config: &Config) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Error::Failed(format!("{}: {e}", CONFIG_TOML));
    let mut flags = Table::new();
    let recipe = serde_json::to_value(&config.recipe).map_err(|e| failed(&e))?;
    let Value::Object(settings) = recipe else { return Err(failed(&"the settings are no table")) };
    for (key, value) in settings {
        if config.recipe.without(&key) {
            continue;
        }
        match (key.as_str(), &value) {
            ("data", _) => drop(flags.insert("data".into(), data(&config.recipe))),
            ("weights", _) => {}
            // A GPU is asked for none.
            ("cpu_precision", _) if config.device != Device::Cpu => {}
            ("model", _) => model(&config.recipe.model, &mut flags),
            ("shuffle", Value::Bool(shuffle)) => drop(flags.insert("no-shuffle".into(), Toml::Boolean(!shuffle))),
            ("language", Value::Object(language)) => {
                insert(&mut flags, "tokenizer", &language["tokenizer"]);
                for (name, value) in language {
                    insert(&mut flags, &format!("{key}.{name}"), value);
                }
            }
            // `{"epochs": 15.0}`: which of two flags it is.
            (_, Value::Object(choice)) => {
                for (name, value) in choice {
                    let name = format!("{key}.{name}");
                    if !config.recipe.without(&name) {
                        insert(&mut flags, &name, value);
                    }
                }
            }
            _ => insert(&mut flags, &key, &value),
        }
    }
    // Absent where they say as much as these, which a run of this file must not choose anew.
    flags.entry("chunk").or_insert_with(|| Toml::String(Chunk::All.to_string()));
    flags.entry("recompute").or_insert(Toml::Boolean(false));
    let path = |path: &Path| Toml::String(path.display().to_string());
    flags.insert("output".into(), path(&config.output));
    flags.insert("save-every".into(), Toml::String(config.save_every.to_string()));
    flags.insert("device".into(), Toml::String(config.device.to_string()));
    if let Some(WatchConfig { every, train, test, class_names, templates }) = &config.watch {
        flags.insert("knn-every".into(), Toml::String(every.to_string()));
        let paths = [("knn-train", Some(train)), ("knn-test", test.as_ref()), ("class-names", class_names.as_ref())];
        for (flag, named) in paths {
            flags.extend(named.map(|named| (flag.to_owned(), path(named))));
        }
        flags.insert("template".into(), Toml::Array(templates.iter().cloned().map(Toml::String).collect()));
    }
    if let Some(test) = &config.test {
        flags.insert("test".into(), path(&test.images.path));
        flags.extend(test.images.labels.iter().map(|labels| ("test-labels".to_owned(), path(labels))));
        flags.extend(test.every.iter().map(|every| ("test-every".to_owned(), Toml::String(every.to_string()))));
    }
    if config.allow_partial {
        flags.insert("allow-partial".into(), Toml::Boolean(true));
    }
    let text = toml::to_string(&flags).map_err(|e| failed(&e))?;
    Ok(format!(
        "# Written by `stablerep train`, version {}. The same run: stablerep train --config FILE (with --output it begins elsewhere).\n{text}",
        env!("CARGO_PKG_VERSION")
    ))
}

/// `--data` with the weights that it was given.
fn data(recipe: &Recipe) -> Toml {
    let weights = recipe.weights.iter().map(|weight| format!("={weight}")).chain(std::iter::repeat(String::new()));
    let paths = recipe.data.iter().map(|path| path.display().to_string());
    Toml::Array(paths.zip(weights).map(|(path, weight)| Toml::String(path + &weight)).collect())
}

fn insert(flags: &mut Table, key: &str, value: &Value) {
    // Some are known by what a flag names.
    if FLAGS.iter().any(|(known, named)| *known == key && !named.is_empty() && !named.starts_with("--")) {
        return;
    }
    let flag = flag_of(key, &FLAGS.iter().filter(|(_, flag)| flag.starts_with("--")).copied().collect::<Vec<_>>());
    if let (Some(name), Some(value)) = (flag.strip_prefix("--"), of_json(value)) {
        flags.insert(name.to_owned(), value);
    }
}

/// The value in TOML; nothing for null.
fn of_json(value: &Value) -> Option<Toml> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Toml::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Toml::Integer(whole),
            None => Toml::Float(number.as_f64()?),
        },
        Value::String(text) => Toml::String(text.clone()),
        Value::Array(values) => Toml::Array(values.iter().filter_map(of_json).collect()),
        Value::Object(_) => return None,
    })
}

/// `--model` by its name where it has one, else with every size.
fn model(model: &VitConfig, flags: &mut Table) {
    let VitConfig { image_size, patch_size, width, depth, heads, qk_norm, .. } = *model;
    let name = VitConfig::NAMES.into_iter().find(|name| {
        VitConfig::named(name).is_some_and(|v| VitConfig { image_size, patch_size, qk_norm, ..v } == *model)
    });
    let mut sizes = vec![("image-size", image_size), ("patch-size", patch_size)];
    if name.is_none() {
        sizes.extend([("width", width), ("depth", depth), ("heads", heads)]);
    }
    flags.insert("model".into(), Toml::String(name.unwrap_or("custom").into()));
    flags.extend(sizes.into_iter().map(|(flag, size)| (flag.to_owned(), Toml::Integer(size as i64))));
    if qk_norm {
        flags.insert("qk-norm".into(), Toml::Boolean(true));
    }
}
