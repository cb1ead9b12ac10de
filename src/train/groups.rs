//! Which parameters decay: not those with fewer than two dimensions, and none whose name contains `bias`, `ln` or `bn`,
//! as in the official code. Position embedding and class token therefore do decay.

use crate::ops::optimizer::Group;
use crate::weights::{ParamInfo, ParamTable};

/// The groups of the flat buffer, neighbours of one kind merged.
pub fn decay_groups(table: &ParamTable) -> Vec<Group> {
    decay_groups_but(table, &[])
}

/// The same, where the tensors called `fixed` do not decay either.
pub fn decay_groups_but(table: &ParamTable, fixed: &[&str]) -> Vec<Group> {
    let exempt = |name: &str| ["bias", "ln", "bn"].iter().any(|part| name.contains(part)) || fixed.contains(&name);
    groups(table, |info| info.shape.len() >= 2 && !exempt(&info.name))
}

/// The same by another rule.
pub(super) fn groups(table: &ParamTable, decays: impl Fn(&ParamInfo) -> bool) -> Vec<Group> {
    groups_at(table, |info| (decays(info), 1.0))
}

/// The same at rates of their own: whether a tensor decays, and what its learning rate is multiplied by.
pub(super) fn groups_at(table: &ParamTable, rule: impl Fn(&ParamInfo) -> (bool, f64)) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for info in table.iter() {
        let (range, (decay, rate)) = (info.param.range(), rule(info));
        match groups.last_mut() {
            Some(last) if (last.decay, last.rate, last.range.end) == (decay, rate, range.start) => {
                last.range.end = range.end;
            }
            _ => groups.push(Group { range, decay, rate }),
        }
    }
    groups
}
