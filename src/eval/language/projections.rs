//! What takes features of pictures and of texts to where they are compared: a matrix each, or a head with batch norms
//! each.

use crate::bail;
use crate::error::Result;
use crate::models::projector::{Projector, ProjectorConfig};
use crate::models::vit::VitFile;
use crate::ops::linear::{self, Shape};
use crate::weights::{Param, ParamTable, SafeTensors};

/// Of pictures, of texts.
#[derive(Debug)]
pub enum Projections {
    /// Matrices `[E, D]`.
    Matrices([Param; 2]),
    /// Heads, and what holds their running statistics.
    Heads(Box<[Projector; 2]>, Vec<f32>),
}

/// One side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Pictures,
    Texts,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Pictures, Self::Texts];

    /// In names of tensors.
    fn name(self) -> &'static str {
        match self {
            Self::Pictures => "image",
            Self::Texts => "text",
        }
    }

    /// The name of its matrix in `file`, without the ending of a layer.
    fn matrix(self, file: &VitFile) -> String {
        match self {
            Self::Pictures => file.image_projection(),
            Self::Texts => format!("{}text_projection", file.beside()),
        }
    }
}

impl Projections {
    /// Those in `file` for features of `widths`, their tensors at the end of `table`.
    ///
    /// # Errors
    /// `Data` naming the tensor that is missing or of another shape.
    pub fn find(file: &VitFile, widths: [usize; 2], table: &mut ParamTable) -> Result<Self> {
        let mut kept = ParamTable::new();
        let mut head = |side: usize, prefix: &str| -> Result<Projector> {
            let size = |layer: usize| {
                let name = format!("{}{prefix}layer{layer}.weight", file.beside());
                match file.tensors().shape(&name) {
                    Some(&[outputs, _]) => Ok(outputs),
                    found => bail!(Data, "{}: `{name}`: expected a matrix, found {found:?}", file.shown()),
                }
            };
            let config = ProjectorConfig { input: widths[side], hidden: size(1)?, output: size(3)? };
            Projector::new(&config, prefix, table, &mut kept)
        };
        if let Some(prefixes) = head_prefixes(file) {
            let heads = Box::new([head(0, &prefixes[0])?, head(1, &prefixes[1])?]);
            if heads[0].outputs() != heads[1].outputs() {
                let [pictures, texts] = heads.each_ref().map(Projector::outputs);
                bail!(
                    Data,
                    "{}: `{}…` makes {pictures} values and `{}…` {texts}; what is compared is of one width",
                    file.shown(),
                    prefixes[0],
                    prefixes[1]
                );
            }
            return Ok(Self::Heads(heads, vec![0.0; kept.len()]));
        }
        let dim = matrix_width(file.tensors(), file.shown(), &Side::Texts.matrix(file), widths[1])?;
        let mut add = |i: usize| table.add(format!("{}_projection", Side::BOTH[i].name()), &[dim, widths[i]]);
        Ok(Self::Matrices([add(0), add(1)]))
    }

    /// Reads their values from `file`, where they were found.
    ///
    /// # Errors
    /// `Data` naming the tensor that is missing, of another shape or not finite.
    pub fn read(&mut self, file: &VitFile, widths: [usize; 2], params: &mut [f32]) -> Result<()> {
        match self {
            Self::Matrices(places) => {
                for (i, (side, place)) in Side::BOTH.into_iter().zip(places).enumerate() {
                    let shape = [place.len / widths[i], widths[i]];
                    let values = matrix(file.tensors(), file.shown(), &side.matrix(file), shape)?;
                    place.of_mut(params).copy_from_slice(&values);
                }
                Ok(())
            }
            Self::Heads(heads, kept) => {
                heads.iter().try_for_each(|head| head.load(params, kept, file.tensors(), file.beside()))
            }
        }
    }

    /// E, of features of texts `width` wide.
    pub fn dim(&self, width: usize) -> usize {
        match self {
            Self::Matrices([_, texts]) => texts.len / width,
            Self::Heads(heads, _) => heads[1].outputs(),
        }
    }

    /// `[N, E]` of `features [N, D]` of one side; E is `dim`.
    pub fn apply(&self, side: Side, params: &[f32], features: &[f32], dim: usize) -> Vec<f32> {
        match self {
            Self::Matrices(places) => {
                let place = places[side as usize];
                let inputs = place.len / dim;
                let shape = Shape { rows: features.len() / inputs, inputs, outputs: dim };
                let mut embedded = vec![0.0; shape.rows * shape.outputs];
                linear::forward(&mut embedded, features, place.of(params), None, shape);
                embedded
            }
            Self::Heads(heads, kept) => heads[side as usize].infer(params, kept, features),
        }
    }
}

/// What the names of heads in `file` begin with, behind what is before them: as this program writes them, or as the
/// authors of StableRep do.
fn head_prefixes(file: &VitFile) -> Option<[String; 2]> {
    ["text_mlp", "projection"].into_iter().find_map(|kind| {
        let prefixes = Side::BOTH.map(|side| format!("{}_{kind}.", side.name()));
        let first = format!("{}{}layer1.weight", file.beside(), prefixes[1]);
        file.tensors().contains(&first).then_some(prefixes)
    })
}

/// The width of what the projection `name` makes of `inputs`, whichever way it is stored.
fn matrix_width(file: &SafeTensors, shown: &str, name: &str, inputs: usize) -> Result<usize> {
    match (file.shape(&format!("{name}.weight")), file.shape(name)) {
        (Some(&[dim, columns]), _) | (None, Some(&[columns, dim])) if columns == inputs => Ok(dim),
        (found, other) => bail!(
            Data,
            "{shown}: `{name}.weight` or `{name}`: expected a matrix that takes features of width {inputs}, found {:?}",
            found.or(other)
        ),
    }
}

/// `[outputs, inputs]` of `name.weight`, or of `name`, which SLIP's and LaCLIP's authors store the other way around.
fn matrix(file: &SafeTensors, shown: &str, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Vec<f32>> {
    let stored = format!("{name}.weight");
    if file.contains(&stored) {
        return file.f32(&stored, &[outputs, inputs]);
    }
    if !file.contains(name) {
        bail!(Data, "{shown}: no tensor `{stored}` or `{name}`, which takes features to where they are compared");
    }
    let columns = file.f32(name, &[inputs, outputs])?;
    Ok((0..outputs).flat_map(|o| (0..inputs).map(move |i| (i, o))).map(|(i, o)| columns[i * outputs + o]).collect())
}
