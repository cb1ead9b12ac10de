//! `unet/config.json` of the SD 1.x and 2.x family: sizes that vary, and refusal by name of everything that is not implemented.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::settings::Settings;

/// Sizes of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Latent height and width the model was trained at, if the config says.
    pub sample_size: Option<(usize, usize)>,
    /// Channels of each level.
    pub channels: Vec<usize>,
    /// Residual blocks of each level on the way down (one more on the way up).
    pub layers: Vec<usize>,
    /// Whether a level has transformers, on the way down and (in its own order, deepest first) up.
    pub down_attention: Vec<bool>,
    pub up_attention: Vec<bool>,
    pub mid: Mid,
    /// Heads of each level. (diffusers calls this number `attention_head_dim`.)
    pub heads: Vec<usize>,
    /// Width of the text states.
    pub context: usize,
    pub groups: usize,
    pub eps: f64,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    /// Width of the embedding of the guidance scale, in a network that was distilled to be told it.
    pub guidance_embedding: Option<usize>,
}

/// What is between the way down and the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mid {
    /// Nothing.
    Without,
    /// Two residual blocks with a transformer between them.
    CrossAttention,
}

/// Keys that do not change what is computed here: training, other tasks' sizes, or precision.
const IRRELEVANT: [&str; 6] = [
    "addition_embed_type_num_heads",
    "addition_time_embed_dim",
    "dropout",
    "projection_class_embeddings_input_dim",
    "upcast_attention",
    "use_linear_projection",
];

impl Config {
    /// Whether the guidance scale is told to the network, as with latent consistency, and not computed with a second
    /// branch.
    pub fn is_told_guidance(&self) -> bool {
        self.guidance_embedding.is_some()
    }

    /// Reads and checks `unet/config.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let s = Settings::open(path)?;
        let channels = s.list("block_out_channels")?;
        let levels = channels.len();
        let attention = |key: &str, with: &str, without: &str| -> Result<Vec<bool>> {
            let of = |name: &str| match name {
                name if name == with => Ok(true),
                name if name == without => Ok(false),
                name => Err(s.wrong(key, &format!("{with} and {without} only (not `{name}`)"))),
            };
            s.names(key, levels)?.into_iter().map(of).collect()
        };
        let groups = s.count("norm_num_groups", Some(32))?;
        let mid = match s.get("mid_block_type").is_some_and(Value::is_null) {
            true => Mid::Without,
            false => s.choice("mid_block_type", &["UNetMidBlock2DCrossAttn"]).map(|_| Mid::CrossAttention)?,
        };
        s.choice("_class_name", &["UNet2DConditionModel"])?;
        let this = Self {
            in_channels: s.count("in_channels", Some(4))?,
            out_channels: s.count("out_channels", Some(4))?,
            // Of no concern to whoever asks for a size.
            sample_size: s.counts("sample_size", 2, None).ok().map(|pair| (pair[0], pair[1])),
            layers: s.layers("layers_per_block", levels, Some(2))?,
            down_attention: attention("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D")?,
            up_attention: attention("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D")?,
            heads: s.counts("attention_head_dim", levels, Some(8))?,
            mid,
            context: s.same_count("cross_attention_dim", levels, Some(1280))?,
            groups,
            eps: s.positive("norm_eps", 1e-5)?,
            flip_sin_to_cos: s.flag("flip_sin_to_cos", true)?,
            freq_shift: s.number("freq_shift", 0.0)?,
            guidance_embedding: match s.non_null("time_cond_proj_dim") {
                Some(_) => Some(s.count("time_cond_proj_dim", None)?),
                None => None,
            },
            channels,
        };
        for (&channels, &heads) in this.channels.iter().zip(&this.heads) {
            if !channels.is_multiple_of(groups) {
                return Err(s.wrong("norm_num_groups", &format!("a divisor of {channels} channels")));
            }
            if !channels.is_multiple_of(heads) {
                return Err(s.wrong(
                    "attention_head_dim",
                    &format!("a divisor of {channels} channels (it is the number of heads)"),
                ));
            }
        }
        // Where no caption is looked at before the way up, the two guidance branches part there.
        if mid != Mid::CrossAttention && !this.down_attention.contains(&true) {
            return Err(
                s.wrong("mid_block_type", "UNetMidBlock2DCrossAttn where down_block_types has no cross-attention")
            );
        }
        s.choice("act_fn", &["silu", "swish"])?;
        s.choice("resnet_time_scale_shift", &["default"])?;
        s.choice("time_embedding_type", &["positional"])?;
        s.choice("attention_type", &["default"])?;
        let fixed: [(&str, Value); 23] = [
            ("addition_embed_type", Value::Null),
            ("center_input_sample", json!(false)),
            ("class_embed_type", Value::Null),
            ("class_embeddings_concat", json!(false)),
            ("conv_in_kernel", json!(3)),
            ("conv_out_kernel", json!(3)),
            ("cross_attention_norm", Value::Null),
            ("downsample_padding", json!(1)),
            ("dual_cross_attention", json!(false)),
            ("encoder_hid_dim", Value::Null),
            ("encoder_hid_dim_type", Value::Null),
            ("mid_block_only_cross_attention", json!(false)),
            ("mid_block_scale_factor", json!(1)),
            ("num_attention_heads", Value::Null),
            ("num_class_embeds", Value::Null),
            ("only_cross_attention", json!(false)),
            ("resnet_out_scale_factor", json!(1)),
            ("resnet_skip_time_act", json!(false)),
            ("reverse_transformer_layers_per_block", Value::Null),
            ("time_embedding_act_fn", Value::Null),
            ("time_embedding_dim", Value::Null),
            ("timestep_post_act", Value::Null),
            ("transformer_layers_per_block", json!(1)),
        ];
        for (key, value) in fixed {
            s.only(key, value)?;
        }
        s.finish(&IRRELEVANT)?;
        Ok(this)
    }
}
