//! Plain tables on standard output.

use crate::answer;

/// Most characters of a cell: names in other programs' files may be of any length.
const WIDEST: usize = 200;

/// Rows of cells under a header; columns are as wide as their widest cell.
#[derive(Debug)]
pub struct Table {
    /// Header cell, and whether the column is aligned to the right.
    columns: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A `>` before a column's name aligns it to the right, as numbers want.
    pub fn new(columns: &[&'static str]) -> Self {
        let column = |name: &&'static str| name.strip_prefix('>').map_or((*name, false), |rest| (rest, true));
        Self { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Appends a row of as many cells as there are columns.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into_iter().map(cut).collect());
    }

    /// Prints header and rows.
    pub fn print(&self) {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.max().unwrap_or(0).max(self.columns[i].0.chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let mut text = String::new();
            for ((cell, &width), (_, right)) in cells.iter().zip(&widths).zip(&self.columns) {
                let blanks = " ".repeat(width - cell.chars().count());
                let (before, after) = if *right { (blanks.as_str(), "") } else { ("", blanks.as_str()) };
                text.extend([before, cell, after, "  "]);
            }
            answer!("{}", text.trim_end());
        };
        line(self.columns.iter().map(|(name, _)| *name).collect());
        for row in &self.rows {
            line(row.iter().map(String::as_str).collect());
        }
    }
}

fn cut(cell: String) -> String {
    match cell.char_indices().nth(WIDEST) {
        Some((at, _)) => format!("{}… ({} characters)", &cell[..at], cell.chars().count()),
        None => cell,
    }
}
