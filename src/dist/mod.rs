//! Which rank of how many this process is. Generation needs no communication: a rank takes its share of the work units.

mod launcher;

use std::env;
use std::fmt;

use crate::bail;
use crate::error::Result;
use launcher::Launcher;

/// One process among `world_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    pub rank: usize,
    pub world_size: usize,
    /// Which variables of the environment said so, if it was not the flags.
    pub source: Option<&'static str>,
}

impl Ranks {
    /// Process `rank` of `world_size`.
    pub fn new(rank: usize, world_size: usize) -> Self {
        Self { rank, world_size, source: None }
    }

    /// What the flags say, else what the launcher's environment says, else one process.
    ///
    /// # Errors
    /// Usage error for a rank that is not below the world size, for one flag without the other, and for an environment
    /// that says that this is one of several processes and not which.
    pub fn from_env_or(rank: Option<usize>, world_size: Option<usize>) -> Result<Self> {
        Self::resolve(rank, world_size, |name| env::var(name).ok())
    }

    fn resolve(rank: Option<usize>, world_size: Option<usize>, get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let ranks = match (rank, world_size) {
            (Some(rank), Some(world_size)) => Self::new(rank, world_size),
            (None, None) => match Launcher::find(&get)? {
                Some(Launcher { rank, world_size, source }) => Self { rank, world_size, source: Some(source) },
                None => Self::new(0, 1),
            },
            (None, Some(1)) => Self::new(0, 1),
            _ => bail!(Usage, "--rank and --world-size belong together; give both or neither"),
        };
        if ranks.world_size == 0 || ranks.rank >= ranks.world_size {
            bail!(Usage, "{ranks}: expected 0 ≤ rank < world size; check --rank and --world-size");
        }
        Ok(ranks)
    }

    /// Whether work unit `index` is this rank's (dealt round robin, so that early and late units spread evenly).
    pub fn mine(self, index: usize) -> bool {
        index % self.world_size == self.rank
    }
}

/// `rank 3 of 8`, and where that comes from unless from the flags.
impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.world_size)?;
        match self.source {
            Some(source) => write!(f, ", from {source}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    }

    fn resolved(vars: &'static [(&str, &str)]) -> (usize, usize) {
        let ranks = Ranks::resolve(None, None, with(vars)).unwrap();
        (ranks.rank, ranks.world_size)
    }

    #[test]
    fn flags_win_over_launchers_and_launchers_over_one_process() {
        let torchrun = with(&[("RANK", "3"), ("WORLD_SIZE", "8")]);
        assert_eq!(Ranks::resolve(Some(1), Some(2), &torchrun).unwrap(), Ranks::new(1, 2));
        assert_eq!(Ranks::resolve(None, Some(1), &torchrun).unwrap(), Ranks::new(0, 1));
        assert_eq!(Ranks::resolve(None, None, &torchrun).unwrap().to_string(), "rank 3 of 8, from RANK and WORLD_SIZE");
        assert_eq!(Ranks::resolve(None, None, with(&[])).unwrap(), Ranks::new(0, 1));
        // Half of what a launcher sets is refused, unless the other half cannot matter or another one tells.
        for half in
            [("RANK", "5"), ("RANK", "0"), ("WORLD_SIZE", "8"), ("PMI_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")]
        {
            let get = |name: &str| (name == half.0).then(|| half.1.to_owned());
            let text = Ranks::resolve(None, None, get).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{}={}", half.0, half.1)) && text.contains("--world-size 1"), "{text}");
            assert_eq!(Ranks::resolve(None, Some(1), get).unwrap(), Ranks::new(0, 1));
        }
        assert_eq!(resolved(&[("WORLD_SIZE", "1")]), (0, 1));
        assert_eq!(resolved(&[("RANK", "5"), ("PMI_RANK", "2"), ("PMI_SIZE", "3")]), (2, 3));
        assert_eq!(resolved(&[("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "3")]), (2, 3));
        assert_eq!(resolved(&[("PMI_RANK", "2"), ("PMI_SIZE", "3")]), (2, 3));
        // What a launcher of one process says leaves the word to the next one.
        assert_eq!(resolved(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("PMI_RANK", "2"), ("PMI_SIZE", "3")]), (2, 3));
        // mpirun's daemons are a step of Slurm's, one per node: its own ranks are the processes'.
        let both = [
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_PROCID", "1"),
            ("OMPI_COMM_WORLD_RANK", "9"),
            ("OMPI_COMM_WORLD_SIZE", "16"),
        ];
        let get = |name: &str| both.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        assert_eq!(Ranks::resolve(None, None, get).unwrap().to_string().split(',').next(), Some("rank 9 of 16"));
    }

    #[test]
    fn slurm_gives_ranks_in_steps_of_several_tasks_only() {
        // The batch script of `sbatch --ntasks=8`, and a shell of `salloc`.
        assert_eq!(resolved(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8"), ("SLURM_JOB_ID", "1")]), (0, 1));
        assert_eq!(resolved(&[("SLURM_NTASKS", "8")]), (0, 1));
        for id in ["batch", "4294967291", "4294967290"] {
            let get = |name: &str| match name {
                "SLURM_STEP_ID" => Some(id.to_owned()),
                "SLURM_PROCID" => Some("0".to_owned()),
                "SLURM_NTASKS" => Some("8".to_owned()),
                _ => None,
            };
            assert_eq!(Ranks::resolve(None, None, get).unwrap(), Ranks::new(0, 1), "{id}");
        }
        // `srun`, and `srun --ntasks=1` in a job of eight.
        let step =
            &[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8")];
        assert_eq!(resolved(step), (3, 8));
        let one =
            &[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")];
        assert_eq!(resolved(one), (0, 1));
        // A Slurm that does not count the tasks of a step.
        assert_eq!(resolved(&[("SLURM_STEPID", "2"), ("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4")]), (3, 4));
    }

    fn array(id: &str, min: &str, max: &str, step: &str, count: &str) -> Result<Ranks> {
        Ranks::resolve(None, None, |name| {
            let value = match name {
                "SLURM_ARRAY_TASK_ID" => id,
                "SLURM_ARRAY_TASK_MIN" => min,
                "SLURM_ARRAY_TASK_MAX" => max,
                "SLURM_ARRAY_TASK_STEP" => step,
                "SLURM_ARRAY_TASK_COUNT" => count,
                // What the batch step of an array task says.
                "SLURM_PROCID" => "0",
                "SLURM_NTASKS" => "1",
                _ => return None,
            };
            (!value.is_empty()).then(|| value.to_owned())
        })
    }

    #[test]
    fn tasks_of_an_array_are_ranks() {
        let ranks = |found: Result<Ranks>| found.map(|r| (r.rank, r.world_size)).unwrap();
        assert_eq!(ranks(array("3", "0", "7", "1", "8")), (3, 8));
        assert_eq!(ranks(array("3", "1", "8", "1", "8")), (2, 8));
        assert_eq!(ranks(array("15", "5", "20", "5", "4")), (2, 4));
        assert_eq!(ranks(array("3", "0", "7", "", "8")), (3, 8));
        assert_eq!(ranks(array("9", "9", "9", "1", "1")), (0, 1));
        // Without a count there is nothing to be a part of.
        assert_eq!(ranks(array("3", "", "", "", "")), (0, 1));
        // --array=1,5,7: Slurm tells the ends only.
        let text = array("5", "1", "7", "1", "3").unwrap_err().to_string();
        assert!(text.contains("SLURM_ARRAY_TASK_ID=5") && text.contains("--rank"), "{text}");
        assert_eq!(array("x", "0", "7", "1", "8").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for (rank, size) in [(Some(2), Some(2)), (Some(0), Some(0)), (Some(1), None), (None, Some(2))] {
            assert_eq!(Ranks::resolve(rank, size, with(&[])).unwrap_err().exit_code(), 2, "{rank:?} {size:?}");
        }
        let text = Ranks::resolve(None, None, with(&[("RANK", "x"), ("WORLD_SIZE", "2")])).unwrap_err().to_string();
        assert!(text.contains("torchrun") && text.contains("RANK=x"), "{text}");
    }

    #[test]
    fn every_unit_has_one_owner() {
        for world_size in 1..5 {
            for unit in 0..20 {
                let owners = (0..world_size).filter(|&rank| Ranks::new(rank, world_size).mine(unit)).count();
                assert_eq!(owners, 1);
            }
        }
    }
}
