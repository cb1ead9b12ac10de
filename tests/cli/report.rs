//! `report` and `compare`: pages and tables of what lies in folders.

use std::fs;
use std::path::Path;

use serde_json::json;
use stablerep::image::{Rgb8, encode_png};
use stablerep::shards::ShardWriter;
use tempfile::TempDir;

use crate::common::{fails, succeeds, text};

/// Two captions with three pictures each, one of them large; a caption that is HTML.
fn shards(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
    for (caption, words) in ["a <b>red</b> bag & \"more\"", "a dress"].iter().enumerate() {
        for image in 0..3 {
            let side = if image == 2 { 300 } else { 32 };
            let png = encode_png(&Rgb8::filled(side, side, [90 * image as u8, 40, 200])).unwrap();
            shard.add(&format!("{caption:08}_{image:03}"), &[("png", &png), ("txt", words.as_bytes())]).unwrap();
        }
    }
    shard.finish().unwrap();
    fs::write(folder.join("generate.json"), json!({"steps": 25, "guidance_scale": 2.0, "seed": null}).to_string())
        .unwrap();
}

/// A run of a thousand steps that was scored twice.
fn run(folder: &Path, rate: f64) {
    fs::create_dir_all(folder).unwrap();
    let line = |step: u32| {
        let mut line =
            json!({"step": step, "loss": 5.0 * (-rate * f64::from(step)).exp(), "lr": rate, "grad_norm": 1.5});
        if step % 500 == 499 {
            line["knn"] = json!(40.0 + f64::from(step) / 100.0);
        }
        line.to_string() + "\n"
    };
    fs::write(folder.join("metrics.jsonl"), (0..1000).map(line).collect::<String>()).unwrap();
    fs::write(folder.join("config.toml"), format!("method = \"simclr\"\nlr = {rate}\noutput = \"{rate}\"\n")).unwrap();
    fs::write(folder.join("checkpoint.safetensors"), "weights").unwrap();
}

fn evaluation(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let evaluation = |epoch: u32, test: f64| json!({"epoch": epoch, "test": test});
    let report = json!({
        "evaluation": "linear",
        "model": {"source": "run/checkpoint.safetensors", "mean": [0.5, 0.5, 0.5]},
        "test": {"name": "photos", "images": 2000},
        "linear": [{
            "batch_norm": false,
            "heads": [{"base_lr": 0.1, "evaluations": [evaluation(10, 50.0), evaluation(20, 61.25)]}],
            "best": {"base_lr": 0.1, "epoch": 20, "test": 61.25},
            "last": {"base_lr": 0.1, "epoch": 20, "test": 61.25},
        }],
        "knn": {"k": 20, "test": 58.5},
        "classes": [{"name": "bag", "images": 3}, {"name": "<i>", "images": 1}],
        "confusion": [[2, 0, 1], [0, 0, 0], [0, 1, 0]],
    });
    fs::write(folder.join("report.json"), report.to_string()).unwrap();
}

#[test]
fn a_page_holds_all_that_lies_below() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    shards(&at("all/shards"));
    run(&at("all/first"), 0.001);
    run(&at("all/second"), 0.01);
    evaluation(&at("all/scores"));
    let page = at("page.html");
    let write = |more: &[&str]| {
        let (all, page) = (text(&at("all")), text(&page));
        succeeds(&[&["report", &all, "--output", &page], more].concat());
        fs::read_to_string(&page).unwrap()
    };
    let html = write(&[]);
    // It needs nothing but itself, and what was written elsewhere is text in it.
    for absent in ["<script", "http:", "https:", "<link", "@import", "<b>red", "<i></td>", "NaN"] {
        assert!(!html.contains(absent), "{absent}");
    }
    for part in [
        "a &lt;b&gt;red&lt;/b&gt; bag &amp; &quot;more&quot;",
        "&lt;i&gt;",
        "6 pictures of 2 captions",
        "guidance_scale",
        "linear probe",
        "61.25",
        "58.50",
        "what the paper reports",
        "k-NN %</td><td>49.99</td><td>1000</td><td>49.99</td><td>1000</td>",
        "run/checkpoint.safetensors",
        "All runs",
        "All scores",
        "Which class is taken for which",
        "color-mix(in srgb, var(--c2) 53%",
        "prefers-color-scheme: dark",
        "name=\"viewport\"",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<img").count(), 6);
    assert_eq!(html.matches("data:image/jpeg").count(), 2);
    // A figure each of loss, scores, rate and gradient; two of both runs; one of the heads.
    assert_eq!(html.matches("<svg").count(), 2 * 4 + 2 + 1);
    // A thousand steps in no more points than can be seen.
    let longest = html.split("points=\"").skip(1).map(|rest| rest.split('"').next().unwrap().split(' ').count()).max();
    assert!((200..=300).contains(&longest.unwrap()), "{longest:?}");
    assert_eq!(html.matches("id=\"s").count(), html.matches("href=\"#s").count());
    assert_eq!(write(&[]), html);
    let fewer = write(&["--captions", "1", "--pictures", "2"]);
    assert_eq!(fewer.matches("<img").count(), 2);
}

/// A fine-tuned run: its scores on the way, its best, its place among all scores, and the maps that were drawn of it.
#[test]
fn scores_and_maps_of_a_fine_tuned_run_are_shown() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("all/tuned")).unwrap();
    let line = |step: u32| {
        let mut line = json!({"step": step, "loss": 2.0, "loss_floor": 0.5, "lr": 0.1, "grad_norm": 1.0});
        let scores = [(9, 40.0, 38.5), (19, 55.5, 52.25), (29, 54.75, 53.0)];
        if let Some((_, top1, averaged)) = scores.iter().find(|(at, ..)| *at == step) {
            line["test"] =
                json!({"top1": top1, "top5": top1 + 30.0, "ema_top1": averaged, "ema_top5": averaged + 30.0});
        }
        line.to_string() + "\n"
    };
    fs::write(at("all/tuned/metrics.jsonl"), (0..30).map(line).collect::<String>()).unwrap();
    fs::write(at("all/tuned/config.toml"), "method = \"finetune\"\ninit-from = \"pretrained run\"\n").unwrap();
    let sheet = encode_png(&Rgb8::filled(300, 40, [1, 2, 3])).unwrap();
    fs::write(at("all/tuned/attention.png"), &sheet).unwrap();
    evaluation(&at("all/scores"));
    let (all, page) = (text(&at("all")), text(&at("page.html")));
    let write = || {
        succeeds(&["report", &all, "--output", &page]);
        fs::read_to_string(&page).unwrap()
    };
    let html = write();
    let row = |cells: &[&str]| {
        format!("<tr>{}</tr>", cells.iter().map(|cell| format!("<td>{cell}</td>")).collect::<String>())
    };
    for cells in [
        // At the end, and where it was best.
        &["top-1 %", "54.75", "30", "55.50", "20"][..],
        &["top-5 %", "84.75", "30", "85.50", "20"],
        &["top-1 % of averaged weights", "53.00", "30", "53.00", "30"],
        // Among all scores: columns that nothing was scored in are not there.
        &["scores", "run/checkpoint.safetensors", "2000", "61.25", "58.50", "", ""],
        &["tuned", "pretrained run", "", "", "", "54.75", "53.00"],
    ] {
        assert!(html.contains(&row(cells)), "{cells:?}");
    }
    assert!(!html.contains("zero-shot"));
    for part in ["loss_floor", "inspect --attention", "test.ema_top5"] {
        assert!(html.contains(part), "{part}");
    }
    // The sheet as it was drawn.
    assert_eq!(html.matches("<img").count(), 1);
    let table = succeeds(&["compare", &text(&at("all/tuned")), &text(&at("all/tuned"))]);
    assert!(table.lines().any(|line| line.starts_with("top-5 % ") && line.contains("84.75")), "{table}");

    fs::write(at("all/tuned/attention.png"), "no picture").unwrap();
    fails(&["report", &all, "--output", &page], 3, &["attention.png", "no PNG", "was written without 1 of 2"]);
    fs::remove_file(at("all/tuned/attention.png")).unwrap();
    assert!(!write().contains("<img"));
}

#[test]
fn what_is_none_of_these_is_refused() {
    let root = TempDir::new().unwrap();
    let (page, empty) = (text(&root.path().join("page.html")), text(root.path()));
    fails(&["report", &empty, "--output", &page], 3, &["neither shards", "metrics.jsonl", "report.json"]);
    fails(&["report", "nowhere", "--output", &page], 2, &["nowhere: does not exist"]);
    assert!(!Path::new(&page).exists());
}

/// What is broken has its place on the page and on stderr; the rest is told, and the exit code is that of bad data.
#[test]
fn what_is_broken_does_not_end_the_page() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    let (all, page) = (text(&at("all")), text(&at("page.html")));
    run(&at("all/run"), 0.1);
    run(&at("all/torn"), 0.1);
    fs::write(at("all/torn/metrics.jsonl"), "{\"step\":0,\"loss\":1}\n{\"step\":").unwrap();
    evaluation(&at("all/scores"));
    for (name, report) in [
        ("a-text", &b"no JSON"[..]),
        ("b-cut", b"{\"evaluation\": \"knn\", \"knn\""),
        ("c-list", b"[]"),
        ("d-other", b"{\"simulated\": true}"),
        ("e-bytes", b"\xff\xfe{"),
        ("g-word", b"{\"evaluation\": \"knn\", \"top1\": NaN, \"more\": {\"top5\": Infinity}}"),
    ] {
        fs::create_dir_all(at("all").join(name)).unwrap();
        fs::write(at("all").join(name).join("report.json"), report).unwrap();
    }
    fs::create_dir_all(at("all/f-shards")).unwrap();
    fs::write(at("all/f-shards/00000.tar"), vec![7; 2000]).unwrap();
    let nothing = text(&at("nothing"));
    fs::create_dir(&nothing).unwrap();
    fails(
        &["report", &all, &nothing, "--output", &page],
        3,
        &[
            "warning: ",
            "nothing: neither shards",
            "f-shards/00000.tar at byte 0",
            "a-text/report.json: expected ident at line 1",
            "b-cut/report.json: EOF",
            "c-list/report.json: neither the report of an evaluation",
            "d-other/report.json: neither",
            "e-bytes/report.json: ",
            "torn/metrics.jsonl: line 2",
            "page.html: was written without 8 of 11, which could not be read, or not wholly; the first: ",
        ],
    );
    let html = fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("This could not be read: ").count(), 6);
    for part in [
        "linear probe",
        "61.25",
        "All scores",
        "<h2>run <small>training run",
        "<h2>a-text <small>evaluation",
        "f-shards/00000.tar at byte 0",
        "nothing to tell of",
        "<td>NaN</td>",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("$number"));
}

/// Numbers of a report are rows of one table, commands can be pasted, confusions are matrices, whatever they are of.
#[test]
fn figures_commands_and_confusions_of_a_page() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    let (all, page) = (text(&at("all of it")), text(&at("page.html")));
    shards(&at("all of it/drawn pictures"));
    run(&at("all of it/it's a run"), 0.1);
    let classes = json!([{"name": "man", "images": 3, "top1": 66.7}, {"name": "woman", "images": 2, "top1": 50.0}]);
    let of = json!({"images": 5, "top1": 60.0, "classes": classes, "confusion": [[2, 1], [1, 1]]});
    let report = json!({
        "evaluation": "fairface", "race": of, "gender": of, "miou": 12.345, "pixels": 7, "ranks": [1, 5],
        "remarks": ["a <remark>"], "templates": ["a photo of a {}."],
    });
    fs::create_dir_all(at("all of it/faces")).unwrap();
    fs::write(at("all of it/faces/report.json"), report.to_string()).unwrap();
    succeeds(&["report", &all, "--output", &page]);
    let html = fs::read_to_string(&page).unwrap();
    let quoted = |path: &Path| text(path).replace('\'', "&#39;\\&#39;&#39;");
    for part in [
        &format!("stablerep inspect &#39;{}&#39; --regenerate", quoted(&at("all of it/drawn pictures"))),
        &format!("--config &#39;{}&#39; --output AGAIN", quoted(&at("all of it/it's a run/config.toml"))),
        "<tr><td>evaluation</td><td>fairface</td></tr><tr><td>miou</td><td>12.35</td></tr>\
         <tr><td>pixels</td><td>7</td></tr><tr><td>ranks</td><td>1, 5</td></tr></tbody>",
        "<p class=\"note\">a &lt;remark&gt;</p>",
        "<h3>gender</h3>",
        "<td>1 man</td><td style=",
    ] {
        assert!(html.contains(part), "{part}\n{html}");
    }
    assert_eq!((html.matches("class=\"heat\"").count(), html.matches("confusion").count()), (2, 0));
}

/// Shards without captions are of something else: classes of pixels, classes, or nothing.
#[test]
fn shards_without_captions_are_told_by_what_they_have() {
    let root = TempDir::new().unwrap();
    let png = encode_png(&Rgb8::filled(32, 32, [90, 40, 200])).unwrap();
    for (name, beside, said) in [
        ("pixels", &[("seg.png", &png[..])][..], "4 pictures with the classes of their pixels, without captions."),
        ("classes", &[("cls", b"3")], "4 pictures of 1 classes, without captions."),
        ("nothing", &[], "4 pictures without captions or classes."),
    ] {
        let folder = root.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut shard = ShardWriter::create(folder.join("00000.tar")).unwrap();
        for i in 0..4 {
            shard.add(&format!("{i:06}"), &[&[("png", &png[..])][..], beside].concat()).unwrap();
        }
        shard.finish().unwrap();
        let page = text(&root.path().join("page.html"));
        succeeds(&["report", &text(&folder), "--output", &page, "--captions", "3"]);
        let html = fs::read_to_string(&page).unwrap();
        assert!(html.contains(said), "{html}");
        assert_eq!(html.matches("<img").count(), if beside.is_empty() { 0 } else { 3 });
    }
}

#[test]
fn runs_are_told_apart() {
    let root = TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| root.path().join(name));
    run(&first, 0.001);
    run(&second, 0.01);
    let (first, second) = (text(&first), text(&second));
    let table = succeeds(&["compare", &first, &second]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["setting", "first", "second"]);
    assert_eq!(rows[1], ["lr", "0.001", "0.01"]);
    assert_eq!(rows[2], ["steps", "1000", "1000"]);
    assert_eq!(rows[4], ["k-NN", "%", "49.99", "49.99"]);
    assert!(!table.contains("method") && !table.contains("output"), "{table}");
    assert!(succeeds(&["compare", &first, &second, "--markdown"]).contains("| lr | 0.001 | 0.01 |"));
    fails(&["compare", &first], 2, &["two runs"]);
    fails(&["compare", &first, "nowhere"], 2, &["nowhere: does not exist; expected the folder of a training run"]);
    let none = text(root.path());
    fails(&["compare", &first, &none], 3, &[&none, "no metrics.jsonl in it"]);
}
