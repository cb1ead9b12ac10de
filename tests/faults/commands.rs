//! The commands that write.

use std::fs;
use std::path::Path;

use crate::binary::{files, fixture, succeeds, text};
use crate::injection::{Scenario, every_call_fails, parts_and_interruptions_are_no_errors};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Two shards of two images, with their latents.
const GENERATE: Scenario = Scenario {
    prepare: |folder| {
        fs::write(folder.join("captions.txt"), "a photo of a bag\na photo of a coat\n").unwrap();
        for (name, bytes) in files(&fixture("micro_sd/a")) {
            let path = folder.join("model").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    },
    words: |folder| {
        let folder = text(folder);
        words(&format!(
            "generate --model {folder}/model --captions {folder}/captions.txt --output {folder}/out --steps 1 -m 2 \
             --images-per-shard 2 --save-latents --threads 1"
        ))
    },
    compared: |_| true,
};

fn train_words(folder: &Path, steps: usize) -> Vec<String> {
    let folder = text(folder);
    words(&format!(
        "train --data {folder}/data --output {folder}/run --model custom --image-size 32 --patch-size 8 --width 24 --depth 1 \
         --heads 3 --head-dims 16,8 --batch 4 --images-per-caption 3 --steps {steps} --lr 1e-3 --save-every 2steps --threads 1"
    ))
}

/// A copy of a small set, because faults are only made in the folder of the run.
fn training_data(folder: &Path) {
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    for entry in fs::read_dir(fixture("train_run/stablerep")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, data.join(from.file_name().unwrap())).unwrap();
    }
}

/// Three steps with a checkpoint after the second, and one at the end.
const TRAIN: Scenario = Scenario {
    prepare: training_data,
    words: |folder| train_words(folder, 3),
    // The others hold speeds and times.
    compared: |name| !["metrics.jsonl", ".tfevents", "curves.png"].iter().any(|other| name.contains(other)),
};

/// A checkpoint into a timm folder.
const EXPORT: Scenario = Scenario {
    prepare: |folder| {
        training_data(folder);
        succeeds(&train_words(folder, 1).iter().map(String::as_str).collect::<Vec<_>>());
        fs::remove_dir_all(folder.join("data")).unwrap();
    },
    words: |folder| {
        let folder = text(folder);
        words(&format!("export --checkpoint {folder}/run --output {folder}/timm"))
    },
    compared: |name| name.starts_with("timm/"),
};

/// Two classes of two pictures.
const PROBE: Scenario = Scenario {
    prepare: |folder| {
        let pictures = fixture("image");
        let pngs: Vec<_> = fs::read_dir(pictures).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut pngs: Vec<_> = pngs.iter().filter(|path| path.extension().is_some_and(|e| e == "png")).collect();
        pngs.sort();
        for (class, two) in ["a", "b"].iter().zip(pngs.chunks_exact(2)) {
            let class = folder.join("photos").join(class);
            fs::create_dir_all(&class).unwrap();
            for (i, path) in two.iter().enumerate() {
                fs::copy(path, class.join(format!("{i}.png"))).unwrap();
            }
        }
    },
    words: |folder| {
        let folder = text(folder);
        words(&format!(
            "probe --random-init vit_tiny --image-size 16 --patch-size 8 --width 16 --depth 1 --heads 1 --train {folder}/photos \
             --test {folder}/photos --output {folder}/scores --epochs 1 --lrs 0.1 --threads 1"
        ))
    },
    compared: |_| true,
};

macro_rules! scenarios {
    ($($name:ident: $scenario:expr;)*) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn survives_every_failed_call() {
                    every_call_fails(&$scenario);
                }

                #[test]
                fn goes_on_after_parts_and_interruptions() {
                    parts_and_interruptions_are_no_errors(&$scenario);
                }
            }
        )*
    };
}

scenarios! {
    generate: GENERATE;
    train: TRAIN;
    export: EXPORT;
    probe: PROBE;
}
