//! What the evaluations on published data sets refuse before they look at a picture.

use std::fs;

use tempfile::TempDir;

use crate::common::{fails, fixture, succeeds, text};

const ENCODER: &str = "--random-init vit_tiny --image-size 16 --patch-size 8 --width 12 --depth 1 --heads 2 --output x";

#[test]
fn data_sets_that_are_none() {
    let dtd = format!("dtd={}", text(&fixture("published/dtd")));
    let wrong = format!("pets={}", text(&fixture("published/dtd")));
    for (command, data, needles) in [
        ("transfer", vec!["imagenet=x"], vec!["--data", "imagenet", "cifar10, cifar100, aircraft", "voc2007"]),
        ("few-shot --protocol lgssl", vec!["dtd"], vec!["expected NAME=PATH"]),
        ("transfer", vec!["dtd=~/dtd"], vec!["$HOME/dtd"]),
        ("transfer", vec!["dtd=nowhere"], vec!["--data dtd=nowhere: no such folder; expected dtd"]),
        ("transfer", vec![&wrong], vec!["there is no annotations/trainval.txt in it", "images and annotations"]),
        ("transfer", vec![&dtd, &dtd], vec!["--data dtd=…: given twice"]),
        ("few-shot --protocol lgssl", vec!["voc2007=x"], vec!["--data voc2007=…", "several things"]),
        ("few-shot --protocol lgssl --ways 1", vec![&dtd], vec!["--ways 1: expected 2 to"]),
        ("few-shot", vec![&dtd], vec!["--protocol"]),
    ] {
        let line = format!("eval {command} {ENCODER}");
        let data = data.iter().flat_map(|data| ["--data", data]);
        fails(&line.split(' ').chain(data).collect::<Vec<_>>(), 2, &needles);
    }
}

#[test]
fn a_table_and_a_report_are_written() {
    let output = TempDir::new().unwrap();
    let dtd = format!("dtd={}", text(&fixture("published/dtd")));
    let output = text(output.path());
    let line =
        format!("eval transfer {ENCODER} --markdown --data {dtd}").replace("--output x", &format!("--output {output}"));
    let table = succeeds(&line.split(' ').collect::<Vec<_>>());
    assert!(table.contains("| dtd | top-1 | "), "{table}");
    assert!(std::path::Path::new(&output).join("report.json").is_file());
}

/// Every evaluation, of things that are no data: what is refused is refused before they are looked at.
const EVALUATIONS: [(&str, &str); 12] = [
    ("linear", "linear --random-init vit_tiny --train DATA --test DATA"),
    ("knn", "linear --random-init vit_tiny --train DATA --holdout 0.5 --no-linear --knn 20"),
    ("transfer", "transfer --random-init vit_tiny --data dtd=DATA"),
    ("few-shot", "few-shot --random-init vit_tiny --data dtd=DATA --protocol lgssl"),
    ("zero-shot", "zero-shot --checkpoint FILE --data DATA"),
    ("retrieval", "retrieval --checkpoint FILE --images DATA --list FILE"),
    ("fairface", "fairface --checkpoint FILE --images DATA --list FILE"),
    ("aro", "aro --checkpoint FILE --images DATA --list FILE"),
    ("segment", "segment --checkpoint FILE --data DATA"),
    ("fid", "fid --inception FILE --real DATA --generated DATA"),
    ("fd", "fid --encoder FILE --real DATA --generated DATA"),
    ("diversity", "diversity --random-init vit_tiny --sets DATA"),
];

/// A folder holds the report of one evaluation, and none lies among the pictures that are read.
#[test]
fn reports_replace_none_of_another_evaluation_and_lie_outside_of_the_data() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| text(&root.path().join(name));
    fs::create_dir_all(at("data/images")).unwrap();
    fs::create_dir_all(at("scores")).unwrap();
    fs::write(at("file"), "none of these").unwrap();
    let report = at("scores/report.json");
    for (place, (name, line)) in EVALUATIONS.into_iter().enumerate() {
        let line = format!("eval {}", line.replace("DATA", &at("data")).replace("FILE", &at("file")));
        let refused = |output: &str, needles: &[&str]| {
            fails(&[&line.split(' ').collect::<Vec<_>>()[..], &["--output", output]].concat(), 2, needles)
        };
        let other = EVALUATIONS[(place + 1) % EVALUATIONS.len()].0;
        let held = format!("{{\"evaluation\": \"{other}\"}}");
        fs::write(&report, &held).unwrap();
        let found =
            format!("{report}: holds what the evaluation `{other}` found, which that of `{name}` would replace");
        refused(&at("scores"), &[&found, "choose another --output"]);
        assert_eq!(fs::read_to_string(&report).unwrap(), held);
        // What pictures a list names is not found in a folder.
        if !line.contains("--list") {
            let inside = format!("{}/scores: lies in {}, which pictures are read from", at("data"), at("data"));
            refused(&at("data/scores"), &["--output", &inside, "choose a folder outside"]);
        }
        assert!(!fs::exists(at("data/scores")).unwrap(), "{name}");
        // Its own is no obstacle: what comes next is that these are no data.
        fs::write(&report, format!("{{\"evaluation\": \"{name}\"}}")).unwrap();
        let scores = at("scores");
        let words = [&line.split(' ').collect::<Vec<_>>()[..], &["--output", &scores]].concat();
        let said = String::from_utf8(crate::common::run(&words).stderr).unwrap();
        assert!(said.contains("error: ") && !said.contains("report.json"), "{name}: {said}");
    }
}
