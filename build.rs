//! Compiles `kernels/*.cu` and generates a typed launch function for every kernel in them.
//!
//! For each `kernels/x.cu`: PTX for compute_80 and sm_90a (`x_sm89.cu`: compute_89 and sm_90a, `x_sm90.cu`: sm_90a only); in release builds also
//! machine code for sm_80, sm_86, sm_89 and sm_90a (of those that the PTX allows) with a resource report, where a spill, local memory or a wait injected between wgmmas fails the build
//! (`STABLEREP_PTX_ONLY=1` leaves machine code out). nvcc is looked for in `NVCC`, `CUDA_HOME`, `PATH`, and the folder that
//! `dev/cuda-toolchain.sh` fills. Without it the crate builds without kernels and `--device cuda` says what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Part of every stamp: raise it when the flags below change.
const VERSION: u32 = 3;

/// Machine code made in release builds: (file suffix and ptxas target, PTX it comes from).
const CUBINS: [(&str, &str); 5] =
    [("sm_80", "sm_80"), ("sm_86", "sm_80"), ("sm_89", "sm_80"), ("sm_89", "sm_89"), ("sm_90a", "sm_90a")];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::rustc-check-cfg=cfg(cuda_kernels)");
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "STABLEREP_PTX_ONLY"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let Some(nvcc) = find_nvcc(&root) else {
        // The toolchain folder may appear later.
        println!("cargo::rerun-if-changed=.cuda");
        println!(
            "cargo::warning=no nvcc: building without CUDA kernels (run dev/cuda-toolchain.sh, or set NVCC or CUDA_HOME)"
        );
        return;
    };
    println!("cargo::rustc-cfg=cuda_kernels");
    let machine_code = variable("PROFILE") == "release" && env::var_os("STABLEREP_PTX_ONLY").is_none();
    // Cargo runs this script anew for every set of features (tests unify more of them than `cargo run` does), and the
    // kernels take minutes: all builds of one profile share them.
    let folder = out.ancestors().nth(3).unwrap_or(&out).join("cuda-kernels");
    fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("cannot create {}: {e}", folder.display()));

    let release = release(&nvcc);
    let sources = sources(&root.join("kernels"));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let compile_some = || {
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            let job = Job { nvcc: &nvcc, release: &release, root: &root, source, folder: &folder, machine_code };
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
    let generated = generate(&sources, &folder, machine_code);
    fs::write(out.join("kernels.rs"), generated).unwrap_or_else(|e| panic!("cannot write kernels.rs: {e}"));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn find_nvcc(root: &Path) -> Option<PathBuf> {
    let file = |path: PathBuf| path.is_file().then_some(path);
    if let Some(path) = env::var_os("NVCC") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "NVCC is {}, which is no file", path.display());
        return Some(path);
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(env::var_os).map(|home| Path::new(&home).join("bin/nvcc"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join("nvcc")).collect();
    let fixed = [PathBuf::from("/usr/local/cuda/bin/nvcc"), root.join(".cuda/nvidia/cu13/bin/nvcc")];
    homes.chain(on_path).chain(fixed).find_map(file)
}

/// What `nvcc --version` prints.
fn release(nvcc: &Path) -> String {
    let output = Command::new(nvcc).arg("--version").output();
    let output = output.unwrap_or_else(|e| panic!("cannot start {}: {e}", nvcc.display()));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One `.cu` file.
struct Source {
    stem: String,
    path: PathBuf,
}

impl Source {
    /// PTX targets this file is compiled for.
    fn targets(&self) -> &'static [&'static str] {
        match self.stem.rsplit('_').next() {
            Some("sm90") => &["sm_90a"],
            Some("sm89") => &["sm_89", "sm_90a"],
            _ => &["sm_80", "sm_90a"],
        }
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

struct Job<'a> {
    nvcc: &'a Path,
    /// What the compiler says it is.
    release: &'a str,
    root: &'a Path,
    source: &'a Source,
    folder: &'a Path,
    machine_code: bool,
}

impl Job<'_> {
    fn file(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", self.source.stem))
    }

    /// Compiles what is not there already from the same text, compiler and flags.
    fn compile(&self) -> Result<(), String> {
        let (mut all, mut hasher) = (BTreeMap::new(), DefaultHasher::new());
        texts(&self.source.path, &mut all);
        let texts: Vec<&String> = all.values().collect();
        (VERSION, texts, self.release, self.machine_code).hash(&mut hasher);
        let stamp = hasher.finish().to_string();
        if fs::read_to_string(self.file("stamp")).is_ok_and(|old| old == stamp) {
            return Ok(());
        }
        // Were this build stopped half-way, the old stamp would vouch for a mixture of old and new files.
        remove(&self.file("stamp"))?;
        for target in self.source.targets() {
            self.ptx(target)?;
        }
        let mut report = Vec::new();
        if self.machine_code {
            for (target, ptx) in CUBINS {
                if self.source.targets().contains(&ptx) {
                    self.cubin(target, ptx, &mut report)?;
                }
            }
        }
        write(&self.file("json"), &format!("[{}]\n", report.join(",\n ")))?;
        write(&self.file("stamp"), &stamp)
    }

    fn ptx(&self, target: &str) -> Result<(), String> {
        let mut command = Command::new(self.nvcc);
        command.args(["-ptx", "-O3", "-std=c++17", "-lineinfo", "-Werror", "all-warnings", "-arch", target]);
        command.arg("-I").arg(self.root.join("kernels")).arg(&self.source.path);
        run(command.arg("-o").arg(self.file(&format!("{target}.ptx")))).map(|_| ())
    }

    fn cubin(&self, target: &str, ptx: &str, report: &mut Vec<String>) -> Result<(), String> {
        let mut command = Command::new(self.nvcc.with_file_name("ptxas"));
        command.args(["-O3", "-v", "-lineinfo", "-arch", target]).arg(self.file(&format!("{ptx}.ptx")));
        let log = run(command.arg("-o").arg(self.file(&format!("{target}.cubin"))))?;
        let wrong = |what: &str| Err(format!("{} for {target}: {what}\n{log}", self.source.path.display()));
        if log.contains("(C75") {
            return wrong("ptxas serialises its wgmmas (C75xx)");
        }
        let ptx = fs::read_to_string(self.file(&format!("{ptx}.ptx"))).map_err(|e| e.to_string())?;
        for mut kernel in resources(&log, target) {
            kernel.threads = most_threads(&ptx, &kernel.name);
            if kernel.spills > 0 || kernel.stack > 0 {
                return wrong(&format!(
                    "{} uses {} bytes of stack, {} of spills",
                    kernel.name, kernel.stack, kernel.spills
                ));
            }
            report.push(kernel.json());
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(format!("cannot remove {}: {e}", path.display())),
        _ => Ok(()),
    }
}

/// What the program printed on stderr, or the command and both outputs if it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("cannot start {command:?}: {e}"))?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(log);
    }
    Err(format!("{command:?} failed:\n{}{log}", String::from_utf8_lossy(&output.stdout)))
}

#[derive(Default)]
struct Resources {
    name: String,
    target: String,
    registers: u32,
    stack: u32,
    spills: u32,
    shared: u32,
    threads: u32,
}

impl Resources {
    fn json(&self) -> String {
        let Self { name, target, registers, stack, spills, shared, threads } = self;
        format!(
            r#"{{"kernel":"{name}","target":"{target}","registers":{registers},"stack":{stack},"spills":{spills},"static_shared":{shared},"threads":{threads}}}"#
        )
    }
}

/// The entries of `ptxas -v`.
fn resources(log: &str, target: &str) -> Vec<Resources> {
    let before = |line: &str, unit: &str| -> u32 {
        let end = line.find(unit).unwrap_or(0);
        line[..end].rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let mut all: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            all.push(Resources { name, target: target.to_owned(), ..Resources::default() });
        } else if let Some(kernel) = all.last_mut() {
            kernel.registers = kernel.registers.max(before(line, " registers"));
            kernel.stack = kernel.stack.max(before(line, " bytes stack frame"));
            kernel.spills = kernel.spills.max(before(line, " bytes spill stores"));
            kernel.shared = kernel.shared.max(before(line, " bytes smem"));
        }
    }
    all
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

/// Rust for all files: their images, a typed launch function per kernel, and the resource report.
fn generate(sources: &[Source], folder: &Path, machine_code: bool) -> String {
    let mut rust = String::from("// Generated by build.rs from kernels/*.cu.\n");
    let mut report = Vec::new();
    for source in sources {
        let Source { stem, .. } = source;
        let mut images = String::new();
        let mut add = |suffix: String| {
            let path = packed(&folder.join(format!("{stem}.{suffix}")));
            let _ = writeln!(images, "    ({suffix:?}, include_bytes!({:?})),", path.display().to_string());
        };
        for (target, ptx) in CUBINS {
            if machine_code && source.targets().contains(&ptx) {
                add(format!("{target}.cubin"));
            }
        }
        for target in source.targets() {
            add(format!("{target}.ptx"));
        }
        let constant = stem.to_uppercase();
        let _ = write!(
            rust,
            "\n/// `kernels/{stem}.cu`.\npub static {constant}: Images = Images {{ stem: {stem:?}, files: &[\n{images}] }};\n"
        );
        let ptx = folder.join(format!("{stem}.{}.ptx", source.targets()[0]));
        let text = fs::read_to_string(&ptx).unwrap_or_else(|e| panic!("cannot read {}: {e}", ptx.display()));
        for (name, params) in entries(&text) {
            // Hopper's files hold matrix kernels, but for sums of their partial results.
            let multiplies = entry(&text, &name).is_some_and(|entry| entry.contains("wgmma.mma_async"));
            assert!(
                multiplies || !stem.ends_with("_sm90") || name.contains("_sum_"),
                "{name} of kernels/{stem}.cu: no wgmma"
            );
            rust += &launch_function(stem, &constant, &name, &params);
        }
        let json = fs::read_to_string(folder.join(format!("{stem}.json"))).unwrap_or_default();
        report.push(format!("{stem:?}: {json}"));
    }
    let _ = write!(
        rust,
        "\n/// Registers, stack, spills and static shared memory per kernel and target, as JSON; empty lists without machine code.\npub const RESOURCES: &str = {:?};\n",
        format!("{{{}}}", report.join(",\n"))
    );
    rust
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

fn launch_function(stem: &str, constant: &str, name: &str, params: &[String]) -> String {
    let (mut arguments, mut lets, mut list) = (String::new(), String::new(), String::new());
    for (i, param) in params.iter().enumerate() {
        let (ty, value) = match param.as_str() {
            "u64" | "b64" => ("impl Into<Arg64>", Some(format!("p{i}.into().0"))),
            "u32" | "s32" | "b32" => ("u32", None),
            "f32" => ("f32", None),
            "b8[128]" => ("&TensorMap", None),
            other => panic!(
                "{name} of kernels/{stem}.cu: parameter {i} is {other}; expected pointers, 32-bit values or a tensor map"
            ),
        };
        let _ = write!(arguments, ", p{i}: {ty}");
        if param == "b8[128]" {
            let _ = write!(list, "p{i}.argument(), ");
        } else {
            if let Some(value) = value {
                let _ = writeln!(lets, "    let p{i} = {value};");
            }
            let _ = write!(list, "argument(&p{i}), ");
        }
    }
    format!(
        "\n/// Launches `{name}` of `kernels/{stem}.cu`.\n#[allow(clippy::too_many_arguments)]\n\
         pub fn {name}(gpu: &Gpu, at: Launch{arguments}) -> Result<()> {{\n{lets}    gpu.launch(&{constant}, {name:?}, at, &mut [{list}])\n}}\n"
    )
}
