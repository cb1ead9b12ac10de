use std::fs;
use std::path::PathBuf;

use half::{bf16, f16};
use stablerep::error::Error;
use stablerep::weights::{SafeTensors, write_safetensors};
use tempfile::TempDir;

/// A file with this header and these data bytes.
fn file(folder: &TempDir, name: &str, header: &str, data: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    fs::write(&path, bytes).unwrap();
    path
}

fn data_error<T>(result: Result<T, Error>, words: &[&str]) {
    let Err(error) = result else { panic!("accepted; expected an error with {words:?}") };
    assert_eq!(error.exit_code(), 3, "{error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} lacks {word:?}");
    }
}

#[test]
fn written_files_are_read_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let a: Vec<f32> = (0..200_000).map(|i| i as f32 * 0.1 - 7.0).collect();
    let tensors = [("b.weight".to_owned(), vec![400, 500], a.as_slice()), ("a".to_owned(), vec![], &[2.5f32][..])];
    write_safetensors(&path, &tensors, &[("step", "12".to_owned())]).unwrap();
    let read = SafeTensors::open(&path).unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), ["a", "b.weight"]);
    assert_eq!(read.f32("b.weight", &[400, 500]).unwrap(), a);
    assert_eq!(read.f32("a", &[]).unwrap(), [2.5]);
    assert_eq!(read.metadata("step"), Some("12"));
    assert_eq!(read.metadata("epoch"), None);
}

#[test]
fn every_float_dtype_becomes_f32() {
    let folder = TempDir::new().unwrap();
    let values = [1.5f32, -0.25, 3.0];
    let mut data: Vec<u8> = Vec::new();
    data.extend(values.iter().flat_map(|&v| f64::from(v).to_le_bytes()));
    data.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()));
    data.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()));
    data.extend([1u8, 2, 3]);
    let header = r#"{"d":{"dtype":"F64","shape":[3],"data_offsets":[0,24]},
        "h":{"dtype":"F16","shape":[3],"data_offsets":[24,30]},
        "b":{"dtype":"BF16","shape":[3],"data_offsets":[30,36]},
        "u":{"dtype":"U8","shape":[3],"data_offsets":[36,39]}}"#;
    let read = SafeTensors::open(file(&folder, "w.safetensors", header, &data)).unwrap();
    for name in ["d", "h", "b"] {
        assert_eq!(read.f32(name, &[3]).unwrap(), values, "{name}");
    }
    assert_eq!(read.i64("u", &[3]).unwrap(), [1, 2, 3]);
    data_error(read.f32("u", &[3]), &["w.safetensors", "`u`", "U8", "F32"]);
    data_error(read.i64("h", &[3]), &["`h`", "F16", "I64"]);
}

/// Of every dtype, in the file or only once it is f32; what shows a file as it is still reads it.
#[test]
fn values_that_are_no_numbers_are_counted_and_refused() {
    let folder = TempDir::new().unwrap();
    let mut data: Vec<u8> = Vec::new();
    data.extend([1.0, 1e300, f64::NEG_INFINITY].iter().flat_map(|v| v.to_le_bytes()));
    data.extend([f16::NAN, f16::ONE, f16::INFINITY].iter().flat_map(|v| v.to_le_bytes()));
    data.extend([bf16::ONE, bf16::ONE, bf16::NAN].iter().flat_map(|v| v.to_le_bytes()));
    let header = r#"{"d":{"dtype":"F64","shape":[3],"data_offsets":[0,24]},
        "h":{"dtype":"F16","shape":[3],"data_offsets":[24,30]},
        "b":{"dtype":"BF16","shape":[3],"data_offsets":[30,36]}}"#;
    let read = SafeTensors::open(file(&folder, "w.safetensors", header, &data)).unwrap();
    assert_eq!(read.unread().collect::<Vec<_>>(), ["b", "d", "h"]);
    data_error(read.f32("d", &[3]), &["w.safetensors", "`d`", "2 of its 3 values", "not finite", "number 1, is inf"]);
    data_error(read.f32("h", &[3]), &["`h`", "2 of its 3 values", "number 0, is NaN"]);
    data_error(read.f32("b", &[3]), &["`b`", "1 of its 3 values", "number 2, is NaN"]);
    assert_eq!(read.f64("d", &[3]).unwrap(), [1.0, 1e300, f64::NEG_INFINITY]);
    assert_eq!(read.f64("h", &[3]).unwrap()[1..], [1.0, f64::INFINITY]);
    assert_eq!(read.unread().count(), 0);
}

#[test]
fn absent_tensor_and_wrong_shape_are_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let zeros = [0.0f32; 6];
    let names = ["conv_in.weight", "conv_out.weight", "zebra", "mid.norm"];
    let tensors: Vec<_> = names.iter().map(|n| ((*n).to_owned(), vec![2, 3], &zeros[..])).collect();
    write_safetensors(&path, &tensors, &[]).unwrap();
    let read = SafeTensors::open(&path).unwrap();
    data_error(read.f32("conv_im.weight", &[2, 3]), &["w.safetensors", "`conv_im.weight`", "`conv_in.weight`"]);
    data_error(read.f32("zebra", &[3, 2]), &["w.safetensors", "`zebra`", "[2, 3]", "[3, 2]"]);
    let twice = [("x".to_owned(), vec![6], &zeros[..]), ("x".to_owned(), vec![6], &zeros[..])];
    assert!(write_safetensors(&path, &twice, &[]).is_err());
    assert!(write_safetensors(&path, &[("x".to_owned(), vec![7], &zeros[..])], &[]).is_err());
    assert_eq!(SafeTensors::open(&path).unwrap().names().count(), 4, "a failed write must leave the old file");
}

#[test]
fn truncation_at_any_byte_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    write_safetensors(&path, &[("x".to_owned(), vec![2, 3], &[1.0f32; 6])], &[]).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        data_error(SafeTensors::open(&path), &["w.safetensors"]);
    }
    fs::write(&path, [&whole[..], &[0u8]].concat()).unwrap();
    data_error(SafeTensors::open(&path), &["w.safetensors", "appended"]);
}

#[test]
fn damaged_headers_are_refused() {
    let folder = TempDir::new().unwrap();
    let cases: [(&str, &str, &[&str]); 9] = [
        ("past the end", r#"{"x":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}"#, &["truncated"]),
        ("shape against range", r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}}"#, &["header"]),
        (
            "overlap",
            r#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
            &["`y`", "overlaps"],
        ),
        (
            "gap",
            r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
            &["`y`", "gap"],
        ),
        ("backwards", r#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#, &["w.safetensors"]),
        ("unknown dtype", r#"{"x":{"dtype":"Q7","shape":[4],"data_offsets":[0,16]}}"#, &["header"]),
        ("huge shape", r#"{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}"#, &["header"]),
        ("negative shape", r#"{"x":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}"#, &["header"]),
        ("not JSON", "{\"x\": nonsense}", &["header"]),
    ];
    for (what, header, words) in cases {
        let path = file(&folder, "w.safetensors", header, &[0; 16]);
        println!("{what}");
        data_error(SafeTensors::open(path), words);
    }
    let path = folder.path().join("w.safetensors");
    fs::write(&path, [0xffu8; 64]).unwrap();
    data_error(SafeTensors::open(&path), &["not a safetensors file"]);
}

#[test]
fn folders_read_one_file_or_shards_and_refuse_pickles() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path();
    data_error(SafeTensors::open_folder(dir, "model"), &["model.safetensors"]);
    fs::write(dir.join("model.bin"), b"\x80\x02}").unwrap();
    data_error(SafeTensors::open_folder(dir, "model"), &["model.bin", "pickle", "safe_serialization"]);
    data_error(SafeTensors::open(dir.join("model.ckpt")), &["model.ckpt", "pickle"]);

    let parts = ["model-1.safetensors", "model-2.safetensors"];
    for (i, part) in parts.iter().enumerate() {
        write_safetensors(dir.join(part), &[(format!("t{i}"), vec![1], &[i as f32])], &[]).unwrap();
    }
    let index = dir.join("model.safetensors.index.json");
    fs::write(&index, format!(r#"{{"weight_map":{{"t0":"{}","t1":"{}"}}}}"#, parts[0], parts[1])).unwrap();
    let read = SafeTensors::open_folder(dir, "model").unwrap();
    assert_eq!(read.f32("t0", &[1]).unwrap(), [0.0]);
    assert_eq!(read.f32("t1", &[1]).unwrap(), [1.0]);
    assert_eq!(read.files().count(), 2);

    fs::write(&index, format!(r#"{{"weight_map":{{"t0":"{}","t2":"{}"}}}}"#, parts[0], parts[1])).unwrap();
    data_error(SafeTensors::open_folder(dir, "model"), &["index.json", "`t2`"]);
    fs::write(&index, r#"{"weight_map":{"t0":"../model-1.safetensors"}}"#).unwrap();
    data_error(SafeTensors::open_folder(dir, "model"), &["index.json", "t0"]);
    fs::write(&index, r#"{"weight_map":{"t0":"absent.safetensors"}}"#).unwrap();
    data_error(SafeTensors::open_folder(dir, "model"), &["index.json", "absent.safetensors"]);

    // As many files as tensors: to compare each with all before it would take minutes.
    let many: Vec<String> = (0..300_000).map(|i| format!(r#""t{i}":"{i:06}.safetensors""#)).collect();
    fs::write(&index, format!(r#"{{"weight_map":{{{}}}}}"#, many.join(","))).unwrap();
    data_error(SafeTensors::open_folder(dir, "model"), &["index.json", "000000.safetensors"]);

    write_safetensors(dir.join("model.safetensors"), &[("one".to_owned(), vec![1], &[7.0f32])], &[]).unwrap();
    assert!(SafeTensors::open_folder(dir, "model").unwrap().contains("one"));
}
