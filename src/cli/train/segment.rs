//! Flags of supervised segmentation.

use super::recipe::set;
use super::settings::Settings;
use crate::error::Result;
use crate::train::segment::Segment;

impl Settings {
    /// The flags that only segmentation reads, as given.
    pub(super) fn of_segment(&self) -> [(&'static str, bool); 4] {
        [
            ("--segmentation-head", self.segmentation_head.is_some()),
            ("--first-label", self.first_label.is_some()),
            ("--auxiliary-weight", self.auxiliary_weight.is_some()),
            ("--drop-channels", self.drop_channels.is_some()),
        ]
    }

    /// What these say of segmentation.
    pub(super) fn segment(&self) -> Result<Segment> {
        Ok(Segment {
            head: set(self.segmentation_head, "segmentation-head")?,
            classes: set(self.classes, "classes")?,
            first_label: set(self.first_label, "first-label")?,
            layer_decay: set(self.layer_decay, "layer-decay")?,
            auxiliary: set(self.auxiliary_weight, "auxiliary-weight")?,
            drop_channels: set(self.drop_channels, "drop-channels")?,
        })
    }
}
