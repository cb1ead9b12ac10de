//! Segmentation through the binary: a folder of ADE20k's layout to a trained network, its score, and a page of both.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{fails, succeeds, text};
use crate::scene_data::{ade, bad_shard};
use crate::scenes::shards;

#[test]
fn a_folder_becomes_a_network_and_its_score() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    ade(&folder.path().join("ade"), "training", 12);
    ade(&folder.path().join("ade"), "validation", 4);
    let (data, run, scores) = (at("ade"), at("run"), at("scores"));
    let line = format!(
        "train --method segment --data {data} --output {run} --model custom --image-size 32 --patch-size 8 --width 32 --depth 3 \
         --heads 2 --batch 4 --steps 12 --warmup-steps 1 --lr 3e-3 --classes 3"
    );
    let words: Vec<&str> = line.split_whitespace().collect();
    succeeds(&words);
    let packed = fs::read(format!("{run}/shards-0/00000.tar")).unwrap();
    // The same command again finds it finished, and packs nothing.
    succeeds(&words);
    assert!(fs::read(format!("{run}/shards-0/00000.tar")).unwrap() == packed);
    // Numbers that no pixel has are no classes to learn.
    let (none, line) = (at("none-learned"), line.replace(&run, &at("none-learned")));
    let words: Vec<&str> = line.split_whitespace().chain(["--first-label", "200"]).collect();
    fails(&words, 3, &["no pixel of the first update's pictures", "--first-label"]);
    assert!(!fs::exists(format!("{none}/checkpoint.safetensors")).unwrap());

    // What a run writes of itself gives the same run.
    let again = at("again");
    succeeds(&["train", "--config", &format!("{run}/config.toml"), "--output", &again]);
    let bytes = |run: &str| fs::read(format!("{run}/checkpoint.safetensors")).unwrap();
    assert!(bytes(&run) == bytes(&again), "the run of config.toml differs");

    let (linear, again) = (at("linear"), at("linear-again"));
    let line = line.replace(&at("none-learned"), &linear);
    succeeds(&line.split_whitespace().chain(["--segmentation-head", "linear"]).collect::<Vec<_>>());
    succeeds(&["train", "--config", &format!("{linear}/config.toml"), "--output", &again]);
    assert!(bytes(&linear) == bytes(&again), "the run of config.toml differs");

    let names = at("names.txt");
    fs::write(&names, "red\ngreen\nblue\n").unwrap();
    let words =
        ["eval", "segment", "--checkpoint", &run, "--data", &data, "--output", &scores, "--class-names", &names];
    let said = succeeds(&words);
    assert!(said.contains("mean") && said.contains("blue"), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(format!("{scores}/report.json")).unwrap()).unwrap();
    assert!(report["miou"].as_f64().is_some() && report["images"] == 4 && report["head"] == "uper", "{report}");
    let page = at("page.html");
    succeeds(&["report", &run, &scores, "--output", &page]);
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("pixels by their classes") && html.contains("miou"), "no segmentation in the page");

    // Its encoder is one like any other; the network is none to be told pixels by.
    succeeds(&["inspect", &run]);
    let encoder = at("encoder");
    succeeds(&["export", "--checkpoint", &run, "--output", &encoder]);
    let words = ["eval", "segment", "--checkpoint", &encoder, "--data", &data, "--output", &at("none")];
    fails(&words, 3, &["was not trained to tell pixels apart", "--method segment"]);

    // Shards score as folders do; what is bad in them is named.
    let tars = folder.path().join("tars");
    fs::create_dir(&tars).unwrap();
    shards(&tars, 4);
    bad_shard(&tars.join("00001.tar"));
    let (tars, scored) = (text(&tars), at("scored"));
    let words = ["eval", "segment", "--checkpoint", &run, "--data", &tars, "--output", &scored];
    fails(&words, 3, &["no .seg.png beside the image", "--max-bad allows 0"]);
    succeeds(&[&words[..], &["--max-bad", "4"]].concat());
    let report: Value = serde_json::from_slice(&fs::read(format!("{scored}/report.json")).unwrap()).unwrap();
    assert_eq!((report["images"].as_u64(), report["bad"].as_u64()), (Some(5), Some(4)));
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let train = |words: &str| {
        ["train", "--data", "x", "--output", "y", "--method"]
            .into_iter()
            .chain(words.split(' '))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (words, needle) in [
        ("simclr --segmentation-head uper --epochs 1", "--segmentation-head does not go with --method simclr"),
        ("simclr --classes 4 --epochs 1", "--classes does not go with --method simclr"),
        ("finetune --first-label 0 --epochs 1", "--first-label does not go with --method finetune"),
        ("segment --pool mean --classes 3 --epochs 1", "--pool does not go with --method segment"),
        ("segment --epochs 1", "--classes is not set"),
        ("segment --segmentation-head linear --layer-decay 0.5 --epochs 1", "--layer-decay does not go with"),
        ("segment --segmentation-head linear --auxiliary-weight 1 --epochs 1", "--auxiliary-weight does not go with"),
        ("segment --classes 3 --epochs 1 --batch 2 --augmentation strong", "--augmentation segment or none"),
        (
            "segment --classes 3 --epochs 1 --batch 2 --optimizer lars",
            "--optimizer lars does not go with --method segment",
        ),
    ] {
        let words = train(words);
        fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), 2, &[needle]);
    }
}
