//! What reads models: the folder of a Stable Diffusion, and backbones.

use std::path::Path;

use stablerep::device::{Device, Plan};
use stablerep::error::{Error, Result};
use stablerep::generate::sampler::SchedulerConfig;
use stablerep::generate::{CalibrationFile, Drawing, Fp8, Pipeline, Settings, check_model_folder};
use stablerep::models::tokenizer::Tokenizer;
use stablerep::models::vit::{Vit, VitFile};
use stablerep::models::{clip_text, unet, vae};
use stablerep::weights::{ParamTable, SafeTensors};

use super::alone;
use crate::valid::{self, bytes, merges_txt, put, tokenizer, tokenizer_json, vocab_json};

fn read_tokenizer(folder: &Path) -> Result<()> {
    Tokenizer::open(folder, 16)?.encode("a bag of <|endoftext|> G").map(|_| ())
}

/// A backbone with all that is asked of it: sizes, values, colours, preparation.
fn read_backbone(path: &Path) -> Result<()> {
    let file = VitFile::open(path)?;
    let config = file.config(None)?;
    file.mean_std()?;
    if let Some(preprocessing) = &file.stated().preprocessing {
        // What it asks for in place of another size names the flag.
        let _ = preprocessing.resize(config.image_size);
    }
    let mut table = ParamTable::new();
    let vit = Vit::new(&config, "", &mut table)?;
    file.load(&vit, &mut vec![0.0; table.len()])
}

/// The header of this program's checkpoints.
fn stated() -> [(&'static str, String); 3] {
    let model =
        r#"{"image_size":32,"patch_size":8,"width":24,"depth":1,"heads":3,"mlp_ratio":4,"channels":3}"#.to_owned();
    [("model", model), ("mean", "[0.5,0.5,0.5]".into()), ("std", "[0.25,0.25,0.25]".into())]
}

const TIMM: &str = r#"{"architecture":"vit_tiny_patch8_32","num_classes":10,"global_pool":"token","model_args":{"img_size":32,
    "patch_size":8,"embed_dim":24,"depth":1,"num_heads":3,"num_classes":0},"pretrained_cfg":{"mean":[0.5,0.5,0.5],
    "std":[0.2,0.2,0.2],"crop_pct":0.9,"crop_mode":"center","interpolation":"bicubic","input_size":[3,32,32]}}"#;

/// A small model, all of it.
fn model(folder: &Path) {
    for name in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    ] {
        put(folder, &[(name, bytes(&format!("micro_sd/a/{name}")))]);
    }
}

/// Opens all of a model: settings, weights, memory.
fn open_model(folder: &Path) -> Result<()> {
    let settings = Settings {
        model: folder,
        loras: &[],
        device: Device::Cpu,
        precision: None,
        fp8: Fp8::Off,
        drawing: Drawing { steps: 2, ..Drawing::default() }.sized((32, 32)),
        store_size: None,
        batch: Some(1),
    };
    match Pipeline::open(&settings, &mut Plan::new()) {
        // What no memory holds is told by sizes.
        Err(Error::Device(text)) if text.contains("the plan needs") => Ok(()),
        // Sizes that do not fit the model are a flag's.
        Err(Error::Usage(text)) if text.starts_with("--") => Ok(()),
        opened => opened.map(|_| ()),
    }
}

readers! {
    43 unet_of_model: "unet/config.json", Json, |_| vec![bytes("micro_sd/a/unet/config.json")], model, open_model;
    44 text_encoder_of_model: "text_encoder/config.json", Json, |_| vec![bytes("micro_sd/a/text_encoder/config.json")],
        model, open_model;
    45 vae_of_model: "vae/config.json", Json, |_| vec![bytes("micro_sd/a/vae/config.json")], model, open_model;
    46 scheduler_of_model: "scheduler/scheduler_config.json", Json,
        |_| vec![bytes("micro_sd/a/scheduler/scheduler_config.json")], model, open_model;
    4 unet: "config.json", Json, |_| vec![bytes("micro_sd/a/unet/config.json"), bytes("micro_sd/b/unet/config.json")],
        alone, |folder| unet::Config::open(&folder.join("config.json")).map(|_| ());
    5 vae: "config.json", Json, |_| vec![bytes("micro_sd/a/vae/config.json")], alone,
        |folder| vae::Config::open(&folder.join("config.json")).map(|_| ());
    6 text_encoder: "config.json", Json, |_| vec![bytes("micro_sd/a/text_encoder/config.json")], alone,
        |folder| clip_text::Config::open(&folder.join("config.json")).map(|_| ());
    7 scheduler: "scheduler_config.json", Json, |_| vec![bytes("micro_sd/a/scheduler/scheduler_config.json")], alone,
        |folder| SchedulerConfig::read(&folder.join("scheduler_config.json")).map(|_| ());
    8 vocabulary: "vocab.json", Json, |_| vec![vocab_json()], tokenizer, read_tokenizer;
    9 merges: "merges.txt", Text, |_| vec![merges_txt()], tokenizer, read_tokenizer;
    10 tokenizer_config: "tokenizer_config.json", Json, |_| valid::tokenizer_config(), tokenizer, read_tokenizer;
    11 special_tokens: "special_tokens_map.json", Json,
        |_| vec![bytes("micro_sd/a/tokenizer/special_tokens_map.json")], tokenizer, read_tokenizer;
    12 fast_tokenizer: "tokenizer.json", Json, |_| tokenizer_json(), alone, read_tokenizer;
    27 added_tokens: "added_tokens.json", Json, |_| vec![br#"{"<|endoftext|>":9,"<new>":10}"#.to_vec()], tokenizer,
        read_tokenizer;
    21 calibration: "fp8.json", Json, |_| vec![concat!(
        r#"{"model_sha256":"0","captions_sha256":"1","images":2,"sampler":"ddim","steps":2,"guidance_scale":2.0,"#,
        r#""negative_prompt":"","seed":0,"width":32,"height":32,"ranges":{"down_blocks.0.resnets.0.conv1":3.5}}"#
    ).into()], alone, |folder| CalibrationFile::open(&folder.join("fp8.json")).map(|_| ());
    22 backbone: "x.safetensors", Safetensors, |folder| vec![valid::backbone(folder, &stated())], alone,
        |folder| read_backbone(&folder.join("x.safetensors"));
    28 timm_config: "config.json", Json, |_| vec![TIMM.into()],
        |folder| put(folder, &[("model.safetensors", valid::backbone(folder, &[]))]), read_backbone;
    48 dino_v2_config: "config.json", Json, |_| vec![bytes("encoders/dinov2_reg_timm/config.json")],
        |folder| put(folder, &[("model.safetensors", bytes("encoders/dinov2_reg_timm/model.safetensors"))]), read_backbone;
    49 dino_v2: "model.safetensors", Safetensors, |_| vec![bytes("encoders/dinov2_reg_timm/model.safetensors")],
        |folder| put(folder, &[("config.json", bytes("encoders/dinov2_reg_timm/config.json"))]), read_backbone;
    50 open_clip_config: "open_clip_config.json", Json, |_| vec![bytes("encoders/open_clip/open_clip_config.json")],
        |folder| put(folder, &[("open_clip_model.safetensors", bytes("encoders/open_clip/open_clip_model.safetensors"))]),
        read_backbone;
    51 open_clip: "open_clip_model.safetensors", Safetensors,
        |_| vec![bytes("encoders/open_clip/open_clip_model.safetensors")],
        |folder| put(folder, &[("open_clip_config.json", bytes("encoders/open_clip/open_clip_config.json"))]), read_backbone;
    29 weights_index: "model.safetensors.index.json", Json,
        |_| vec![br#"{"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#.to_vec()],
        |folder| {
            for (name, tensor) in [("1.safetensors", "a"), ("2.safetensors", "b")] {
                stablerep::weights::write_safetensors(folder.join(name), &[(tensor.into(), vec![1], &[0.5])], &[]).unwrap();
            }
        },
        |folder| SafeTensors::open_folder(folder, "model").map(|_| ());
    30 model_index: "model_index.json", Json, |_| vec![bytes("micro_sd/a/model_index.json")], alone, check_model_folder;
}
