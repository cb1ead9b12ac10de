//! Which rank of how many this process is. Generation needs no communication: a rank takes its share of the work units.

use std::env;

use crate::bail;
use crate::error::Result;

/// Variables that launchers set: (rank, world size), in the order they are looked for.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("SLURM", "SLURM_PROCID", "SLURM_NTASKS"),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE"),
];

/// One process among `world_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    pub rank: usize,
    pub world_size: usize,
}

impl Ranks {
    /// What the flags say, else what the launcher's environment says, else one process.
    pub fn from_env_or(rank: Option<usize>, world_size: Option<usize>) -> Result<Self> {
        Self::resolve(rank, world_size, |name| env::var(name).ok())
    }

    fn resolve(rank: Option<usize>, world_size: Option<usize>, get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let ranks = match (rank, world_size) {
            (Some(rank), Some(world_size)) => Self { rank, world_size },
            (None, None) => Self::from_launcher(get)?,
            _ => bail!(Usage, "--rank and --world-size belong together; give both or neither"),
        };
        if ranks.world_size == 0 || ranks.rank >= ranks.world_size {
            bail!(
                Usage,
                "rank {} of {}: expected 0 ≤ rank < world size; check --rank and --world-size",
                ranks.rank,
                ranks.world_size
            );
        }
        Ok(ranks)
    }

    fn from_launcher(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        for (launcher, rank_name, size_name) in LAUNCHERS {
            let (Some(rank), Some(size)) = (get(rank_name), get(size_name)) else { continue };
            let (Ok(rank), Ok(world_size)) = (rank.trim().parse(), size.trim().parse()) else {
                bail!(
                    Usage,
                    "{launcher} environment: {rank_name}={rank} {size_name}={size} are not numbers; unset them or give --rank and --world-size"
                );
            };
            return Ok(Self { rank, world_size });
        }
        Ok(Self { rank: 0, world_size: 1 })
    }

    /// Whether work unit `index` is this rank's (dealt round robin, so that early and late units spread evenly).
    pub fn mine(self, index: usize) -> bool {
        index % self.world_size == self.rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    }

    #[test]
    fn flags_win_over_launchers_and_launchers_over_one_process() {
        let slurm = with(&[("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8")]);
        assert_eq!(Ranks::resolve(Some(1), Some(2), &slurm).unwrap(), Ranks { rank: 1, world_size: 2 });
        assert_eq!(Ranks::resolve(None, None, &slurm).unwrap(), Ranks { rank: 3, world_size: 8 });
        assert_eq!(Ranks::resolve(None, None, with(&[])).unwrap(), Ranks { rank: 0, world_size: 1 });
        // A half-set environment is no launcher's.
        assert_eq!(Ranks::resolve(None, None, with(&[("RANK", "5")])).unwrap(), Ranks { rank: 0, world_size: 1 });
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
                let owners = (0..world_size).filter(|&rank| Ranks { rank, world_size }.mine(unit)).count();
                assert_eq!(owners, 1);
            }
        }
    }
}
