//! Settings that cannot be run, each refused by its flag.

use super::{Augmentation, Length, Optimizer, Rate, Recipe};
use crate::bail;
use crate::error::Result;
use crate::models::vit::VitConfig;
use crate::train::loader::{LocalCrops, Positives};
use crate::train::method::{MOST_SLOTS, Name};

impl Recipe {
    /// # Errors
    /// Usage error naming the flag, what it was, and what is expected.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        if let Some(weight) = self.weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
            bail!(Usage, "--data …={weight}: expected a weight above 0");
        }
        if self.data.is_empty() {
            bail!(Usage, "--data: expected at least one folder of shards or one shard (.tar)");
        }
        let (least, why) = match self.method.is_contrastive() {
            true => (2, " (a contrastive loss needs others to contrast with)"),
            false => (1, ""),
        };
        if self.batch < least || self.batch > 1 << 20 {
            bail!(Usage, "--batch {}: expected {least} to {} captions per step{why}", self.batch, 1 << 20);
        }
        if let Some(mae) = &self.mae {
            mae.validate(&self.model)?;
        }
        if let Some(finetune) = &self.finetune {
            finetune.validate()?;
        }
        let own = matches!(self.augmentation, Augmentation::FineTune | Augmentation::None);
        if self.finetune.is_some() && !own {
            bail!(Usage, "--method finetune makes its views on the host: give --augmentation finetune or none");
        }
        if let Some(segment) = &self.segment {
            segment.validate()?;
            if !matches!(self.augmentation, Augmentation::Segment | Augmentation::None) {
                bail!(Usage, "--method segment makes its views on the host: give --augmentation segment or none");
            }
        } else if self.augmentation == Augmentation::Segment {
            bail!(Usage, "--augmentation segment goes with --method segment alone; take weak or strong");
        }
        if self.finetune.is_none() && self.augmentation == Augmentation::FineTune {
            bail!(Usage, "--augmentation finetune goes with --method finetune alone; take weak or strong");
        }
        let m = self.images_per_caption;
        if m == 0 || m > 1000 {
            bail!(Usage, "--images-per-caption {m}: expected 1 to 1000");
        }
        let fewest = if self.method == Name::SimClr { 2 } else { 1 };
        if let Some(crops) = self.crops.filter(|crops| !(fewest..=100).contains(crops)) {
            bail!(Usage, "--crops {crops}: expected {fewest} to 100 for --method {}", self.method.name());
        }
        // The largest networks on the largest images then count their values below 2^62.
        if self.rows_per_step() > 1 << 20 {
            bail!(
                Usage,
                "--batch {} with --images-per-caption {m} are {} images per step: expected at most {}; lower --batch",
                self.batch,
                self.rows_per_step(),
                1 << 20
            );
        }
        if let Some(local) = self.local {
            self.check_local(local)?;
        }
        let several = matches!(self.method, Name::StableRep | Name::StableRepPlus);
        if several && self.views().slots() < 2 && self.positives != Positives::Class {
            bail!(
                Usage,
                "--images-per-caption 1 with --method {} leaves no positives and a loss of 0; use 2 or more, --crops 2, or --method {}",
                self.method.name(),
                if self.method == Name::StableRep { "simclr" } else { "clip" }
            );
        }
        let drawn = self.views().images;
        if let Some(least) = self.min_images.filter(|&least| least < drawn) {
            bail!(
                Usage,
                "--min-images {least}: {drawn} different images are drawn of each caption, so it must have {drawn} at least; \
                 give more, or leave it out"
            );
        }
        if let Some(chunk) = self.chunk.filter(|&chunk| chunk == 0 || chunk >= self.images_per_step()) {
            bail!(
                Usage,
                "--chunk {chunk}: expected fewer images than the {} of a step, or all",
                self.images_per_step()
            );
        }
        if let Some(slots) = self.queue {
            self.validate_queue(slots)?;
        }
        if matches!(self.method, Name::MocoV3 | Name::Byol) && !self.model.width.is_multiple_of(4) {
            bail!(
                Usage,
                "--width {}: the fixed positions of --method {} take a multiple of 4",
                self.model.width,
                self.method.name()
            );
        }
        let [low, high] = self.crop_scale;
        if !(low > 0.0 && low <= high && high <= 1.0) {
            bail!(Usage, "--crop-scale {low},{high}: expected two shares of the area, 0 < low ≤ high ≤ 1, e.g. 0.08,1");
        }
        let finite = |v: f64, low: f64, high: f64| v.is_finite() && v >= low && v <= high;
        let (Rate::Base(rate) | Rate::Peak(rate)) = self.rate;
        for (flag, value, low, high) in [
            (if matches!(self.rate, Rate::Base(_)) { "--blr" } else { "--lr" }, rate, 0.0, 1000.0),
            ("--min-lr", self.min_lr.unwrap_or(0.0), 0.0, 1000.0),
            ("--weight-decay", self.weight_decay, 0.0, 100.0),
            ("--weight-decay-end", self.weight_decay_end.unwrap_or(0.0), 0.0, 100.0),
            ("--clip-gradient", self.clip_gradient.unwrap_or(1.0), 1e-6, 1e6),
            ("--drop-path", self.drop_path.unwrap_or(0.0), 0.0, 0.99),
            ("--beta1", self.beta1, 0.0, 0.999_999),
            ("--beta2", self.beta2, 0.0, 0.999_999),
            ("--temperature", self.temperature, 0.001, 100.0),
            ("--momentum", self.momentum.unwrap_or(0.0), 0.0, 1.0),
        ] {
            if !finite(value, low, high) {
                bail!(Usage, "{flag} {value}: expected {low} to {high}");
            }
        }
        if self.optimizer == Some(Optimizer::Lars) && matches!(self.method, Name::Dino | Name::FineTune | Name::Segment)
        {
            bail!(
                Usage,
                "--optimizer lars does not go with --method {}, whose layers do not all have one rate; leave it out",
                self.method.name()
            );
        }
        if let Some(share) = self.drop_path.filter(|_| self.model.depth == 1) {
            bail!(
                Usage,
                "--drop-path {share} with --depth 1: the share rises from 0 in the first block, so a single one leaves \
                 nothing out; give more blocks, or leave it out"
            );
        }
        for (name, length, least) in [("", self.length, f64::MIN_POSITIVE), ("warmup-", self.warmup, 0.0)] {
            match length {
                Length::Epochs(epochs) if !finite(epochs, least, 1e6) => {
                    bail!(
                        Usage,
                        "--{name}epochs {epochs}: expected {} to 1000000",
                        if least > 0.0 { "more than 0" } else { "0" }
                    )
                }
                Length::Steps(steps) if (steps == 0 && least > 0.0) || steps > 1 << 40 => {
                    bail!(
                        Usage,
                        "--{name}steps {steps}: expected {} to {}",
                        if least > 0.0 { 1 } else { 0 },
                        1u64 << 40
                    )
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn validate_queue(&self, slots: usize) -> Result<()> {
        let (rows, method) = (self.images_per_step(), self.method.name());
        if !self.method.takes_queue() {
            bail!(
                Usage,
                "--queue {slots} does not go with --method {method}; take stablerep or simclr, or leave it out"
            );
        }
        let most = MOST_SLOTS.min((((1 << 31) - 1) / self.head_dims[1].max(1)).saturating_sub(rows));
        if slots < rows || slots > most {
            bail!(
                Usage,
                "--queue {slots}: expected {rows}, the images of a step, to {most} keys (of {} values each); give as many, or \
                 change --batch",
                self.head_dims[1]
            );
        }
        Ok(())
    }

    /// Refuses small crops that the model or the method cannot be given.
    fn check_local(&self, LocalCrops { crops, size, scale: [low, high] }: LocalCrops) -> Result<()> {
        let VitConfig { image_size, patch_size, .. } = self.model;
        if !self.method.method().takes_local_crops() {
            bail!(Usage, "--local-crops {crops} does not go with --method {}; take dino", self.method.name());
        }
        if self.augmentation == Augmentation::None {
            bail!(Usage, "--local-crops {crops} does not go with --augmentation none, which takes no crops");
        }
        if crops == 0 || crops > 64 {
            bail!(Usage, "--local-crops {crops}: expected 1 to 64, or leave it out for none");
        }
        if size == 0 || size > image_size || !size.is_multiple_of(patch_size) {
            bail!(
                Usage,
                "--local-size {size}: expected a multiple of --patch-size {patch_size}, at most --image-size \
                 {image_size}"
            );
        }
        if !(low > 0.0 && low <= high && high <= 1.0) {
            bail!(
                Usage,
                "--local-scale {low},{high}: expected two shares of the area, 0 < low ≤ high ≤ 1, e.g. 0.05,0.4"
            );
        }
        Ok(())
    }
}
