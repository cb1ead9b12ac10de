//! Shards: written bytes, the index, captions, and every way a tar can be damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stablerep::shards::{CaptionGroups, ShardWriter, Shards, image_key, locate, read_sizes, shard_name, write_sizes};

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
    assert_eq!(sample.image().unwrap().1, "pixels of 00000004_001".repeat(40).as_bytes());
    assert_eq!(sample.caption().unwrap().unwrap(), "caption 4");
    assert_eq!(sample.caption_id().unwrap(), Some(4));
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
    let captions = CaptionGroups::new(&shards);
    assert!(captions.bad.is_empty());
    assert_eq!(captions.groups.len(), 8);
    assert_eq!(captions.texts, 5);
    let labels: Vec<u32> = captions.groups.iter().map(|group| group.label).collect();
    assert_eq!(labels, [0, 1, 2, 3, 4, 0, 1, 2], "captions 0 and 5 say the same, and so on");
    assert_eq!(captions.groups[5].samples, [15, 16, 17]);
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
    assert_eq!(shards.sample(0).image().unwrap(), ("jpg", &b"jpeg bytes"[..]));
    assert_eq!(shards.sample(1).image().unwrap(), ("seg.png", &b"mask"[..]));
    let captions: Vec<String> = (0..3).map(|i| shards.sample(i).caption().unwrap().unwrap()).collect();
    assert_eq!(captions, ["a dog", "a cat", "ein Käfer"]);
    let captions = CaptionGroups::new(&shards);
    assert_eq!(captions.groups.len(), 3);
    assert_eq!(captions.bad.len(), 4);
    for (message, key, what) in [
        (0, "only_text", "no image (.jpg, .jpeg or .png); it has .txt"),
        (1, "only_picture", "no caption"),
        (2, "latin", "not UTF-8"),
        (3, "broken", "expected an object"),
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
        assert!(damage.offset <= at && damage.file == cut, "cut at {at}: {damage}");
        for sample in shards.iter() {
            let want = format!("pixels of {}", sample.key()).repeat(40);
            assert_eq!(sample.image().unwrap().1, want.as_bytes(), "cut at {at}");
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
    assert_eq!(shards.damage()[0].offset, header);
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
