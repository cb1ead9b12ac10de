//! Text encoder, UNet and autoencoder against transformers and diffusers: relative error at most 1e-4.

use std::path::{Path, PathBuf};

use stablerep::device::Plan;
use stablerep::models::clip_text::{self, ClipText};
use stablerep::models::unet::{self, Batch, UNet};
use stablerep::models::vae::{self, Decoder};
use stablerep::ops::gemm::Threads;
use stablerep::weights::SafeTensors;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

/// (model folder, fixture, width of the text states, timesteps of the UNet call, latents and images of the decoder's).
fn cases() -> Vec<(PathBuf, SafeTensors, usize, [usize; 2], usize)> {
    let fixtures = root().join("tests/fixtures");
    let open = |name: &str| SafeTensors::open(fixtures.join(name)).unwrap();
    let mut cases = vec![(root().join("assets/tiny-sd"), open("tiny_sd.safetensors"), 64, [981, 21], 2)];
    for name in ["a", "b", "c"] {
        let folder = fixtures.join("micro_sd").join(name);
        cases.push((folder, open(&format!("micro_sd/{name}.safetensors")), 16, [981, 1], 1));
    }
    cases
}

fn text_encoder(folder: &Path) -> ClipText {
    let config = clip_text::Config::open(&folder.join("text_encoder/config.json")).unwrap();
    ClipText::load(config, &SafeTensors::open_folder(folder.join("text_encoder"), "model").unwrap()).unwrap()
}

fn unet(folder: &Path) -> UNet {
    let config = unet::Config::open(&folder.join("unet/config.json")).unwrap();
    let weights = SafeTensors::open_folder(folder.join("unet"), "diffusion_pytorch_model").unwrap();
    UNet::load(config, &weights).unwrap()
}

fn decoder(folder: &Path) -> Decoder {
    let config = vae::Config::open(&folder.join("vae/config.json")).unwrap();
    let weights = SafeTensors::open_folder(folder.join("vae"), "diffusion_pytorch_model").unwrap();
    Decoder::load(config, &weights).unwrap()
}

fn nhwc(x: &[f32], n: usize, c: usize) -> Vec<f32> {
    let pixels = x.len() / n / c;
    let index = |i: usize| (i / pixels / c * c + i % c) * pixels + i / c % pixels;
    (0..x.len()).map(|i| x[index(i)]).collect()
}

#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(g - w)));
    let relative = error / norm(&mut want.iter().map(|&w| f64::from(w)));
    let top = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / top;
    println!("{what}: relative error {relative:.1e}, worst value {worst:.1e} of the largest");
    assert!(relative <= 1e-4 && worst <= 1e-4, "{what}: relative error {relative:e}, worst {worst:e}");
}

#[test]
fn text_encoders_match_transformers() {
    for (folder, fixture, width, _, _) in cases() {
        let encoder = text_encoder(&folder);
        let shape = fixture.shape("text.ids").unwrap().to_vec();
        let ids: Vec<u32> = fixture.i64("text.ids", &shape).unwrap().iter().map(|&id| id as u32).collect();
        let texts: Vec<&[u32]> = ids.chunks_exact(77).collect();
        let hidden = encoder.encode(&texts).unwrap().concat();
        let want = fixture.f32("text.hidden", &[shape[0], 77, width]).unwrap();
        close(&format!("{} text", folder.display()), &hidden, &want);
    }
    let encoder = text_encoder(&root().join("assets/tiny-sd"));
    let error = encoder.encode(&[&[588; 77]]).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("588"), "{error}");
    assert_eq!(encoder.encode(&[&[1; 76]]).unwrap_err().exit_code(), 3);
}

#[test]
fn unets_match_diffusers() {
    for (folder, fixture, width, timesteps, _) in cases() {
        let unet = unet(&folder);
        let text = fixture.f32("unet.context", &[2, 77, width]).unwrap();
        let contexts: Vec<_> = text.chunks_exact(77 * width).map(|text| unet.context(text)).collect();
        let table = unet.time_table(&timesteps.map(|t| t as f32));
        for form in ["square", "wide", "odd"] {
            let Some(shape) = fixture.shape(&format!("unet.{form}.x")).map(<[usize]>::to_vec) else {
                assert_eq!((form, width), ("odd", 64), "only the micro models have the odd size");
                continue;
            };
            let size = (shape[2], shape[3]);
            let x = nhwc(&fixture.f32(&format!("unet.{form}.x"), &shape).unwrap(), 2, 4);
            let mut memory = unet.memory(&mut Plan::new(), "unet", 2, size);
            for (time, t) in table.iter().zip(timesteps) {
                let want = nhwc(&fixture.f32(&format!("unet.{form}.eps_t{t}"), &shape).unwrap(), 2, 4);
                for threads in [Threads::One, Threads::All] {
                    let runs = contexts.iter().map(|context| (1, context)).collect();
                    let mut out = vec![0.0; x.len()];
                    unet.forward(&mut out, &x, &Batch { images: 2, size, runs }, time, &mut memory, threads);
                    close(&format!("{} {form} t {t} {threads:?}", folder.display()), &out, &want);
                }
            }
        }
    }
}

/// Guidance branches in one call, any number of images: the same bits as one image and one branch alone.
#[test]
fn a_unet_row_has_the_same_bits_in_every_batch() {
    for (folder, fixture, width, timesteps, _) in cases() {
        let unet = unet(&folder);
        let text = fixture.f32("unet.context", &[2, 77, width]).unwrap();
        let contexts: Vec<_> = text.chunks_exact(77 * width).map(|text| unet.context(text)).collect();
        let table = unet.time_table(&timesteps.map(|t| t as f32));
        let size = (8, 6);
        let values = 8 * 6 * 4;
        let mut x = vec![0.0; 3 * values];
        stablerep::rng::Stream::new(1, stablerep::rng::Domain::InitialNoise, [0, 0, 0]).fill_normal(&mut x);
        let mut memory = unet.memory(&mut Plan::new(), "unet", 6, size);
        let mut run = |x: &[f32], runs: &[(usize, usize)], threads| {
            let runs: Vec<_> = runs.iter().map(|&(rows, context)| (rows, &contexts[context])).collect();
            let batch = Batch { images: x.len() / values, size, runs };
            let mut out = vec![f32::NAN; batch.rows() * values];
            unet.forward(&mut out, x, &batch, &table[0], &mut memory, threads);
            out
        };
        // Two images of caption 0 and one of caption 1; the second branch sees caption 1 for all.
        let both = run(&x, &[(2, 0), (1, 1), (3, 1)], Threads::One);
        assert!(both == run(&x, &[(2, 0), (1, 1), (3, 1)], Threads::All), "{}: threads", folder.display());
        for image in 0..3 {
            let alone = &x[image * values..(image + 1) * values];
            for (branch, context) in [(0, usize::from(image == 2)), (1, 1)] {
                let at = (branch * 3 + image) * values;
                let want = run(alone, &[(1, context)], Threads::One);
                assert!(both[at..at + values] == want[..], "{}: image {image} branch {branch}", folder.display());
            }
        }
    }
}

#[test]
fn decoders_match_diffusers_and_do_not_depend_on_the_batch() {
    for (folder, fixture, _, _, n) in cases() {
        let decoder = decoder(&folder);
        let latents = nhwc(&fixture.f32("vae.latents", &[n, 4, 4, 6]).unwrap(), n, 4);
        let want = nhwc(&fixture.f32("vae.image", &[n, 3, 32, 48]).unwrap(), n, 3);
        let mut memory = decoder.memory(&mut Plan::new(), "decoder", n, (4, 6));
        let mut image = vec![0.0; want.len()];
        for threads in [Threads::One, Threads::All] {
            decoder.decode(&mut image, &latents, (n, (4, 6)), &mut memory, threads);
            close(&format!("{} decoder", folder.display()), &image, &want);
        }
        let mut one = vec![0.0; want.len() / n];
        decoder.decode(&mut one, &latents[..latents.len() / n], (1, (4, 6)), &mut memory, Threads::One);
        assert!(one == image[..one.len()], "{}: the batch changes the bits", folder.display());
    }
}
