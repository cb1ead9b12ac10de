//! The house stands: imports go downwards only, between rooms and between the files of a room.

mod circles;
mod modules;

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the top; a room may import its own and those of later lines.
const FLOORS: [&[&str]; 10] = [
    &["cli"],
    &["bench"],
    &["generate", "train", "selftest", "report"],
    &["eval"],
    &["captions", "shards", "models"],
    &["layers"],
    &["ops", "weights"],
    &["device", "metrics", "dist", "image"],
    &["store"],
    &["rng", "config", "console", "error"],
];

/// Macros of the bottom floor, which the compiler puts at the crate's root.
const MACROS: [&str; 3] = ["answer", "bail", "say"];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Every `crate::room` a file names, whether in a `use`, a `use crate::{a, b}` list, a path or a macro.
fn imports(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        });
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            let mut taken = false;
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        rooms.push(std::mem::take(&mut name));
                        taken = false;
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 && !taken && (c.is_alphanumeric() || c == '_') {
                    name.push(c);
                } else if !name.is_empty() {
                    taken = true;
                }
            }
            rooms.push(name);
        } else {
            rooms.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn upward_edges(room: &str, text: &str) -> Vec<String> {
    let Some(own) = floor(room) else { return vec![format!("{room}: not a room of the plan")] };
    imports(text)
        .into_iter()
        .filter(|other| other != room && !MACROS.contains(&other.as_str()))
        .filter(|other| match floor(other) {
            // Neighbours: models use nothing beside them, and so on; only the bottom floor shares freely.
            Some(there) => there < own || (there == own && own != FLOORS.len() - 1),
            None => true,
        })
        .map(|other| format!("{room} imports {other}"))
        .collect()
}

#[test]
fn imports_go_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "found only {} source files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let relative = path.strip_prefix(&root).unwrap();
        let room = relative.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        if room == "main" || room == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        wrong.extend(upward_edges(&room, &text).into_iter().map(|edge| format!("{}: {edge}", relative.display())));
    }
    assert!(wrong.is_empty(), "imports must go down the floors:\n{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_every_way_to_import() {
    assert_eq!(imports("use crate::ops::gemm;\nlet x = crate::rng::Stream::new();"), ["ops", "rng"]);
    assert_eq!(imports("use crate::{ops::{gemm, math}, cli};"), ["ops", "cli"]);
    assert_eq!(imports("// use crate::cli;\n/// [`crate::cli`]"), Vec::<String>::new());
    assert_eq!(upward_edges("ops", "use crate::cli::run;"), ["ops imports cli"]);
    assert_eq!(upward_edges("train", "use crate::generate;"), ["train imports generate"]);
    assert_eq!(upward_edges("train", "use crate::eval;"), Vec::<String>::new());
    assert_eq!(upward_edges("models", "use crate::ops::gemm; use crate::error::Result;"), Vec::<String>::new());
    assert_eq!(upward_edges("attic", ""), ["attic: not a room of the plan"]);
}

/// `unsafe` stays in the device room and the launch side of ops, each use with its reason.
#[test]
fn unsafe_stays_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(&root).unwrap().display().to_string();
        let allowed = relative.starts_with("ops/") || relative.starts_with("device/");
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let opens = code.contains("unsafe {") || code.contains("unsafe impl");
            let mentions = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
            if mentions && !allowed {
                wrong.push(format!("{relative}:{}: unsafe outside device/ and ops/", i + 1));
            }
            if opens && !lines[i.saturating_sub(4)..=i].iter().any(|near| near.contains("// SAFETY:")) {
                wrong.push(format!("{relative}:{}: no // SAFETY: above", i + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
