//! A ViT as MoCo v3 trains it (arXiv 2104.02057, section 4): fixed sine-cosine positions, a patch embedding that stays
//! as it was drawn, Xavier-uniform linear layers.

use super::Vit;
use crate::error::Result;
use crate::layers::training::Layers;
use crate::models::positions::{First, sin_cos};
use crate::rng::{Domain, Stream};
use crate::weights::Param;

/// Standard deviation of the class token.
const CLASS_STD: f32 = 1e-6;

impl Vit {
    /// MoCo v3's initial values: queries, keys and values are matrices of their own. Tensor number i of the buffer
    /// draws from its own stream.
    pub fn init_moco_v3(&self, params: &mut [f32], seed: u64) {
        let (d, config) = (self.config.width as f32, &self.config);
        for (i, info) in self.tensors.iter().enumerate() {
            let values = info.param.of_mut(params);
            let mut stream = Stream::new(seed, Domain::Init, [i as u32, 0, 0]);
            let mut uniform = |values: &mut [f32], sides: f32| {
                let bound = (6.0 / sides).sqrt();
                values.iter_mut().for_each(|value| *value = stream.uniform_in(-bound, bound));
            };
            match &info.name[self.prefix.len()..] {
                "pos_embed" => {
                    let grid = config.image_size / config.patch_size;
                    values.copy_from_slice(&sin_cos(grid, config.width, First::Row));
                }
                "cls_token" => {
                    stream.fill_normal(values);
                    values.iter_mut().for_each(|value| *value *= CLASS_STD);
                }
                "patch_embed.proj.weight" => uniform(values, config.patch_shape(1).patch_len() as f32 + d),
                name if name.contains("norm") => values.fill(if name.ends_with("weight") { 1.0 } else { 0.0 }),
                name if name.ends_with("bias") => values.fill(0.0),
                name if name.ends_with("qkv.weight") => uniform(values, 2.0 * d),
                _ => uniform(values, (info.shape[0] + info.shape[1]) as f32),
            }
        }
    }

    /// Positions and patch embedding, of which MoCo v3 learns nothing.
    pub fn frozen(&self) -> [Param; 3] {
        [self.embedding.pos, self.embedding.w, self.embedding.b]
    }

    /// Takes the gradients of [`Vit::frozen`] out.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn freeze_embedding(&self, on: &mut dyn Layers) -> Result<()> {
        self.frozen().into_iter().try_for_each(|param| on.freeze(param))
    }
}
