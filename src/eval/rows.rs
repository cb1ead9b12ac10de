//! Tables of scores for people.

/// `rows`, of which the first is the header, in Markdown or in aligned columns: the first `left` to the left, the
/// others, which are numbers, to the right.
pub fn table(rows: &[Vec<String>], left: usize, markdown: bool) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        if markdown {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            out += &format!("| {} |\n", cells.join(" | "));
            if number == 0 {
                let rule = |column| if column < left { "---" } else { "---:" };
                out += &format!("|{}|\n", (0..columns).map(rule).collect::<Vec<_>>().join("|"));
            }
            continue;
        }
        let cell = |(column, cell): (usize, &String)| match column < left {
            true => format!("{cell:<0$}", widths[column]),
            false => format!("{cell:>0$}", widths[column]),
        };
        let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_under_each_other() {
        let rows = [["data", "%"], ["cars", "7.5"], ["dtd", "71.25"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, 1, false), "data      %\ncars    7.5\ndtd   71.25\n");
        assert!(table(&[vec!["a|b".into()]], 1, true).starts_with("| a\\|b |"));
        assert_eq!(table(&rows, 1, true), "| data | % |\n|---|---:|\n| cars | 7.5 |\n| dtd | 71.25 |\n");
    }
}
