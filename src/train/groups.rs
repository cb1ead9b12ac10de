//! Which parameters decay: not those with fewer than two dimensions, and none whose name contains `bias`, `ln` or `bn`,
//! as in the official code. Position embedding and class token therefore do decay.

use crate::ops::lars::Tensor;
use crate::ops::optimizer::Group;
use crate::weights::{ParamInfo, ParamTable};

/// The groups of the flat buffer, neighbours of one kind merged.
pub fn decay_groups(table: &ParamTable) -> Vec<Group> {
    decay_groups_but(table, &[])
}

/// The same, where the tensors called `fixed` do not decay either.
pub fn decay_groups_but(table: &ParamTable, fixed: &[&str]) -> Vec<Group> {
    let exempt = |name: &str| ["bias", "ln", "bn"].iter().any(|part| name.contains(part)) || fixed.contains(&name);
    groups(table, |info| Group::new(info.param.range(), info.shape.len() >= 2 && !exempt(&info.name)))
}

/// The same by another rule, which makes a group of each tensor.
pub(super) fn groups(table: &ParamTable, of_tensor: impl Fn(&ParamInfo) -> Group) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for group in table.iter().map(of_tensor) {
        match groups.last_mut() {
            Some(last) if *last == (Group { range: last.range.start..group.range.start, ..group }) => {
                last.range.end = group.range.end;
            }
            _ => groups.push(group),
        }
    }
    groups
}

/// The tensors as LARS takes them: those of two and more dimensions that decay by `groups` are decayed and scaled, so
/// that biases, norms and what learns nothing are neither.
pub(super) fn lars_tensors(table: &ParamTable, groups: &[Group]) -> Vec<Tensor> {
    let decays = |at: usize| groups.iter().any(|group| group.decay && group.range.contains(&at));
    let tensor = |info: &ParamInfo| Tensor {
        range: info.param.range(),
        scaled: info.shape.len() >= 2 && decays(info.param.offset),
    };
    table.iter().map(tensor).collect()
}
