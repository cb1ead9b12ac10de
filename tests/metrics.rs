//! Metrics files: cutting and going on, and the framing that TensorBoard checks.

use std::fs;
use std::path::Path;

use serde_json::json;
use stablerep::metrics::{JsonLines, TensorBoard};

#[test]
fn a_resumed_file_is_that_of_an_uninterrupted_run() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole.jsonl"), folder.path().join("cut.jsonl"));
    let line = |step: u64| json!({"step": step, "loss": 1.0 / (step as f64 + 3.0)});
    let mut log = JsonLines::create(&whole).unwrap();
    (0..10).for_each(|step| log.write(&line(step)).unwrap());
    log.sync().unwrap();
    let text = fs::read_to_string(&whole).unwrap();
    assert_eq!(text.lines().count(), 10);
    // Full precision: the text gives back the same f64.
    let parsed: serde_json::Value = serde_json::from_str(text.lines().nth(4).unwrap()).unwrap();
    assert_eq!(parsed["loss"].as_f64().unwrap(), 1.0 / 7.0);

    // Killed at any byte after step 6 was written, with a checkpoint that goes on at step 5.
    let six = text.lines().take(6).map(|l| l.len() + 1).sum::<usize>();
    for length in six..=text.len() {
        fs::write(&cut, &text.as_bytes()[..length]).unwrap();
        let mut log = JsonLines::resume(&cut, 5).unwrap();
        (5..10).for_each(|step| log.write(&line(step)).unwrap());
        assert_eq!(fs::read_to_string(&cut).unwrap(), text, "cut at {length}");
    }
    // A line that a disk damaged is left out; those before and after it stay.
    let damaged: String = text
        .lines()
        .enumerate()
        .map(|(i, line)| if i == 3 { "\0\0{\n".into() } else { line.to_owned() + "\n" })
        .collect();
    fs::write(&cut, damaged).unwrap();
    JsonLines::resume(&cut, 8).unwrap();
    let left: Vec<&str> = text.lines().enumerate().filter(|(i, _)| *i < 8 && *i != 3).map(|(_, line)| line).collect();
    assert_eq!(fs::read_to_string(&cut).unwrap().lines().collect::<Vec<_>>(), left);
    JsonLines::resume(folder.path().join("new.jsonl"), 0).unwrap().write(&line(0)).unwrap();
    assert_eq!(JsonLines::create(folder.path()).unwrap_err().exit_code(), 1);
    assert_eq!(JsonLines::create("/proc/x/y").unwrap_err().exit_code(), 1);
}

/// The payloads of an event file, after checking every length and checksum.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let masked = |data: &[u8]| ((crc32c::crc32c(data) >> 15) | (crc32c::crc32c(data) << 17)).wrapping_add(0xa282_ead8);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(word(at + 8), masked(&bytes[at..at + 8]));
        let data = &bytes[at + 12..at + 12 + length];
        assert_eq!(word(at + 12 + length), masked(data));
        out.push(data.to_vec());
        at += 16 + length;
    }
    out
}

#[test]
fn event_files_have_tensorboards_framing() {
    // The check value of CRC-32C, and TensorFlow's masking of it.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let mut board = TensorBoard::open(&logs, 0).unwrap();
    for step in 0..300 {
        board.scalar("train/loss", 0.5 * step as f32, step).unwrap();
    }
    drop(board);
    let mut board = TensorBoard::open(&logs, 200).unwrap();
    board.scalar("train/loss", -1.0, 200).unwrap();
    let mut files: Vec<_> = fs::read_dir(&logs).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    let first = records(&files[0]);
    assert_eq!(first.len(), 301);
    assert!(first[0].ends_with(b"\x1a\x0dbrain.Event:2"));
    // wall time (9 bytes), step 299 as varint, then summary { value { tag, simple_value } }.
    let mut want = vec![0x10, 0xab, 0x02, 0x2a, 0x13, 0x0a, 0x11, 0x0a, 0x0a];
    want.extend(b"train/loss");
    want.push(0x15);
    want.extend(149.5f32.to_le_bytes());
    assert_eq!(first[300][9..], want);
    let second = records(&files[1]);
    assert_eq!(second.len(), 3);
    assert_eq!(second[1][9..], [0x10, 0xc8, 0x01, 0x3a, 0x02, 0x08, 0x01], "session log START at step 200");
    assert!(TensorBoard::open("/proc/x/y", 0).is_err());
}

/// A run that was killed before anything of it was saved begins at step 0 again: what it wrote is forgotten.
#[test]
fn a_run_begun_anew_has_every_point_once() {
    let folder = tempfile::tempdir().unwrap();
    for last in [5, 3] {
        let mut board = TensorBoard::open(folder.path(), 0).unwrap();
        (0..last).for_each(|step| board.scalar("train/loss", 1.0, step).unwrap());
    }
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let again = records(&files[1]);
    assert_eq!((files.len(), again.len()), (2, 5));
    assert_eq!(again[1][9..], [0x10, 0x00, 0x3a, 0x02, 0x08, 0x01], "session log START at step 0");
}

#[test]
fn settings_are_a_table_and_hyperparameters() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::open(folder.path(), 0).unwrap();
    let settings = json!({"model": {"width": 24}, "data": ["a|b"], "shuffle": true, "seed": 0.5, "none": null});
    board.settings(&settings, &["train/loss"]).unwrap();
    board.ended(300).unwrap();
    let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let records = records(&path);
    assert_eq!(records.len(), 5);
    let holds = |record: &[u8], bytes: &[u8]| record.windows(bytes.len()).any(|window| window == bytes);
    let table = b"| setting | value |\n|---|---|\n| model.width | 24 |\n| data | [\"a\\|b\"] |\n| shuffle | true |\n| seed | 0.5 |\n| none | null |\n";
    assert!(holds(&records[1], table) && holds(&records[1], b"settings/text_summary"));
    let hparam = |name: &[u8], value: &[u8]| {
        let entry = [&[0x0a, name.len() as u8], name, &[0x12, value.len() as u8], value].concat();
        assert!(holds(&records[3], &entry), "{name:?}");
    };
    hparam(b"model.width", &[&[0x11][..], &24f64.to_le_bytes()].concat());
    hparam(b"shuffle", &[0x20, 1]);
    hparam(b"data", b"\x1a\x07[\"a|b\"]");
    // What there is: names with their types (text 1, yes or no 2, number 3), and a metric by its tag.
    for info in [&b"\x22\x0f\x0a\x0bmodel.width\x20\x03"[..], b"\x0a\x04data\x20\x01", b"\x0a\x07shuffle\x20\x02"] {
        assert!(holds(&records[2], info), "{info:?}");
    }
    assert!(!holds(&records[2], b"none") && !holds(&records[3], b"none"));
    assert!(holds(&records[2], b"\x2a\x0e\x0a\x0c\x12\x0atrain/loss") && holds(&records[2], b"_hparams_/experiment"));
    assert!(holds(&records[4], b"_hparams_/session_end_info") && holds(&records[4], b"\x12\x04\x22\x02\x08\x01"));
}
