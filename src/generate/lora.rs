//! LoRA files, folded into a model's weights when these are read: nothing of them is left when pictures are drawn.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::bail;
use crate::error::{Error, Result};
use crate::say;
use crate::weights::{Delta, SafeTensors};

/// A LoRA file, and how much of it is added.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    pub path: PathBuf,
    pub scale: f32,
}

impl FromStr for Lora {
    type Err = Error;

    /// `FILE` or `FILE=SCALE`.
    fn from_str(text: &str) -> Result<Self> {
        let scaled = text.rsplit_once('=').and_then(|(path, scale)| Some((path, scale.parse::<f32>().ok()?)));
        let (path, scale) = scaled.unwrap_or((text, 1.0));
        if path.is_empty() || !scale.is_finite() || scale.abs() > 100.0 {
            bail!(Usage, "{text}: expected FILE or FILE=SCALE, with a scale from -100 to 100; 1 is usual");
        }
        Ok(Self { path: path.into(), scale })
    }
}

impl fmt::Display for Lora {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path.display(), self.scale)
    }
}

/// What the two factors of a layer are called behind its name: in kohya's files and diffusers' two ways, the last of
/// which has a wrapper of the projection in the name.
const FACTORS: [[&str; 2]; 5] = [
    [".lora_down.weight", ".lora_up.weight"],
    [".lora_A.weight", ".lora_B.weight"],
    [".lora_A.default.weight", ".lora_B.default.weight"],
    [".lora.down.weight", ".lora.up.weight"],
    ["_lora.down.weight", "_lora.up.weight"],
];

/// What stands before a layer's name, by the part of the model.
const PARTS: [(&str, usize); 5] =
    [("lora_unet_", UNET), ("lora_te_", TEXT), ("lora_te1_", TEXT), ("unet.", UNET), ("text_encoder.", TEXT)];
/// What PEFT puts before that.
const WRAPPED: &str = "base_model.model.";
const UNET: usize = 0;
const TEXT: usize = 1;

/// Other kinds of changes that such files hold, by a part of their tensors' names.
const OTHERS: [(&str, &str); 7] = [
    (".hada_", "a LoHa"),
    (".lokr_", "a LoKr"),
    (".dora_scale", "a DoRA"),
    (".lora_magnitude_vector", "a DoRA"),
    (".lora_mid.", "a LoCon with a third factor"),
    (".diff", "a file of whole differences"),
    ("lora_te2_", "a LoRA of Stable Diffusion XL"),
];

/// A layer of a file.
struct Layer<'a> {
    /// As the file calls it.
    name: &'a str,
    /// Names of the two factors and, at [`ALPHA`], of what divided by the rank scales them.
    tensors: [Option<&'a str>; 3],
}

const ALPHA: usize = 2;

impl Lora {
    /// Adds its layers to those of the UNet and the text encoder they are of.
    ///
    /// # Errors
    /// Data error that names what is not of this model, or no LoRA.
    pub(super) fn fold(&self, unet: &mut SafeTensors, text: &mut SafeTensors) -> Result<()> {
        let file = SafeTensors::open(&self.path)?;
        let shown = self.path.display();
        let layers = layers(&file)?;
        if layers.is_empty() {
            bail!(Data, "{shown}: holds no layer of a LoRA; expected names such as lora_unet_….lora_down.weight");
        }
        let known = [weights(unet), weights(text)];
        for ((part, layer), parts) in &layers {
            let Some((name, shape)) = known[*part].get(layer) else {
                let strange = layers.keys().filter(|(part, layer)| !known[*part].contains_key(layer)).count();
                bail!(
                    Data,
                    "{shown}: layer `{}` is not in this model, nor are {} of the other {}; it was made for another family of models",
                    parts.name,
                    strange - 1,
                    layers.len() - 1
                );
            };
            let delta = self.delta(&file, parts, shape)?;
            [&mut *unet, &mut *text][*part].add_delta(name, delta);
        }
        say!("{shown}: {} layers, at a scale of {}", layers.len(), self.scale);
        Ok(())
    }

    fn delta(&self, file: &SafeTensors, &Layer { name: layer, tensors }: &Layer<'_>, shape: &[usize]) -> Result<Delta> {
        let shown = self.path.display();
        let [Some(down), Some(up), alpha] = tensors else {
            bail!(Data, "{shown}: layer `{layer}` has one factor of two; the file is damaged, or no LoRA");
        };
        let of = |name: &str| file.shape(name).unwrap_or_default();
        let (down_shape, up_shape) = (of(down), of(up));
        let (outputs, inputs) = (shape[0], shape[1..].iter().product::<usize>());
        let rank = down_shape.first().copied().unwrap_or(0);
        if rank == 0 || up_shape.is_empty() || up_shape[1..].iter().product::<usize>() != rank {
            bail!(
                Data,
                "{shown}: layer `{layer}`: factors {down_shape:?} and {up_shape:?}, which have no rank in common; the file is damaged"
            );
        }
        if down_shape[1..].iter().product::<usize>() != inputs || up_shape[0] != outputs {
            bail!(
                Data,
                "{shown}: layer `{layer}`: factors {down_shape:?} and {up_shape:?}, where the model's weight is {shape:?}: a LoRA of \
                 another width, made for another model"
            );
        }
        let alpha = match alpha.map(|name| file.f32(name, of(name))).transpose()?.as_deref() {
            None => rank as f32,
            Some([alpha]) => *alpha,
            Some(values) => bail!(Data, "{shown}: layer `{layer}`: alpha has {} values, expected one", values.len()),
        };
        let factor = self.scale * alpha / rank as f32;
        Ok(Delta { up: file.f32(up, up_shape)?, down: file.f32(down, down_shape)?, rank, factor })
    }
}

/// The layers of a file by part and name, dots as underscores.
fn layers(file: &SafeTensors) -> Result<BTreeMap<(usize, String), Layer<'_>>> {
    let shown = file.path().display();
    let mut layers: BTreeMap<(usize, String), Layer<'_>> = BTreeMap::new();
    for name in file.names() {
        if let Some((_, what)) = OTHERS.iter().find(|(mark, _)| name.contains(mark)) {
            bail!(Data, "{shown}: tensor `{name}` is of {what}; expected a LoRA of Stable Diffusion 1.x or 2.x");
        }
        let factor = FACTORS
            .iter()
            .find_map(|pair| pair.iter().enumerate().find_map(|(i, end)| Some((name.strip_suffix(end)?, i))));
        let (layer, place) = match (factor, name.strip_suffix(".alpha")) {
            (Some((layer, i)), _) => (layer, i),
            (None, Some(layer)) => (layer, ALPHA),
            (None, None) => bail!(Data, "{shown}: tensor `{name}` is no part of a LoRA's layer; is this a LoRA?"),
        };
        let entry = layers.entry(named(layer)).or_insert(Layer { name: layer, tensors: [None; 3] });
        if let Some(other) = entry.tensors[place].replace(name) {
            bail!(
                Data,
                "{shown}: tensors `{other}` and `{name}` are of one layer; expected a file that names each once"
            );
        }
    }
    Ok(layers)
}

/// The part of a model that a layer is of, and its name there.
fn named(layer: &str) -> (usize, String) {
    let layer = layer.strip_prefix(WRAPPED).unwrap_or(layer);
    let found = PARTS.iter().find_map(|(start, part)| Some((layer.strip_prefix(start)?, *part)));
    let (rest, part) = found.unwrap_or((layer, UNET));
    // Diffusers' first LoRAs were wrapped around the attention, whose last projection is the first of two modules.
    let plain = rest.replace(".processor.", ".");
    let plain = plain.strip_suffix("to_out").map_or(plain.clone(), |start| format!("{start}to_out.0"));
    (part, key(&plain))
}

fn key(name: &str) -> String {
    name.strip_prefix("text_model").map_or(name, |rest| rest.trim_start_matches(['.', '_'])).replace('.', "_")
}

/// Names and shapes of the weights of a part, by what a LoRA calls their layers.
fn weights(part: &SafeTensors) -> BTreeMap<String, (String, Vec<usize>)> {
    let named = |name: &str| Some((key(name.strip_suffix(".weight")?), name.to_owned()));
    let with_shape = |(key, name): (String, String)| {
        let shape = part.shape(&name).filter(|shape| shape.len() > 1)?.to_vec();
        Some((key, (name, shape)))
    };
    part.names().filter_map(named).filter_map(with_shape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_stand_behind_the_last_equals_sign() {
        let lora = |text: &str| text.parse::<Lora>().map(|lora| (lora.path.display().to_string(), lora.scale)).ok();
        assert_eq!(lora("a.safetensors"), Some(("a.safetensors".into(), 1.0)));
        assert_eq!(lora("a=b/c.safetensors=-0.5"), Some(("a=b/c.safetensors".into(), -0.5)));
        assert_eq!(lora("a=b.safetensors"), Some(("a=b.safetensors".into(), 1.0)));
        assert_eq!((lora("=2"), lora("a=nan"), lora("a=1000")), (None, None, None));
    }

    #[test]
    fn layers_are_found_under_every_name() {
        let attention = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0";
        for name in [
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
        ] {
            assert_eq!(named(name), (UNET, attention.to_owned()), "{name}");
        }
        for name in [
            "lora_te_text_model_encoder_layers_0_mlp_fc1",
            "text_encoder.text_model.encoder.layers.0.mlp.fc1",
            "text_encoder.encoder.layers.0.mlp.fc1",
            "base_model.model.text_encoder.text_model.encoder.layers.0.mlp.fc1",
        ] {
            assert_eq!(named(name), (TEXT, "encoder_layers_0_mlp_fc1".to_owned()), "{name}");
        }
    }
}
