//! `inspect` and `doctor` through the binary.

use std::fs;

use stablerep::image::{Rgb8, decode, encode_jpeg, encode_png};
use stablerep::shards::{ShardWriter, image_key, shard_name};

use crate::common::{fails, fixture, run, succeeds, text};

/// Three captions of two images; one flagged, one image of another size and format.
fn shards() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut shard = ShardWriter::create(folder.path().join(shard_name(0))).unwrap();
    for caption in 0..3u64 {
        for image in 0..2usize {
            let odd = (caption, image) == (2, 1);
            let picture = Rgb8::filled(if odd { 40 } else { 16 }, 16, [40 * caption as u8, 90, 200]);
            let bytes = if odd { encode_jpeg(&picture, 90) } else { encode_png(&picture) }.unwrap();
            let flags = if caption == 1 { "[\"truncated\"]" } else { "[]" };
            let json = format!("{{\"caption_id\":{caption},\"flags\":{flags}}}");
            let caption_text = format!("caption number {}", caption % 2);
            let members = [
                (if odd { "jpg" } else { "png" }, &bytes[..]),
                ("txt", caption_text.as_bytes()),
                ("json", json.as_bytes()),
            ];
            shard.add(&image_key(caption, image), &members).unwrap();
        }
    }
    shard.finish().unwrap();
    folder
}

#[test]
fn shards_are_summed_up_and_shown() {
    let folder = shards();
    let sheet = folder.path().join("sheet.png");
    let out = succeeds(&["inspect", &text(folder.path()), "--check", "--sheet", &text(&sheet), "--rows", "2"]);
    for (name, value) in [
        ("files", "1, "),
        ("samples", "6"),
        ("captions", "3 (2 different texts)"),
        ("images per caption", "2 (all 3)"),
        ("image sizes", "16×16 (5), 40×16 (1)"),
        ("formats", "jpg (1), png (5)"),
        ("flags", "truncated (2 of 6: 00000001_000, 00000001_001)"),
    ] {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}:\n{out}"));
        assert!(line.contains(value), "{line}");
    }
    assert!(out.contains("00000.tar") && out.contains("contact sheet of 2 of 3 captions"), "{out}");
    let picture = decode(&fs::read(&sheet).unwrap(), "sheet").unwrap();
    assert!(picture.width > 300 && picture.height > 100);

    fs::write(folder.path().join("generate.json"), "{}").unwrap();
    let out = succeeds(&["inspect", &text(folder.path())]);
    assert!(out.contains("not finished"), "{out}");
}

#[test]
fn damaged_shards_are_listed_with_exit_code_3() {
    let folder = shards();
    let path = folder.path().join(shard_name(0));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 2000]).unwrap();
    let message = fails(&["inspect", &text(&path)], 3, &["00000.tar at byte", "cut short", "1 problem(s)"]);
    assert!(message.contains("00000002_001"), "{message}");

    // A corrupt image is found by --check alone.
    let mut spoiled = bytes.clone();
    let png = spoiled.windows(4).position(|w| w == b"IDAT").unwrap();
    spoiled[png + 12] ^= 0xFF;
    fs::write(&path, &spoiled).unwrap();
    succeeds(&["inspect", &text(&path)]);
    fails(&["inspect", &text(&path), "--check"], 3, &["00000.tar: 00000000_000", "corrupt PNG"]);
}

#[test]
fn weights_are_tabulated() {
    let path = fixture("train_run/init.safetensors");
    let out = succeeds(&["inspect", &text(&path)]);
    let line = out.lines().find(|line| line.starts_with("blocks.0.attn.qkv.weight ")).unwrap();
    assert!(line.contains("[72, 24]") && line.contains("F32"), "{line}");
    assert!(out.contains("init.safetensors: ") && out.contains(" values, "), "{out}");

    // Known statistics, a NaN, an integer tensor, metadata.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let floats: Vec<u8> = [1.0f32, 3.0, f32::NAN, -4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let ints: Vec<u8> = [7i64, 9].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view =
        |dtype, shape: &[usize], data| safetensors::tensor::TensorView::new(dtype, shape.to_vec(), data).unwrap();
    let tensors = [
        ("floats", view(safetensors::Dtype::F32, &[2, 2], &floats)),
        ("ints", view(safetensors::Dtype::I64, &[2], &ints)),
        ("adam.m.floats", view(safetensors::Dtype::F32, &[2, 2], &floats)),
    ];
    let metadata = std::collections::HashMap::from([("step".to_string(), "17".to_string())]);
    safetensors::serialize_to_file(tensors, Some(metadata), &path).unwrap();
    let out = succeeds(&["inspect", &text(folder.path())]);
    let cells = |name: &str| -> Vec<String> {
        out.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().map(str::to_owned).collect()
    };
    let line = |name: &str| out.lines().position(|l| l.starts_with(name)).unwrap();
    assert!(line("floats ") < line("ints ") && line("ints ") < line("adam.m.floats "), "moments come last: {out}");
    assert_eq!(cells("floats "), ["floats", "[2,", "2]", "F32", "0", "2.9439", "-4", "3", "1"]);
    assert_eq!(cells("ints "), ["ints", "[2]", "I64", "8", "1", "7", "9", "0"]);
    assert!(out.contains("step: 17"), "{out}");
}

#[test]
fn inspect_refuses_what_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    fails(&["inspect", &text(folder.path())], 3, &["neither *.tar shards nor *.safetensors"]);
    fails(&["inspect", &text(&folder.path().join("absent.tar"))], 2, &["absent.tar", "does not exist"]);
    let pickle = folder.path().join("model.bin");
    fs::write(&pickle, b"\x80\x02}q\x00.").unwrap();
    fails(&["inspect", &text(&pickle)], 3, &["model.bin"]);
    let weights = fixture("train_run/init.safetensors");
    fails(&["inspect", &text(&weights), "--check"], 2, &["--check are for shards"]);
}

#[test]
fn doctor_reports_every_part_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let out = succeeds(&["doctor", "--output", &text(folder.path())]);
    for part in [
        "processor",
        "vectors",
        "threads",
        "memory",
        "arithmetic",
        "bandwidth",
        "disk space",
        "disk speed",
        "cache",
        "bundled files",
        "gpu",
    ] {
        let line = out.lines().find(|line| line[4..].trim_start().starts_with(part));
        let line = line.unwrap_or_else(|| panic!("{part}:\n{out}"));
        assert!(line.starts_with("ok  ") || line.starts_with("warn"), "{line}");
    }
    assert!(out.contains("GFLOP/s") && out.contains("GB/s") && out.contains("Next: "), "{out}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the measured file is removed");
    // A folder that cannot be written is a warning, not a failure: the doctor reports.
    let output = run(&["doctor", "--output", "/proc/self/x"]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && out.lines().any(|l| l.starts_with("warn  disk speed") && l.contains("cannot write"))
    );
}

/// Names and shapes of other programs' files may be of any length: the table stays one.
#[test]
fn endless_tensor_names_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.safetensors");
    let name = "n".repeat(70_000);
    let tensors = [(name, vec![2], &[1.0f32, 2.0][..]), ("short".to_owned(), vec![1], &[3.0f32][..])];
    stablerep::weights::write_safetensors(&path, &tensors, &[]).unwrap();
    let out = succeeds(&["inspect", &text(&path)]);
    assert!(out.contains("2 tensors, 3 values") && out.contains("(70000 characters)"), "{}", &out[..500]);
    assert!(out.lines().all(|line| line.len() < 500));
}
