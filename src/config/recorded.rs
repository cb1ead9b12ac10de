//! Settings that a file remembers, compared by value with those of a command, in the words of its flags.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

/// What recorded keys are called on the command line: `("rate.peak", "--lr")`. A key without an entry is the flag of
/// its last part: `images_per_caption` is `--images-per-caption`. An empty flag marks what does not belong to a folder,
/// in which any value goes on.
pub type FlagNames = [(&'static str, &'static str)];

/// The flag that sets the recorded `key` (parts with dots between).
pub fn flag_of(key: &str, names: &FlagNames) -> String {
    match names.iter().find(|(name, _)| *name == key) {
        Some((_, flag)) => (*flag).to_owned(),
        None => format!("--{}", key.rsplit('.').next().unwrap_or(key).replace('_', "-")),
    }
}

/// A line for each setting in which `found`, as a file records it, differs from `wanted`: its flag, what it was, what
/// it is now.
///
/// Values are compared, not spellings: the order of keys and the form of numbers (4, 4.0) mean nothing, and a key that
/// an older version did not know has the value that `T` gives it by default.
///
/// # Errors
/// If `wanted` cannot be expressed in JSON.
pub fn differences<T>(found: &Value, wanted: &T, names: &FlagNames) -> Result<Vec<String>, serde_json::Error>
where
    T: Serialize + DeserializeOwned,
{
    let mut found = found.clone();
    whole_numbers(&mut found);
    let mut wanted = as_written(wanted)?;
    whole_numbers(&mut wanted);
    if let Ok(read) = serde_json::from_value::<T>(found.clone()) {
        let mut complete = as_written(&read)?;
        whole_numbers(&mut complete);
        add_unknown(&mut complete, found);
        found = complete;
    }
    let mut lines = Vec::new();
    compare("", &found, &wanted, names, &mut lines);
    Ok(lines)
}

/// By way of text, which has the shortest number that reads back: 2.1, where the nearest f32 is 2.0999999046325684.
fn as_written(settings: &impl Serialize) -> Result<Value, serde_json::Error> {
    serde_json::from_str(&serde_json::to_string(settings)?)
}

/// Writes floats that are whole as integers, which every type of number is read from.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            let whole = number.as_f64().filter(|v| v.fract() == 0.0 && v.abs() <= 2f64.powi(53));
            if let Some(whole) = whole {
                *number = Number::from(whole as i64);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// Keys that the type does not have are differences too: a later version may have meant something by them.
fn add_unknown(complete: &mut Value, found: Value) {
    if let (Value::Object(complete), Value::Object(found)) = (complete, found) {
        for (key, value) in found {
            match complete.get_mut(&key) {
                Some(known) => add_unknown(known, value),
                None => drop(complete.insert(key, value)),
            }
        }
    }
}

fn compare(key: &str, found: &Value, wanted: &Value, names: &FlagNames, out: &mut Vec<String>) {
    let empty = Map::new();
    if names.contains(&(key, "")) {
        return;
    }
    match (found, wanted) {
        (Value::Object(_), Value::Object(_)) | (Value::Object(_), Value::Null) | (Value::Null, Value::Object(_)) => {
            let (a, b) = (found.as_object().unwrap_or(&empty), wanted.as_object().unwrap_or(&empty));
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for name in keys {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let value = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                compare(&path, &value(a), &value(b), names, out);
            }
        }
        (a, b) if a != b => {
            let shown = |value: &Value| if value.is_null() { "not set".to_owned() } else { value.to_string() };
            out.push(format!("  {}: was {}, now {}", flag_of(key, names), shown(a), shown(b)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Settings {
        rate: Rate,
        images_per_caption: u64,
        temperature: f64,
        #[serde(default)]
        later: u64,
        from: Option<String>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Rate {
        Base(f64),
        Peak(f64),
    }

    const NAMES: &FlagNames = &[("rate.base", "--blr"), ("rate.peak", "--lr")];

    fn wanted() -> Settings {
        Settings { rate: Rate::Peak(2.0), images_per_caption: 6, temperature: 0.1, later: 0, from: None }
    }

    fn lines(found: Value) -> Vec<String> {
        differences(&found, &wanted(), NAMES).unwrap()
    }

    #[test]
    fn spelling_order_and_absent_defaults_are_no_difference() {
        let found = json!({"temperature": 1e-1, "images_per_caption": 6.0, "rate": {"peak": 2}});
        assert!(lines(found).is_empty());
    }

    #[test]
    fn differences_are_named_by_flag() {
        let found = json!({"rate": {"base": 0.5}, "images_per_caption": 4, "temperature": 0.1, "from": "a"});
        let want = [
            "  --from: was \"a\", now not set",
            "  --images-per-caption: was 4, now 6",
            "  --blr: was 0.5, now not set",
            "  --lr: was not set, now 2",
        ];
        assert_eq!(lines(found), want);
    }

    #[test]
    fn a_key_of_a_later_version_and_a_wrong_kind_are_differences() {
        let found = json!({"rate": {"peak": 2.0}, "images_per_caption": 6, "temperature": 0.1, "views": 3});
        assert_eq!(lines(found), ["  --views: was 3, now not set"]);
        let found = json!({"rate": {"peak": 2.0}, "images_per_caption": 6, "temperature": "0.1", "later": 0});
        assert_eq!(lines(found), ["  --temperature: was \"0.1\", now 0.1"]);
    }
}
