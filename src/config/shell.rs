//! Commands as they can be pasted behind a shell's prompt.

use std::path::Path;

/// A path as one word, in quotes where a shell would take it for something else.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        let word = |text: &str| shell_word(Path::new(text));
        assert_eq!(word("runs/é-1"), "runs/é-1");
        assert_eq!(word("run 1"), "'run 1'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("$HOME"), "'$HOME'");
    }
}
