//! Flags of supervised fine-tuning.

use super::recipe::set;
use super::settings::Settings;
use crate::bail;
use crate::error::Result;
use crate::ops::rand_augment::RandAugment;
use crate::train::Augmentation;
use crate::train::finetune::FineTune;

impl Settings {
    /// The flags that only fine-tuning reads, as given.
    pub(super) fn of_finetune(&self) -> [(&'static str, bool); 8] {
        [
            ("--pool", self.pool.is_some()),
            ("--label-smoothing", self.label_smoothing.is_some()),
            ("--ema", self.ema.is_some()),
            ("--rand-augment", self.rand_augment.is_some()),
            ("--erase", self.erase.is_some()),
            ("--mixup", self.mixup.is_some()),
            ("--cutmix", self.cutmix.is_some()),
            ("--mix-switch", self.mix_switch.is_some()),
        ]
    }

    /// Refuses changes of pictures that are given beside `--augmentation none`.
    pub(super) fn changes_nothing(&self, augmentation: Option<Augmentation>) -> Result<()> {
        let given = [
            ("--rand-augment", self.rand_augment.is_some_and(|changes| changes != RandAugment::NONE)),
            ("--erase", self.erase.is_some_and(|odds| odds != 0.0)),
            ("--mixup", self.mixup.is_some_and(|alpha| alpha != 0.0)),
            ("--cutmix", self.cutmix.is_some_and(|alpha| alpha != 0.0)),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) if augmentation == Some(Augmentation::None) => {
                bail!(
                    Usage,
                    "{flag} does not go with --augmentation none, which changes nothing; use --augmentation finetune"
                )
            }
            _ => Ok(()),
        }
    }

    /// What these say of fine-tuning.
    pub(super) fn finetune(&self) -> Result<FineTune> {
        let none = self.augmentation == Some(Augmentation::None);
        let odds = |value: Option<f64>, key| if none { Ok(0.0) } else { set(value, key) };
        Ok(FineTune {
            classes: self.classes,
            pool: set(self.pool, "pool")?,
            layer_decay: set(self.layer_decay, "layer-decay")?,
            label_smoothing: set(self.label_smoothing, "label-smoothing")?,
            ema: self.ema,
            rand_augment: if none { RandAugment::NONE } else { set(self.rand_augment, "rand-augment")? },
            erase: odds(self.erase, "erase")?,
            mixup: odds(self.mixup, "mixup")?,
            cutmix: odds(self.cutmix, "cutmix")?,
            mix_switch: set(self.mix_switch, "mix-switch")?,
        })
    }
}
