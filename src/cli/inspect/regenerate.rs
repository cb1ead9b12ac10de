//! `inspect --regenerate`: a stored sample drawn again.

use std::path::Path;

use crate::answer;
use crate::bail;
use crate::device::Device;
use crate::error::Result;
use crate::generate::{Comparison, Lora, regenerate};
use crate::image::Difference;
use crate::shards::Shards;
use crate::store::write_atomic;

/// Draws `key` again, writes it to `output`, and says whether it is the stored picture; another one is an error.
pub fn run(path: &Path, key: &str, model: (&Path, &[Lora]), device: Device, output: Option<&Path>) -> Result<()> {
    let shards = Shards::open(&[path.to_path_buf()])?;
    let made = regenerate(model, device, &shards, key)?;
    if let Some(output) = output {
        let png = made.bytes.starts_with(b"\x89PNG");
        if output.extension().is_some_and(|found| found.eq_ignore_ascii_case("png") != png) {
            let kind = if png { "png" } else { "jpg" };
            bail!(
                Usage,
                "--output {}: the picture is stored as {kind}; give a name that ends in .{kind}",
                output.display()
            );
        }
        write_atomic(output, &made.bytes)?;
        answer!("{key} drawn again: {}", output.display());
    }
    match made.comparison {
        Comparison::SameBytes => answer!("{key}: the same picture, byte for byte"),
        Comparison::SamePixels => answer!("{key}: the same pixels, encoded in other bytes"),
        Comparison::Different(Difference { mean, largest, .. }) => bail!(
            Failed,
            "{key}: another picture than the stored one: 8-bit values differ by {mean:.3} on average, {largest} at most"
        ),
    }
    match shards.damage() {
        [] => Ok(()),
        [first, ..] => bail!(
            Data,
            "{}: {} problem(s) elsewhere in these shards, first: {first}; `stablerep inspect` lists them",
            path.display(),
            shards.damage().len()
        ),
    }
}
