//! Compiles `kernels/*.cu` by NVRTC and generates what launches them, typed; lists the ops that
//! have a `check.rs` or a `bench.rs`.
//!
//! For each `kernels/x.cu`: PTX for sm_80 and sm_90a (`x_sm89.cu`: sm_89 and sm_90a, `x_sm90.cu`: sm_90a only); in
//! release builds also machine code for sm_80, sm_86, sm_89 and sm_90a (from that PTX's target on), where a spill,
//! local memory or a wait injected between wgmmas fails the build (`STABLEREP_PTX_ONLY=1` leaves machine code out).
//! Without NVRTC the crate builds without kernels and `--device cuda` says what to do.

#[path = "src/device/cuda/compiler.rs"]
mod compiler;
#[path = "build/exports.rs"]
mod exports;
#[path = "build/launches.rs"]
mod launches;
#[path = "build/signatures.rs"]
mod signatures;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use compiler::{Compiler, Resources, resources};
use exports::exports;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use launches::launches;
use signatures::signatures;

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::rustc-check-cfg=cfg(cuda_kernels)");
    for path in ["build.rs", "build", "src/device/cuda/compiler.rs", "src/ops", "kernels"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in ["CUDA_HOME", "CUDA_PATH", "STABLEREP_PTX_ONLY"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    for (list, file) in [("checked_ops", "check.rs"), ("measured_ops", "bench.rs")] {
        let text = format!("{list}! {{ {} }}\n", ops_with(&root.join("src/ops"), file).join(" "));
        write(&out.join(format!("{list}.rs")), text.as_bytes()).unwrap_or_else(|text| panic!("{text}"));
    }
    let Some(compiler) = Compiler::find(&root.join(".cuda")).unwrap_or_else(|text| panic!("{text}")) else {
        // The toolchain folder may appear later.
        println!("cargo::rerun-if-changed=.cuda");
        println!(
            "cargo::warning=no NVRTC 12: building without CUDA kernels (run dev/cuda-toolchain.sh, or set CUDA_HOME)"
        );
        return;
    };
    println!("cargo::rustc-cfg=cuda_kernels");
    let machine_code = variable("PROFILE") == "release" && env::var_os("STABLEREP_PTX_ONLY").is_none();
    // Cargo runs this script anew for every set of features (tests unify more of them than `cargo run` does), and the
    // kernels take minutes: all builds of one profile share them.
    let folder = out.ancestors().nth(3).unwrap_or(&out).join("cuda-kernels");
    fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("cannot create {}: {e}", folder.display()));

    let sources = sources(&root.join("kernels"));
    let jobs: Vec<Job> = sources
        .iter()
        .flat_map(|source| source.targets(machine_code).map(move |target| (source, target)))
        .map(|(source, target)| Job { compiler: &compiler, source, target, folder: &folder, machine_code })
        .collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let compile_some = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(text) = job.compile() {
                failures.lock().unwrap_or_else(|e| e.into_inner()).push(text);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(compile_some);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(|e| e.into_inner());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    // For the tests that break a kernel.
    println!("cargo::rustc-env=CUDA_KERNELS={}", folder.display());
    let generated = generate(&sources, &folder, machine_code, compiler.version);
    fs::write(out.join("kernels.rs"), generated).unwrap_or_else(|e| panic!("cannot write kernels.rs: {e}"));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// The ops whose folder has such a file, by name.
fn ops_with(folder: &Path, file: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display()));
    let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.join(file).exists());
    let mut names: Vec<String> =
        folders.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// One `.cu` file.
struct Source {
    stem: String,
    path: PathBuf,
}

impl Source {
    /// Targets whose PTX travels, which compiles for every newer card.
    fn portable(&self) -> &'static [&'static str] {
        match self.stem.rsplit('_').next() {
            Some("sm90") => &["sm_90a"],
            Some("sm89") => &["sm_89", "sm_90a"],
            _ => &["sm_80", "sm_90a"],
        }
    }

    /// All that it is compiled for.
    fn targets(&self, machine_code: bool) -> impl Iterator<Item = &'static str> {
        let portable = self.portable();
        ["sm_80", "sm_86", "sm_89", "sm_90a"]
            .into_iter()
            .filter(move |target| portable.contains(target) || machine_code && portable[0] == "sm_80")
    }
}

fn sources(folder: &Path) -> Vec<Source> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display()));
    let mut all: Vec<Source> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .map(|path| Source { stem: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path })
        .collect();
    all.sort_by(|a, b| a.stem.cmp(&b.stem));
    all
}

/// The file's text and that of every header that it includes by `#include "…"`, by path.
fn texts(path: &Path, all: &mut BTreeMap<PathBuf, String>) {
    if all.contains_key(path) {
        return;
    }
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let names = text.lines().filter_map(|line| line.strip_prefix("#include \"")?.split('"').next());
    let headers: Vec<PathBuf> = names.map(|name| path.with_file_name(name)).collect();
    all.insert(path.to_owned(), text);
    headers.iter().for_each(|header| texts(header, all));
}

/// A file for a target.
struct Job<'a> {
    compiler: &'a Compiler,
    source: &'a Source,
    target: &'static str,
    folder: &'a Path,
    machine_code: bool,
}

impl Job<'_> {
    fn file(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{}.{suffix}", self.source.stem, self.target))
    }

    /// Compiles what is not there already from the same text by the same compiler.
    fn compile(&self) -> Result<(), String> {
        let (mut all, mut hasher) = (BTreeMap::new(), DefaultHasher::new());
        texts(&self.source.path, &mut all);
        let texts: Vec<&String> = all.values().collect();
        let Compiler { version, nvrtc, .. } = self.compiler;
        (include_str!("src/device/cuda/compiler.rs"), texts, version, nvrtc, self.machine_code).hash(&mut hasher);
        let stamp = hasher.finish().to_string();
        if fs::read_to_string(self.file("stamp")).is_ok_and(|old| old == stamp) {
            return Ok(());
        }
        // Were this build stopped half-way, the old stamp would vouch for a mixture of old and new files.
        remove(&self.file("stamp"))?;
        let target = if self.machine_code { self.target.to_owned() } else { self.target.replace("sm_", "compute_") };
        let compiled = self.compiler.compile(&self.source.path, &target)?;
        write(&self.file("ptx"), compiled.ptx.as_bytes())?;
        if let Some(code) = compiled.machine_code {
            write(&self.file("cubin"), &code)?;
        }
        write(&self.file("log"), compiled.log.as_bytes())?;
        write(&self.file("stamp"), stamp.as_bytes())
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(format!("cannot remove {}: {e}", path.display())),
        _ => Ok(()),
    }
}

/// The text of a kernel from its name on.
fn entry<'a>(ptx: &'a str, kernel: &str) -> Option<&'a str> {
    ptx.split(".entry ").find(|text| text.split('(').next() == Some(kernel))
}

/// The `.maxntid` of a kernel, 1024 without one.
fn most_threads(ptx: &str, kernel: &str) -> u32 {
    let Some(entry) = entry(ptx, kernel) else { return 1024 };
    let header = entry.split('{').next().unwrap_or_default();
    let sizes = header.split(".maxntid").nth(1).and_then(|rest| rest.lines().next());
    sizes.map_or(1024, |sizes| sizes.split(',').filter_map(|n| n.trim().parse::<u32>().ok()).product())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

/// Rust for all files: their images, what launches their kernels and the numbers for that, what each takes of a
/// multiprocessor, and by what they were compiled.
fn generate(sources: &[Source], folder: &Path, machine_code: bool, version: (i32, i32)) -> String {
    let mut rust = String::from("// Generated by build.rs from kernels/*.cu.\n");
    let mut report = String::new();
    for source in sources {
        let stem = &source.stem;
        let mut images = String::new();
        let mut add = |suffix: String| {
            let path = packed(&folder.join(format!("{stem}.{suffix}")));
            let _ = writeln!(images, "    ({suffix:?}, include_bytes!({:?})),", path.display().to_string());
        };
        if machine_code {
            source.targets(machine_code).for_each(|target| add(format!("{target}.cubin")));
        }
        source.portable().iter().for_each(|target| add(format!("{target}.ptx")));
        let constant = stem.to_uppercase();
        let _ = write!(
            rust,
            "\n/// `kernels/{stem}.cu`.\npub static {constant}: Images = Images {{ stem: {stem:?}, files: &[\n{images}] }};\n"
        );
        let text = read(&folder.join(format!("{stem}.{}.ptx", source.portable()[0])));
        let compiled = entries(&text);
        let parts = [launches_of(source, &compiled), exports(stem, &text)];
        rust.extend(parts.map(|part| part.unwrap_or_else(|text| panic!("kernels/{stem}.cu: {text}"))));
        for name in compiled.into_keys() {
            // Hopper's files hold matrix kernels, but for sums of their partial results.
            let multiplies = entry(&text, &name).is_some_and(|entry| entry.contains("wgmma.mma_async"));
            assert!(
                multiplies || !stem.ends_with("_sm90") || name.contains("_sum_"),
                "{name} of kernels/{stem}.cu: no wgmma"
            );
        }
        for target in source.targets(machine_code) {
            for kernel in resources(&read(&folder.join(format!("{stem}.{target}.log")))) {
                let Resources { name, registers, shared, .. } = &kernel;
                let threads = most_threads(&text, name);
                let _ = writeln!(
                    report,
                    "    Resources {{ stem: {stem:?}, kernel: {name:?}, target: {target:?}, registers: {registers}, static_shared: {shared}, threads: {threads} }},"
                );
            }
        }
    }
    let _ = write!(
        rust,
        "\n/// What every kernel takes on every target; empty without machine code.\npub static RESOURCES: &[Resources] = &[\n{report}];\n\n\
         /// CUDA version of the compiler, major and minor.\npub const COMPILER: (i32, i32) = {version:?};\n"
    );
    rust
}

/// Launches of the kernels that the file declares, which are those of its PTX.
fn launches_of(source: &Source, compiled: &BTreeMap<String, Vec<String>>) -> Result<String, String> {
    let mut all = BTreeMap::new();
    texts(&source.path, &mut all);
    // Headers, then what uses their macros.
    let file = all.remove(&source.path).unwrap_or_default();
    let declared = signatures(all.values().map(String::as_str).chain([file.as_str()]))?;
    let is_declared = |name: &String| declared.iter().any(|signature| signature.name == *name);
    if let Some(name) = compiled.keys().find(|name| !is_declared(name)) {
        return Err(format!("{name}: its declaration was not found"));
    }
    for signature in &declared {
        let name = &signature.name;
        signature.check(compiled.get(name).ok_or_else(|| format!("{name}: declared, but not in the PTX"))?)?;
    }
    launches(&source.stem, &declared)
}

/// The file in zlib's form, a fifth of its size, which is what the binary holds; made anew if the file is newer.
fn packed(path: &Path) -> PathBuf {
    let to = PathBuf::from(format!("{}.z", path.display()));
    let changed = |path: &Path| fs::metadata(path).and_then(|info| info.modified()).ok();
    if changed(&to).is_some_and(|made| changed(path).is_some_and(|from| made >= from)) {
        return to;
    }
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    let result = encoder.write_all(&bytes).and_then(|()| encoder.finish()).and_then(|packed| fs::write(&to, packed));
    result.unwrap_or_else(|e| panic!("cannot write {}: {e}", to.display()));
    to
}

/// Entries of a PTX file with the PTX types of their parameters.
fn entries(ptx: &str) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    let mut lines = ptx.lines();
    while let Some(line) = lines.next() {
        let Some(rest) = line.split(".entry ").nth(1) else { continue };
        let name = rest.trim_end_matches(['(', ')', ' ']).to_owned();
        let mut params = Vec::new();
        if !rest.contains(')') {
            for line in lines.by_ref().take_while(|line| !line.starts_with(')')) {
                let words: Vec<&str> = line.trim().trim_end_matches(',').split_whitespace().collect();
                let Some(last) = words.last() else { continue };
                let bytes = last.split('[').nth(1).map(|n| n.trim_end_matches(']'));
                let types = ["u64", "u32", "s32", "b32", "f32", "b64"];
                let scalar = words.iter().find_map(|w| types.iter().find(|t| w.strip_prefix('.') == Some(t)));
                params.push(match (bytes, scalar) {
                    (Some(bytes), _) => format!("b8[{bytes}]"),
                    (None, Some(scalar)) => (*scalar).to_owned(),
                    (None, None) => panic!("{name}: parameter not understood: {line}"),
                });
            }
        }
        all.insert(name, params);
    }
    all
}
