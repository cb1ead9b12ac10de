//! Help texts are part of the interface: a change shows up in review as a change of `tests/cli/help/*.txt`.
//! After a wanted change: `UPDATE_HELP=1 cargo test --release --test cli help`.

use std::fs;

use crate::common::{root, run, succeeds};

const COMMANDS: [&str; 26] = [
    "demo",
    "generate",
    "calibrate",
    "train",
    "probe",
    "eval",
    "eval linear",
    "eval transfer",
    "eval few-shot",
    "eval zero-shot",
    "eval retrieval",
    "eval fairface",
    "eval aro",
    "eval segment",
    "eval diversity",
    "eval fid",
    "export",
    "inspect",
    "report",
    "compare",
    "doctor",
    "selftest",
    "bench",
    "bench generate",
    "bench kernels",
    "bench train",
];

/// The help of a command, `stablerep` itself for that name.
fn help(name: &str) -> String {
    let words = name.split(' ').filter(|word| *word != "stablerep").chain(["--help"]);
    succeeds(&words.collect::<Vec<_>>())
}

#[test]
fn help_texts_are_the_recorded_ones() {
    let folder = root().join("tests/cli/help");
    let update = std::env::var_os("UPDATE_HELP").is_some();
    let mut differ = Vec::new();
    for name in ["stablerep"].iter().chain(&COMMANDS) {
        let text = help(name);
        let path = folder.join(format!("{}.txt", name.replace(' ', "-")));
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        } else if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            differ.push(name.to_string());
        }
    }
    assert!(
        differ.is_empty(),
        "help of {differ:?} changed; if wanted, UPDATE_HELP=1 cargo test --release --test cli help"
    );
}

#[test]
fn every_command_is_listed_and_every_flag_explained() {
    let overview = succeeds(&["--help"]);
    for name in COMMANDS {
        assert!(name.contains(' ') || overview.contains(&format!("  {name} ")), "{name} is not in --help");
        let long = help(name);
        // A flag stands at column 6 (or 2 with its short form); its explanation follows on its line or on the next,
        // deeper one.
        let lines: Vec<&str> = long.lines().collect();
        let mut flags = 0;
        for (i, line) in lines.iter().enumerate() {
            let is_flag = line.starts_with("      --") || (line.starts_with("  -") && line.contains(", --"));
            if is_flag {
                flags += 1;
                let here = line.trim_start().split("  ").skip(1).any(|part| part.contains(char::is_alphabetic));
                let below =
                    lines.get(i + 1).is_some_and(|next| next.starts_with("          ") && !next.trim().is_empty());
                assert!(here || below, "{name}: no explanation of {}", line.trim());
            }
        }
        assert!(flags >= 2, "{name}: only {flags} flags found");
    }
}

#[test]
fn nonsense_exits_with_2() {
    for args in [&["frobnicate"][..], &[], &["generate"], &["train", "--nope"], &["--threads", "0", "doctor"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
