//! Evaluations with texts, against open_clip, PyTorch and scikit-learn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use stablerep::eval::pairs::retrieval::recalls;
use stablerep::eval::zero_shot::ClassScores;
use stablerep::image::{Rgb8, decode, encode_png};
use stablerep::shards::Shards;
use stablerep::weights::{SafeTensors, write_safetensors};
use tempfile::TempDir;

use crate::probe::{fails, stablerep};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn golden() -> Value {
    serde_json::from_slice(&fs::read(fixture("zero_shot.json")).unwrap()).unwrap()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The pictures that the fixture's model was scored on.
fn pictures() -> Vec<Rgb8> {
    let shards = Shards::open(&[fixture("train_run/stablerep/00000.tar")]).unwrap();
    (0..64).map(|i| decode(&shards.picture(i).unwrap().read().unwrap(), "picture").unwrap()).collect()
}

/// The same as files `0.png` and so on.
fn files(folder: &Path) {
    for (i, picture) in pictures().iter().enumerate() {
        fs::write(folder.join(format!("{i}.png")), encode_png(picture).unwrap()).unwrap();
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// `stablerep eval` of the model in a file.
fn eval_of(model: &Path, what: &str, more: &[&str]) -> Output {
    let model = text(model);
    let own = ["eval", what, "--checkpoint", &model, "--heads", "3", "--text-heads", "2", "--tokenizer", "bundled"];
    stablerep(&[&own[..], more].concat())
}

/// That of the fixture's model.
fn eval(what: &str, more: &[&str]) -> Output {
    eval_of(&fixture("language_run/init.safetensors"), what, more)
}

/// Its report.
fn report(what: &str, folder: &Path, more: &[&str]) -> Value {
    report_of(&fixture("language_run/init.safetensors"), what, folder, more)
}

fn report_of(model: &Path, what: &str, folder: &Path, more: &[&str]) -> Value {
    let output = folder.join(format!("scores-{what}"));
    let done = eval_of(model, what, &[more, &["--output", &text(&output)]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap()
}

/// The fixture's tensors that `keep` names, as `change` makes them, in a file.
fn changed(folder: &Path, keep: fn(&str) -> bool, change: fn(&str, &mut Vec<usize>, &mut Vec<f32>)) -> PathBuf {
    let stored = SafeTensors::open(fixture("language_run/init.safetensors")).unwrap();
    let mut tensors = Vec::new();
    for name in stored.names().filter(|name| keep(name) && !name.ends_with("num_batches_tracked")) {
        let mut shape = stored.shape(name).unwrap().to_vec();
        let mut values = stored.f32(name, &shape).unwrap();
        change(name, &mut shape, &mut values);
        tensors.push((name.to_owned(), shape, values));
    }
    let views: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), &values[..])).collect();
    let path = folder.join("changed.safetensors");
    write_safetensors(&path, &views, &[]).unwrap();
    path
}

fn near(got: &Value, want: &Value) {
    let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
    assert!((got - want).abs() < 1e-9, "{got} {want}");
}

#[test]
fn classes_are_found_by_their_names() {
    let (folder, golden) = (TempDir::new().unwrap(), golden());
    let root = folder.path();
    let names = words(&golden["names"]);
    // A class of each number that a picture has, in folders named so that numbers stay in order.
    let labels = golden["labels"].as_array().unwrap();
    for (i, picture) in pictures().iter().enumerate() {
        let class = root.join(format!("photos/{}", labels[i]));
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(format!("{i:02}.png")), encode_png(picture).unwrap()).unwrap();
    }
    let said: Vec<&String> = names[..6].iter().collect();
    fs::write(root.join("names.json"), json!(said).to_string()).unwrap();
    fs::write(root.join("sentences.txt"), words(&golden["templates"]).join("\n")).unwrap();
    let (photos, list, sentences) =
        (text(&root.join("photos")), text(&root.join("names.json")), text(&root.join("sentences.txt")));
    let more = ["--data", &photos, "--class-names", &list, "--templates", &sentences];
    let found = report("zero-shot", root, &more);
    assert_eq!((found["images"].as_u64(), found["templates"].as_array().unwrap().len()), (Some(64), 3));
    // Six of the seven names that the fixture compares: a seventh could be taken for none of these pictures' classes, so
    // the scores are computed again from how alike they are.
    let alike: Vec<f32> = golden["alike"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| numbers(row)[..6].iter().map(|value| *value as f32).collect::<Vec<_>>())
        .collect();
    let labels: Vec<u32> = labels.iter().map(|label| label.as_u64().unwrap() as u32).collect();
    let want = ClassScores::of(&alike, &labels, names[..6].to_vec());
    assert_eq!(found["confusion"], json!(want.confusion));
    assert_eq!((&found["top1"], &found["top5"]), (&json!(want.top1), &json!(want.top5)));
    assert_eq!(found["classes"][4]["images"], 1);
    let table = String::from_utf8(eval("zero-shot", &more).stdout).unwrap();
    for part in ["top-1", "mean of 6 classes", "worst class", "(64 pictures)", "3 sentence(s) a name"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    // What is in the file is called what it is.
    for (file, all, said) in
        [("few.json", r#"["a", "b"]"#, "2 name(s), expected"), ("few.txt", "a\n", "1 line(s), expected")]
    {
        fs::write(root.join(file), all).unwrap();
        let refused = eval("zero-shot", &["--data", &photos, "--class-names", &text(&root.join(file))]);
        let message = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(3) && message.contains(said), "{message}");
    }
}

/// Against scikit-learn, over all seven classes: one of no picture, one of a single one.
#[test]
fn scores_of_classes() {
    let golden = golden();
    let alike: Vec<f32> = golden["alike"].as_array().unwrap().iter().flat_map(numbers).map(|v| v as f32).collect();
    let labels: Vec<u32> = numbers(&golden["labels"]).into_iter().map(|label| label as u32).collect();
    let scores = ClassScores::of(&alike, &labels, words(&golden["names"]));
    let want = &golden["zero_shot"];
    near(&json!(scores.top1), &want["top1"]);
    near(&json!(scores.top5), &want["top5"]);
    near(&json!(scores.mean_per_class), &want["mean"]);
    let each: Vec<f64> = scores.classes.iter().map(|class| class.top1).collect();
    for (got, want) in each.iter().zip(numbers(&want["each"])) {
        assert!((got - want).abs() < 1e-9, "{each:?}");
    }
    assert_eq!(scores.classes.len(), 6);
    assert_eq!(scores.best.name, "dress");
    assert_eq!((scores.worst.name.as_str(), scores.worst.top1), ("bag", 0.0));
    // Of equally similar classes the lower is taken; NaN never is.
    let names = || ["a", "b"].map(str::to_owned).to_vec();
    assert_eq!(ClassScores::of(&[0.5, 0.5], &[1], names()).top1, 0.0);
    assert_eq!(ClassScores::of(&[0.5, 0.5], &[0], names()).top1, 100.0);
}

#[test]
fn captions_find_their_pictures() {
    let (folder, golden) = (TempDir::new().unwrap(), golden());
    let root = folder.path();
    files(root);
    let want = &golden["retrieval"];
    let image = |(i, pair): (usize, &Value)| {
        let sentences: Vec<Value> = words(pair).iter().map(|raw| json!({"raw": raw, "sentid": i})).collect();
        json!({"filepath": "", "filename": format!("{i}.png"), "split": "test", "sentences": sentences, "cocoid": 7})
    };
    let mut images: Vec<Value> = want["captions"].as_array().unwrap().iter().enumerate().map(image).collect();
    images.push(json!({"filename": "gone.png", "split": "train", "sentences": [{"raw": "x"}]}));
    let list = root.join("list.json");
    fs::write(&list, json!({"images": images, "dataset": "ours"}).to_string()).unwrap();
    let (folder, list) = (text(root), text(&list));
    let found = report("retrieval", root, &["--images", &folder, "--list", &list]);
    assert_eq!((found["pictures"].as_u64(), found["captions"].as_u64()), (Some(64), Some(128)));
    assert_eq!(numbers(&found["text_of_picture"]), numbers(&want["text"]));
    assert_eq!(numbers(&found["picture_of_text"]), numbers(&want["picture"]));
    let all = eval("retrieval", &["--images", &folder, "--list", &list, "--split", "val"]);
    let said = String::from_utf8_lossy(&all.stderr).into_owned();
    assert!(said.contains("--split val") && said.contains("it has test, train"), "{said}");
}

#[test]
fn what_is_as_alike_comes_after() {
    // Two pictures that are one, and their texts.
    let rows = [1.0f32, 0.0, 1.0, 0.0, 0.0, 1.0];
    let scores = recalls(&rows, &rows, &[0, 1, 2], 2);
    assert_eq!(scores.text_of_picture, [200.0 / 3.0, 100.0, 100.0]);
    assert_eq!(scores.picture_of_text, [200.0 / 3.0, 100.0, 100.0]);
}

#[test]
fn true_captions_are_told_from_others() {
    let (folder, golden) = (TempDir::new().unwrap(), golden());
    let root = folder.path();
    // The pictures that count are boxes of larger ones.
    for (i, picture) in pictures().iter().enumerate() {
        let mut larger = Rgb8::filled(40, 36, [9, 200, 30]);
        for y in 0..32 {
            let at = 3 * ((y + 3) * 40 + 5);
            larger.data[at..at + 96].copy_from_slice(picture.row(y));
        }
        fs::write(root.join(format!("{i}.png")), encode_png(&larger).unwrap()).unwrap();
    }
    let cases = golden["aro"].as_array().unwrap();
    let case = |(i, case): (usize, &Value)| {
        json!({
            "image_id": i, "image_path": format!("{i}.png"), "bbox_x": 5, "bbox_y": 3, "bbox_w": 32, "bbox_h": 32,
            "relation_name": case["group"], "true_caption": case["true"], "false_caption": case["false"],
        })
    };
    let relations: Vec<Value> = cases.iter().enumerate().map(case).collect();
    let list = root.join("relations.json");
    fs::write(&list, json!(relations).to_string()).unwrap();
    fs::write(root.join("symmetric.txt"), "beside\n").unwrap();
    let (images, list, left) = (text(root), text(&list), text(&root.join("symmetric.txt")));
    let found = report("aro", root, &["--images", &images, "--list", &list, "--leave-out", &left]);
    let right = |group: Option<&str>| {
        let chosen = cases.iter().filter(|case| group.is_none_or(|group| case["group"] == group));
        let rights: Vec<bool> = chosen.map(|case| case["right"].as_bool().unwrap()).collect();
        100.0 * rights.iter().filter(|right| **right).count() as f64 / rights.len() as f64
    };
    assert_eq!((&found["kind"], found["cases"].as_u64()), (&json!("relation"), Some(64)));
    near(&found["accuracy"], &json!(right(None)));
    near(&found["mean"], &json!((right(Some("on")) + right(Some("under"))) / 2.0));
    near(&found["of_groups"]["beside"]["accuracy"], &json!(right(Some("beside"))));
    assert_eq!((&found["groups"], &found["of_groups"]["beside"]["counted"]), (&json!(2), &json!(false)));

    // As attributes: of three pairs, those with 25 cases or more have part in the mean.
    let pair = |i: usize| {
        let mut case = self::without(&relations[i], "relation_name");
        case["attributes"] = json!([if i < 30 { "dark" } else { "plain" }, "slim"]);
        case
    };
    let attributes: Vec<Value> = (0..50).map(pair).collect();
    let list = root.join("attributes.json");
    fs::write(&list, json!(attributes).to_string()).unwrap();
    let found = report("aro", root, &["--images", &images, "--list", &text(&list)]);
    assert_eq!((&found["kind"], &found["groups"]), (&json!("attribution"), &json!(1)));
    assert_eq!(found["mean"], found["of_groups"]["dark_slim"]["accuracy"]);

    let orders = golden["order"]["captions"].as_array().unwrap();
    let order = |(i, captions): (usize, &Value)| json!({"image": format!("{i}.png"), "captions": captions, "bbox_x": 5, "bbox_y": 3, "bbox_w": 32, "bbox_h": 32});
    let list = root.join("orders.json");
    fs::write(&list, json!(orders.iter().enumerate().map(order).collect::<Vec<_>>()).to_string()).unwrap();
    let found = report("aro", root, &["--images", &images, "--list", &text(&list)]);
    let right: Vec<bool> = golden["order"]["right"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
    near(&found["accuracy"], &json!(100.0 * right.iter().filter(|right| **right).count() as f64 / 64.0));
    assert!(found.get("mean").is_none() && found["kind"] == "order", "{found}");

    // Captions of one text are as alike: of two the false one is taken, and several that are all the same are no case.
    let same = |mut case: Value| {
        case["false_caption"] = case["true_caption"].clone();
        case
    };
    let list = root.join("same.json");
    fs::write(&list, json!(relations.iter().take(3).cloned().map(same).collect::<Vec<_>>()).to_string()).unwrap();
    assert_eq!(report("aro", root, &["--images", &images, "--list", &text(&list)])["accuracy"], 0.0);
    let refused = |cases: Value, more: &[&str], code: i32, needles: &[&str]| {
        fs::write(&list, cases.to_string()).unwrap();
        let done = eval("aro", &[&["--images", &images, "--list", &text(&list)][..], more].concat());
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(code) && needles.iter().all(|part| said.contains(part)), "{said}");
    };
    let order = |captions: [&str; 3]| json!({"image": "0.png", "captions": captions});
    let orders = json!([order(["a dog", "dog a", "a dog"]), order(["a dog", "a dog", "a dog"])]);
    refused(orders, &[], 3, &["same.json: case 2: `captions`: all are the true one"]);
    // Relations are left out of relations alone, and by their names.
    refused(json!(attributes), &["--leave-out", &left], 2, &["--leave-out", "has no relations"]);
    fs::write(root.join("symmetric.txt"), "\n").unwrap();
    refused(json!(relations), &["--leave-out", &left], 3, &["symmetric.txt: no name in it"]);
}

fn without(value: &Value, key: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove(key);
    value
}

#[test]
fn faces_by_race_and_gender() {
    let (folder, golden) = (TempDir::new().unwrap(), golden());
    let root = folder.path();
    fs::create_dir(root.join("val")).unwrap();
    files(&root.join("val"));
    const RACES: [&str; 7] =
        ["Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White"];
    let want = &golden["faces"];
    let face = |i: usize| {
        let [race, gender] = ["race", "gender"].map(|key| want[key][i].as_u64().unwrap() as usize);
        format!("val/{i}.png,20-29,{},{},True\n", ["Male", "Female"][gender], RACES[race])
    };
    let list = root.join("list.csv");
    let rows: String = (0..64).map(face).collect();
    fs::write(&list, format!("file,age,gender,race,service_test\n{rows}")).unwrap();
    let (images, shown) = (text(root), text(&list));
    // Races and genders take more tokens than the model has places for, which is said.
    let done = eval("fairface", &["--images", &images, "--list", &shown]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(3) && said.contains("read alike"), "{said}");
    let model = changed(
        root,
        |_| true,
        |name, shape, values| {
            if name == "positional_embedding" {
                values.extend((16 * 16..48 * 16).map(|i| 0.1 * (0.1 * i as f32).sin()));
                shape[0] = 48;
            }
        },
    );
    let found = report_of(&model, "fairface", root, &["--images", &images, "--list", &shown]);
    for (key, by) in [("race", "by_race"), ("gender", "by_gender"), ("race_and_gender", "by_both")] {
        near(&found[key]["top1"], &want[by]["top1"]);
        near(&found[key]["mean_per_class"], &want[by]["mean"]);
        let each = numbers(&want[by]["each"]);
        near(&found[key]["best"]["top1"], &json!(each.iter().copied().fold(0.0, f64::max)));
        near(&found[key]["worst"]["top1"], &json!(each.iter().copied().fold(100.0, f64::min)));
        assert_eq!(found[key]["classes"].as_array().unwrap().len(), each.len());
    }
    for (text, parts) in [
        ("file,age,gender\nval/0.png,3,Male\n", &["list.csv", "line 1", "file, gender and race"][..]),
        ("file,gender,race\nval/0.png,Male,Green\n", &["line 2", "race \"Green\"", "East Asian"]),
        ("file,gender,race\nval/0.png,Male\n", &["line 2", "2 columns"]),
        ("file,gender,race\n", &["no face"]),
    ] {
        fs::write(&list, text).unwrap();
        let done = eval("fairface", &["--images", &images, "--list", &shown]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(3), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
}

#[test]
fn what_has_no_text_tower_is_refused() {
    let folder = TempDir::new().unwrap();
    files(folder.path());
    let images = text(folder.path());
    let vit = text(&changed(folder.path(), |name| name.starts_with("visual."), |_, _, _| ()));
    let list = folder.path().join("list.csv");
    fs::write(&list, "file,gender,race\n0.png,Male,White\n").unwrap();
    let list = text(&list);
    let fairface = ["eval", "fairface", "--images", &images, "--list", &list];
    fails(
        &[&fairface[..], &["--checkpoint", &vit, "--heads", "3", "--tokenizer", "bundled"]].concat(),
        3,
        &["token_embedding.weight", "no text tower"],
    );
    let model = text(&fixture("language_run/init.safetensors"));
    let own = ["--checkpoint", &model, "--heads", "3"];
    fails(&[&fairface[..], &own].concat(), 2, &["--text-heads"]);
    fails(&[&fairface[..], &own, &["--text-heads", "2"]].concat(), 2, &["does not say its tokenizer", "--tokenizer"]);
    fails(&[&fairface[..], &own, &["--text-heads", "5"]].concat(), 2, &["--text-heads 5", "width of 16"]);
    let tokenizer = text(&fixture("clip_tokenizer/merges.txt"));
    fails(
        &[&fairface[..], &own, &["--text-heads", "2", "--tokenizer", &tokenizer]].concat(),
        2,
        &["--tokenizer", "entries", "588"],
    );
}
