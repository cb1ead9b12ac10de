//! All parameters of a model in one flat buffer, so that the optimizer, the gradient norm and the checkpoint are one
//! pass each.

/// What the names of a copy's tensors begin with that follows a network with momentum.
pub const COPY: &str = "momentum.";

/// Where one tensor lies in the flat buffer (and in those of its gradients and moments).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    pub offset: usize,
    pub len: usize,
}

impl Param {
    /// This tensor inside `flat`.
    pub fn of<'a>(&self, flat: &'a [f32]) -> &'a [f32] {
        &flat[self.offset..self.offset + self.len]
    }

    /// Its values' places in the flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }

    /// This tensor inside `flat`, to write.
    pub fn of_mut<'a>(&self, flat: &'a mut [f32]) -> &'a mut [f32] {
        &mut flat[self.offset..self.offset + self.len]
    }
}

/// Two different tensors of `flat` at once, e.g. the gradients of a weight and its bias.
///
/// # Panics
/// If they overlap.
pub fn pair_mut(flat: &mut [f32], a: Param, b: Param) -> (&mut [f32], &mut [f32]) {
    if a.offset < b.offset {
        let (left, right) = flat.split_at_mut(b.offset);
        (a.of_mut(left), &mut right[..b.len])
    } else {
        let (left, right) = flat.split_at_mut(a.offset);
        let second = b.of_mut(left);
        (&mut right[..a.len], second)
    }
}

/// Different tensors of `flat` at once, in the order they lie there.
///
/// # Panics
/// If they overlap or are not in order.
pub fn several_mut<const N: usize>(flat: &mut [f32], params: [Param; N]) -> [&mut [f32]; N] {
    let (mut rest, mut at) = (flat, 0);
    params.map(|param| {
        let (tensor, behind) = std::mem::take(&mut rest)[param.offset - at..].split_at_mut(param.len);
        (rest, at) = (behind, param.offset + param.len);
        tensor
    })
}

/// Name and shape of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamInfo {
    pub name: String,
    pub shape: Vec<usize>,
    pub param: Param,
}

/// The layout of a flat parameter buffer, in the order the tensors were added.
#[derive(Clone, Debug, Default)]
pub struct ParamTable {
    infos: Vec<ParamInfo>,
    len: usize,
}

impl ParamTable {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends all tensors of `other`, `before` each of their names; returns where they lie.
    pub fn add_all(&mut self, before: &str, other: &Self) -> Param {
        let offset = self.len;
        for info in &other.infos {
            self.add(format!("{before}{}", info.name), &info.shape);
        }
        Param { offset, len: other.len }
    }

    /// Appends a tensor and returns its place.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> Param {
        let param = Param { offset: self.len, len: shape.iter().product() };
        self.len += param.len;
        self.infos.push(ParamInfo { name: name.into(), shape: shape.to_vec(), param });
        param
    }

    /// Number of f32 values of the whole buffer.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every tensor, in buffer order.
    pub fn iter(&self) -> impl Iterator<Item = &ParamInfo> {
        self.infos.iter()
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&ParamInfo> {
        self.infos.iter().find(|info| info.name == name)
    }
}
