//! Views of 224² from pictures of 256², drawn as StableRep draws them; u8.

use crate::error::Result;
use crate::image::Filter;
use crate::ops::augment::cuda::{Job, Plan, Slot, views};
use crate::ops::augment::{Augment, AugmentParams, Policy};
use crate::ops::bench::{Case, Size, Work};
use crate::rng::{Domain, Stream};

pub fn cases(size: Size) -> Vec<Case> {
    let (count, picture, side) = size.pick((2048, 256, 224), (4, 64, 48));
    [(Policy::Strong, "strong u8"), (Policy::Weak, "weak u8")]
        .map(|(policy, kernel)| {
            // Every picture once at most (a crop reads less), every view once.
            let work = Work { bytes: (3 * count * (picture * picture + side * side)) as f64, ..Work::default() };
            let name = ("augment", kernel, format!("[{count}, {picture}² → {side}²]"));
            Case::new(name, work, move |inputs| {
                let augment =
                    Augment { policy, crop_scale: policy.crop_scale(), filter: Filter::Bilinear, downsample: false };
                let jobs = (0..count).map(|i| {
                    let mut stream = Stream::new(0, Domain::SelfTest, [3, i as u32, 0]);
                    let params = AugmentParams::draw(&mut stream, &augment, picture, picture);
                    Job::new(&params, (picture, picture), 3 * i * picture * picture, i)
                });
                let jobs = jobs.collect::<Result<Vec<Job>>>()?;
                let plan = Plan::on(inputs.gpu(), side, Slot::for_pictures(picture, picture, &augment, side));
                let (images, jobs) = (inputs.bytes(3 * count * picture * picture)?, inputs.upload(&jobs)?);
                let (out, scratch) = (inputs.room(3 * count * side * side)?, inputs.room(plan.scratch_len())?);
                Ok(move |gpu: &_| views(gpu, out.view(), jobs.view(), images.view(), &plan, scratch.view()))
            })
        })
        .into()
}
