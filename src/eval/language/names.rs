//! Names of classes in files.

use std::fs;
use std::path::Path;

use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};

/// The names of `classes` classes in the file that `flag` gives: a line each, or a JSON list whose entries are a name
/// or several in a list.
///
/// # Errors
/// `Data` naming the file when it does not name every class; `Io` when it cannot be read.
pub fn class_names(flag: &str, path: &Path, classes: usize) -> Result<Vec<Vec<String>>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let shown = path.display();
    let listed = path.extension().is_some_and(|extension| extension == "json");
    let names: Vec<Vec<String>> = if listed {
        let listed: Vec<Names> = json::parse(&bytes).map_err(|e| {
            Error::Data(format!("{flag} {shown}: {e}; expected a list of names, or of lists of names of one class"))
        })?;
        listed.into_iter().map(Names::all).collect()
    } else {
        let Ok(text) = String::from_utf8(bytes) else {
            bail!(Data, "{flag} {shown}: its names are not UTF-8; save it as UTF-8");
        };
        text.lines().map(|line| vec![line.trim().to_owned()]).collect()
    };
    let blank = names.iter().position(|names| names.is_empty() || names.iter().any(String::is_empty));
    if names.len() != classes || blank.is_some() {
        bail!(
            Data,
            "{flag} {shown}: {} {}(s){}, expected one name for each of the {classes} classes, in the order of their labels",
            names.len(),
            if listed { "name" } else { "line" },
            blank.map_or(String::new(), |line| format!(", the {}. blank", line + 1)),
        );
    }
    Ok(names)
}

/// Names as they are said: folders write blanks as `_`. `None` where they are numbers.
pub fn spoken(names: &[String]) -> Option<Vec<Vec<String>>> {
    let numbers = names.iter().all(|name| name.chars().all(|c| c.is_ascii_digit()));
    (!numbers).then(|| names.iter().map(|name| vec![name.replace('_', " ")]).collect())
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name.trim().to_owned()],
            Self::Several(names) => names.into_iter().map(|name| name.trim().to_owned()).collect(),
        }
    }
}
