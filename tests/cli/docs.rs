//! The README and the presets name only commands, flags and files that exist.

use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Help of the command that a line begins with: its first word, and its second where that is no flag.
fn help(words: &[String]) -> String {
    let command: Vec<&str> = words.iter().map(String::as_str).take(2).take_while(|word| is_name(word)).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_stablerep")).args(&command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}: not a command");
    String::from_utf8(output.stdout).unwrap()
}

fn is_name(word: &str) -> bool {
    !word.starts_with('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

/// Lines of a document that call the binary, continuation lines joined.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.trim().trim_start_matches(['#', '$', ' ']))
        .filter_map(|line| {
            let rest = line.strip_prefix("stablerep ").or_else(|| line.strip_prefix("cargo run --release -- "))?;
            let words: Vec<String> = rest.split('#').next()?.split_whitespace().map(str::to_owned).collect();
            // Prose that begins with the program's name is no command.
            is_name(words.first()?).then_some(words)
        })
        .filter(|words| words.len() == 1 || words.iter().any(|word| word.starts_with("--")))
        .collect()
}

fn documents() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for path in [root().join("README.md"), root().join("CHANGELOG.md")] {
        all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    for entry in fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    all
}

#[test]
fn documented_commands_and_flags_exist() {
    let mut seen = 0;
    for (name, text) in documents() {
        for words in command_lines(&text) {
            let help = help(&words);
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let known = help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == flag);
                assert!(known, "{name}: `stablerep {}` has no flag {flag}", words[0]);
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "only {seen} documented flags found: is the README still showing commands?");
}

#[test]
fn documented_files_exist() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let mut seen = 0;
    for piece in text.split(|c: char| c.is_whitespace() || "()`[]|,;:\"".contains(c)) {
        let piece = piece.trim_end_matches('.');
        let inside = ["src/", "tests/", "dev/", "benches/", "configs/", "assets/", "docs/", "kernels/", ".ci/"];
        if inside.iter().any(|folder| piece.starts_with(folder)) && !piece.contains(['*', '<', '{']) {
            assert!(root().join(piece).exists(), "README.md names {piece}, which does not exist");
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} files named in the README");
}
