//! Finite weights with which every loss overflows.

use std::path::Path;

use stablerep::weights::{SafeTensors, write_safetensors};

/// Writes to `to` the parameters of `from`, a checkpoint or initial weights, with an MLP whose products overflow.
pub fn overflowing(from: &Path, to: &Path) {
    let file = SafeTensors::open(from).unwrap();
    let names = file.names().filter(|name| !name.starts_with("adam.") && !name.ends_with("num_batches_tracked"));
    let tensors: Vec<_> = names
        .map(|name| {
            let shape = file.shape(name).unwrap().to_vec();
            let mut values = file.f32(name, &shape).unwrap();
            if name.ends_with("blocks.1.mlp.fc1.weight") {
                values.fill(3e38);
            }
            (name.to_owned(), shape, values)
        })
        .collect();
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), &values[..])).collect();
    write_safetensors(to, &tensors, &[]).unwrap();
}
