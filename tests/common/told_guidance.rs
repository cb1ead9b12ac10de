//! Altered copies of the bundled model, and one that is a latent consistency model: its UNet is told the guidance scale.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use stablerep::weights::{SafeTensors, write_safetensors};

/// Links the files of the bundled model into `folder`.
pub fn link(folder: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-sd");
    for part in ["scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
        fs::create_dir_all(folder.join(part)).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap().path();
            symlink(&entry, folder.join(part).join(entry.file_name().unwrap())).unwrap();
        }
    }
}

/// Puts a copy of a linked `file` in its place, with `from` replaced by `to`.
pub fn replace(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

/// Writes it to `folder`, with the weight of `few_steps.safetensors`.
pub fn model(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let from = root.join("assets/tiny-sd");
    link(folder);
    replace(folder, "unet/config.json", "\"time_cond_proj_dim\": null", "\"time_cond_proj_dim\": 16");
    replace(folder, "scheduler/scheduler_config.json", "PNDMScheduler", "LCMScheduler");
    let weights = SafeTensors::open(from.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    let given = SafeTensors::open(root.join("tests/fixtures/few_steps.safetensors")).unwrap();
    let read = |file: &SafeTensors, name: &str| {
        let shape = file.shape(name).unwrap().to_vec();
        (file.f32(name, &shape).unwrap(), shape)
    };
    let mut tensors: Vec<_> = weights.names().map(|name| (name.to_owned(), read(&weights, name))).collect();
    tensors.push(("time_embedding.cond_proj.weight".to_owned(), read(&given, "lcm.cond_proj")));
    let tensors: Vec<_> =
        tensors.iter().map(|(name, (values, shape))| (name.clone(), shape.clone(), &values[..])).collect();
    let path = folder.join("unet/diffusion_pytorch_model.safetensors");
    fs::remove_file(&path).unwrap();
    write_safetensors(&path, &tensors, &[]).unwrap();
}
