//! Evaluations: what their `report.json` says, as tables and curves.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::chart::{Curve, figure};
use super::find::{Kind, Subject, name};
use super::page::{Section, command, folded, note, table, text};
use super::run::{Run, pairs};
use super::sheets::sheets;
use super::{heat, published};
use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::eval::place::REPORT;

/// Rows of a list that are shown.
const ROWS: usize = 200;

/// Digits of a model's hash that are shown.
const HASH: usize = 12;

/// The report in `folder`.
///
/// # Errors
/// `Data` for what is no JSON, or no report of an evaluation; `Io` when it cannot be read.
fn read(folder: &Path) -> Result<Value> {
    let path = folder.join(REPORT);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let report: Value = json::parse(&bytes).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
    if !report["evaluation"].is_string() && !report["nearest"].is_array() {
        bail!(
            Data,
            "{}: neither the report of an evaluation, which says its `evaluation`, nor what inspect --nearest found",
            path.display()
        );
    }
    Ok(report)
}

/// The section of the evaluation in `folder`.
pub fn section(folder: &Path) -> Result<Section> {
    let report = read(folder)?;
    let mut html = String::new();
    if let Some(source) = report["model"]["source"].as_str() {
        html += &format!("<p>Encoder: {}</p>\n", text(source));
    }
    html += &linear(&report);
    html += &nearest(&report);
    let (mut about, mut values, mut rest) = (Vec::new(), Vec::new(), String::new());
    for (key, value) in report.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("linear" | "confusion" | "nearest" | "remarks", _) | (_, Value::Null) => {}
            // The data sets that were scored, each with its score.
            ("data", Value::Array(_)) => rest += &shown(key, value, 3),
            ("model" | "settings" | "transform" | "train" | "test" | "data" | "templates", value) => {
                about.extend(pairs(&json!({ key: value })));
            }
            (key, value) if is_plain(value) => values.push(vec![key.replace('_', " "), cell(value)]),
            (key, value) => rest += &shown(key, value, 3),
        }
    }
    if !values.is_empty() {
        html += &table(&[], &values);
    }
    for remark in report["remarks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        html += &note(remark);
    }
    html += &rest;
    html += &confusion(&report);
    html += &sheets(folder)?;
    html += &folded("of what", &about);
    Ok(Section::new(name(folder), Kind::Evaluation.name(), html))
}

/// Whether a value is shown in one cell: it holds no objects, and is no table of lists.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Object(_) => json::number(value).is_some(),
        Value::Array(items) => items.iter().all(|item| is_plain(item) && !item.is_array()),
        _ => true,
    }
}

/// The linear probe's kinds of heads: the chosen ones, and accuracies on the way.
fn linear(report: &Value) -> String {
    let Some(kinds) = report["linear"].as_array() else { return String::new() };
    let header = ["linear probe", "top-1 %", "base lr", "epoch", "last epoch %"].map(str::to_owned);
    let mut rows = Vec::new();
    let mut charts = String::new();
    for kind in kinds {
        let title = if kind["batch_norm"] == true { "linear, batch norm" } else { "linear" };
        let two = |value: &Value| value.as_f64().map_or(String::new(), |value| format!("{value:.2}"));
        let best = &kind["best"];
        rows.push(vec![
            title.to_owned(),
            two(&best["test"]),
            best["base_lr"].to_string(),
            best["epoch"].to_string(),
            two(&kind["last"]["test"]),
        ]);
        let curve = |head: &Value| Curve {
            name: head["base_lr"].to_string(),
            points: head["evaluations"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|at| Some((at["epoch"].as_f64()?, at["test"].as_f64()?)))
                .collect(),
        };
        let heads: Vec<Curve> = kind["heads"].as_array().into_iter().flatten().map(curve).collect();
        if heads.iter().any(|head| head.points.len() > 1) {
            charts += &figure(&format!("{title}: top-1 % by base learning rate"), "epoch", &heads);
        }
    }
    let (published_header, published_rows) = published::linear();
    format!(
        "{}<div class=\"charts\">\n{charts}</div>\n<details><summary>what the paper reports</summary>{}</details>\n",
        table(&header, &rows),
        table(&published_header, &published_rows)
    )
}

/// What `inspect --nearest` found: the neighbours of each picture, and the commands that draw them again.
fn nearest(report: &Value) -> String {
    let Some(found) = report["nearest"].as_array() else { return String::new() };
    let header = ["nearest to", "rank", "cosine", "found", "caption", "seed", "model"].map(str::to_owned);
    let row = |near: &Value| {
        let model = near["model"].as_str().unwrap_or_default().chars().take(HASH).collect();
        let cosine = near["cosine"].as_f64().map_or_else(String::new, |cosine| format!("{cosine:.4}"));
        let [picture, rank, found, caption, seed] =
            ["picture", "rank", "found", "caption", "seed"].map(|field| cell(&near[field]));
        vec![picture, rank, cosine, found, caption, seed, model]
    };
    let rows: Vec<Vec<String>> = found.iter().take(ROWS).map(row).collect();
    let again: Vec<&str> = found.iter().take(ROWS).filter_map(|near| near["again"].as_str()).collect();
    let again = match again[..] {
        [] => String::new(),
        _ => format!("<details><summary>to draw them again</summary>{}</details>\n", command(&again.join("\n"))),
    };
    table(&header, &rows) + &again
}

/// A value under its name, whatever it is: objects by their fields, lists of objects as tables, confusions as such.
fn shown(key: &str, value: &Value, level: usize) -> String {
    let heading = || format!("<h{level}>{}</h{level}>\n", text(&key.replace('_', " ")));
    match value {
        Value::Null => String::new(),
        Value::Object(fields) if !is_plain(value) => {
            let (plain, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_plain(value));
            let rows: Vec<Vec<String>> =
                plain.into_iter().map(|(key, value)| vec![key.replace('_', " "), cell(value)]).collect();
            let mut out = heading();
            if !rows.is_empty() {
                out += &table(&[], &rows);
            }
            for (key, value) in others.into_iter().filter(|(key, _)| *key != "confusion") {
                out += &shown(key, value, (level + 1).min(6));
            }
            out + &confusion(value)
        }
        Value::Array(items) if items.iter().all(Value::is_object) && !items.is_empty() => {
            let header: Vec<String> = items[0].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
            let row = |item: &Value| header.iter().map(|key| cell(&item[key.as_str()])).collect();
            let rows: Vec<Vec<String>> = items.iter().take(ROWS).map(row).collect();
            let more = items.len().saturating_sub(ROWS);
            let more = if more == 0 { String::new() } else { note(&format!("and {more} more")) };
            let header: Vec<String> = header.iter().map(|key| key.replace('_', " ")).collect();
            heading() + &table(&header, &rows) + &more
        }
        other => table(&[], &[vec![key.replace('_', " "), cell(other)]]),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Object(_) if is_plain(value) => json::shown(value).to_string(),
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(0.0)) => "0".into(),
            (None, Some(value)) if value.abs() >= 10.0 => format!("{value:.2}"),
            (None, Some(value)) if value.abs() >= 0.01 => format!("{value:.4}"),
            (None, Some(value)) => format!("{value:.3e}"),
            (None, None) => number.to_string(),
        },
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key} {}", cell(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The confusion of the classes that `report`, or a part of it, scores, where it is kept.
fn confusion(report: &Value) -> String {
    let counts = |value: &Value| -> Option<Vec<Vec<u64>>> {
        let rows = value.as_array()?.iter();
        rows.map(|row| row.as_array()?.iter().map(Value::as_u64).collect()).collect()
    };
    let Some(counts) = counts(&report["confusion"]) else { return String::new() };
    let mut names = report["classes"].as_array().into_iter().flatten().filter_map(|class| class["name"].as_str());
    // A class that no picture is of has no name among those that are scored.
    let names: Vec<String> = counts
        .iter()
        .map(|row| if row.iter().sum::<u64>() > 0 { names.next().unwrap_or_default().to_owned() } else { "–".into() })
        .collect();
    heat::confusion(&names, &counts)
}

/// One table of all that was scored, where there is anything: evaluations of frozen encoders, and runs that were
/// fine-tuned with scores.
pub fn summary(subjects: &[&Subject]) -> Result<Option<Section>> {
    let mut rows = Vec::new();
    for Subject { path, kind } in subjects {
        rows.extend(match kind {
            Kind::Evaluation => evaluated(path)?,
            Kind::Run => fine_tuned(path)?,
            Kind::Shards => None,
        });
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let mut header = ["scores", "encoder", "N"].to_vec();
    header.extend(COLUMNS);
    // A column that nothing was scored in says nothing.
    let said = |column: usize| column < 3 || rows.iter().any(|row: &Vec<String>| !row[column].is_empty());
    let kept: Vec<usize> = (0..header.len()).filter(|&column| said(column)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| kept.iter().map(|&at| row[at].clone()).collect()).collect();
    let header: Vec<String> = kept.iter().map(|&at| header[at].to_owned()).collect();
    Ok(Some(Section::new("All scores".into(), Kind::Evaluation.name(), table(&header, &rows))))
}

/// The scores of that table.
const COLUMNS: [&str; 6] =
    ["linear %", "linear, batch norm %", "k-NN %", "zero-shot %", "fine-tuned %", "fine-tuned, averaged weights %"];

/// A row of the table: whose, of which encoder, on how many pictures, and its scores.
fn row(path: &Path, (encoder, images): (&str, Option<u64>), scores: [Option<f64>; 6]) -> Option<Vec<String>> {
    scores.iter().any(Option::is_some).then(|| {
        let about = [name(path), encoder.to_owned(), images.map_or_else(String::new, |images| images.to_string())];
        let percent = |value: &Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        about.into_iter().chain(scores.iter().map(percent)).collect()
    })
}

fn evaluated(path: &Path) -> Result<Option<Vec<String>>> {
    let report = read(path)?;
    let linear = |batch_norm: bool| {
        let kinds = report["linear"].as_array()?;
        kinds.iter().find(|kind| kind["batch_norm"] == batch_norm)?["best"]["test"].as_f64()
    };
    let (knn, zero_shot) = (report["knn"]["test"].as_f64(), report["top1"].as_f64());
    let images = report["test"]["images"].as_u64().or(report["data"]["images"].as_u64());
    let encoder = report["model"]["source"].as_str().unwrap_or_default();
    Ok(row(path, (encoder, images), [linear(false), linear(true), knn, zero_shot, None, None]))
}

/// Of a run of `--method finetune`, where it ended.
fn fine_tuned(path: &Path) -> Result<Option<Vec<String>>> {
    let run = Run::read(path)?;
    let start = run.settings.iter().find(|(key, _)| key == "init-from").map_or("", |(_, value)| value);
    let [top1, averaged] = ["test.top1", "test.ema_top1"].map(|field| run.last(field));
    Ok(row(path, (start, None), [None, None, None, None, top1, averaged]))
}
