//! How much memory this process can still have: the least that machine, memory cgroups and process limits leave it.
//!
//! | limit | what it leaves | who sets it |
//! |---|---|---|
//! | machine | `MemAvailable` | |
//! | commit limit, where the kernel promises no more than it has | `CommitLimit − Committed_AS` | `vm.overcommit_memory = 2` |
//! | memory cgroup, v1 or v2, of this process or above it | limit − use without cached files | Docker, Kubernetes, SLURM, systemd |
//! | address space | `RLIMIT_AS − VmSize` | `ulimit -v` |
//! | data | `RLIMIT_DATA − VmData` | `ulimit -d` |
//!
//! Sources: proc(5), cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Memory that can still be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    pub bytes: u64,
    /// What allows no more.
    pub limit: Limit,
}

/// What limits the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    Machine,
    /// The kernel promises no more than it has.
    Commit,
    /// The control group of this folder, and how many bytes all processes in it may use together.
    Cgroup(PathBuf, u64),
    /// Bytes of address space.
    AddressSpace(u64),
    /// Bytes of writable memory.
    Data(u64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::human_bytes;
        match self {
            Self::Machine => write!(f, "the machine's own memory"),
            Self::Commit => write!(f, "the kernel's commit limit, vm.overcommit_memory = 2"),
            Self::Cgroup(folder, all) => write!(f, "a memory cgroup of {}, {}", human_bytes(*all), folder.display()),
            Self::AddressSpace(all) => write!(f, "an address space of {}, ulimit -v", human_bytes(*all)),
            Self::Data(all) => write!(f, "a data segment of {}, ulimit -d", human_bytes(*all)),
        }
    }
}

/// What this process can still allocate, when the system tells.
pub fn available() -> Option<Available> {
    least(&|path| std::fs::read_to_string(path).ok())
}

/// The least of all limits, by the text of the files that `read` finds.
fn least(read: &dyn Fn(&Path) -> Option<String>) -> Option<Available> {
    let read_at = |path: &str| read(Path::new(path));
    let mut found = Vec::new();
    let mut add = |bytes: Option<u64>, limit| found.extend(bytes.map(|bytes| Available { bytes, limit }));
    if let Some(meminfo) = read_at("/proc/meminfo") {
        add(kib(&meminfo, "MemAvailable"), Limit::Machine);
        if read_at("/proc/sys/vm/overcommit_memory").is_some_and(|text| text.trim() == "2") {
            let promised = kib(&meminfo, "Committed_AS").unwrap_or(0);
            add(kib(&meminfo, "CommitLimit").map(|limit| limit.saturating_sub(promised)), Limit::Commit);
        }
    }
    if let (Some(limits), Some(status)) = (read_at("/proc/self/limits"), read_at("/proc/self/status")) {
        let left = |name, used| {
            let limit = soft_limit(&limits, name)?;
            Some((limit, limit.saturating_sub(kib(&status, used).unwrap_or(0))))
        };
        if let Some((limit, bytes)) = left("Max address space", "VmSize") {
            add(Some(bytes), Limit::AddressSpace(limit));
        }
        if let Some((limit, bytes)) = left("Max data size", "VmData") {
            add(Some(bytes), Limit::Data(limit));
        }
    }
    if let (Some(cgroup), Some(mountinfo)) = (read_at("/proc/self/cgroup"), read_at("/proc/self/mountinfo")) {
        for (version, folder) in cgroups(&cgroup, &mountinfo) {
            if let Some((limit, bytes)) = version.left(&folder, read) {
                add(Some(bytes), Limit::Cgroup(folder, limit));
            }
        }
    }
    found.into_iter().min_by_key(|one| one.bytes)
}

/// Bytes of the line `name: 123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of address space that this process may have, if that is limited.
pub fn address_space() -> Option<u64> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?, "Max address space")
}

/// The soft limit `name` of `/proc/self/limits`, bytes; nothing when it is unlimited.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The two interfaces of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// Limit of the group at `folder`, and what it leaves; nothing when it is unlimited.
    fn left(self, folder: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<(u64, u64)> {
        let (limit, used, cached) = match self {
            Self::V1 => {
                ("memory.limit_in_bytes", "memory.usage_in_bytes", ["total_inactive_file ", "total_active_file "])
            }
            Self::V2 => ("memory.max", "memory.current", ["inactive_file ", "active_file "]),
        };
        // `max` is no number; the older interface says "no limit" as a number near 2^63.
        let number = |name| read(&folder.join(name))?.trim().parse::<u64>().ok();
        let limit = number(limit).filter(|&limit| limit < 1 << 60)?;
        // Cached files count as use, but give way to whoever needs the memory.
        let stat = read(&folder.join("memory.stat")).unwrap_or_default();
        let cached = cached
            .iter()
            .filter_map(|name| stat.lines().find_map(|line| line.strip_prefix(name))?.trim().parse::<u64>().ok());
        let used = number(used).unwrap_or(0).saturating_sub(cached.sum());
        Some((limit, limit.saturating_sub(used)))
    }
}

/// Folders of the memory cgroups that this process is in, each followed by those above it, by `/proc/self/cgroup` and
/// `/proc/self/mountinfo`. A machine may have both interfaces; a group without the files of a limit sets none.
fn cgroups(cgroup: &str, mountinfo: &str) -> Vec<(Version, PathBuf)> {
    let mut folders = Vec::new();
    // Lines are `number:controllers:path`; the unified hierarchy is number 0 and names no controller.
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let version = match controllers {
            "" if number == "0" => Version::V2,
            _ if controllers.split(',').any(|name| name == "memory") => Version::V1,
            _ => continue,
        };
        let Some((root, mount)) = mountinfo.lines().find_map(|line| mount_of(line, version)) else { continue };
        // In a container the folder that is mounted may be the group itself, and its path be told as the host sees it.
        let below = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
        let below: PathBuf = below.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let folder = mount.join(below);
        folders
            .extend(folder.ancestors().take_while(|at| at.starts_with(&mount)).map(|at| (version, at.to_path_buf())));
    }
    folders
}

/// Which folder of the hierarchy is mounted, and where, if the line `id parent dev ROOT MOUNT options … - TYPE source
/// OPTIONS` of mountinfo is of the memory hierarchy of this interface.
fn mount_of(line: &str, version: Version) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let (name, options) = (kind.next()?, kind.nth(1).unwrap_or(""));
    let fits = match version {
        Version::V1 => name == "cgroup" && options.split(',').any(|option| option == "memory"),
        Version::V2 => name == "cgroup2",
    };
    let mut mount = mount.split(' ').skip(3);
    let (root, mount) = (mount.next()?, mount.next()?);
    fits.then(|| (unescape(root).into(), unescape(mount).into()))
}

/// Blanks and backslashes of paths are written in octal there.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (code, character)| path.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// What `least` says of these files.
    fn seen(files: &[(&str, &str)]) -> Option<Available> {
        least(&|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned()))
    }

    /// A machine with 8 GiB to spare, and these files beside.
    fn bytes_and_limit(files: &[(&str, &str)]) -> (u64, String) {
        let machine = [("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")];
        let Available { bytes, limit } = seen(&[&machine, files].concat()).unwrap();
        (bytes, limit.to_string())
    }

    const V2: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";

    #[test]
    fn nothing_is_known_without_files_and_the_machine_limits_alone() {
        assert_eq!(seen(&[]), None);
        assert_eq!(bytes_and_limit(&[]), (8 * GIB, "the machine's own memory".into()));
    }

    #[test]
    fn v2_leaves_its_limit_less_what_cannot_be_dropped() {
        let files = [
            ("/proc/self/cgroup", "0::/job\n"),
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/job/memory.max", "4294967296\n"),
            ("/sys/fs/cgroup/job/memory.current", "3221225472\n"),
            ("/sys/fs/cgroup/job/memory.stat", "anon 1073741824\ninactive_file 1073741824\nactive_file 1073741824\n"),
        ];
        let limit = "a memory cgroup of 4.0 GiB, /sys/fs/cgroup/job";
        assert_eq!(bytes_and_limit(&files), (3 * GIB, limit.into()));
        // Without the statistics all of it counts.
        assert_eq!(bytes_and_limit(&files[..4]), (GIB, limit.into()));
    }

    #[test]
    fn a_group_above_may_leave_less_and_max_is_no_limit() {
        let files = [
            ("/proc/self/cgroup", "0::/slurm/job_7/step_0\n"),
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n"),
            ("/sys/fs/cgroup/slurm/job_7/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/slurm/job_7/memory.current", "1073741824\n"),
            ("/sys/fs/cgroup/slurm/memory.max", "3221225472\n"),
            ("/sys/fs/cgroup/slurm/memory.current", "3000000000\n"),
            // Of another job.
            ("/sys/fs/cgroup/slurm/job_8/memory.max", "1\n"),
        ];
        let (bytes, limit) = bytes_and_limit(&files);
        assert_eq!((bytes, limit.as_str()), (221_225_472, "a memory cgroup of 3.0 GiB, /sys/fs/cgroup/slurm"));
        assert_eq!(bytes_and_limit(&files[..5]).0, GIB);
        assert_eq!(bytes_and_limit(&files[..3]).0, 8 * GIB);
    }

    #[test]
    fn v1_has_its_own_names_and_its_own_word_for_no_limit() {
        let files = [
            ("/proc/self/cgroup", "3:cpuset:/\n5:cpu,memory:/a b\n0::/\n"),
            ("/proc/self/mountinfo", V1),
            ("/sys/fs/cgroup/memory/a b/memory.limit_in_bytes", "2147483648\n"),
            ("/sys/fs/cgroup/memory/a b/memory.usage_in_bytes", "2000000000\n"),
            ("/sys/fs/cgroup/memory/a b/memory.stat", "inactive_file 7\ntotal_inactive_file 926258176\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let limit = "a memory cgroup of 2.0 GiB, /sys/fs/cgroup/memory/a b";
        assert_eq!(bytes_and_limit(&files), (GIB, limit.into()));
    }

    /// Both interfaces are mounted; the memory controller is in the older one.
    #[test]
    fn hybrid_machines_are_read_in_both() {
        let mounts = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let files = [
            ("/proc/self/cgroup", "4:memory:/job\n0::/job\n"),
            ("/proc/self/mountinfo", &*mounts),
            ("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n"),
            ("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "0\n"),
        ];
        assert_eq!(bytes_and_limit(&files).0, GIB);
    }

    /// Docker mounts the container's group itself; /proc/self/cgroup then names it as the host does, or as `/` in a
    /// namespace of its own.
    #[test]
    fn in_a_container_the_mounted_folder_is_the_group() {
        let mount = "35 31 0:32 /docker/ab12 /sys/fs/cgroup/memory\\040here ro - cgroup cgroup rw,memory\n";
        let files = |cgroup: &'static str| {
            bytes_and_limit(&[
                ("/proc/self/cgroup", cgroup),
                ("/proc/self/mountinfo", mount),
                ("/sys/fs/cgroup/memory here/memory.limit_in_bytes", "1073741824"),
                ("/sys/fs/cgroup/memory here/inner/memory.limit_in_bytes", "536870912"),
            ])
            .0
        };
        assert_eq!(files("4:memory:/docker/ab12\n"), GIB);
        assert_eq!(files("4:memory:/docker/ab12/inner\n"), GIB / 2);
        assert_eq!(files("4:memory:/\n"), GIB);
        assert_eq!(files("4:memory:/../../elsewhere\n"), GIB);
    }

    #[test]
    fn process_limits_leave_what_is_not_used_yet() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max data size             1073741824           unlimited            bytes     \n\
                      Max address space         2147483648           unlimited            bytes     \n";
        let status = "Name:\tstablerep\nVmPeak:\t 9999999 kB\nVmSize:\t 1572864 kB\nVmData:\t  262144 kB\n";
        let files = [("/proc/self/limits", limits), ("/proc/self/status", status)];
        assert_eq!(bytes_and_limit(&files), (GIB / 2, "an address space of 2.0 GiB, ulimit -v".into()));
        let unlimited = limits.replace("2147483648", "unlimited ");
        let files = [("/proc/self/limits", unlimited.as_str()), ("/proc/self/status", status)];
        assert_eq!(bytes_and_limit(&files), (3 * GIB / 4, "a data segment of 1.0 GiB, ulimit -d".into()));
    }

    #[test]
    fn strict_overcommit_limits_what_is_promised() {
        let meminfo = "MemAvailable: 8388608 kB\nCommitLimit: 4194304 kB\nCommitted_AS: 3145728 kB\n";
        let seen_with = |mode| seen(&[("/proc/meminfo", meminfo), ("/proc/sys/vm/overcommit_memory", mode)]).unwrap();
        assert_eq!(seen_with("2\n"), Available { bytes: GIB, limit: Limit::Commit });
        assert_eq!(seen_with("0\n").limit, Limit::Machine);
    }
}
