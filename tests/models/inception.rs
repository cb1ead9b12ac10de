//! Inception against pytorch-fid's, with weights of a formula.

use stablerep::eval::fid::inception::Resize;
use stablerep::image::Rgb8;
use stablerep::models::inception::{Inception, SIDE, WIDTH};
use stablerep::weights::SafeTensors;

use crate::support::{assert_near, fixture};

#[path = "../common/inception.rs"]
mod formula;

/// The pictures of the golden.
fn pictures(golden: &SafeTensors) -> Vec<Rgb8> {
    let sizes: Vec<(usize, usize)> = serde_json::from_str(golden.metadata("pictures").unwrap()).unwrap();
    let picture = |(i, (width, height)): (usize, (usize, usize))| {
        let values = formula::hashed(&format!("picture {i}"), 3 * width * height);
        Rgb8 { width, height, data: values.into_iter().map(|v| ((v + 1.0) * 128.0) as u8).collect() }
    };
    sizes.into_iter().enumerate().map(picture).collect()
}

const KINDS: [(Resize, &str); 2] = [(Resize::PytorchFid, "pytorch-fid"), (Resize::CleanFid, "clean-fid")];

#[test]
fn pictures_are_resized_as_pytorch_fid_and_clean_fid_do() {
    let golden = fixture("inception.safetensors");
    let step: usize = golden.metadata("step").unwrap().parse().unwrap();
    for (i, image) in pictures(&golden).iter().enumerate() {
        for (resize, name) in KINDS {
            let got = resize.prepare(image).unwrap();
            assert_eq!(got.len(), 3 * SIDE * SIDE);
            let kept = (0..SIDE).step_by(step).flat_map(|y| (0..SIDE).step_by(step).map(move |x| 3 * (y * SIDE + x)));
            let kept: Vec<f32> = kept.flat_map(|at| [got[at], got[at + 1], got[at + 2]]).collect();
            let side = SIDE.div_ceil(step);
            let name = format!("{name}.{i}");
            assert_near(&name, &kept, &golden.f32(&name, &[side, side, 3]).unwrap(), 3e-5);
        }
    }
}

#[test]
fn features_are_pytorch_fids() {
    let golden = fixture("inception.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inception.safetensors");
    formula::write(&path, &golden, None);
    let file = SafeTensors::open(&path).unwrap();
    let network = Inception::open(&file).unwrap();
    assert_eq!(file.unread().next(), None);
    let images = pictures(&golden);
    for (resize, name) in KINDS {
        let prepared: Vec<f32> = images[..2].iter().flat_map(|image| resize.prepare(image).unwrap()).collect();
        let together = network.features(&prepared).unwrap();
        for (i, got) in together.chunks_exact(WIDTH).enumerate() {
            let name = format!("{name}.features.{i}");
            assert_near(&name, got, &golden.f32(&name, &[WIDTH]).unwrap(), 2e-5);
        }
        // A picture has the same bits in every batch.
        assert_eq!(network.features(&prepared[3 * SIDE * SIDE..]).unwrap(), together[WIDTH..]);
    }
    let missing = "Mixed_7c.branch3x3dbl_3b.bn.running_mean";
    formula::write(&path, &golden, Some(missing));
    let error = Inception::open(&SafeTensors::open(&path).unwrap()).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains(missing), "{error}");
}
