//! Inception on the simulated devices, against the CPU.

use std::env;
use std::path::Path;
use std::process::Command;

use stablerep::models::inception::{Inception, WIDTH};
use stablerep::rng::{Domain, Stream};
use stablerep::weights::SafeTensors;
use tempfile::TempDir;

use crate::support::{Model, driver_folder, has_kernels, text};

#[path = "../common/inception.rs"]
mod formula;

/// The least that the network takes: every block has pixels beside its border.
const SIDE: usize = 75;

/// Of the largest feature: a product of halves is off by 2⁻¹⁷, and there are 48 layers of them.
const WITHIN: f32 = 1e-4;

/// Tells this program, run again, to find the simulated driver and compare.
const COMPARE: &str = "STABLEREP_TEST_INCEPTION";

#[test]
fn features_on_hopper_are_the_cpus() {
    again(Model::H200);
}

#[test]
fn features_on_ampere_are_the_cpus() {
    again(Model::A100);
}

/// Runs [`compared`] where the driver is found.
fn again(model: Model) {
    if !has_kernels() {
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["inception::compared", "--exact"]).env(COMPARE, "yes");
    command.env("LD_LIBRARY_PATH", driver_folder()).env("CUDA_SIM_DEVICE", model.name());
    let output = command.output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Two pictures at once and a batch that is not full have the features that the CPU gives them.
#[test]
fn compared() {
    #[cfg(cuda_kernels)]
    if env::var_os(COMPARE).is_some() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let golden = SafeTensors::open(fixtures.join("inception.safetensors")).unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("inception.safetensors");
        formula::write(&path, &golden, None);
        let network = Inception::open(&SafeTensors::open(&path).unwrap()).unwrap();
        let mut stream = Stream::new(3, Domain::Init, [0; 3]);
        let pictures: Vec<f32> = (0..3 * 3 * SIDE * SIDE).map(|_| stream.uniform_in(-1.0, 1.0)).collect();
        let want = network.features_of(&pictures, SIDE).unwrap();
        let card = stablerep::eval::fid::card::Card::new(0, &network, 2, SIDE).unwrap();
        let got = card.features(&pictures).unwrap();
        assert_eq!(got.len(), 3 * WIDTH);
        let largest = want.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
        let off = got.iter().zip(&want).fold(0.0f32, |off, (got, want)| off.max((got - want).abs()));
        println!("off by {} of {largest}", off / largest);
        assert!(largest > 0.01 && off < WITHIN * largest, "off by {off} of {largest}");
        let again = card.features(&pictures[2 * 3 * SIDE * SIDE..]).unwrap();
        assert_eq!(again, got[2 * WIDTH..], "other bits in another batch");
    }
}
