//! One network, loaded once and called as often as standard input asks, so that another program can measure it in turn
//! with other engines.
//!
//! `--inputs` is a file of safetensors; `networks.rs` says which tensors each network reads. When the network is ready
//! a line `{"ready": …}` is printed. Each line of standard input is then `call`, which makes one call and prints
//! `{"seconds": …}`, or `call FILE`, which writes its outputs to that file too, before it prints: f32, little-endian,
//! one value behind the other.

use std::io;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use stablerep::bail;
use stablerep::error::{Error, Result};
use stablerep::store;
use stablerep::weights::SafeTensors;

use crate::harness::Options;
use crate::networks::{self, Given};

/// Loads `network` and answers until standard input ends.
///
/// # Errors
/// `Usage` for a network, a precision or a line that is not known; `Data` for weights or inputs that do not fit.
pub fn run(network: &str, options: &Options) -> Result<()> {
    let (Some(model), Some(inputs)) = (&options.model, &options.inputs) else {
        bail!(Usage, "calls {network}: expected --model PATH and --inputs FILE");
    };
    let given = Given { model, inputs: &SafeTensors::open(inputs.clone())?, precision: options.precision };
    let mut network = networks::open(network, &given)?;
    println!("{}", json!({ "ready": options.precision }));
    for line in io::stdin().lines() {
        let line = line.map_err(Error::io("read", "standard input"))?;
        let (word, file) = line.split_once(' ').map_or((&*line, None), |(word, file)| (word, Some(Path::new(file))));
        if word != "call" {
            bail!(Usage, "standard input: `{line}`, expected `call` or `call FILE`");
        }
        let begin = Instant::now();
        network.call()?;
        let seconds = begin.elapsed().as_secs_f64();
        if let Some(file) = file {
            let bytes: Vec<u8> = network.outputs().into_iter().flat_map(f32::to_le_bytes).collect();
            store::write_atomic(file, &bytes)?;
        }
        println!("{}", json!({ "seconds": seconds }));
    }
    Ok(())
}
