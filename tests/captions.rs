//! Caption files: numbering, cleaning, and every way a file can be wrong.

use std::fs;
use std::path::PathBuf;

use stablerep::captions::{Captions, MAX_CAPTION_BYTES, Options};
use stablerep::error::{Error, Result};
use tempfile::TempDir;

fn open(name: &str, bytes: &[u8], options: &Options) -> Result<Captions> {
    let folder = TempDir::new().unwrap();
    let path: PathBuf = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    Captions::open(&path, options)
}

fn pairs(captions: &Captions) -> Vec<(u64, &str)> {
    captions.list.iter().map(|c| (c.id, c.text.as_str())).collect()
}

fn refused(result: Result<Captions>, exit_code: u8, needles: &[&str]) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_code(), exit_code, "{text}");
    for needle in needles {
        assert!(text.contains(needle), "{text} lacks {needle}");
    }
}

#[test]
fn txt_lines_are_stripped_and_numbered_with_gaps() {
    let captions =
        open("a.txt", "\u{feff}  a dog \r\n\n\t\na\tcat\r\nça va 🐈\u{a0}".as_bytes(), &Options::default()).unwrap();
    assert_eq!(pairs(&captions), [(0, "a dog"), (3, "a cat"), (4, "ça va 🐈")]);
    assert_eq!(captions.skipped_empty, 2);
    let twice = open("a.txt", b"same\nsame\n", &Options::default()).unwrap();
    assert_eq!(pairs(&twice), [(0, "same"), (1, "same")]);
}

#[test]
fn csv_and_tsv_columns_by_name_number_and_custom() {
    let csv = b"url,Caption\nx,\"a, \"\"b\"\"\nc\"\ny,\nz,last\n";
    let captions = open("a.csv", csv, &Options::default()).unwrap();
    assert_eq!(pairs(&captions), [(0, "a, \"b\" c"), (2, "last")]);
    let by_name = Options { column: Some("url".into()), ..Options::default() };
    assert_eq!(pairs(&open("a.csv", csv, &by_name).unwrap()), [(0, "x"), (1, "y"), (2, "z")]);
    let by_number = Options { column: Some("0".into()), ..Options::default() };
    let tsv = b"a \"quoted\tdog\thttp://x\nb\thttp://y\n";
    assert_eq!(pairs(&open("a.tsv", tsv, &by_number).unwrap()), [(0, "a \"quoted"), (1, "b")]);
    refused(
        open("a.csv", b"u,v\n1,2\n", &Options::default()),
        3,
        &["a.csv", "no caption column", "u, v", "--caption-column"],
    );
    refused(
        open("a.csv", csv, &Options { column: Some("nope".into()), ..Options::default() }),
        3,
        &["`nope`", "url, Caption"],
    );
    // A row without the column is named by its line.
    refused(
        open("a.csv", b"url,caption\nx,ok\nonly\n", &Options::default()),
        3,
        &["a.csv:3", "1 columns", "--max-bad allows 0"],
    );
}

#[test]
fn unreadable_lines_are_named_counted_and_bounded() {
    let mut bytes = b"good\nbad \xFF\xFE\n".to_vec();
    bytes.extend(vec![b'x'; 10 << 20]);
    bytes.extend(b"\nalso good\n");
    refused(open("b.txt", &bytes, &Options::default()), 3, &["b.txt:2", "invalid UTF-8 after byte 4"]);
    refused(open("b.txt", &bytes, &Options { max_bad: 1, ..Options::default() }), 3, &["b.txt:3", "10485760 bytes"]);
    let captions = open("b.txt", &bytes, &Options { max_bad: 2, ..Options::default() }).unwrap();
    assert_eq!(pairs(&captions), [(0, "good"), (3, "also good")]);
    assert_eq!(captions.bad.len(), 2);
    assert!(open("c.txt", &vec![b'x'; MAX_CAPTION_BYTES], &Options::default()).is_ok());
}

#[test]
fn useless_files_are_refused() {
    refused(open("e.txt", b"", &Options::default()), 3, &["e.txt", "empty"]);
    refused(open("e.txt", b"\n \n", &Options::default()), 3, &["no caption", "2 empty"]);
    refused(open("e.txt", b"\x89PNG\0\0", &Options::default()), 3, &["binary"]);
    refused(open("e.parquet", b"x", &Options::default()), 2, &["e.parquet", "--caption-format"]);
    let missing = Captions::open("/nonexistent/captions.txt".as_ref(), &Options::default());
    assert!(matches!(missing, Err(Error::Data(ref text)) if text.contains("/nonexistent/captions.txt")), "{missing:?}");
}
