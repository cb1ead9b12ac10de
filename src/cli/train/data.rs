//! `--data PATH` and `--data PATH=WEIGHT`.

use std::path::PathBuf;

use crate::bail;
use crate::cli::paths;
use crate::error::Result;

/// Paths, and their weights where they have any: all of them or none.
///
/// # Errors
/// Usage error if only some have.
pub(super) fn weighted(data: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Vec<f64>)> {
    let (names, weights): (Vec<PathBuf>, Vec<Option<f64>>) = data.into_iter().map(paths::split_weight).unzip();
    let given: Vec<f64> = weights.iter().flatten().copied().collect();
    if !given.is_empty() && given.len() < names.len() {
        let without =
            weights.iter().position(Option::is_none).map_or(String::new(), |i| names[i].display().to_string());
        bail!(Usage, "--data {without}: give every one a weight (PATH=0.7), or none");
    }
    Ok((names, given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_split_off() {
        let of = |names: &[&str]| weighted(names.iter().map(PathBuf::from).collect());
        assert_eq!(of(&["a", "b"]).unwrap(), (vec!["a".into(), "b".into()], vec![]));
        assert_eq!(of(&["a=0.7", "x=y=3e-1"]).unwrap(), (vec!["a".into(), "x=y".into()], vec![0.7, 0.3]));
        assert_eq!(of(&["a=b"]).unwrap(), (vec!["a=b".into()], vec![]));
        assert!(of(&["a=0.7", "b"]).unwrap_err().to_string().starts_with("--data b: give every one"));
    }
}
