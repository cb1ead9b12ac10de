//! Shards: written bytes, the index, captions, and every way a tar can be damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stablerep::shards::{
    CaptionGroups, ShardWriter, Shards, image_key, locate, read_sizes, shard_name, unfinished, write_sizes,
};

/// A shard of `captions` captions × `images` images whose bytes tell where they belong.
fn write_shard(path: &Path, first: u64, captions: u64, images: usize) {
    let mut shard = ShardWriter::create(path).unwrap();
    for caption in first..first + captions {
        for image in 0..images {
            let key = image_key(caption, image);
            let pixels = format!("pixels of {key}").repeat(40);
            let json = format!("{{\"key\":\"{key}\",\"caption_id\":{caption},\"image_index\":{image}}}");
            let text = format!("caption {}", caption % 5);
            shard
                .add(&key, &[("png", pixels.as_bytes()), ("txt", text.as_bytes()), ("json", json.as_bytes())])
                .unwrap();
        }
    }
    assert_eq!(shard.finish().unwrap(), captions as usize * images);
}

fn open(path: &Path) -> Shards {
    Shards::open(&[path.to_path_buf()]).unwrap()
}

#[test]
fn shards_round_trip_with_the_same_bytes_every_time() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.tar", "b.tar"] {
        write_shard(&folder.path().join(name), 3, 4, 3);
    }
    let bytes = fs::read(folder.path().join("a.tar")).unwrap();
    assert_eq!(bytes, fs::read(folder.path().join("b.tar")).unwrap());
    assert_eq!(bytes.len() % 512, 0);

    let shards = open(&folder.path().join("a.tar"));
    assert!(shards.damage().is_empty());
    assert_eq!(shards.len(), 12);
    let sample = shards.sample(4);
    assert_eq!(sample.key(), "00000004_001");
    let members: Vec<&str> = sample.members().map(|(extension, _)| extension).collect();
    assert_eq!(members, ["png", "txt", "json"]);
    assert_eq!(sample.picture().unwrap().read().unwrap(), "pixels of 00000004_001".repeat(40).as_bytes());
    assert_eq!(sample.picture().unwrap().read_head(6).unwrap(), b"pixels");
    let record = sample.record().unwrap();
    assert_eq!((record.caption.as_deref(), record.caption_id), (Ok("caption 4"), Some(4)));
    assert!(sample.name().contains("a.tar") && sample.name().contains("00000004_001"));
}

#[test]
fn an_unfinished_shard_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = ShardWriter::create(folder.path().join("00000.tar")).unwrap();
    shard.add("k", &[("png", b"x")]).unwrap();
    for (key, members) in [
        ("", vec![("png", &b"x"[..])]),
        ("a.b", vec![("png", &b"x"[..])]),
        ("/a", vec![("png", &b"x"[..])]),
        ("a", vec![]),
    ] {
        assert_eq!(shard.add(key, &members).unwrap_err().exit_code(), 2, "{key:?}");
    }
    drop(shard);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn groups_are_captions_and_labels_are_texts() {
    let folder = tempfile::tempdir().unwrap();
    write_shard(&folder.path().join("00000.tar"), 0, 4, 3);
    write_shard(&folder.path().join("00001.tar"), 4, 4, 3);
    let shards = open(folder.path());
    let mut captions = CaptionGroups::new(&shards).unwrap();
    assert!(captions.bad.is_empty() && captions.notes.is_empty());
    assert_eq!((captions.len(), captions.texts), (8, 5));
    let labels: Vec<u32> = captions.iter().map(|group| group.label).collect();
    assert_eq!(labels, [0, 1, 2, 3, 4, 0, 1, 2], "captions 0 and 5 say the same, and so on");
    assert_eq!(captions.get(5).pictures, [15, 16, 17]);
    captions.retain(|group| group.label != 0);
    assert_eq!((captions.len(), captions.get(4).label, captions.get(4).pictures), (6, 1, &[18, 19, 20][..]));
}

#[test]
fn foreign_webdatasets_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    let long = format!("a/very/{}/deep/name", "long".repeat(40));
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut add = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mtime(1_700_000_000);
        // Names beyond ustar's 100 characters take GNU's long-name member.
        let mut gnu = tar::Header::new_gnu();
        gnu.set_size(data.len() as u64);
        let header = if name.len() > 99 { &mut gnu } else { &mut header };
        tar.append_data(header, name, data).unwrap();
    };
    // img2dataset: caption only in the json; an upper-case extension; several dots; a directory in the key.
    add("000000017.JPG", b"jpeg bytes");
    add("000000017.json", br#"{"caption": "a dog", "url": "http://x/y.jpg", "status": "success", "width": 3}"#);
    add("dir.v2/s1.seg.png", b"mask");
    add("dir.v2/s1.txt", b"a cat\n");
    add(".hidden", b"");
    add("README", b"no extension");
    add(&format!("{long}.png"), b"deep");
    add(&format!("{long}.txt"), "ein Käfer".as_bytes());
    add("only_text.txt", b"no picture");
    add("only_picture.png", b"no text");
    add("latin.png", b"x");
    add("latin.txt", b"caf\xe9");
    add("broken.png", b"x");
    add("broken.json", b"{\"caption\": ");
    tar.into_inner().unwrap();

    let shards = open(&path);
    assert!(shards.damage().is_empty(), "{:?}", shards.damage());
    let keys: Vec<&str> = shards.iter().map(|s| s.key()).collect();
    assert_eq!(keys, ["000000017", "dir.v2/s1", &long, "only_text", "only_picture", "latin", "broken"]);
    let picture = shards.sample(0).picture().unwrap();
    assert_eq!((picture.extension(), &picture.read().unwrap()[..]), ("jpg", &b"jpeg bytes"[..]));
    let captions: Vec<String> = (0..3).map(|i| shards.sample(i).record().unwrap().caption.unwrap()).collect();
    assert_eq!(captions, ["a dog", "a cat", "ein Käfer"]);
    let captions = CaptionGroups::new(&shards).unwrap();
    assert_eq!(captions.len(), 2);
    assert_eq!(captions.bad.len(), 5);
    for (message, key, what) in [
        (0, "dir.v2/s1", "its only picture is .seg.png, while other samples of the file have a plain"),
        (1, "only_text", "no image (.jpg, .jpeg or .png); it has .txt"),
        (2, "only_picture", "no caption"),
        (3, "latin", "not UTF-8"),
        (4, "broken", "expected an object"),
    ] {
        let (file, text) = &captions.bad[message];
        assert!(*file == 0 && text.contains(key) && text.contains(what), "{text}");
    }
}

/// Cut after every kind of byte: inside a header, a member, its padding, on a boundary, inside the end marker.
#[test]
fn every_cut_is_named_and_loses_only_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.tar");
    write_shard(&whole, 0, 3, 2);
    let bytes = fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.tar");
    let mut cuts: Vec<usize> = (0..bytes.len()).step_by(97).collect();
    cuts.extend((0..bytes.len()).step_by(512));
    let mut seen = BTreeMap::<String, usize>::new();
    for at in cuts {
        fs::write(&cut, &bytes[..at]).unwrap();
        let shards = open(&cut);
        if at >= bytes.len() - 512 {
            // Half of the double end marker is an end marker.
            assert!(shards.damage().is_empty() && shards.len() == 6, "cut at {at}");
            continue;
        }
        assert_eq!(shards.damage().len(), 1, "cut at {at}");
        let damage = &shards.damage()[0];
        assert!(damage.offset <= at as u64 && damage.file == cut, "cut at {at}: {damage}");
        for sample in shards.iter() {
            let want = format!("pixels of {}", sample.key()).repeat(40);
            assert_eq!(sample.picture().unwrap().read().unwrap(), want.as_bytes(), "cut at {at}");
            assert_eq!(sample.members().count(), 3, "cut at {at}: a sample that may be cut is not used");
        }
        // Samples that end before the last one that was begun are all there.
        let sample_size = (bytes.len() - 1024) / 6;
        assert!(shards.len() + 2 > at / sample_size, "cut at {at}: only {} samples", shards.len());
        let kind =
            ["empty", "inside a header", "inside 0", "end marker"].into_iter().find(|kind| damage.what.contains(kind));
        *seen.entry(kind.unwrap_or_else(|| panic!("cut at {at}: {damage}")).to_string()).or_default() += 1;
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_damaged_header_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("00000.tar");
    write_shard(&path, 0, 3, 2);
    let mut bytes = fs::read(&path).unwrap();
    let header = bytes.windows(12).position(|w| w == b"00000001_001").unwrap();
    bytes[header + 130] ^= 0x55;
    fs::write(&path, &bytes).unwrap();
    let shards = open(&path);
    assert_eq!(shards.damage().len(), 1);
    assert_eq!(shards.damage()[0].offset, header as u64);
    assert_eq!(shards.len(), 2, "0_000 and 0_001 are whole; 1_000 comes just before the damage");
    assert!(shards.damage()[0].to_string().contains("00000.tar at byte"));

    // Not a tar at all.
    fs::write(&path, vec![0x41; 5000]).unwrap();
    assert_eq!(open(&path).damage()[0].offset, 0);
    assert!(open(&path).is_empty());
}

#[test]
fn folders_patterns_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for i in 0..12 {
        write_shard(&root.join(shard_name(i)), i as u64, 1, 1);
    }
    fs::write(root.join(".00012.tar.partial"), b"unfinished").unwrap();
    fs::write(root.join("notes.txt"), b"").unwrap();
    assert_eq!(locate(root).unwrap().len(), 12);
    fs::write(root.join("00009.tar.gz"), b"").unwrap();
    let error = locate(root).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("00009.tar.gz: 1 of the shards"), "{error}");
    fs::remove_file(root.join("00009.tar.gz")).unwrap();
    let some = locate(&root.join("{00003..00011}.tar")).unwrap();
    assert_eq!((some.len(), &some[0]), (9, &root.join("00003.tar")));
    let shards = Shards::open(&[root.join("{00010..00011}.tar"), root.join("00000.tar")]).unwrap();
    let keys: Vec<&str> = shards.iter().map(|s| s.key()).collect();
    assert_eq!(keys, ["00000010_000", "00000011_000", "00000000_000"]);
    for (bad, code) in [
        ("{00003..00012}.tar", 3),
        ("{3-5}.tar", 2),
        ("{5..3}.tar", 2),
        ("{0..3.tar", 2),
        ("absent.tar", 3),
        ("absent", 3),
    ] {
        let error = locate(&root.join(bad)).unwrap_err();
        assert_eq!(error.exit_code(), code, "{bad}: {error}");
    }
    let empty = root.join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(locate(&empty).unwrap_err().to_string().contains("no *.tar"));

    assert_eq!(read_sizes(root).unwrap(), None);
    let mut sizes: BTreeMap<String, usize> = (0..12).map(|i| (shard_name(i), 1)).collect();
    write_sizes(root, &sizes).unwrap();
    assert_eq!(read_sizes(root).unwrap(), Some(sizes.clone()));
    assert!(open(root).damage().is_empty());
    sizes.insert(shard_name(3), 2);
    sizes.insert(shard_name(12), 4);
    write_sizes(root, &sizes).unwrap();
    let damage: Vec<String> = open(root).damage().iter().map(|d| d.to_string()).collect();
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!(damage[0].contains("00003.tar") && damage[0].contains("1 samples where sizes.json says 2"), "{damage:?}");
    assert!(damage[1].contains("00012.tar") && damage[1].contains("missing"), "{damage:?}");
    fs::write(root.join("sizes.json"), b"[]").unwrap();
    assert_eq!(Shards::open(&[PathBuf::from(root)]).unwrap_err().exit_code(), 3);
}

fn tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, data) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *data).unwrap();
    }
    tar.into_inner().unwrap();
}

/// All pictures of a sample are those of its caption, numbered through the shards; a picture says where it is from.
#[test]
fn several_pictures_of_one_sample_are_one_caption() {
    let folder = tempfile::tempdir().unwrap();
    tar(
        &folder.path().join("a.tar"),
        &[
            ("x.1.jpg", b"x1"),
            ("x.0.jpg", b"x0"),
            ("x.txt", b"a bag"),
            ("none.txt", b"no picture"),
            ("two.jpg", b"j"),
            ("two.png", b"p"),
            ("two.txt", b"which?"),
            ("y.depth.png", b"depth"),
            ("y.png", b"y"),
            ("y.txt", b"a shoe"),
        ],
    );
    tar(&folder.path().join("b.tar"), &[("x.jpg", b"x2"), ("x.txt", b"a bag")]);
    let shards = open(folder.path());
    let captions = CaptionGroups::new(&shards).unwrap();
    let pictures: Vec<&[u32]> = captions.iter().map(|group| group.pictures).collect();
    assert_eq!(pictures, [&[0, 1, 5][..], &[4]], "samples without a picture count as one");
    let read = |number: &u32| shards.picture(*number).unwrap().read().unwrap();
    assert_eq!(captions.get(0).pictures.iter().map(read).collect::<Vec<_>>(), [b"x0", b"x1", b"x2"]);
    assert_eq!(read(&4), b"y");
    assert!(shards.picture(1).unwrap().name().ends_with("a.tar: x.1.jpg"));
    assert!(shards.picture(4).unwrap().name().ends_with("a.tar: y"));
    for number in [2, 3, 6, 99] {
        assert_eq!(shards.picture(number).unwrap_err().exit_code(), 3, "{number}");
    }
    let bad: Vec<&str> = captions.bad.iter().map(|(_, message)| message.as_str()).collect();
    assert!(bad[0].ends_with("none: no image (.jpg, .jpeg or .png); it has .txt"), "{bad:?}");
    assert!(bad[1].contains("two: which members are its pictures? It has .jpg .png"), "{bad:?}");
    assert!(
        captions.notes.len() == 1 && captions.notes[0].contains("not used") && captions.notes[0].contains("a.tar: y")
    );
}

/// Only a missing caption costs a picture: not what else is wrong in its json.
#[test]
fn captions_from_txt_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Result<&'a str, &'a str>);
    let rows: &[Row] = &[
        ("nan", Some("a bag"), Some(r#"{"caption": "a bag", "score": NaN, "caption_id": 7}"#), Ok("a bag")),
        ("cut", Some("a bag"), Some(r#"{"caption": "#), Ok("a bag")),
        ("list", Some("a bag"), Some("[1]"), Ok("a bag")),
        ("id", Some("a bag"), Some(r#"{"caption_id": "seven"}"#), Ok("a bag")),
        ("both", Some("a bag\n"), Some(r#"{"caption": "a shoe"}"#), Ok("a bag")),
        ("json", None, Some(r#"{"caption": "a shoe", "width": -Infinity}"#), Ok("a shoe")),
        ("blank", Some(" \t\n"), None, Err("its .txt is blank")),
        ("filled", Some(""), Some(r#"{"caption": "a shoe"}"#), Ok("a shoe")),
        ("null", None, Some(r#"{"caption": null}"#), Err("its caption in .json is null, not a text")),
        ("number", Some(""), Some(r#"{"caption": NaN}"#), Err("is NaN or infinite, not a text")),
        ("spaces", None, Some(r#"{"caption": "  "}"#), Err("blank")),
        ("broken", Some(""), Some("{"), Err(".json: expected an object")),
        ("neither", None, Some("{}"), Err("no caption (.txt")),
    ];
    let names: Vec<[String; 3]> =
        rows.iter().map(|(key, ..)| ["png", "txt", "json"].map(|extension| format!("{key}.{extension}"))).collect();
    let mut members: Vec<(&str, &[u8])> = Vec::new();
    for ((_, txt, json, _), [png, name, record]) in rows.iter().zip(&names) {
        members.push((png, b"picture"));
        members.extend(txt.map(|text| (name.as_str(), text.as_bytes())));
        members.extend(json.map(|text| (record.as_str(), text.as_bytes())));
    }
    tar(&path, &members);
    let shards = open(&path);
    for (sample, (key, _, _, want)) in shards.iter().zip(rows) {
        match (sample.record().unwrap().caption, want) {
            (Ok(caption), Ok(want)) => assert_eq!(caption, *want, "{key}"),
            (Err(why), Err(want)) => assert!(why.contains(want), "{key}: {why}"),
            other => panic!("{key}: {other:?}"),
        }
    }
    let captions = CaptionGroups::new(&shards).unwrap();
    let groups: Vec<&[u32]> = captions.iter().map(|group| group.pictures).collect();
    assert_eq!(groups, [&[0][..], &[1, 2, 3, 4], &[5, 7]], "caption_id 7 is a group of its own");
    assert_eq!(captions.bad.len(), 6);
    let notes = captions.notes.join("\n");
    for part in [
        "2 samples have a .json that is not an object",
        "1 sample has a caption_id",
        "1 sample has another caption in .json",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
}

/// What a tar can hold beside plain files is named, not passed over.
#[test]
fn members_that_are_no_plain_files_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut add = |name: &str, kind: tar::EntryType, pax: &[(&str, &[u8])], data: &[u8]| {
        if !pax.is_empty() {
            builder.append_pax_extensions(pax.iter().copied()).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_entry_type(kind);
        builder.append_data(&mut header, name, data).unwrap();
    };
    use tar::EntryType;
    add("folder/", EntryType::Directory, &[], b"");
    add("a.png", EntryType::Regular, &[], b"a");
    add("a.txt", EntryType::Symlink, &[], b"");
    add("b.png", EntryType::Link, &[], b"");
    add("c.png", EntryType::Regular, &[("GNU.sparse.major", b"1")], b"map and data");
    add("d.png", EntryType::GNUSparse, &[], b"data");
    add("short.png", EntryType::Regular, &[("path", "long/käfer.png".as_bytes()), ("mtime", b"1.5")], b"e");
    drop(builder.into_inner().unwrap());
    let shards = open(&path);
    let keys: Vec<&str> = shards.iter().map(|sample| sample.key()).collect();
    assert_eq!(keys, ["a", "long/käfer"]);
    let damage: Vec<String> = shards.damage().iter().map(ToString::to_string).collect();
    assert_eq!(damage.len(), 4, "{damage:?}");
    for (text, part) in damage.iter().zip([
        "a.txt is a symbolic link",
        "b.png is a hard link",
        "c.png is a sparse",
        "d.png is a sparse",
    ]) {
        assert!(text.contains(part), "{text}");
    }
}

/// Every way in which a file is no tar, or more than one.
#[test]
fn what_is_no_tar_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.tar");
    write_shard(&whole, 0, 1, 1);
    let bytes = fs::read(&whole).unwrap();
    let path = folder.path().join("a.tar");
    let of = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let shards = open(&path);
        assert_eq!(shards.damage().len(), 1);
        (shards.len(), shards.damage()[0].what.clone())
    };
    for (head, part) in [
        (&[0x1F, 0x8B, 8, 0][..], "gzip-compressed; unpack it once with `gunzip`"),
        (&[0x28, 0xB5, 0x2F, 0xFD], "zstd-compressed"),
        (b"PK\x03\x04", "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html>", "web page"),
    ] {
        let (samples, what) = of(&[head, &[7; 600]].concat());
        assert!(samples == 0 && what.contains(part), "{what}");
    }
    let (samples, what) = of(&[&bytes[..], &bytes[..]].concat());
    assert!(samples == 1 && what.contains("follow the end marker of the tar and are not used"), "{what}");
    fs::write(&path, [&bytes[..], &[0; 9000]].concat()).unwrap();
    assert!(open(&path).damage().is_empty(), "zeros after the end are padding");
    // A download that was given its length first and broke off.
    for (whole, samples) in [(&bytes[..], 1), (&[], 0)] {
        let (found, what) = of(&[whole, &[0; 20_000]].concat());
        assert!(found <= samples && what.contains("zero bytes up to its end"), "{found}: {what}");
    }

    // A size that is no number, with a checksum that is right; and one beyond every file.
    for (field, part) in
        [(&b"12x45"[..], "the size of a member cannot be read"), (&[0xFF; 12], "cut short inside 0000")]
    {
        let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
        header.as_old_mut().size[..field.len()].copy_from_slice(field);
        header.set_cksum();
        let (samples, what) = of(&[header.as_bytes(), &bytes[512..]].concat());
        assert!(samples == 0 && what.contains(part), "{what}");
    }
    // Twice the same member: which one is meant?
    tar(&path, &[("k.png", b"1"), ("k.png", b"2"), ("k.txt", b"x"), ("l.png", b"3")]);
    let shards = open(&path);
    assert!(shards.len() == 1 && shards.damage()[0].what.contains("k has two members .png"), "{:?}", shards.damage());
}

#[test]
fn one_shard_is_used_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_shard(&root.join("0.tar"), 0, 2, 2);
    write_shard(&root.join("1.tar"), 2, 2, 2);
    let notes = |paths: &[PathBuf]| {
        let shards = Shards::open(paths).unwrap();
        assert_eq!(shards.len(), 8, "{paths:?}");
        shards.notes().join("\n")
    };
    assert_eq!(notes(&[root.to_path_buf()]), "");
    let again = notes(&[root.to_path_buf(), root.join("0.tar")]);
    assert!(again.contains("1 file(s) are named twice") && again.contains("each is used once"), "{again}");
    assert!(notes(&[root.to_path_buf(), root.join("."), root.join("1.tar")]).contains("3 file(s)"));
    std::os::unix::fs::symlink(root.join("0.tar"), root.join("2.tar")).unwrap();
    assert!(notes(&[root.to_path_buf()]).contains("2.tar"));
    fs::remove_file(root.join("2.tar")).unwrap();
    fs::copy(root.join("0.tar"), root.join("2.tar")).unwrap();
    assert!(notes(&[root.to_path_buf()]).contains("2.tar is a copy of"));
}

/// The hash of a shard is that of what it holds: not of its name, dates or padding.
#[test]
fn the_hash_of_a_shard_is_of_its_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let large: Vec<u8> = (0..9000u32).map(|i| (i % 251) as u8).collect();
    let hash = |path: &Path| *open(path).files().next().unwrap().sha256;
    let of = |name: &str, picture: &[u8], text: &[u8]| {
        tar(&path, &[(name, picture), ("k.txt", text)]);
        hash(&path)
    };
    let base = of("k.png", &large, b"a bag");
    let moved = folder.path().join("b.tar");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 10240]);
    fs::write(&moved, bytes).unwrap();
    assert_eq!(hash(&moved), base);
    tar(&moved, &[("k.txt", b"a bag"), ("k.png", &large)]);
    assert_eq!(hash(&moved), base, "the order of members decides nothing");
    let changed = |at: usize| {
        let mut picture = large.clone();
        picture[at] ^= 1;
        picture
    };
    for other in [
        of("k.png", &changed(0), b"a bag"),
        of("k.png", &changed(8999), b"a bag"),
        of("k.png", &large, b"a bug"),
        of("k.jpg", &large, b"a bag"),
        of("l.png", &large, b"a bag"),
        of("k.png", &large[..8998], b"a bag"),
    ] {
        assert_ne!(other, base);
    }
}

/// More shards than files that a process keeps open, read in an order of jumps; one that changes meanwhile is named.
#[test]
fn many_shards_are_opened_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let count = 700;
    for i in 0..count {
        tar(&folder.path().join(shard_name(i)), &[("k.png", format!("picture {i}").as_bytes()), ("k.txt", b"x")]);
    }
    let shards = open(folder.path());
    assert!(shards.bytes() < 700 * 600, "{}", shards.bytes());
    for i in (0..3 * count).map(|i| i * 211 % count) {
        assert_eq!(shards.picture(i as u32).unwrap().read().unwrap(), format!("picture {i}").as_bytes());
    }
    let shards = open(folder.path());
    fs::write(folder.path().join(shard_name(5)), b"other").unwrap();
    let error = shards.picture(5).unwrap().read().unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("00005.tar: changed while it was in use"), "{error}");
}

#[test]
fn one_key_of_many_members_is_indexed_in_linear_time_and_too_many_extensions_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let names: Vec<String> = (0..70_000).map(|i| format!("frame.{i}.png")).collect();
    let members = |count: usize| names[..count].iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>();
    tar(&path, &members(60_000));
    assert_eq!(open(&path).sample(0).pictures().unwrap().len(), 60_000);
    // Picture after picture by number, as training and probes ask for them: looking through all members each time would
    // be 3.6 billion looks.
    let numbered: Vec<String> = (0..60_000).map(|i| format!("frame.{}.png", 59_999 - i)).collect();
    tar(&path, &numbered.iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>());
    let shards = open(&path);
    for number in 0..60_000 {
        let picture = shards.picture(number).unwrap();
        assert_eq!((picture.number(), picture.extension()), (number, format!("{number}.png").as_str()));
        assert_eq!(picture.name(), format!("{}: frame.{number}.png", path.display()));
    }
    tar(&path, &members(70_000));
    let error = Shards::open(&[path]).unwrap_err().to_string();
    assert!(error.contains("a.tar: more than 65536 different extensions") && error.contains("first dot"), "{error}");
}

/// A header of very many records is walked once, and those that matter are found among them.
#[test]
fn an_extended_header_of_many_records_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
    let keys: Vec<String> = (0..60_000).map(|i| format!("k{i}")).collect();
    let records = keys.iter().map(|key| (key.as_str(), &b"v"[..]));
    builder.append_pax_extensions(records.chain([("path", &b"a.png"[..])])).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    builder.append_data(&mut header, "short", &b"x"[..]).unwrap();
    drop(builder.into_inner().unwrap());
    let shards = open(&path);
    assert_eq!((shards.len(), shards.sample(0).key(), shards.damage()), (1, "a", &[][..]));
}

#[test]
fn folders_that_are_no_shards_say_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let of = |files: &[&str]| {
        let place = tempfile::tempdir_in(root).unwrap();
        for file in files {
            let file = place.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, b"").unwrap();
        }
        let error = locate(place.path()).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        error.to_string()
    };
    for (files, part) in [
        (&["cat/1.jpg", "dog/2.JPG"][..], "2 folder(s) of pictures such as"),
        (&["1.jpg", "1.txt"], "1 picture(s); shards are tars"),
        (&["w=2.0/00000.tar", "w=7.5/00000.tar"], "2 folder(s) in it hold shards: name them,"),
        (&["00000.tar.gz", "00001.tgz"], "2 compressed shard(s)"),
        (&[".00000.tar.partial", "generate.json"], "has finished no shard yet"),
        (&["notes.md"], "expected shards"),
    ] {
        let text = of(files);
        assert!(text.contains("no *.tar in this folder") && text.contains(part), "{text}");
    }
}

#[test]
fn a_folder_that_generate_has_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert_eq!(unfinished(root), None);
    fs::write(root.join("generate.json"), br#"{"captions": 13, "captions_per_shard": 4}"#).unwrap();
    write_shard(&root.join(shard_name(1)), 0, 4, 1);
    let what = unfinished(root).unwrap();
    assert!(what.contains("3 of 4 shards are missing (00000.tar, 00002.tar, 00003.tar)"), "{what}");
    for i in [0, 2, 3] {
        write_shard(&root.join(shard_name(i)), 4 * i as u64, 1, 1);
    }
    assert!(unfinished(root).unwrap().contains("all 4 shards are there"));
    // More shards than anybody can look for are counted, not listed.
    fs::write(root.join("generate.json"), br#"{"captions": 18446744073709551615, "captions_per_shard": 1}"#).unwrap();
    let what = unfinished(root).unwrap();
    assert!(what.contains("18446744073709551611 of 18446744073709551615 shards are missing (00004.tar, "), "{what}");
    fs::write(root.join("stats.json"), b"{}").unwrap();
    assert_eq!(unfinished(root), None);
}
