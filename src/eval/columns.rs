//! A table for people: aligned columns, or Markdown. The first column is of names, the others are of numbers.

/// Cells under their header, and what stands above and below.
#[derive(Debug)]
pub(super) struct Columns {
    /// What the table is of: a word and a text each.
    pub heading: Vec<(&'static str, String)>,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub footnotes: Vec<String>,
}

impl Columns {
    /// In columns as wide as their widest cell.
    pub fn text(&self) -> String {
        let rows = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut out: String = self.heading.iter().map(|(what, text)| format!("{what:<11}{text}\n")).collect();
        for row in rows() {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                line += &format!("  {cell:>width$}");
            }
            out += line.trim_end();
            out.push('\n');
        }
        self.footnotes.iter().fold(out, |out, line| out + line + "\n")
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        let mut out: String = self.heading.iter().map(|(what, text)| format!("- {what}: {text}\n")).collect();
        out += &format!("\n| {} |\n|---{}|\n", self.header.join(" | "), "|---:".repeat(self.header.len() - 1));
        for row in &self.rows {
            out += &format!("| {} |\n", row.join(" | "));
        }
        out.push('\n');
        self.footnotes.iter().fold(out, |out, line| out + line + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 2]| cells.map(String::from).to_vec();
        let table = Columns {
            heading: vec![("real", "photos".into())],
            header: row(["set", "N"]),
            rows: vec![row(["w=2.0", "1000"]), row(["länger", "7"])],
            footnotes: vec!["end".into()],
        };
        assert_eq!(table.text(), "real       photos\nset        N\nw=2.0   1000\nlänger     7\nend\n");
        let markdown = "- real: photos\n\n| set | N |\n|---|---:|\n| w=2.0 | 1000 |\n| länger | 7 |\n\nend\n";
        assert_eq!(table.markdown(), markdown);
    }
}
