//! The one reader of backbones: a ViT's weights from any file that holds one, for training, probing and export alike.
//! Every tensor of the backbone is used or refused, every value is finite, and what the file says of itself agrees with
//! what it holds.

use std::path::Path;

use super::names::{BackboneNames, SCALES};
use super::resolve::resolve;
use super::sizes::sizes;
use super::stated::Stated;
use super::told::{method, stated};
use super::whose::Whose;
use super::{Vit, VitConfig, timm};
use crate::bail;
use crate::error::{Error, Result};
use crate::models::positions;
use crate::ops::augment::Normalize;
use crate::say;
use crate::weights::SafeTensors;

/// A width whose ViTs have 6 heads (timm's, DeiT's, DINO's) or 12 (MoCo v3's, SLIP's, LaCLIP's).
const TWO_KINDS: usize = 384;

/// A backbone in a file, its names found and its sizes read; values are read by [`VitFile::load`].
#[derive(Debug)]
pub struct VitFile {
    file: SafeTensors,
    names: BackboneNames,
    stated: Stated,
    /// As the tensors have it; `heads` is not known to them.
    sizes: VitConfig,
    shown: String,
}

impl VitFile {
    /// Opens a training run's folder or checkpoint, a folder or file of timm or open_clip, or an official checkpoint as
    /// safetensors; of a run with a momentum copy the teacher's weights of DINO and SynCLR, else the student's.
    ///
    /// # Errors
    /// `Data` naming file, tensor or key: when there is no plain ViT, or when it is not the one that its header or
    /// `config.json` tells of.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_of(path, None)
    }

    /// The same with the weights of `whose`, where it is said.
    ///
    /// # Errors
    /// As [`VitFile::open`]; `Data` when it is said of a file without a momentum copy.
    pub fn open_of(path: &Path, whose: Option<Whose>) -> Result<Self> {
        let at = resolve(path)?;
        let file = at.open()?;
        let (plain, all) = (at.path.display().to_string(), file.names().collect::<Vec<_>>());
        let (names, whose) = BackboneNames::find_of(&all, &plain, whose, Whose::of_method(&method(&file)))?;
        let shown = whose.map_or(plain.clone(), |whose| format!("{plain} ({})", whose.shown()));
        let (mut sizes, stated) = (sizes(&file, &names, &shown)?, stated(&at, &file, &names)?);
        sizes.variant.quick_gelu = stated.quick_gelu.unwrap_or(false);
        let this = Self { file, names, stated, sizes, shown };
        this.agree()?;
        Ok(this)
    }

    /// The path that was read, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What stands before the names of tensors beside the backbone (`module.` of `module.image_mlp.…`).
    pub fn beside(&self) -> &str {
        self.names.beside()
    }

    /// The file itself.
    pub fn tensors(&self) -> &SafeTensors {
        &self.file
    }

    /// What the file says of itself.
    pub fn stated(&self) -> &Stated {
        &self.stated
    }

    /// Mean and standard deviation of the pixels that its images are normalised with; ImageNet's if the file does not
    /// say.
    ///
    /// # Errors
    /// `Data` when a number cannot be one.
    pub fn mean_std(&self) -> Result<([f32; 3], [f32; 3])> {
        let mean = self.stated.mean.unwrap_or(Normalize::IMAGENET_MEAN);
        let std = self.stated.std.unwrap_or(Normalize::IMAGENET_STD);
        if std.iter().any(|&v| v <= 0.0) || mean.iter().chain(&std).any(|v| !v.is_finite()) {
            bail!(
                Data,
                "{}: mean {mean:?} and std {std:?} of its pixels: expected finite numbers, std above 0",
                self.shown
            );
        }
        Ok((mean, std))
    }

    /// Its sizes. The number of heads, which the tensors do not show, is what was `asked` for, what the file says, what
    /// the layout of its names has, or that of the standard ViT of the same width and depth where no other is known;
    /// what the file does not say is then said aloud.
    ///
    /// # Errors
    /// `Usage` when the number of heads is not known, does not divide the width, or `heads` is not what the file says.
    pub fn config(&self, asked: Option<usize>) -> Result<VitConfig> {
        let Self { sizes, stated, shown, .. } = self;
        let heads = match (asked, stated.heads) {
            (Some(asked), Some(heads)) if asked != heads => {
                bail!(Usage, "{shown}: --heads {asked}, but {} says {heads} heads; leave --heads out", stated.by)
            }
            (Some(heads), _) | (None, Some(heads)) => heads,
            (None, None) => self.likely_heads()?,
        };
        let config = VitConfig { heads, ..sizes.clone() };
        config.validate().map_err(|error| match error {
            // Heads that no flag gave are the file's.
            Error::Usage(text) if asked.is_none() => Error::Data(format!("{shown}: {text}")),
            Error::Usage(text) => Error::Usage(format!("{shown}: {text}")),
            other => other,
        })?;
        Ok(config)
    }

    /// Heads of a file that says nothing of them.
    fn likely_heads(&self) -> Result<usize> {
        let Self { sizes, stated, shown, .. } = self;
        let width = sizes.width;
        if !stated.by.is_empty() {
            bail!(
                Usage,
                "{shown}: {} does not say how many attention heads its width of {width} is cut into (no model_args.num_heads, and no \
                 architecture whose heads are known); give --heads N",
                stated.by
            );
        }
        let (heads, of) = match (self.names.heads(width), timm::standard(sizes)) {
            (Some(known), _) => known,
            (None, Some(_)) if width == TWO_KINDS => bail!(
                Usage,
                "{shown}: does not say its attention heads, and ViTs of width {width} have 6 (timm's, DeiT's, DINO's) or 12 (MoCo v3's, \
                 SLIP's, LaCLIP's); give --heads 6 or --heads 12"
            ),
            (None, Some((name, heads))) => (heads, name),
            (None, None) => bail!(
                Usage,
                "{shown}: does not say how many attention heads its width of {width} is cut into; give --heads N"
            ),
        };
        say!(
            "{shown} does not say its attention heads: taking {heads}, as {of} of this width and depth; else give --heads"
        );
        Ok(heads)
    }

    /// Name of the matrix that takes the features of pictures to where they are compared with texts, without the
    /// ending of a layer.
    pub fn image_projection(&self) -> String {
        self.names.open_clip_projection().unwrap_or_else(|| format!("{}image_projection", self.beside()))
    }

    /// Height and width of the images that its positions are of, pixels.
    pub fn image_size(&self) -> usize {
        self.sizes.image_size
    }

    /// Refuses weights of another network than `model`, whose sizes the flags of `train` gave, but for the size of its
    /// images.
    ///
    /// # Errors
    /// `Data` naming what differs by its flag.
    pub fn check_is(&self, model: &VitConfig) -> Result<()> {
        let Self { sizes, stated, shown, .. } = self;
        if sizes.depth > model.depth {
            bail!(
                Data,
                "{shown}: has {} blocks, the model {}: `{}` has no place in it; give --depth {} (or the --model of that depth)",
                sizes.depth,
                model.depth,
                self.names.in_file(&format!("blocks.{}.norm1.weight", model.depth)),
                sizes.depth
            );
        }
        if sizes.depth < model.depth {
            bail!(
                Data,
                "{shown}: has {} blocks, the model {}: no tensor `{}`; give --depth {} (or the --model of that depth)",
                sizes.depth,
                model.depth,
                self.names.in_file(&format!("blocks.{}.norm1.weight", sizes.depth)),
                sizes.depth
            );
        }
        for (flag, tensor, file, wanted) in [
            ("--width", "cls_token", sizes.width, model.width),
            ("--patch-size", "patch_embed.proj.weight", sizes.patch_size, model.patch_size),
            ("mlp_ratio", "blocks.0.mlp.fc1.weight", sizes.mlp_ratio, model.mlp_ratio),
            ("--heads", "", stated.heads.unwrap_or(model.heads), model.heads),
        ] {
            if file != wanted {
                let from = if tensor.is_empty() {
                    format!("as {} says", stated.by)
                } else {
                    let name = self.names.in_file(tensor);
                    format!("as the shape {:?} of `{name}` tells", self.file.shape(&name).unwrap_or_default())
                };
                bail!(Data, "{shown}: {flag} {file}, {from}, but the model has {flag} {wanted}; they must be the same");
            }
        }
        if sizes.variant != model.variant {
            bail!(
                Data,
                "{shown}: has {}; only timm's plain ViTs are trained (the evaluations take it: eval --help)",
                sizes.variant.describe()
            );
        }
        if sizes.qk_norm != model.qk_norm {
            let (has, give) = match sizes.qk_norm {
                true => ("norms of queries and keys (`attn.q_norm`, `attn.k_norm`), the model none", "give --qk-norm"),
                false => ("no norms of queries and keys, the model has them (--qk-norm)", "leave --qk-norm out"),
            };
            bail!(Data, "{shown}: has {has}; {give}, or take other weights");
        }
        Ok(())
    }

    /// Fills the parameters of `vit`, which must be of this file's sizes but for its images: to those of another size
    /// positions are resampled ([`positions::read`]). Layer scale becomes part of the layers whose outputs it
    /// multiplies.
    ///
    /// # Errors
    /// `Data` if a tensor has another shape or holds a value that is not finite.
    pub fn load(&self, vit: &Vit, params: &mut [f32]) -> Result<()> {
        let Self { file, names, .. } = self;
        let leading = vit.config().leading();
        for (name, shape, param) in vit.tensors() {
            let in_file = names.in_file(name);
            let mut values = match name {
                "pos_embed" => {
                    let (tokens, width) = (shape[1], shape[2]);
                    let mut values = positions::read(file, &in_file, &[1, 1 + tokens - leading, width])?;
                    // Registers have none.
                    values.splice(width..width, std::iter::repeat_n(0.0, (leading - 1) * width));
                    values
                }
                "patch_embed.proj.bias" if !names.has().patch_bias => vec![0.0; shape[0]],
                "cls_token" if names.is_open_clip() => file.f32(&in_file, &shape[2..])?,
                _ => file.f32(&in_file, shape)?,
            };
            if let Some(gamma) = scale_of(name).filter(|_| names.has().layer_scale) {
                let gamma = file.f32(&names.in_file(&gamma), &shape[..1])?;
                let each = values.len() / gamma.len();
                let rows = values.chunks_exact_mut(each).zip(&gamma);
                rows.for_each(|(row, gamma)| row.iter_mut().for_each(|value| *value *= gamma));
            }
            param.of_mut(params).copy_from_slice(&values);
        }
        Ok(())
    }

    /// Refuses a header or `config.json` that tells of another network than the tensors.
    fn agree(&self) -> Result<()> {
        let Self { stated, sizes, shown, .. } = self;
        for (what, says, is) in [
            ("width", stated.width, sizes.width),
            ("depth", stated.depth, sizes.depth),
            ("patch size", stated.patch_size, sizes.patch_size),
            ("image size", stated.image_size, sizes.image_size),
            ("register tokens (reg_tokens)", stated.registers, sizes.variant.registers),
        ] {
            if let Some(says) = says.filter(|says| *says != is) {
                bail!(
                    Data,
                    "{shown}: {} says {what} {says}, its tensors have {is}; do they belong together? (model_args in timm's config.json \
                     give sizes that are not the architecture's)",
                    stated.by
                );
            }
        }
        let has = self.names.has();
        for (what, says, is) in [
            ("norms of queries and keys", stated.qk_norm, sizes.qk_norm),
            ("a norm before the blocks", stated.norm_pre, has.norm_pre),
            ("layer scale (init_values)", stated.layer_scale, has.layer_scale),
        ] {
            if let Some(says) = says.filter(|says| *says != is) {
                let word = |there| if there { "" } else { "no " };
                bail!(
                    Data,
                    "{shown}: {} tells of {}{what}, its tensors have {}{what}; do they belong together?",
                    stated.by,
                    word(says),
                    word(is)
                );
            }
        }
        Ok(())
    }
}

/// Name of the layer scale that multiplies what the layer makes whose weight or bias is called `name`.
fn scale_of(name: &str) -> Option<String> {
    let layer = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias"))?;
    SCALES.iter().find_map(|(scaled, gamma)| Some(format!("{}{gamma}", layer.strip_suffix(scaled)?)))
}
