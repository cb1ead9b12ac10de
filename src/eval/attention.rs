//! Where the class token of an encoder looks: what the attention of its last block weighs the patches of a picture by.

use super::encoder::{Encoder, pixels};
use crate::device::Plan;
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::Layout;
use crate::layers::training::cpu::{Call, Memory};
use crate::models::vit::VitActs;
use crate::ops::augment::Normalize;
use crate::ops::self_attention::probabilities;

/// The maps of one picture, each over its patches `[side, side]`, rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Patches of a row, and rows.
    pub side: usize,
    /// Of each head of the last block, what its class token weighs every patch by; together they weigh 1 less what the
    /// head gives to the class token itself, and to registers.
    pub heads: Vec<Vec<f32>>,
    /// What reaches the class token of every patch through all blocks: the attention rollout of Abnar and Zuidema
    /// (2020, arXiv 2005.00928), where a block passes on half of what it is given and half by the mean of its heads.
    pub rollout: Vec<f32>,
}

impl Attention {
    /// The mean of the heads.
    pub fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0; self.side * self.side];
        for head in &self.heads {
            mean.iter_mut().zip(head).for_each(|(mean, value)| *mean += value / self.heads.len() as f32);
        }
        mean
    }
}

/// The share of `map` that is for patches, and how many patches that is spread over: two to the power of its entropy in
/// bits, 1 where a single patch has it all and their number where each has as much.
pub fn spread(map: &[f32]) -> (f64, f64) {
    let share: f64 = map.iter().map(|&value| f64::from(value)).sum();
    let part = |value: f32| f64::from(value) / share;
    let entropy: f64 = map.iter().filter(|value| **value > 0.0).map(|&value| -part(value) * part(value).ln()).sum();
    (share, entropy.exp())
}

/// The maps of `images`, each S×S as `encoder` takes them. Computed on the CPU in f32, one picture after the other,
/// wherever the encoder computes its features.
///
/// # Errors
/// Device error when the activations of a picture do not fit into memory.
///
/// # Panics
/// When an image is not S×S.
pub fn attention(encoder: &Encoder, images: &[Rgb8]) -> Result<Vec<Attention>> {
    attention_of(encoder, &pixels(images, &Normalize::new(encoder.mean(), encoder.std())))
}

/// The same of normalised images `[N, S, S, 3]`.
///
/// # Errors
/// As [`attention`].
pub fn attention_of(encoder: &Encoder, pixels: &[f32]) -> Result<Vec<Attention>> {
    let (vit, each) = (encoder.vit(), encoder.vit().config().image_len());
    assert!(pixels.len().is_multiple_of(each), "attention: {} values are no images of {each}", pixels.len());
    let mut layout = Layout::default();
    let acts = VitActs::new(&mut layout, vit.config(), 1);
    let smaller = "look at smaller images (--image-size), or take a machine with more memory";
    let (mut memory, _) = Plan::new().fit(smaller, |plan| Ok(Memory::take(plan, &layout)))?;
    let mut all = Vec::with_capacity(pixels.len() / each);
    for images in pixels.chunks_exact(each) {
        vit.forward(&mut Call { images, ..Call::new(&mut memory, encoder.params()) }, &acts, 0)?;
        all.push(maps(encoder, &acts, &memory));
    }
    Ok(all)
}

/// The maps of the picture whose forward left `memory`.
fn maps(encoder: &Encoder, acts: &VitActs, memory: &Memory) -> Attention {
    let config = encoder.vit().config();
    let (tokens, last) = (config.tokens(), config.depth - 1);
    // Class token and registers come first.
    let side = config.image_size / config.patch_size;
    let first = tokens - side * side;
    // [G, queries, T] of a block.
    let weights = |block: usize| {
        let (qkv, shape) = encoder.vit().attended(acts, block);
        probabilities(memory.read(qkv), shape)
    };
    let heads = weights(last).chunks_exact(tokens).map(|row| row[first..].to_vec()).collect();
    // Of the class token alone, so that a block takes a product with a row and not one of matrices.
    let mut reached = vec![0.0f64; tokens];
    reached[0] = 1.0;
    for block in (0..=last).rev() {
        let weights = weights(block);
        let queries = weights.len() / tokens / config.heads;
        let mut passed: Vec<f64> = reached.iter().map(|value| value / 2.0).collect();
        for head in weights.chunks_exact(queries * tokens) {
            for (row, &from) in head.chunks_exact(tokens).zip(&reached) {
                let from = from / (2 * config.heads) as f64;
                passed.iter_mut().zip(row).for_each(|(to, &weight)| *to += from * f64::from(weight));
            }
        }
        reached = passed;
    }
    let rollout = reached[first..].iter().map(|&value| value as f32).collect();
    Attention { side, heads, rollout }
}
