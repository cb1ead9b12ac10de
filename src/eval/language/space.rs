//! Features of pictures and of texts to unit rows that can be compared. Texts are embedded on the CPU.

use super::projections::{Projections, Side};
use crate::device::{Plan, in_pool};
use crate::error::Result;
use crate::layers::training::cpu::{Call, Memory};
use crate::layers::training::{Layout, UNIT_EPS};
use crate::models::text_tower::{Text, TextActs, TextConfig, TextTower};
use crate::ops::l2norm;
use crate::ops::linear::{self, Shape};

/// Texts that go through the tower at once.
const AT_ONCE: usize = 32;

/// What takes texts and features of pictures to where they are compared.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    pub tower: &'a TextTower,
    pub projections: &'a Projections,
    /// What they and the tower's tensors are places in.
    pub params: &'a [f32],
}

impl Space<'_> {
    /// E.
    pub fn dim(&self) -> usize {
        self.projections.dim(self.tower.config().width)
    }

    /// Unit rows `[N, E]` of texts.
    ///
    /// # Errors
    /// None on the CPU but what its layers say.
    pub fn texts(&self, texts: &[Text]) -> Result<Vec<f32>> {
        Ok(self.unit(&features(self.tower, self.params, texts)?, Side::Texts))
    }

    /// Unit rows `[N, E]` of pictures, given their features `[N, D]`.
    pub fn pictures(&self, features: &[f32]) -> Vec<f32> {
        self.unit(features, Side::Pictures)
    }

    /// Unit rows of what `features [N, D]` of one side become.
    fn unit(&self, features: &[f32], side: Side) -> Vec<f32> {
        let dim = self.dim();
        unit_rows(&self.projections.apply(side, self.params, features, dim), dim)
    }
}

/// The rows `[N, dim]` of `x`, each of length 1.
pub(super) fn unit_rows(x: &[f32], dim: usize) -> Vec<f32> {
    let (mut y, mut norms) = (vec![0.0; x.len()], vec![0.0; x.len() / dim]);
    l2norm::forward(&mut y, &mut norms, x, UNIT_EPS);
    y
}

/// Dot products `[N, M]` of rows `[N, dim]` and `[M, dim]`.
pub fn alike(a: &[f32], b: &[f32], dim: usize) -> Vec<f32> {
    let shape = Shape { rows: a.len() / dim, inputs: dim, outputs: b.len() / dim };
    let mut alike = vec![0.0; shape.rows * shape.outputs];
    linear::forward(&mut alike, a, b, None, shape);
    alike
}

/// What the tower takes on the CPU.
pub fn memory(config: &TextConfig) -> Plan {
    let mut plan = Plan::dry();
    let mut layout = Layout::default();
    TextActs::in_passing(&mut layout, config, AT_ONCE);
    Memory::take(&mut plan, &layout);
    plan
}

/// Features `[texts, D]`.
fn features(tower: &TextTower, params: &[f32], texts: &[Text]) -> Result<Vec<f32>> {
    let config = tower.config();
    let mut layout = Layout::default();
    TextActs::in_passing(&mut layout, config, AT_ONCE.min(texts.len()));
    let mut memory = Memory::take(&mut Plan::new(), &layout);
    let mut features = Vec::with_capacity(texts.len() * config.width);
    for texts in texts.chunks(AT_ONCE) {
        // The last ones may be fewer, at the beginning of the same buffers.
        let acts = TextActs::in_passing(&mut Layout::default(), config, texts.len());
        let mut numbers = Vec::new();
        TextActs::numbers(config, texts, &mut numbers);
        let mut call = Call { numbers: &numbers, ..Call::new(&mut memory, params) };
        in_pool(|| tower.forward(&mut call, &acts))?;
        features.extend_from_slice(call.memory.read(acts.features()));
    }
    Ok(features)
}
