//! Caption files: numbering, cleaning, and every way a file can be wrong.

use std::fs;
use std::path::PathBuf;

use stablerep::captions::{Captions, Format, MAX_CAPTION_BYTES, Options, Read};
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

/// Options with a caption column.
fn column(name: &str) -> Options {
    Options { column: Some(name.into()), ..Options::default() }
}

#[test]
fn csv_and_tsv_columns_by_name_number_and_custom() {
    let csv = b"url,Caption\nx,\"a, \"\"b\"\"\nc\"\ny,\nz,last\n";
    let captions = open("a.csv", csv, &Options::default()).unwrap();
    assert_eq!(pairs(&captions), [(0, "a, \"b\" c"), (2, "last")]);
    assert_eq!(captions.read, Read { format: Format::Csv, column: Some(1), header: true, key_column: None });
    assert_eq!(pairs(&open("a.csv", csv, &column("url")).unwrap()), [(0, "x"), (1, "y"), (2, "z")]);
    let tsv = b"a \"quoted\thttp://x\nb\thttp://y\n";
    let captions = open("a.tsv", tsv, &column("0")).unwrap();
    assert_eq!(pairs(&captions), [(0, "a \"quoted"), (1, "b")]);
    assert_eq!(captions.read, Read { format: Format::Tsv, column: Some(0), header: false, key_column: None });
    refused(
        open("a.csv", b"u,v\n1,2\n", &Options::default()),
        3,
        &["a.csv", "no caption column", "u, v", "--caption-column"],
    );
    refused(open("a.csv", csv, &column("nope")), 3, &["`nope`", "url, Caption", "from 0 to 1"]);
    for number in ["2", "-1", "1.0", "99999999999999999999999"] {
        refused(open("a.tsv", tsv, &column(number)), 3, &["no column", "from 0 to 1"]);
    }
    refused(open("a.csv", csv, &column(" ")), 2, &["--caption-column", "found nothing"]);
}

#[test]
fn a_name_is_exact_before_it_is_folded_and_never_one_of_two() {
    let texts = |csv: &str, options: &Options| -> Vec<String> {
        open("a.csv", csv.as_bytes(), options).unwrap().list.into_iter().map(|caption| caption.text).collect()
    };
    assert_eq!(texts("Caption,caption\nx,y\n", &Options::default()), ["y"]);
    assert_eq!(texts("Caption,caption\nx,y\n", &column("Caption")), ["x"]);
    assert_eq!(texts("id,ÜBERSCHRIFT\nx,y\n", &column("überschrift")), ["y"]);
    assert_eq!(texts("\u{feff}caption , url\nx,y\n", &Options::default()), ["x"]);
    assert_eq!(texts("title,text\nx,y\n", &Options::default()), ["y"]);
    refused(open("a.csv", b"caption,url,caption\nx,y,z\n", &Options::default()), 3, &["columns 0 and 2", "--header"]);
    refused(open("a.csv", b"TEXT,Text\nx,y\n", &column("text")), 3, &["columns 0 and 1"]);
    let numbered = Options { header: Some(true), ..column("0") };
    assert_eq!(texts("caption,url,caption\nx,y,z\n", &numbered), ["x"]);
    refused(open("a.csv", b"1,0\nx,y\n", &numbered), 3, &["number of one column and the name of another"]);
    refused(open("a.csv", b",\"\"\n,\n", &Options::default()), 3, &["no caption"]);
    refused(open("a.csv", b",a\nx,y\n", &Options::default()), 3, &["no caption column"]);
}

#[test]
fn the_first_row_is_no_header_by_guess() {
    let bare = b"a photo of a bag\na photo of a coat\n";
    refused(open("a.csv", bare, &Options::default()), 3, &["--no-header", "--header", "--caption-column"]);
    let header = |header| Options { header: Some(header), ..Options::default() };
    assert_eq!(
        pairs(&open("a.csv", bare, &header(false)).unwrap()),
        [(0, "a photo of a bag"), (1, "a photo of a coat")]
    );
    assert_eq!(pairs(&open("a.csv", bare, &header(true)).unwrap()), [(0, "a photo of a coat")]);
    assert_eq!(pairs(&open("a.tsv", bare, &column("0")).unwrap()).len(), 2);
    // A number for a table whose first row is one of names.
    for text in [
        "id,url,caption\n1,http://x,a bag\n",
        "Nr,Bild,Beschreibung\n1,http://x,a bag\n",
        "0,1,2\n1,http://x,a bag\n",
        ",0,1\n0,http://x,a bag\n",
    ] {
        refused(open("a.csv", text.as_bytes(), &column("2")), 2, &["--header", "--no-header", "a.csv"]);
        let options = |given| Options { header: Some(given), ..column("2") };
        assert_eq!(pairs(&open("a.csv", text.as_bytes(), &options(true)).unwrap()), [(0, "a bag")]);
        assert_eq!(pairs(&open("a.csv", text.as_bytes(), &options(false)).unwrap()).len(), 2);
    }
    // Numbers and addresses in the first row are data, and so are words like those of the next.
    for text in ["1,http://x,a bag\n2,http://y,a coat\n", "bag,black,a bag\ncoat,grey,a coat\n"] {
        assert_eq!(pairs(&open("a.csv", text.as_bytes(), &column("2")).unwrap()), [(0, "a bag"), (1, "a coat")]);
    }
    refused(open("a.csv", b"x,y\n", &header(false)), 2, &["--no-header", "2 columns", "--caption-column"]);
    let named = Options { header: Some(false), ..column("caption") };
    refused(open("a.csv", b"caption\nx\n", &named), 2, &["--no-header", "numbers"]);
}

#[test]
fn blank_rows_keep_their_numbers_and_are_counted() {
    for (name, text) in [
        ("a.csv", "caption\na bag\n\na coat\n\n"),
        ("a.csv", "caption\r\na bag\r\n\r\na coat\r\n \r\n"),
        ("a.csv", "caption,n\na bag,1\n,\na coat,2\n,,,\n"),
        ("a.tsv", "caption\tn\na bag\t1\n\na coat\t2\n\t\n"),
        ("a.tsv", "caption\tn\r\na bag\t1\r\n\r\na coat\t2\r\n\t\r\n"),
    ] {
        let captions = open(name, text.as_bytes(), &Options::default()).unwrap();
        assert_eq!(pairs(&captions), [(0, "a bag"), (2, "a coat")], "{text:?}");
        assert_eq!(captions.skipped_empty, 2, "{text:?}");
    }
    // Those above a header have no number; without one they do.
    let captions = open("a.csv", b"\n\ncaption\na bag\n", &Options::default()).unwrap();
    assert_eq!((pairs(&captions), captions.skipped_empty), (vec![(0, "a bag")], 2));
    let captions = open("a.csv", b"\n\na bag\n", &column("0")).unwrap();
    assert_eq!((pairs(&captions), captions.skipped_empty), (vec![(2, "a bag")], 2));
    refused(open("a.csv", b"\n\n", &Options::default()), 3, &["no caption", "2 empty"]);
}

#[test]
fn rows_that_cannot_be_read_are_named_by_line() {
    let text = b"id,caption\n1,a bag, black\n2,a \"coat\"\n3,\"a\ndress\"\n4\n5,\"a shoe\n6,\xFF\n7,\"a hat\"\n";
    let most = |max_bad| Options { max_bad, ..Options::default() };
    refused(open("b.csv", text, &most(0)), 3, &["b.csv:2: 3 fields, expected 2 as on line 1", "--max-bad allows 0"]);
    let captions = open("b.csv", text, &most(5)).unwrap();
    assert_eq!(pairs(&captions), [(2, "a dress"), (6, "a hat")]);
    let lines =
        [":2: 3 fields", ":3: a quote inside", ":6: 1 fields", ":7: text after the closing quote", ":8: invalid UTF-8"];
    assert_eq!(captions.bad.len(), lines.len());
    assert!(captions.bad.iter().zip(lines).all(|(bad, line)| bad.contains(line)), "{:?}", captions.bad);
    refused(open("b.csv", text, &most(4)), 3, &["b.csv:8", "5 bad lines"]);
    refused(open("b.csv", b"caption,\"n\nx,1\n", &most(9)), 3, &["b.csv:1", "never closed"]);
    refused(open("b.tsv", b"caption\tn\na\tb\tc\n", &most(0)), 3, &["b.tsv:2: 3 fields", "tab"]);
    // A CR inside a field is a blank of the caption.
    for (name, text) in [("c.tsv", "caption\tn\nred\rdress\t1\n"), ("c.csv", "caption,n\r\nred\rdress,1\r\n")] {
        assert_eq!(pairs(&open(name, text.as_bytes(), &Options::default()).unwrap()), [(0, "red dress")]);
    }
}

#[test]
fn extension_and_delimiter_must_agree() {
    let tabs = "http://x\ta bag, black\nhttp://y\ta coat, grey\n";
    let commas = "a photo of a bag,1\na photo of a coat,2\n";
    for (name, text, options, needle) in [
        ("a.csv", tabs, column("1"), "--caption-format tsv"),
        ("a.csv", "url\tcaption\nx\ta bag, black\n", Options::default(), "--caption-format tsv"),
        ("a.tsv", commas, column("0"), "--caption-format csv"),
        ("a.tsv", "url,caption\nx,a bag, black\n", column("caption"), "--caption-format csv"),
        ("a.csv", "url;caption\nx;a bag\n", Options::default(), "semicolons"),
        ("a.csv", "1|a bag\n2|a coat\n", column("0"), "vertical bars"),
    ] {
        refused(open(name, text.as_bytes(), &options), 3, &[name, needle]);
    }
    let texts = |name: &str, text: &str, options: &Options| pairs(&open(name, text.as_bytes(), options).unwrap()).len();
    // Said by the flag, it is so; and text may hold commas where rows do not agree on how many.
    assert_eq!(texts("a.csv", tabs, &Options { format: Some(Format::Tsv), ..column("1") }), 2);
    assert_eq!(texts("a.tsv", commas, &Options { format: Some(Format::Tsv), ..column("0") }), 2);
    assert_eq!(texts("a.tsv", "a bag, black\na coat\n", &column("0")), 2);
    assert_eq!(texts("a.csv", "caption,n\nfor sale: bag; coat,1\n", &Options::default()), 1);
    let note = |name: &str, text: &str| open(name, text.as_bytes(), &Options::default()).unwrap().notes.join("\n");
    assert!(note("a.txt", tabs).contains("--caption-format tsv"));
    assert_eq!(note("a.txt", "a bag\na\tcoat\n"), "");
    assert!(note("a.csv", "n,caption\n1,a bag\n").contains("a header, captions from column 1 of 2"));
}

#[test]
fn flags_of_tables_do_not_go_with_txt() {
    for (options, flag) in [
        (column("1"), "--caption-column"),
        (Options { key_column: Some("0".into()), ..Options::default() }, "--key-column"),
        (Options { header: Some(true), ..Options::default() }, "--header"),
        (Options { header: Some(false), ..Options::default() }, "--no-header"),
    ] {
        refused(open("a.txt", b"x\ty\n", &options), 2, &[flag, "a.txt", "--caption-format"]);
    }
}

#[test]
fn a_key_column_names_samples_safely() {
    let keyed = |key: &str, max_bad| Options { key_column: Some(key.into()), max_bad, ..Options::default() };
    let text = "id,caption\nb-1,a bag\nc_2,a coat\n,\nÄ3,a hat\n";
    let captions = open("k.csv", text.as_bytes(), &keyed("id", 0)).unwrap();
    let keys =
        |captions: &Captions| captions.list.iter().map(|c| c.key.as_deref().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(&captions), ["b-1", "c_2", "Ä3"]);
    assert_eq!(captions.read, Read { format: Format::Csv, column: Some(1), header: true, key_column: Some(0) });
    assert_eq!(open("k.csv", text.as_bytes(), &Options::default()).unwrap().list[0].key, None);
    let bad = format!("id,caption\na,x\na.jpg,x\nb/c,x\n,x\na,x\n{},x\nd e,x\nb,y\n", "k".repeat(201));
    refused(open("k.csv", bad.as_bytes(), &keyed("id", 0)), 3, &["k.csv:3", "`a.jpg`", "'.'"]);
    let captions = open("k.csv", bad.as_bytes(), &keyed("ID", 6)).unwrap();
    assert_eq!((keys(&captions), captions.list[1].id), (vec!["a".into(), "b".into()], 7));
    let whys = ["'.'", "'/'", "no key", "of line 2 too", "201 bytes", "' '"];
    assert!(captions.bad.iter().zip(whys).all(|(bad, why)| bad.contains(why)), "{:?}", captions.bad);
    refused(open("k.csv", text.as_bytes(), &keyed("name", 0)), 3, &["`name`", "--key-column"]);
}

#[test]
fn a_limit_takes_the_first_captions_and_looks_no_further() {
    for (name, text) in [("a.txt", &b"a\n\nb\n\xff"[..]), ("a.csv", b"caption\na\n\nb\nc,\"\n")] {
        let captions = open(name, text, &Options { limit: Some(2), ..Options::default() }).unwrap();
        assert_eq!((pairs(&captions), captions.skipped_empty), (vec![(0, "a"), (2, "b")], 1));
    }
}

#[test]
fn bad_lines_are_named_counted_and_bounded() {
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
    for (name, bytes, needles) in [
        ("e.tsv.gz", &b"\x1F\x8B\x08\0"[..], ["gzip", "gunzip"]),
        ("e.csv", b"PK\x03\x04\x14\0", ["spreadsheet", "csv"]),
        ("e.parquet", b"PAR1\x15\0", ["parquet", "to_csv"]),
        ("e.txt", b"\xFF\xFEa\0\n\0", ["UTF-16", "iconv"]),
        ("e.txt", b"a bag\ra coat\r", ["CR alone", "tr"]),
        ("e.csv", b"caption\ra coat\r", ["CR alone", "tr"]),
    ] {
        refused(open(name, bytes, &Options::default()), 3, &[name, needles[0], needles[1]]);
    }
    // A zero byte far inside a text is a slip of one line.
    let slip = [b"good\n".repeat(2000), b"b\0d\n".to_vec()].concat();
    refused(open("e.txt", &slip, &Options::default()), 3, &["e.txt:2001", "zero byte"]);
    refused(Captions::open(TempDir::new().unwrap().path(), &Options::default()), 3, &["is a folder"]);
    refused(Captions::open("-".as_ref(), &Options::default()), 2, &["--captions -", "--caption-format"]);
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("absent/captions.txt");
    let missing = Captions::open(&path, &Options::default());
    assert!(matches!(missing, Err(Error::Data(ref text)) if text.contains("absent/captions.txt")), "{missing:?}");
}
