//! What the probe refuses before it looks at a picture.

use tempfile::TempDir;

use crate::common::{fails, text};

#[test]
fn flags_that_have_nothing_to_act_on() {
    let probe = "probe --random-init vit_tiny --train x --test x";
    for (flags, needles) in [
        ("--knn-temperature 0.1", ["--knn"]),
        ("--knn 20 --no-linear --lrs 0.1", ["--lrs"]),
        ("--knn 20 --no-linear --select val", ["--select"]),
        ("--knn 20 --no-linear --batch-norm off", ["--batch-norm"]),
        ("--knn 20 --no-linear --batch 0", ["--batch"]),
        ("--checkpoint x --width 64", ["--random-init"]),
        ("--test-labels x --holdout 0.1", ["--test"]),
    ] {
        let words: Vec<&str> = probe.split(' ').chain(flags.split(' ')).collect();
        fails(&words, 2, &needles);
    }
}

/// A seed that draws nothing, flag by flag of the evaluations that have one.
#[test]
fn seeds_of_nothing_are_refused() {
    let folder = TempDir::new().unwrap();
    let there = text(folder.path());
    for (line, needle) in [
        ("eval fid --encoder X --real X --generated X", "--kid"),
        ("eval diversity --checkpoint X --sets X", "--checkpoint"),
        ("probe --checkpoint X --train X --test X --no-linear --knn 20", "--seed: draws nothing"),
    ] {
        let line = line.replace('X', &there);
        fails(&line.split(' ').chain(["--seed", "3"]).collect::<Vec<_>>(), 2, &["--seed", needle]);
    }
    // It draws what is held out, and weights: then it is the folder that is none of this.
    let line = format!("probe --train {there} --no-linear --knn 20 --seed 3");
    for more in ["--random-init vit_tiny --test X", "--random-init vit_tiny --holdout 0.5"] {
        let more = more.replace('X', &there);
        fails(&line.split(' ').chain(more.split(' ')).collect::<Vec<_>>(), 3, &["no class folders in it"]);
    }
}
