//! The command lines of the demo.

use std::path::Path;

/// One command of the demo.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Short name; also the folder it writes below the output.
    pub name: &'static str,
    pub title: &'static str,
    /// Arguments after the program's name.
    pub words: Vec<String>,
}

impl Stage {
    fn new(name: &'static str, title: &'static str, line: String) -> Self {
        Self { name, title, words: line.split('\u{1f}').map(str::to_owned).collect() }
    }

    /// As it would be typed, quoted for a shell.
    pub fn command_line(&self) -> String {
        let mut text = "stablerep".to_owned();
        for word in &self.words {
            let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=,:".contains(c));
            text.push(' ');
            if plain { text.push_str(word) } else { text.push_str(&format!("'{}'", word.replace('\'', r"'\''"))) }
        }
        text
    }
}
