//! Which kernels compute a product.

use super::hopper::{self, Schedule};
use super::portable::Tile;
use super::product::{Output, Product};
use super::shape::Shape;
use crate::device::cuda::{Arch, E4m3, Element, Gpu, Half};

/// A family of kernels with its tile. Tiles of a family agree to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// mma.sync.
    Portable(Tile),
    /// wgmma, on at most so many multiprocessors.
    Hopper(Schedule, u32),
}

impl Variant {
    /// Those that can compute `shape` into 16 bits on this device, its weights packed for doubling or not; the wgmma
    /// kernels on few multiprocessors, so that small shapes too make a block take several tiles.
    pub fn all(gpu: &Gpu, shape: &Shape, doubling: bool) -> Vec<Self> {
        let fits = hopper::fits::<u16>(shape) || doubling && shape.doubles() && shape.by(8);
        Self::both(gpu, Tile::all(shape.by(8)), fits)
    }

    /// The same of a product of e4m3.
    pub fn all_e4m3(gpu: &Gpu, shape: &Shape) -> Vec<Self> {
        Self::both(gpu, Tile::all_e4m3(gpu, shape.by(16)), hopper::fits::<E4m3>(shape))
    }

    fn both(gpu: &Gpu, tiles: impl Iterator<Item = Tile>, fits: bool) -> Vec<Self> {
        const FEW: u32 = 4;
        let wgmma = gpu.arch() == Arch::Sm90 && fits;
        let hopper = Schedule::ALL.into_iter().filter(|_| wgmma).map(|schedule| Self::Hopper(schedule, FEW));
        tiles.map(Self::Portable).chain(hopper).collect()
    }

    /// Variants of one family give the same bits.
    pub fn family(self) -> &'static str {
        match self {
            Self::Portable(_) => "mma.sync",
            Self::Hopper(..) => "wgmma",
        }
    }

    /// The fastest; its family by the per-image problem alone.
    pub(super) fn choose<X: Element, T: Half>(
        gpu: &Gpu,
        product: &Product<X, T>,
        tiles: impl Iterator<Item = Tile>,
    ) -> Self {
        let shape = &product.shape;
        let wide = shape.outputs >= WGMMA_OUTPUTS && !matches!(product.y, Output::F32(_));
        if gpu.arch() == Arch::Sm90 && wide && hopper::fits::<X>(shape) {
            return Self::Hopper(Schedule::choose(product.grid(), hopper::steps(product), gpu.sms()), gpu.sms());
        }
        Self::Portable(Tile::choose(tiles, product.grid(), gpu.sms()))
    }
}

/// Fewer outputs leave most of a wgmma tile unused.
const WGMMA_OUTPUTS: usize = 65;
