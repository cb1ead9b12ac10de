//! An encoder in chunks against one that holds all its activations.

use stablerep::device::Plan;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::models::vit::VitConfig;
use stablerep::rng::{Domain, Stream};
use stablerep::train::{Recipe, State};

use crate::support::recipe;

/// Loss, running statistics and gradients of a step.
type Step = (f64, Vec<f32>, Vec<(String, Vec<f32>)>);

/// One step of 32 images, `chunk` at once.
fn step(chunk: Option<usize>, recompute: bool) -> Step {
    step_of(Recipe { chunk, recompute, ..recipe() })
}

fn step_of(recipe: Recipe) -> Step {
    recipe.validate().unwrap();
    let network = recipe.network().unwrap();
    let mut plan = Plan::new();
    let mut state = State::new(&mut plan, &*network);
    state.init(&*network, &recipe).unwrap();
    let mut images = vec![0.0; 32 * 32 * 32 * 3];
    Stream::new(7, Domain::SelfTest, [0; 3]).fill_normal(&mut images);
    let numbers: Vec<u32> = (0..32).map(|i| i % 8).collect();
    let mut memory = Memory::take(&mut plan, network.layout());
    let mut grads = vec![0.0; state.params.len()];
    let call = Call::new(&mut memory, &state.params);
    let mut call = Call { grads: &mut grads, statistics: &mut state.kept, images: &images, numbers: &numbers, ..call };
    network.gradient(&mut call).unwrap();
    let loss = call.loss;
    let named = network.parameters().iter().map(|info| (info.name.clone(), info.param.of(&grads).to_vec()));
    (loss, state.kept, named.collect())
}

#[test]
fn chunks_have_the_gradient_of_the_whole() {
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
    for chunk in [None, Some(12)] {
        assert_eq!(step(chunk, false), step(chunk, true), "{chunk:?}");
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
