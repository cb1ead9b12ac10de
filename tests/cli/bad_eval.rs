//! What the evaluations on published data sets refuse before they look at a picture.

use crate::common::{fails, fixture, succeeds, text};
use tempfile::TempDir;

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
