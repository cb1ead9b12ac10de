//! A table for people: aligned columns, or Markdown. The first column is of names, the others are of numbers.

use super::rows::table;

/// Cells under their header, and what stands above and below.
#[derive(Debug)]
pub struct Columns {
    /// What the table is of: a word and a text each.
    pub heading: Vec<(&'static str, String)>,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub footnotes: Vec<String>,
}

impl Columns {
    /// In columns as wide as their widest cell.
    pub fn text(&self) -> String {
        let heading: String = self.heading.iter().map(|(what, text)| format!("{what:<11}{text}\n")).collect();
        self.under(heading + &self.table(false))
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        let heading: String = self.heading.iter().map(|(what, text)| format!("- {what}: {text}\n")).collect();
        self.under(heading + "\n" + &self.table(true) + "\n")
    }

    fn table(&self, markdown: bool) -> String {
        let rows: Vec<Vec<String>> = std::iter::once(&self.header).chain(&self.rows).cloned().collect();
        table(&rows, 1, markdown)
    }

    fn under(&self, out: String) -> String {
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
