//! The probe of an encoder on photographs.

use super::config::{Augmentation, LinearConfig, Select};
use super::report::LinearReport;
use super::state::StateFile;
use super::train::{ProbeData, run};
use crate::device::Plan;
use crate::error::Result;
use crate::eval::evaluator::{Evaluator, Row, Score, Sizes, Task, take};
use crate::eval::features::{Preparation, extract};
use crate::eval::heads::EVAL_ROWS;

impl Evaluator for LinearConfig {
    fn key(&self) -> &'static str {
        "linear"
    }

    fn check(&self) -> Result<()> {
        self.check()
    }

    fn reads_train_features(&self) -> bool {
        self.augmentation == Augmentation::None
    }

    fn plan(&self, plan: &mut Plan, Sizes { train, classes, width, on_gpu, .. }: Sizes) {
        let group = "linear probe";
        let batch = self.batch.min(train);
        let columns = self.base_lrs.len().saturating_mul(classes);
        if self.select == Select::Val {
            take(plan, group, "features of held-out images", &[train.div_ceil(10), width]);
        }
        if on_gpu {
            return;
        }
        for _ in self.kinds() {
            for what in ["weights", "gradients", "velocities"] {
                take(plan, group, what, &[width + 1, columns]);
            }
        }
        take(plan, group, "features of a step, as they are and normalised", &[2, batch, width]);
        take(plan, group, "logits of a step or an evaluation", &[batch.max(EVAL_ROWS.min(train)), columns]);
    }

    fn run(&self, task: &Task<'_>) -> Result<Score> {
        let reports = of_task(self, task)?;
        let row = |report: &LinearReport| Row {
            probe: if report.batch_norm { "linear, batch norm".into() } else { "linear".into() },
            top1: report.best.evaluation.test,
            base_lr: Some(report.best.base_lr),
            epoch: Some(report.best.evaluation.epoch),
            last: Some(report.last.evaluation.test),
        };
        let footnote = match self.select {
            Select::Test => {
                "Head and epoch selected on the test set as the paper does, which flatters by what the choice fits;\n\
                 --select val chooses on held-out training images.\n"
            }
            Select::Val => {
                "Head and epoch selected on a tenth of the training images, held out; the rest trained the heads.\n"
            }
        };
        let rows = reports.iter().map(row).collect();
        Score::new(self, reports, rows, footnote)
    }
}

/// Trains on photographs, each epoch anew where they are augmented.
fn of_task(config: &LinearConfig, task: &Task<'_>) -> Result<Vec<LinearReport>> {
    let (width, seed) = (task.width(), task.seed);
    let under_test_transform = |indices: &[usize], out: &mut [f32]| match config.augmentation {
        Augmentation::None => {
            for (out, &index) in out.chunks_exact_mut(width).zip(indices) {
                out.copy_from_slice(&task.train_features[index * width..(index + 1) * width]);
            }
            Ok(())
        }
        Augmentation::CropFlip => {
            extract(out, task.encoder, task.train, indices, Preparation::Test(task.transform), |_| ())
        }
    };
    let val_features = |indices: &[usize]| {
        let mut out = vec![0.0; indices.len() * width];
        under_test_transform(indices, &mut out).map(|()| out)
    };
    let mut source = |epoch: usize, indices: &[usize], out: &mut [f32]| match config.augmentation {
        Augmentation::None => under_test_transform(indices, out),
        Augmentation::CropFlip => {
            extract(out, task.encoder, task.train, indices, Preparation::CropFlip { seed, epoch }, |_| ())
        }
    };
    let data = ProbeData {
        width,
        classes: task.train.classes(),
        train_labels: task.train.labels(),
        val_features: &val_features,
        test_features: task.test_features,
        test_labels: task.test.labels(),
        heads: &|kind| task.encoder.heads(kind),
        state: task.output.map(|folder| StateFile::of_task(folder, config, task)).transpose()?,
    };
    run(config, &data, &mut source, seed)
}
