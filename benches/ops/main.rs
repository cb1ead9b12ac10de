//! Every op at the shapes it is used with: time, FLOP/s and bytes/s beside this machine's peaks, measured in the same
//! run.
//!
//!     cargo bench --bench ops              all ops, about three minutes
//!     cargo bench --bench ops -- attention only names that contain "attention"
//!
//! Shapes: full-size Stable Diffusion 1.5 (latents 64×64), the bundled tiny one, ViT-S/16 at 224 pixels and the demo's
//! ViT.

mod harness;
mod losses;
mod pictures;
mod pointwise;
mod products;

use harness::Bench;

fn main() {
    let mut bench = Bench::new();
    products::run(&mut bench);
    pointwise::run(&mut bench);
    losses::run(&mut bench);
    pictures::run(&mut bench);
    bench.finish();
}
