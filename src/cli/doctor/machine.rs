//! What the system tells about itself. Everything is optional: a system that does not tell is no error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The processor's name.
pub fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Vector instruction sets that matter here, and whether the fast paths apply.
pub fn vector_sets() -> (String, bool) {
    #[cfg(target_arch = "x86_64")]
    {
        let sets = [
            ("SSE4.1", is_x86_feature_detected!("sse4.1")),
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("AVX-512", is_x86_feature_detected!("avx512f")),
        ];
        let names: Vec<&str> = sets.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        (if names.is_empty() { "SSE2 only".into() } else { names.join(", ") }, sets[1].1 && sets[2].1)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        (format!("{} (baseline)", std::env::consts::ARCH), true)
    }
}

/// Physical cores, counted as different (package, core) pairs.
pub fn physical_cores() -> Option<usize> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut cores = std::collections::BTreeSet::new();
    let mut package = "";
    for line in text.lines() {
        match line.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("physical id", value)) => package = value,
            Some(("core id", value)) => {
                cores.insert((package, value));
            }
            _ => {}
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// `path`, or the nearest folder above it that exists.
pub fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.is_dir()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Free bytes of the disk that holds `folder`, as `df` sees them.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024)
}

/// Version of the NVIDIA kernel driver.
pub fn nvidia_driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let version =
        text.lines().next()?.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.to_string())
}
