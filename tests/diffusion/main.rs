//! Whole runs of the bundled model against diffusers, and the same bits for every batch.

mod few_steps;
#[path = "../common/told_guidance.rs"]
mod told_guidance;

use std::ops::Range;
use std::path::{Path, PathBuf};

use stablerep::device::{Device, Plan};
use stablerep::generate::sampler::SamplerKind;
use stablerep::generate::{Drawing, Drawn, Fp8, Line, Pipeline, Request, Settings, Text, Wanted};
use stablerep::ops::sampler_step::NoiseKey;
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn settings(model: &Path) -> Settings<'_> {
    Settings {
        model,
        loras: &[],
        device: Device::Cpu,
        precision: None,
        fp8: Fp8::Off,
        drawing: Drawing { steps: 7, guidance_scale: 3.0, ..Drawing::default() },
        store_size: None,
        batch: Some(8),
    }
}

/// The same with other things drawn.
fn drawing(model: &Path, change: impl FnOnce(&mut Drawing)) -> Settings<'_> {
    let mut settings = settings(model);
    change(&mut settings.drawing);
    settings
}

/// A pipeline and the guidance scale it was opened with.
fn open(settings: Settings<'_>) -> (Pipeline, f32) {
    (Pipeline::open(&settings, &mut Plan::new()).unwrap(), settings.drawing.guidance_scale)
}

/// A copy of the bundled model in which `file` holds `text` with `from` replaced by `to`.
fn altered(file: &str, from: &str, to: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    told_guidance::link(folder.path());
    told_guidance::replace(folder.path(), file, from, to);
    folder
}

fn refused(settings: Settings<'_>, code: u8, words: &[&str]) {
    let error = Pipeline::open(&settings, &mut Plan::new()).unwrap_err();
    let text = error.to_string();
    assert!(error.exit_code() == code && words.iter().all(|word| text.contains(word)), "{code} {words:?}: {text}");
}

/// Of images that are two for each caption.
fn keys(images: Range<usize>) -> Vec<NoiseKey> {
    images.map(|i| NoiseKey { seed: 5, caption: i as u32 / 2, image: i as u32 % 2 }).collect()
}

/// Pictures and latents.
const BOTH: Wanted = Wanted { pictures: true, latents: true, trace: false };

/// Latents of 4 × 4 pixels in 4 channels, `[n, rows, columns]` to `[n, columns, rows]`.
fn turned(latents: &[f32], rows: usize) -> Vec<f32> {
    let image = |x: &[f32]| (0..64).map(|i| x[i % rows * (64 / rows) + i / rows]).collect::<Vec<f32>>();
    latents.chunks_exact(64).flat_map(image).collect()
}

struct Golden {
    file: SafeTensors,
    captions: Vec<String>,
}

impl Golden {
    fn open() -> Self {
        let file = SafeTensors::open(root().join("tests/fixtures/tiny_sd.safetensors")).unwrap();
        let captions = serde_json::from_str(file.metadata("captions").unwrap()).unwrap();
        Self { file, captions }
    }

    /// Compares latents and pictures of the first `n` rows of the noise, two for each caption.
    fn check(&self, name: &str, steps: usize, opened: &mut (Pipeline, f32), n: usize) {
        self.check_in(&self.file, name, steps, opened, n);
    }

    /// The same with what `expected` holds.
    fn check_in(&self, expected: &SafeTensors, name: &str, steps: usize, opened: &mut (Pipeline, f32), n: usize) {
        let (pipeline, guidance_scale) = (&mut opened.0, opened.1);
        let captions: Vec<&str> = self.captions.iter().take(n / 2).map(String::as_str).collect();
        let texts = pipeline.encode_texts(&captions).unwrap();
        let texts: Vec<Text> = texts.iter().flat_map(|text| [text.clone(), text.clone()]).collect();
        let mut latents = self.file.f32("ddim.noise", &[8, 4, 4, 4]).unwrap();
        latents.truncate(n * 64);
        let mut heard = 0;
        let request =
            Request { texts, keys: keys(0..n), noise: turned(&latents, 4), guidance_scale, wanted: BOTH, whole: false };
        let drawn = pipeline.draw(request, &mut |step| heard = step).unwrap();
        let (latents, pictures) = (turned(&drawn.latents, 16), drawn.pictures);
        assert_eq!(heard, steps);
        let want = expected.f32(&format!("{name}.latents_{steps}"), &[n, 4, 4, 4]).unwrap();
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
        let difference = norm(&mut latents.iter().zip(&want).map(|(g, w)| f64::from(g - w)));
        let error = difference / norm(&mut want.iter().map(|&w| f64::from(w)));

        assert!(pictures.iter().all(|p| !p.not_finite && (p.image.width, p.image.height) == (32, 32)));
        let got = pictures.iter().flat_map(|p| &p.image.data);
        let want = expected.i64(&format!("{name}.u8_truncated"), &[n, 32, 32, 3]).unwrap();
        let apart: Vec<i64> = got.zip(&want).map(|(&g, w)| (i64::from(g) - w).abs()).filter(|&d| d > 0).collect();
        println!("{name}: latents {error:.1e}, {} of {} values differ", apart.len(), want.len());
        assert!(error <= 1e-4, "{name}: relative error of the latents {error:e}");
        assert!(apart.iter().all(|&d| d == 1) && apart.len() * 1000 <= want.len(), "{name}: {} differ", apart.len());
    }
}

#[test]
fn fifty_steps_match_diffusers() {
    let (golden, model) = (Golden::open(), root().join("assets/tiny-sd"));
    for (name, w) in [("ddim50.w2", 2.0), ("ddim50.w8", 8.0)] {
        let mut pipeline = open(drawing(&model, |d| {
            d.steps = 50;
            d.guidance_scale = w;
        }));
        golden.check(name, 50, &mut pipeline, 8);
    }
}

#[test]
fn guidance_one_and_negative_prompt_match_diffusers() {
    let (golden, model) = (Golden::open(), root().join("assets/tiny-sd"));
    golden.check("ddim7.w3", 7, &mut open(settings(&model)), 4);
    golden.check("ddim7.w1", 7, &mut open(drawing(&model, |d| d.guidance_scale = 1.0)), 4);
    let negative_prompt = golden.file.metadata("negative_prompt").unwrap();
    golden.check("ddim7.w3_negative", 7, &mut open(drawing(&model, |d| d.negative_prompt = negative_prompt.into())), 4);
    let clipping = altered("scheduler/scheduler_config.json", "\"clip_sample\": false", "\"clip_sample\": true");
    // As diffusers' pipeline has it, whatever the config says.
    golden.check("ddim7.w3", 7, &mut open(settings(clipping.path())), 4);
}

#[test]
fn other_samplers_match_diffusers() {
    let (golden, model) = (Golden::open(), root().join("assets/tiny-sd"));
    let expected = SafeTensors::open(root().join("tests/fixtures/tiny_sd_samplers.safetensors")).unwrap();
    for (sampler, calls) in [(SamplerKind::Pndm, 9), (SamplerKind::Euler, 8), (SamplerKind::Dpmpp2mKarras, 8)] {
        let mut pipeline = open(drawing(&model, |d| {
            d.sampler = sampler;
            d.steps = 8;
        }));
        assert_eq!(pipeline.0.calls(), calls);
        golden.check_in(&expected, &sampler.to_string(), calls, &mut pipeline, 4);
    }
}

/// Noise drawn on the way belongs to (seed, caption, image index, step).
#[test]
fn ancestral_noise_is_an_images_own() {
    let (golden, model) = (Golden::open(), root().join("assets/tiny-sd"));
    let (mut pipeline, guidance_scale) = open(drawing(&model, |d| d.sampler = SamplerKind::EulerA));
    let texts = pipeline.encode_texts(&[&golden.captions[0][..]; 5]).unwrap();
    let first = golden.file.f32("ddim.noise", &[8, 4, 4, 4]).unwrap()[..64].to_vec();
    let base = NoiseKey { seed: 5, caption: 7, image: 1 };
    let keys =
        [base, base, NoiseKey { seed: 6, ..base }, NoiseKey { caption: 8, ..base }, NoiseKey { image: 0, ..base }];
    let (keys, noise) = (keys.to_vec(), first.repeat(keys.len()));
    let request = Request { texts, keys: keys.clone(), noise, guidance_scale, wanted: BOTH, whole: false };
    let latents = pipeline.draw(request, &mut |_| ()).unwrap().latents;
    let images: Vec<&[f32]> = latents.chunks_exact(64).collect();
    assert_eq!(images[0], images[1]);
    for i in 2..5 {
        assert!(images[..i].iter().all(|other| *other != images[i]), "{:?}", keys[i]);
    }
}

/// Batches of 1, 3 and 8 images, whichever captions stand beside one another: the same bits.
#[test]
fn an_image_has_the_same_bits_in_every_batch() {
    for sampler in [SamplerKind::Ddim, SamplerKind::Pndm, SamplerKind::EulerA, SamplerKind::Unipc, SamplerKind::Tcd] {
        same_bits_in_every_batch(sampler);
    }
}

fn same_bits_in_every_batch(sampler: SamplerKind) {
    let (golden, model) = (Golden::open(), root().join("assets/tiny-sd"));
    let noise = golden.file.f32("ddim.noise", &[8, 4, 4, 4]).unwrap();
    let run = |batch: usize, size: usize| {
        let (mut pipeline, guidance_scale) =
            open(Settings { batch: Some(batch), ..drawing(&model, |d| d.sampler = sampler) });
        let (mut all, mut pictures) = (Vec::new(), Vec::new());
        for start in (0..8).step_by(size) {
            let end = (start + size).min(8);
            let captions: Vec<&str> = (start..end).map(|i| golden.captions[i / 2].as_str()).collect();
            let texts = pipeline.encode_texts(&captions).unwrap();
            let noise = noise[start * 64..end * 64].to_vec();
            let request = Request { texts, keys: keys(start..end), noise, guidance_scale, wanted: BOTH, whole: false };
            let drawn = pipeline.draw(request, &mut |_| ()).unwrap();
            pictures.extend(drawn.pictures.into_iter().map(|p| p.image));
            all.extend(drawn.latents);
        }
        (all, pictures)
    };
    let whole = run(8, 8);
    for (batch, size) in [(1, 1), (3, 3), (8, 5), (16, 1)] {
        assert!(run(batch, size) == whole, "{sampler} --batch {batch}, {size} at once");
    }
}

/// Batches come back in their order, each with what it was begun for, as when they are drawn alone; what is not wanted
/// stays away. A line may be left with batches under way.
#[test]
fn a_line_gives_what_was_begun() {
    let (golden, model) = (Golden::open(), root().join("assets/tiny-sd"));
    let (mut pipeline, w) = open(settings(&model));
    let request = |pipeline: &Pipeline, i: usize| {
        pipeline.request(&[&golden.captions[i][..]; 2], keys(2 * i..2 * i + 2), w).unwrap()
    };
    let images = |drawn: Drawn| drawn.pictures.into_iter().map(|picture| picture.image).collect::<Vec<_>>();
    let mut alone = Vec::new();
    for i in 0..3 {
        let request = request(&pipeline, i);
        alone.push(images(pipeline.draw(request, &mut |_| ()).unwrap()));
    }
    let mut line = Line::new(&mut pipeline, |_| ());
    let mut all = Vec::new();
    for i in 0..3 {
        let request = request(line.pipeline(), i);
        all.extend(line.push(i, request).unwrap());
    }
    assert_eq!(all.len(), 1);
    while let Some(batch) = line.pop().unwrap() {
        all.push(batch);
    }
    for (i, (of, drawn)) in all.into_iter().enumerate() {
        assert!(of == i && drawn.latents.is_empty() && images(drawn) == alone[i], "batch {i}");
    }
    for i in 0..2 {
        let request = request(line.pipeline(), i);
        assert!(line.push(i, request).unwrap().is_none());
    }
}

#[test]
fn unusable_settings_and_models_are_refused_by_name() {
    let model = root().join("assets/tiny-sd");
    let base = || settings(&model);
    refused(Settings { model: Path::new("/no/such/model"), ..base() }, 2, &["--model", "/no/such/model"]);
    refused(drawing(&model, |d| d.width = Some(0)), 2, &["--width 0", "multiple of 8"]);
    refused(drawing(&model, |d| d.height = Some(36)), 2, &["--height 36", "multiple of 8"]);
    refused(drawing(&model, |d| d.height = Some(8192)), 2, &["--height 8192", "4096"]);
    refused(drawing(&model, |d| d.steps = 0), 2, &["--steps 0"]);
    refused(drawing(&model, |d| d.steps = 1001), 2, &["--steps 1001"]);
    refused(Settings { batch: Some(0), ..base() }, 2, &["--batch 0"]);

    let unet = "unet/config.json";
    for (file, from, to, words) in [
        (unet, "\"CrossAttnDownBlock2D\"", "\"AttnDownBlock2D\"", ["down_block_types", "AttnDownBlock2D"]),
        (unet, "\"UNetMidBlock2DCrossAttn\"", "\"UNetMidBlock2D\"", ["mid_block_type", "UNetMidBlock2D"]),
        (unet, "\"class_embed_type\": null", "\"class_embed_type\": \"timestep\"", ["class_embed_type", "timestep"]),
        (unet, "\"act_fn\": \"silu\"", "\"act_fn\": \"gelu\"", ["act_fn", "gelu"]),
        (
            unet,
            "\"transformer_layers_per_block\": 1",
            "\"transformer_layers_per_block\": 2",
            ["transformer_layers", "2"],
        ),
        (unet, "\"freq_shift\"", "\"frequency_of_shift\": 3, \"freq_shift\"", ["frequency_of_shift", "not known"]),
        (unet, "\"cross_attention_dim\": 64", "\"cross_attention_dim\": 768", ["cross_attention_dim", "768"]),
        (unet, "\"attention_head_dim\": 2", "\"attention_head_dim\": 3", ["attention_head_dim", "3"]),
        (unet, "\"norm_num_groups\": 8", "\"norm_num_groups\": \"8\"", ["norm_num_groups", "\"8\""]),
        // Laid out before a weight is looked at, they would take hundreds of megabytes.
        (unet, "\"layers_per_block\": 1,", "\"layers_per_block\": 262143,", ["layers_per_block", "1 to 128 layers"]),
        (
            "vae/config.json",
            "\"layers_per_block\": 1,",
            "\"layers_per_block\": 262143,",
            ["layers_per_block", "1 to 128 layers"],
        ),
        (
            "text_encoder/config.json",
            "\"num_hidden_layers\": 2,",
            "\"num_hidden_layers\": 262143,",
            ["num_hidden_layers", "1 to 128 layers"],
        ),
        (unet, "    160\n", "    320\n", ["diffusion_pytorch_model.safetensors", "has shape"]),
        (unet, "{", "[", ["unet/config.json", "JSON"]),
        ("vae/config.json", "\"UpDecoderBlock2D\"", "\"AttnUpDecoderBlock2D\"", ["up_block_types", "AttnUp"]),
        ("vae/config.json", "\"shift_factor\": null", "\"shift_factor\": 0.1", ["shift_factor", "0.1"]),
        ("text_encoder/config.json", "\"quick_gelu\"", "\"relu\"", ["hidden_act", "relu"]),
        ("text_encoder/config.json", "\"vocab_size\": 588", "\"vocab_size\": 500", ["588", "500"]),
        ("scheduler/scheduler_config.json", "PNDMScheduler", "FlowMatchScheduler", ["_class_name", "FlowMatch"]),
    ] {
        let folder = altered(file, from, to);
        refused(settings(folder.path()), 3, &words);
    }
    let folder = altered(unet, "{", "{");
    std::fs::remove_file(folder.path().join("vae/config.json")).unwrap();
    refused(settings(folder.path()), 3, &["vae/config.json", "not there"]);
}

/// Latents of two images under `settings`, from the noise of their keys.
fn drawn(settings: Settings<'_>, w: f32) -> Vec<f32> {
    let (mut pipeline, _) = open(settings);
    let mut request = pipeline.request(&["a photo of a bag", "a photo of a coat"], keys(0..2), w).unwrap();
    request.wanted = Wanted { pictures: false, ..BOTH };
    pipeline.draw(request, &mut |_| ()).unwrap().latents
}

/// As diffusers, whose guidance begins above 1.
#[test]
fn scales_up_to_one_follow_the_caption_alone() {
    let model = root().join("assets/tiny-sd");
    let alone = drawn(drawing(&model, |d| d.guidance_scale = 1.0), 1.0);
    for w in [0.0, 0.5, -3.0] {
        assert_eq!(drawn(drawing(&model, |d| d.guidance_scale = w), w), alone, "{w}");
        // In a pipeline that guides other requests, and whose negative prompt these have not.
        let negative_prompt = "a coat";
        assert_eq!(
            drawn(
                drawing(&model, |d| {
                    d.guidance_scale = 3.0;
                    d.negative_prompt = negative_prompt.into();
                }),
                w
            ),
            alone,
            "{w}"
        );
    }
    assert_ne!(drawn(settings(&model), 1.5), alone);
}

/// A middle block that is left out is not computed, whether its tensors are there or not.
#[test]
fn the_middle_block_may_be_absent() {
    let model = root().join("assets/tiny-sd");
    let whole = drawn(settings(&model), 3.0);
    let unet = "unet/config.json";
    let kind = |value: &str| {
        altered(unet, "\"mid_block_type\": \"UNetMidBlock2DCrossAttn\"", &format!("\"mid_block_type\": {value}"))
    };
    let without = kind("null");
    let none = drawn(settings(without.path()), 3.0);
    assert!(none != whole && none.iter().all(|value| value.is_finite()));
    // With the tensors gone, the same.
    let file = SafeTensors::open(model.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    let names: Vec<&str> = file.names().filter(|name| !name.starts_with("mid_block.")).collect();
    let data: Vec<Vec<f32>> = names.iter().map(|name| file.f32(name, file.shape(name).unwrap()).unwrap()).collect();
    let tensors: Vec<_> = names
        .iter()
        .zip(&data)
        .map(|(name, data)| (name.to_string(), file.shape(name).unwrap().to_vec(), &data[..]))
        .collect();
    let path = without.path().join("unet/diffusion_pytorch_model.safetensors");
    std::fs::remove_file(&path).unwrap();
    stablerep::weights::write_safetensors(&path, &tensors, &[]).unwrap();
    assert_eq!(drawn(settings(without.path()), 3.0), none);
    refused(settings(kind("\"UNetMidBlock2DSimpleCrossAttn\"").path()), 3, &["mid_block_type", "SimpleCrossAttn"]);
}

#[test]
fn sizes_may_be_lists() {
    let model = root().join("assets/tiny-sd");
    let (unet, size) = ("unet/config.json", "\"sample_size\": 4");
    let pair = altered(unet, size, "\"sample_size\": [4, 6]");
    assert_eq!(open(settings(pair.path())).0.size(), (48, 32));
    let odd = altered(unet, size, "\"sample_size\": \"large\"");
    refused(settings(odd.path()), 2, &["sample_size", "--width"]);
    let given = drawing(odd.path(), |d| {
        d.width = Some(48);
        d.height = Some(32);
    });
    assert_eq!(open(given).0.size(), (48, 32));
    let expected = drawn(settings(&model), 3.0);
    for (from, to) in [
        ("\"cross_attention_dim\": 64", "\"cross_attention_dim\": [64, 64]"),
        ("\"attention_head_dim\": 2", "\"attention_head_dim\": [2, 2]"),
        ("\"transformer_layers_per_block\": 1", "\"transformer_layers_per_block\": [1, 1]"),
        ("\"only_cross_attention\": false", "\"only_cross_attention\": [false, false]"),
    ] {
        assert_eq!(drawn(settings(altered(unet, from, to).path()), 3.0), expected, "{to}");
    }
    for (from, to, key) in [
        ("\"cross_attention_dim\": 64", "\"cross_attention_dim\": [64, 32]", "cross_attention_dim"),
        (
            "\"transformer_layers_per_block\": 1",
            "\"transformer_layers_per_block\": [1, 2]",
            "transformer_layers_per_block",
        ),
        ("\"norm_eps\": 1e-05", "\"norm_eps\": null", "norm_eps"),
        ("\"layers_per_block\": 1", "\"layers_per_block\": null", "layers_per_block"),
        ("\"norm_eps\": 1e-05", "\"norm_eps\": NaN", "norm_eps"),
        ("UNet2DConditionModel", "UNetMotionModel", "_class_name"),
    ] {
        refused(settings(altered(unet, from, to).path()), 3, &[key]);
    }
    // Null is false where a truth value is meant, and not the default.
    let flipped = altered(unet, "\"flip_sin_to_cos\": true", "\"flip_sin_to_cos\": null");
    let told = altered(unet, "\"flip_sin_to_cos\": true", "\"flip_sin_to_cos\": false");
    let [flipped, told] = [flipped, told].map(|folder| drawn(settings(folder.path()), 3.0));
    assert!(flipped == told && flipped != expected);
}
