//! Whose weights are read of a file that holds a network and a copy that follows it.

use serde::{Deserialize, Serialize};

use crate::weights::COPY;

/// Whose weights a file of a run with a momentum copy is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The momentum copy, as DINO's authors evaluate theirs
    Teacher,
    /// What learns by gradients
    Student,
}

impl Whose {
    /// Whose weights of a run of `method` with a momentum copy are read where nothing else is asked for: of DINO the
    /// teacher's, as its authors do.
    pub fn of_method(method: &str) -> Self {
        if method == "dino" { Self::Teacher } else { Self::Student }
    }

    /// Whose weights lie under `prefix`: a copy's under this program's `momentum.`, MoCo v3's `momentum_encoder.`, and
    /// `teacher.` of DINO and of SynCLR.
    pub(super) fn of_prefix(prefix: &str) -> Self {
        let copied = |part: &str| matches!(part, "momentum_encoder" | "teacher");
        if prefix.starts_with(COPY) || prefix.split('.').any(copied) { Self::Teacher } else { Self::Student }
    }

    /// For people.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Teacher => "the teacher's weights",
            Self::Student => "the student's weights",
        }
    }
}
