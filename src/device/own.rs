//! Which GPU of its machine is this process's, when a launcher starts one process for each.

use crate::bail;
use crate::error::Result;

/// Variables that number the processes of one machine: torchrun's, SLURM's, Open MPI's, MPICH's and Intel MPI's.
const LOCAL_RANKS: [&str; 4] = ["LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"];

/// The GPU among `visible` ones, and the variable that chose it; the first where nothing chooses.
///
/// # Errors
/// Usage error if there are several GPUs, but none for this process.
pub(super) fn gpu(visible: usize, get: impl Fn(&str) -> Option<String>) -> Result<(usize, Option<&'static str>)> {
    let found = LOCAL_RANKS.iter().find_map(|name| Some((*name, get(name)?)));
    // A launcher that gives each process a GPU of its own lets it see no other.
    let (Some((name, value)), true) = (found, visible > 1) else { return Ok((0, None)) };
    match value.trim().parse() {
        Ok(rank) if rank < visible => Ok((rank, Some(name))),
        _ => bail!(
            Usage,
            "--device cuda: {name}={value} names none of the {visible} GPUs that are visible; start one process for each GPU, or \
             give --device cuda:N"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(visible: usize, vars: &[(&str, &str)]) -> Result<(usize, Option<&'static str>)> {
        gpu(visible, |name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_process_of_a_machine_has_a_gpu_of_its_own() {
        for rank in 0..8 {
            let value = rank.to_string();
            assert_eq!(chosen(8, &[("LOCAL_RANK", &value)]).unwrap(), (rank, Some("LOCAL_RANK")));
            assert_eq!(chosen(8, &[("SLURM_LOCALID", &value)]).unwrap(), (rank, Some("SLURM_LOCALID")));
        }
        assert_eq!(chosen(8, &[]).unwrap(), (0, None));
        // SLURM binds each task to a GPU, which then is the only one and the first.
        assert_eq!(chosen(1, &[("SLURM_LOCALID", "3")]).unwrap(), (0, None));
        // None at all: opening the first one says what is wrong.
        assert_eq!(chosen(0, &[("LOCAL_RANK", "3")]).unwrap(), (0, None));
    }

    #[test]
    fn more_processes_than_gpus_are_refused() {
        for value in ["4", "x", "-1", ""] {
            let error = chosen(4, &[("LOCAL_RANK", value)]).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("4 GPUs"), "{error}");
        }
    }
}
