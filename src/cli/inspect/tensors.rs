//! Weights as a table.

use std::path::Path;

use serde_json::Value;

use crate::answer;
use crate::cli::table::Table;
use crate::device::human_bytes;
use crate::error::Result;
use crate::weights::SafeTensors;

/// Characters of a metadata text that are shown.
const SHOWN: usize = 400;

/// Prints the tensors of one file, their sum, and the file's metadata.
pub fn inspect(path: &Path) -> Result<()> {
    let file = SafeTensors::open(path)?;
    let mut table = Table::new(&["tensor", "shape", "dtype", ">mean", ">std", ">min", ">max", ">NaN"]);
    let (mut tensors, mut values) = (0usize, 0usize);
    // Adam's moments of every parameter are two thirds of a checkpoint, and not what one looks for first.
    let (moments, weights): (Vec<&str>, Vec<&str>) = file.names().partition(|name| name.starts_with("adam."));
    for name in weights.into_iter().chain(moments) {
        let shape = file.shape(name).unwrap_or_default();
        let dtype = file.dtype(name).unwrap_or_default();
        let data = read(&file, name, shape, &dtype)?;
        tensors += 1;
        values += shape.iter().product::<usize>();
        let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let [mean, std, min, max, nan] =
            data.map_or_else(|| [(); 5].map(|()| "-".to_string()), |data| statistics(&data));
        table.row([name.to_string(), format!("[{}]", shape.join(", ")), dtype, mean, std, min, max, nan]);
    }
    table.print();
    let bytes = path.metadata().map_or(0, |info| info.len());
    answer!("\n{}: {tensors} tensors, {values} values, {}", path.display(), human_bytes(bytes));
    for (key, text) in file.metadata_entries() {
        answer!("{key}: {}", short(text));
    }
    answer!();
    Ok(())
}

/// Values of a tensor of a kind that has statistics.
fn read(file: &SafeTensors, name: &str, shape: &[usize], dtype: &str) -> Result<Option<Vec<f64>>> {
    match dtype {
        "F64" | "F32" | "F16" | "BF16" => file.f64(name, shape).map(Some),
        "U8" | "I32" | "I64" => Ok(Some(file.i64(name, shape)?.into_iter().map(|v| v as f64).collect())),
        _ => Ok(None),
    }
}

/// Mean, standard deviation, least and greatest of the numbers; how many are NaN.
fn statistics(data: &[f64]) -> [String; 5] {
    let numbers = || data.iter().copied().filter(|v| !v.is_nan());
    let count = numbers().count();
    let nan = (data.len() - count).to_string();
    if count == 0 {
        return ["-".into(), "-".into(), "-".into(), "-".into(), nan];
    }
    let mean = numbers().sum::<f64>() / count as f64;
    let variance = numbers().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
    let (min, max) = numbers().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    [number(mean), number(variance.sqrt()), number(min), number(max), nan]
}

/// Four significant digits; whole numbers as they are.
fn number(v: f64) -> String {
    if v == v.trunc() && v.abs() < 1e7 {
        format!("{v}")
    } else if v.is_finite() && (1e-3..1e5).contains(&v.abs()) {
        format!("{v:.4}")
    } else {
        format!("{v:.2e}")
    }
}

/// JSON on one line; long texts are cut.
fn short(text: &str) -> String {
    let text = serde_json::from_str::<Value>(text).map_or_else(|_| text.to_string(), |value| value.to_string());
    if text.chars().count() <= SHOWN {
        return text;
    }
    let cut: String = text.chars().take(SHOWN).collect();
    format!("{cut}… ({} characters)", text.chars().count())
}
