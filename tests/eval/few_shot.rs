use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;
use stablerep::eval::few_shot::Score;
use stablerep::eval::few_shot::episode::{Episode, Pools, Protocol, Sizes};
use stablerep::rng::{Domain, Stream};

#[derive(Deserialize)]
struct Golden {
    features: Vec<Vec<f32>>,
    episodes: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    protocol: Protocol,
    support: Vec<Vec<usize>>,
    queries: Vec<Vec<usize>>,
    share: f64,
}

#[test]
fn episodes_score_as_easyfsls() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/few_shot.json");
    let golden: Golden = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let features = golden.features.concat();
    assert!(golden.episodes.len() > 20);
    for (number, Scored { protocol, support, queries, share }) in golden.episodes.into_iter().enumerate() {
        let episode = Episode { support, queries };
        let got = episode.score(protocol, &features, golden.features[0].len());
        assert!((got - share).abs() < 1e-12, "episode {number}: {got}, easyfsl {share}");
    }
}

#[test]
fn episodes_draw_what_they_should() {
    let sizes = Sizes { ways: 3, shots: 2, queries: 4 };
    let pool = |first: usize, counts: [usize; 4]| -> Vec<Vec<usize>> {
        let at = |class: usize| first + 100 * class;
        (0..4).map(|class| (at(class)..at(class) + counts[class]).collect()).collect()
    };
    let draw = |pools: &Pools, id| pools.draw(sizes, &mut Stream::new(7, Domain::Episode, [id, 0, 0]));
    let one = Pools::One(pool(0, [6, 3, 9, 6]));
    let two = Pools::Two { support: pool(0, [2, 3, 9, 6]), queries: pool(50, [1, 5, 9, 6]) };
    let mut classes = BTreeSet::new();
    for id in 0..40 {
        for (pools, apart) in [(&one, false), (&two, true)] {
            let episode = draw(pools, id);
            assert_eq!(episode, draw(pools, id));
            let mut seen = BTreeSet::new();
            for (support, queries) in episode.support.iter().zip(&episode.queries) {
                let class = support[0] / 100;
                classes.insert(class);
                assert!(seen.insert(class), "a class twice");
                let most = if apart { [1, 5, 9, 6][class] } else { [6, 3, 9, 6][class] - 2 };
                assert_eq!((support.len(), queries.len()), (2, most.min(4)));
                let all: BTreeSet<&usize> = support.iter().chain(queries).collect();
                assert_eq!(all.len(), support.len() + queries.len(), "an image twice");
                assert!(all.iter().all(|row| **row / 100 == class));
                assert!(queries.iter().all(|row| !apart || row % 100 >= 50));
            }
        }
    }
    assert_eq!(classes.len(), 4);
    assert_ne!(draw(&one, 0), draw(&one, 1));
    assert_eq!((one.lacks(1, 2), two.lacks(0, 2), one.classes()), (None, None, 4));
    assert!(one.lacks(1, 3).unwrap().contains("3 images, expected 4 at least"));
    assert!(two.lacks(0, 3).unwrap().contains("2 images to train, expected 3 at least"));
}

#[test]
fn the_interval_is_that_of_the_mean() {
    let score = Score::of(&[0.5, 1.0, 0.5, 1.0]);
    assert!((score.mean - 75.0).abs() < 1e-12 && (score.interval - 1.96 * 12.5).abs() < 1e-12, "{score:?}");
}
