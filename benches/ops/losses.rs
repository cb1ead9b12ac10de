//! Losses and what feeds them.

use stablerep::ops::contrastive::{self, Batch, Queue};
use stablerep::ops::{cross_entropy, l2norm};

use crate::harness::{Bench, Work, values};

pub fn run(bench: &mut Bench) {
    for (name, rows, d) in [("demo", 256, 128), ("1024 images", 1024, 256), ("paper", 8256, 256)] {
        let raw = values(rows * d);
        let (mut z, mut norms) = (vec![0.0; rows * d], vec![0.0; rows]);
        l2norm::forward(&mut z, &mut norms, &raw, 1e-12);
        let labels: Vec<u32> = (0..rows as u32).map(|row| row / 4).collect();
        let (mut lse, mut weight, mut dz) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows * d]);
        let (flops, bytes) = (contrastive::flops(rows, rows, d), contrastive::bytes(rows, rows, d));
        let size = format!("{name} {rows}x{d}");
        bench.measure(&format!("contrastive forward/{size}"), Work::new(flops.0, bytes.0), || {
            contrastive::forward(
                &mut lse,
                &mut weight,
                Batch { z: &z, labels: &labels, queue: Queue::default(), temperature: 0.1 },
            );
        });
        bench.measure(&format!("contrastive backward/{size}"), Work::new(flops.1, bytes.1), || {
            contrastive::backward(
                &mut dz,
                &lse,
                &weight,
                Batch { z: &z, labels: &labels, queue: Queue::default(), temperature: 0.1 },
            )
        });
        let (flops, bytes) = (l2norm::flops(rows, d), l2norm::bytes(rows, d));
        bench.measure(&format!("l2norm forward/{size}"), Work::new(flops.0, bytes.0), || {
            l2norm::forward(&mut z, &mut norms, &raw, 1e-12)
        });
        bench.measure(&format!("l2norm backward/{size}"), Work::new(flops.1, bytes.1), || {
            l2norm::backward(&mut dz, &raw, &z, &norms, 1e-12)
        });
    }
    for (name, classes) in [("imagenet", 1000), ("fashion-mnist", 10)] {
        let shape = cross_entropy::Shape { rows: 1024, heads: 10, classes };
        let logits = values(shape.rows * shape.heads * classes);
        let labels: Vec<u32> = (0..shape.rows).map(|row| (row % classes) as u32).collect();
        let (mut losses, mut x) = (vec![0.0; shape.rows * 10], logits.clone());
        let (flops, bytes) = (shape.flops(), shape.bytes());
        let size = format!("{name} 1024x10x{classes}");
        // Each call starts from the same logits; their copy is part of what is measured.
        let copy = 8.0 * logits.len() as f64;
        bench.measure(&format!("cross_entropy forward/copy and {size}"), Work::new(flops.0, bytes.0 + copy), || {
            x.copy_from_slice(&logits);
            cross_entropy::forward_in_place(&mut losses, &mut x, &labels, shape)
        });
        bench.measure(&format!("cross_entropy backward/{size}"), Work::new(flops.1, bytes.1), || {
            cross_entropy::backward_in_place(&mut x, &labels, 1.0, shape)
        });
    }
}
