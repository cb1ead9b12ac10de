//! Inception's weights of a formula, as dev/golden/inception.py has them.

use std::path::Path;

use stablerep::weights::{SafeTensors, write_safetensors};

/// −1 to 1 by the name (FNV-1a) and the place.
pub fn hashed(name: &str, count: usize) -> Vec<f64> {
    let seed = name.bytes().fold(0x811C_9DC5u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let value = |i: usize| {
        let mut h = (i as u32).wrapping_mul(0x9E37_79B1).wrapping_add(seed);
        for (shift, factor) in [(16, 0x7FEB_352D), (15, 0x846C_A68B), (16, 1)] {
            h = (h ^ (h >> shift)).wrapping_mul(factor);
        }
        f64::from(h >> 8) / 8_388_608.0 - 1.0
    };
    (0..count).map(value).collect()
}

fn tensor(name: &str, shape: &[usize]) -> Vec<f32> {
    let fan_in: usize = shape[1..].iter().product();
    let value = |u: f64| match name {
        _ if name.ends_with("conv.weight") => u * (6.0 / fan_in as f64).sqrt(),
        _ if name.ends_with("bn.weight") || name.ends_with("running_var") => 1.0 + 0.5 * u,
        _ => 0.2 * u,
    };
    hashed(name, shape.iter().product()).into_iter().map(|u| value(u) as f32).collect()
}

/// Writes all tensors that `golden` names to `path`, but for `left_out`.
pub fn write(path: &Path, golden: &SafeTensors, left_out: Option<&str>) {
    let shapes: Vec<(String, Vec<usize>)> = serde_json::from_str(golden.metadata("shapes").unwrap()).unwrap();
    let values: Vec<Vec<f32>> = shapes.iter().map(|(name, shape)| tensor(name, shape)).collect();
    let all = shapes.iter().zip(&values).filter(|((name, _), _)| Some(name.as_str()) != left_out);
    let tensors: Vec<_> = all.map(|((name, shape), values)| (name.clone(), shape.clone(), values.as_slice())).collect();
    write_safetensors(path, &tensors, &[]).unwrap();
}
