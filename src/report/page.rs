//! The page around its sections: no script, nothing from elsewhere; light or dark as the reader has it, and as wide as
//! the screen.

use std::fmt::Write;

/// Style of everything.
const STYLE: &str = include_str!("page.css");

/// A page.
#[derive(Debug)]
pub struct Page {
    pub title: &'static str,
    pub sections: Vec<Section>,
}

/// A part of it.
#[derive(Debug)]
pub struct Section {
    pub title: String,
    /// What kind of thing it tells of.
    pub of: &'static str,
    /// What stands under the heading; already HTML.
    pub html: String,
}

impl Section {
    /// A part called `title`, of something that is an `of`.
    pub fn new(title: String, of: &'static str, html: String) -> Self {
        Self { title, of, html }
    }
}

impl Page {
    /// The whole file.
    pub fn html(&self) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n<header><h1>{}</h1>\n<nav>",
            text(self.title),
            text(self.title)
        );
        for (number, section) in self.sections.iter().enumerate() {
            let _ = write!(out, "<a href=\"#s{number}\">{}</a> ", text(&section.title));
        }
        out += "</nav></header>\n<main>\n";
        for (number, Section { title, of, html }) in self.sections.iter().enumerate() {
            let _ = write!(
                out,
                "<section id=\"s{number}\">\n<h2>{} <small>{}</small></h2>\n{html}\n</section>\n",
                text(title),
                text(of)
            );
        }
        out + "</main>\n</html>\n"
    }
}

/// `words` as text of the page.
pub fn text(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // What no page may hold.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A table that scrolls by itself where the screen is narrow; the first column is of names, the others of numbers.
pub fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let cells =
        |tag: &str, row: &[String]| row.iter().map(|cell| format!("<{tag}>{}</{tag}>", text(cell))).collect::<String>();
    let mut out = String::from("<div class=\"scroll\"><table>");
    if !header.is_empty() {
        let _ = write!(out, "<thead><tr>{}</tr></thead>", cells("th", header));
    }
    out += "<tbody>";
    for row in rows {
        let _ = write!(out, "<tr>{}</tr>", cells("td", row));
    }
    out + "</tbody></table></div>\n"
}

/// Pairs of a name and what it is, folded away under `summary`.
pub fn folded(summary: &str, pairs: &[(String, String)]) -> String {
    let mut out = format!("<details><summary>{}</summary><dl>", text(summary));
    for (name, value) in pairs {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", text(name), text(value));
    }
    out + "</dl></details>\n"
}

/// A line of what is to be known beside the figures.
pub fn note(words: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", text(words))
}

/// A command to copy.
pub fn command(words: &str) -> String {
    format!("<pre class=\"command\">{}</pre>\n", text(words))
}
