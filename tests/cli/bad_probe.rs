//! What the probe refuses before it looks at a picture.

use crate::common::fails;

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
