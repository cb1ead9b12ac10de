//! Tensors in a model's files that none of its layers has read.

use crate::bail;
use crate::error::Result;
use crate::say;
use crate::weights::SafeTensors;

/// What is left over in every model: positions that are counted here, and the half of the autoencoder that looks at
/// pictures.
const HARMLESS: [(&str, &[&str]); 3] = [
    ("text_encoder", &["position_ids", "text_model.embeddings.position_ids", "embeddings.position_ids"]),
    ("unet", &[]),
    ("vae", &["encoder.", "quant_conv."]),
];

/// Layers, by a part of their names, without which the model draws other pictures.
const OTHER_MODELS: [(&str, &str); 11] = [
    ("lora", "a LoRA that is not merged: give its own file as --lora, with the model without it"),
    ("ip_adapter", "an IP-Adapter, which draws after pictures"),
    (".to_k_ip", "an IP-Adapter, which draws after pictures"),
    ("class_embedding.", "a model that is conditioned on classes"),
    ("add_embedding.", "a model that is conditioned on more than the caption, as Stable Diffusion XL is"),
    ("encoder_hid_proj.", "a model that reads other states than CLIP's"),
    ("time_embedding.cond_proj.", "a latent consistency model, whose config.json should say `time_cond_proj_dim`"),
    ("position_net.", "a GLIGEN model, which is guided by boxes"),
    (".fuser.", "a GLIGEN model, which is guided by boxes"),
    ("motion_modules.", "a model of videos"),
    ("controlnet_", "a ControlNet"),
];

/// Refuses weights whose names say that `part` of the model is of another kind; of others that no layer has read, says
/// how many there are, as diffusers does. All layers were read by now.
pub(super) fn check(part: &str, weights: &SafeTensors) -> Result<()> {
    let harmless = HARMLESS.iter().find(|(name, _)| *name == part).map_or(&[][..], |(_, starts)| starts);
    let left: Vec<&str> =
        weights.unread().filter(|name| !harmless.iter().any(|start| name.starts_with(start))).collect();
    let file = weights.path().display();
    for name in &left {
        if let Some((_, what)) = OTHER_MODELS.iter().find(|(mark, _)| name.contains(mark)) {
            bail!(Data, "{file}: tensor `{name}` is of {what}; expected a Stable Diffusion 1.x or 2.x model");
        }
    }
    if let Some(first) = left.first() {
        say!(
            "note: {file}: {} tensor(s) are not used, as config.json tells of no such layers (the first: `{first}`)",
            left.len()
        );
    }
    Ok(())
}
