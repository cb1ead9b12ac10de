//! An encoder in chunks against one that holds all its activations.

use stablerep::device::Plan;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::models::vit::VitConfig;
use stablerep::rng::{Domain, Stream};
use stablerep::train::loader::{LocalCrops, Section};
use stablerep::train::method::Name;
use stablerep::train::{Augmentation, Recipe, State};

use crate::support::recipe;

/// Loss, running statistics and gradients of a step.
type Step = (f64, Vec<f32>, Vec<(String, Vec<f32>)>);

/// One step of 32 images, `chunk` at once, some of which leave out branches of the last block where `drop_path` is
/// given.
fn step(chunk: Option<usize>, recompute: bool, drop_path: Option<f64>) -> Step {
    step_of(Recipe { chunk, recompute, drop_path, ..recipe() })
}

fn step_of(recipe: Recipe) -> Step {
    step_with(recipe, &|number| u32::from(number % 3 > 0))
}

/// `kept` says by their numbers which branches are not left out.
fn step_with(recipe: Recipe, kept: &dyn Fn(usize) -> u32) -> Step {
    recipe.validate().unwrap();
    let sections = recipe.loader(None).sections();
    let network = recipe.network().unwrap();
    let mut plan = Plan::new();
    let mut state = State::new(&mut plan, &*network);
    state.init(&*network, &recipe).unwrap();
    let mut images = vec![0.0; Section::values_of(&sections)];
    Stream::new(7, Domain::SelfTest, [0; 3]).fill_normal(&mut images);
    let kept = (0..network.numbers() - recipe.rows_per_step()).map(kept);
    let numbers: Vec<u32> = (0..recipe.rows_per_step()).map(|i| i as u32 % 8).chain(kept).collect();
    let mut memory = Memory::take(&mut plan, network.layout());
    let mut grads = vec![0.0; state.params.len()];
    let call = Call::new(&mut memory, &state.params);
    let (statistics, copied) = state.kept.split_at_mut(network.statistics_len());
    let momentum = (&*copied, network.momentum().map_or(0, |copy| copy.statistics));
    let (images, numbers, scalars) = (&images[..], &numbers[..], &[0.0, 25.0]);
    let mut call = Call { grads: &mut grads, statistics, momentum, images, numbers, scalars, ..call };
    network.gradient(&mut call).unwrap();
    let loss = call.loss;
    let named = network.parameters().iter().map(|info| (info.name.clone(), info.param.of(&grads).to_vec()));
    (loss, state.kept, named.collect())
}

#[test]
fn chunks_have_the_gradient_of_the_whole() {
    assert_chunks_are_the_whole(None);
}

#[test]
fn chunks_leave_out_the_same_branches() {
    assert_chunks_are_the_whole(Some(0.5));
    assert_ne!(step(None, false, Some(0.5)).0, step(None, false, None).0);
}

/// 16 captions' 32 crops and 48 small ones, all of which may leave out two branches.
fn dino() -> Recipe {
    let local = Some(LocalCrops { crops: 3, size: 16, scale: [0.05, 0.4] });
    let (method, augmentation, drop_path) = (Name::Dino, Augmentation::Byol, Some(0.5));
    Recipe { method, batch: 16, augmentation, local, drop_path, init_from: None, ..recipe() }
}

#[test]
fn chunks_of_two_sizes_have_the_gradient_of_the_whole() {
    assert_same_gradient(&|chunk, recompute| step_of(Recipe { chunk, recompute, ..dino() }));
}

/// Their numbers lie behind the 64 of the others.
#[test]
fn small_crops_leave_out_branches_of_their_own() {
    let kept = [64 + 96, 96 + 32, 64, 0].map(|kept| step_with(dino(), &|number| u32::from(number < kept)).0);
    assert!(kept.windows(2).all(|pair| pair[0] != pair[1]), "{kept:?}");
}

fn assert_chunks_are_the_whole(drop_path: Option<f64>) {
    assert_same_gradient(&|chunk, recompute| step(chunk, recompute, drop_path));
}

fn assert_same_gradient(step: &dyn Fn(Option<usize>, bool) -> Step) {
    let (loss, kept, whole) = step(None, false);
    // Even, uneven, and one image at a time.
    let squares = |values: &[f32]| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let total = whole.iter().map(|(_, values)| squares(values)).sum::<f64>().sqrt();
    for (chunk, recompute) in [(16, false), (12, true), (31, false), (1, true)] {
        let (chunked_loss, chunked_kept, chunked) = step(Some(chunk), recompute);
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(1.0);
        assert!(near(loss, chunked_loss), "chunks of {chunk}: loss {chunked_loss}, of the whole {loss}");
        assert!(kept.iter().zip(&chunked_kept).all(|(a, b)| near(f64::from(*a), f64::from(*b))), "chunks of {chunk}");
        for ((name, want), (_, got)) in whole.iter().zip(&chunked) {
            let off = squares(&want.iter().zip(got).map(|(a, b)| a - b).collect::<Vec<_>>()).sqrt();
            // A batch norm takes out what is added before it: nothing but rounding is left of such gradients.
            let [norm, least] = [squares(want).sqrt(), 1e-6 * total];
            let bound = if norm < least { least } else { 1e-5 * norm };
            assert!(off <= bound, "chunks of {chunk}: {name} is off by {off:e} of {norm:e}, {total:e} in all");
        }
        let encoder = |(name, _): &&(String, Vec<f32>)| name.starts_with("visual.");
        assert!(whole.iter().filter(encoder).zip(chunked.iter().filter(encoder)).any(|(a, b)| a != b));
    }
}

#[test]
fn what_is_computed_again_has_the_same_bits() {
    for (chunk, drop_path) in [(None, None), (Some(12), None), (Some(12), Some(0.5))] {
        assert_eq!(step(chunk, false, drop_path), step(chunk, true, drop_path), "{chunk:?}, {drop_path:?}");
    }
}

/// Norms of queries and keys are computed again too.
#[test]
fn norms_of_queries_and_keys_have_the_same_bits_again() {
    let step = |chunk, recompute| {
        let model = VitConfig { qk_norm: true, ..recipe().model };
        step_of(Recipe { chunk, recompute, model, init_from: None, ..recipe() })
    };
    assert_eq!(step(None, false), step(None, true));
    assert_eq!(step(Some(12), false), step(Some(12), true));
}

#[test]
fn a_chunk_is_less_than_a_step() {
    for chunk in [0, 32, 33] {
        let error = Recipe { chunk: Some(chunk), ..recipe() }.validate().unwrap_err().to_string();
        assert!(error.starts_with(&format!("--chunk {chunk}: ")), "{error}");
    }
}
