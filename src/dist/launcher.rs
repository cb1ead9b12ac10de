//! What launchers tell a process through its environment.

use crate::bail;
use crate::error::Result;

/// Variables of launchers whose processes all are ranks: (launcher, rank, world size, both as said to the user).
/// They come before Slurm's, because `mpirun` inside a job runs its daemons as a step of Slurm's.
const LAUNCHERS: [(&str, &str, &str, &str); 3] = [
    ("torchrun", "RANK", "WORLD_SIZE", "RANK and WORLD_SIZE"),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE", "PMI_RANK and PMI_SIZE"),
];

/// Step numbers from here on are Slurm's own: interactive, batch, external.
const FIRST_SPECIAL_STEP: u64 = 0xffff_fff0;

/// One process of several that a launcher started.
#[derive(Debug)]
pub(super) struct Launcher {
    pub rank: usize,
    pub world_size: usize,
    /// Variables that said so.
    pub source: &'static str,
}

impl Launcher {
    /// The launcher of this process, if it started more than one.
    ///
    /// # Errors
    /// Usage error for numbers that are none, and for one of two variables without the other.
    pub fn find(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let mut half = None;
        for (launcher, rank_name, size_name, source) in LAUNCHERS {
            let (rank, size) = match (get(rank_name), get(size_name)) {
                (Some(rank), Some(size)) => (rank, size),
                (None, None) => continue,
                (Some(rank), None) => {
                    half = half.or(Some((rank_name, rank, size_name)));
                    continue;
                }
                (None, Some(size)) => {
                    if number(launcher, size_name, &size)? > 1 {
                        half = half.or(Some((size_name, size, rank_name)));
                    }
                    continue;
                }
            };
            let world_size = number(launcher, size_name, &size)?;
            let rank = number(launcher, rank_name, &rank)?;
            if world_size > 1 {
                return Ok(Some(Self { rank, world_size, source }));
            }
        }
        if let Some((tasks_name, tasks)) = slurm_step(get)? {
            let Some(rank) = get("SLURM_PROCID") else { return Ok(None) };
            let rank = number("Slurm", "SLURM_PROCID", &rank)?;
            let source = match tasks_name {
                "SLURM_NTASKS" => "SLURM_PROCID and SLURM_NTASKS",
                _ => "SLURM_PROCID and SLURM_STEP_NUM_TASKS",
            };
            return Ok((tasks > 1).then_some(Self { rank, world_size: tasks, source }));
        }
        let array = slurm_array(get)?;
        match half {
            Some((name, value, other)) if array.is_none() => bail!(
                Usage,
                "{name}={value} is in the environment, {other} is not: they tell the place of this process together; set \
                 both, unset {name}, or give --rank and --world-size (--world-size 1: this process does all)"
            ),
            _ => Ok(array),
        }
    }
}

/// The number of tasks of the Slurm step that this process belongs to, and the variable that tells it. A batch script
/// has the variables of a task, but is none: what it starts without `srun` runs once.
fn slurm_step(get: &impl Fn(&str) -> Option<String>) -> Result<Option<(&'static str, usize)>> {
    let special = |id: String| id.trim().parse::<u64>().map_or(true, |id| id >= FIRST_SPECIAL_STEP);
    let step = get("SLURM_STEP_ID").or_else(|| get("SLURM_STEPID"));
    if step.clone().is_some_and(special) {
        return Ok(None);
    }
    for name in ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"] {
        if name == "SLURM_NTASKS" && step.is_none() {
            break;
        }
        if let Some(tasks) = get(name) {
            let tasks = number("Slurm", name, &tasks)?;
            // A step of one task of an array job is its batch script's, as it were.
            return Ok((tasks > 1).then_some((name, tasks)));
        }
    }
    Ok(None)
}

/// The place of this process in a job array.
fn slurm_array(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Launcher>> {
    let source = "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT";
    let find = |name: &str| get(name).map(|text| number("Slurm", name, &text)).transpose();
    let (Some(id), Some(count)) = (find("SLURM_ARRAY_TASK_ID")?, find("SLURM_ARRAY_TASK_COUNT")?) else {
        return Ok(None);
    };
    if count <= 1 {
        return Ok(None);
    }
    let (min, step) = (find("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0), find("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1));
    let max = find("SLURM_ARRAY_TASK_MAX")?.unwrap_or(min + (count - 1) * step);
    let regular = max.checked_sub(min).is_some_and(|range| range / step + 1 == count);
    match id.checked_sub(min) {
        Some(past) if regular && past % step == 0 => {
            Ok(Some(Launcher { rank: past / step, world_size: count, source }))
        }
        _ => bail!(
            Usage,
            "SLURM_ARRAY_TASK_ID={id}: {count} tasks from {min} to {max} with gaps do not tell which of them this one is; \
             give --rank and --world-size, or --world-size 1 if it should do all"
        ),
    }
}

fn number(launcher: &str, name: &str, text: &str) -> Result<usize> {
    match text.trim().parse() {
        Ok(number) => Ok(number),
        Err(_) => {
            bail!(
                Usage,
                "{launcher} environment: {name}={text} is not a number; unset it or give --rank and --world-size"
            )
        }
    }
}
