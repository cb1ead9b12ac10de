//! Work that does not fit into memory is refused before it begins: exit code 4, what limits it, and what to lower.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::common::{command, fails, fixture, text};

fn train(output: &str, more: &[&str]) -> Vec<String> {
    let data = text(&fixture("train_run/stablerep"));
    let flags = format!(
        "train --data {data} --output {output} --model custom --image-size 32 --patch-size 8 --heads 4 --head-dims 32,16 \
         --images-per-caption 3 --steps 3"
    );
    flags.split_whitespace().map(str::to_owned).chain(more.iter().map(|word| (*word).to_owned())).collect()
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Runs the binary with three million KiB of address space, as schedulers of clusters limit their jobs.
fn limited(args: &[&str]) -> Output {
    limited_to(3_000_000, args)
}

/// Runs the binary with so many KiB of address space.
fn limited_to(kib: usize, args: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    let line = format!(r#"ulimit -v {kib}; exec "$0" "$@""#);
    shell.args(["-c", &line, env!("CARGO_BIN_EXE_stablerep")]).args(args);
    shell.output().unwrap()
}

#[test]
fn networks_beyond_any_memory_are_refused_before_they_are_allocated() {
    let folder = TempDir::new().unwrap();
    let output = text(&folder.path().join("run"));
    let largest = ["--batch", "4", "--width", "16384", "--depth", "256"];
    let text = fails(&words(&train(&output, &largest)), 4, &["the plan needs", "TiB", "lower --batch", "parameters"]);
    assert!(text.contains("are available ("), "{text}");
    // Nothing was claimed: the advice can be followed in the same folder.
    assert!(!folder.path().join("run").exists());

    let probe = "probe --random-init vit_tiny --width 16384 --depth 256 --heads 4 --train src --test src";
    fails(&probe.split(' ').collect::<Vec<_>>(), 4, &["the plan needs", "TiB", "take a smaller encoder"]);
    let bench = "bench train --model vit_tiny --batch 1000 --images-per-caption 1000 --image-size 4096 --device cpu";
    fails(&bench.split(' ').collect::<Vec<_>>(), 4, &["the plan needs", "lower --batch"]);
}

#[test]
fn images_beyond_counting_are_refused() {
    let folder = TempDir::new().unwrap();
    let output = text(&folder.path().join("run"));
    let sizes = ["--width", "16", "--depth", "1"];
    for (batch, needles) in [
        ("1048576", "3145728 images per step: expected at most 1048576; lower --batch"),
        ("18446744073709551615", "--batch 18446744073709551615: expected at most"),
    ] {
        fails(&words(&train(&output, &[&sizes[..], &["--batch", batch]].concat())), 2, &[needles]);
    }
}

#[test]
fn an_address_space_limit_is_seen() {
    let folder = TempDir::new().unwrap();
    let output = text(&folder.path().join("run"));
    let output =
        limited(&words(&train(&output, &["--batch", "4", "--width", "2048", "--depth", "12", "--threads", "1"])));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("an address space of 2.9 GiB, ulimit -v") && text.contains("lower --batch"), "{text}");
}

/// What would take more than there is is refused from its sizes alone, whichever command it is for.
#[test]
fn plans_beyond_an_address_space_are_refused_before_anything_is_allocated() {
    let folder = TempDir::new().unwrap();
    let output = |name: &str| text(&folder.path().join(name));
    let captions = output("captions.txt");
    fs::write(&captions, "a photo of a bag\n").unwrap();
    let train = train(&output("run"), &["--batch", "4", "--width", "4096", "--depth", "64", "--threads", "1"]);
    let generate = format!(
        "generate --model bundled --captions {captions} --output {} --width 512 --height 512 --batch 4096 --threads 1",
        output("drawn")
    );
    let probe = "probe --random-init vit_tiny --width 16384 --depth 256 --heads 4 --train src --test src --threads 1";
    for words in [words(&train), generate.split(' ').collect(), probe.split(' ').collect()] {
        let output = limited(&words);
        let said = String::from_utf8_lossy(&output.stderr);
        let needles = ["the plan needs", "an address space of 2.9 GiB, ulimit -v"];
        assert!(output.status.code() == Some(4) && needles.iter().all(|part| said.contains(part)), "{said}");
    }
    assert!(!folder.path().join("run").exists() && !folder.path().join("drawn").exists());
}

/// Eight photographs of 4096² pixels would take 3 GiB in the encoder.
#[test]
fn a_probe_that_does_not_fit_is_refused_before_it_reads_a_picture() {
    let folder = TempDir::new().unwrap();
    let (images, labels) = (folder.path().join("images-idx3-ubyte"), folder.path().join("labels-idx1-ubyte"));
    let head = |kind: u8, sizes: &[u32]| {
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        [0, 0, 8, kind].into_iter().chain(sizes).collect::<Vec<u8>>()
    };
    fs::write(&images, [head(3, &[8, 2, 2]), vec![7; 32]].concat()).unwrap();
    fs::write(&labels, [head(1, &[8]), vec![0, 1, 0, 1, 0, 1, 0, 1]].concat()).unwrap();
    let photos = text(&images);
    let words = format!(
        "probe --random-init vit_tiny --image-size 4096 --patch-size 256 --width 16 --depth 1 --heads 1 --threads 1 \
         --train {photos} --test {photos}"
    );
    let output = limited(&words.split_whitespace().collect::<Vec<_>>());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("lower --batch or the number of --lrs") && text.contains("linear probe"), "{text}");
}

#[test]
fn the_doctor_names_the_limit_and_the_cache() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut doctor = command(&["doctor", "--output", &text(folder.path())]);
    doctor.env("STABLEREP_CACHE", file.join("cache"));
    let output = doctor.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}:\n{text}"));
    assert!(line("memory  ").contains("available, limited by"), "{text}");
    assert!(line("cache  ").starts_with("warn") && line("cache  ").contains("STABLEREP_CACHE"), "{text}");
}

/// From hardly more than the program itself upwards: the work is done, or what is lacking is said, with the exit code
/// for it. Nothing aborts or panics, whoever asks for the memory: a thread, a map of a file, a buffer nobody planned.
#[test]
fn too_little_address_space_for_anything_is_said() {
    let folder = TempDir::new().unwrap();
    let output = |name: &str| text(&folder.path().join(name));
    let (drawn, trained) = (output("drawn"), output("run"));
    let captions = output("captions.txt");
    fs::write(&captions, "a photo of a bag\n").unwrap();
    let draw = format!("generate --model bundled --captions {captions} --output {drawn} --steps 1 --threads 2");
    let train = train(&trained, &["--batch", "2", "--width", "16", "--depth", "1", "--threads", "2"]);
    let mut refused = 0;
    for kib in (66_000..=206_000).step_by(20_000) {
        for words in [words(&train), draw.split(' ').collect(), vec!["doctor", "--threads", "2"]] {
            let output = limited_to(kib, &words);
            let said = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => {}
                Some(4) => {
                    refused += 1;
                    assert_eq!(said.matches("error:").count(), 1, "{kib} KiB, {words:?}\n{said}");
                }
                _ => panic!("{kib} KiB, {words:?}: {}\n{said}", output.status),
            }
            for folder in [&drawn, &trained] {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
    assert!(refused > 0, "so little is enough for everything: start lower");
}
