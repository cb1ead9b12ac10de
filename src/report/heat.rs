//! A confusion as a table whose cells are the darker, the more pictures they hold.

use std::fmt::Write;

use super::page::text;

/// Classes up to which it can be looked at.
const CLASSES: usize = 40;

/// `counts [classes, classes]`: pictures of the row's class that were taken for the column's. Nothing for more classes
/// than can be looked at.
pub fn confusion(names: &[String], counts: &[Vec<u64>]) -> String {
    if names.len() != counts.len() || names.len() > CLASSES || counts.iter().any(|row| row.len() != names.len()) {
        return String::new();
    }
    let mut out = String::from(
        "<h3>Which class is taken for which</h3>\n<p class=\"note\">Rows are the true classes; the number of a column is that of \
         its row.</p>\n<div class=\"scroll\"><table class=\"heat\"><thead><tr><th></th>",
    );
    for number in 1..=names.len() {
        let _ = write!(out, "<th>{number}</th>");
    }
    out += "</tr></thead><tbody>";
    for (number, (name, row)) in names.iter().zip(counts).enumerate() {
        let all: u64 = row.iter().sum();
        let _ = write!(out, "<tr><td>{} {}</td>", number + 1, text(name));
        for (column, &count) in row.iter().enumerate() {
            let share = if all == 0 { 0.0 } else { 100.0 * count as f64 / all as f64 };
            let colour = if column == number { "var(--c2)" } else { "var(--c1)" };
            let shown = if count == 0 { String::new() } else { count.to_string() };
            let _ = write!(
                out,
                "<td style=\"background:color-mix(in srgb, {colour} {:.0}%, transparent)\" title=\"{share:.1} %\">{shown}</td>",
                0.8 * share
            );
        }
        out += "</tr>";
    }
    out + "</tbody></table></div>\n"
}
