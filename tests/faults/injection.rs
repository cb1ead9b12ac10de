//! One run with one fault, and what must be true after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use faulty_libc::{Call, Repeat};
use tempfile::TempDir;

use crate::binary::{command, files, text};

/// Error numbers of Linux.
const EINTR: &str = "4";
const EIO: &str = "5";
const ENOSPC: &str = "28";

/// A command and the folder it works in.
pub struct Scenario {
    /// Fills the folder with what the command needs.
    pub prepare: fn(&Path),
    /// Its words, given the folder.
    pub words: fn(&Path) -> Vec<String>,
    /// Whether the file of this relative name holds the same bytes after every run.
    pub compared: fn(&str) -> bool,
}

/// How the chosen call fails.
#[derive(Clone, Copy, Debug)]
struct Failure {
    error: &'static str,
    repeat: Repeat,
}

impl Failure {
    /// What can happen to such a call.
    fn of(call: Call) -> &'static [Self] {
        const BROKEN: Failure = Failure { error: EIO, repeat: Repeat::None };
        const FULL: Failure = Failure { error: ENOSPC, repeat: Repeat::All };
        match call {
            Call::Create | Call::Write | Call::Sync | Call::Rename | Call::Folder => &[BROKEN, FULL],
            _ => &[BROKEN],
        }
    }
}

/// Where runs work: the same paths in every run, because some files hold them.
struct Bench {
    _root: TempDir,
    work: PathBuf,
    /// What `work` holds before a run.
    before: BTreeMap<String, Vec<u8>>,
    log: PathBuf,
    cache: PathBuf,
}

impl Bench {
    fn new(scenario: &Scenario) -> Self {
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        let (work, log, cache) = (at("work"), at("faults"), at("cache"));
        fs::create_dir(&work).unwrap();
        (scenario.prepare)(&work);
        Self { before: files(&work), _root: root, work, log, cache }
    }

    fn prepare(&self) {
        fs::remove_dir_all(&self.work).unwrap();
        let _ = fs::remove_file(&self.log);
        fs::create_dir(&self.work).unwrap();
        for (name, bytes) in &self.before {
            let path = self.work.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    fn run(&self, scenario: &Scenario, faults: &[(&str, &str)]) -> Output {
        let words = (scenario.words)(&self.work);
        let mut command = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("STABLEREP_CACHE", &self.cache).envs(faults.iter().copied()).output().unwrap()
    }

    /// Runs with a fault; what was said, and the calls that failed.
    fn run_with(&self, scenario: &Scenario, call: Call, at: u64, failure: Failure) -> (Output, Vec<String>) {
        let library = Path::new(env!("CARGO_BIN_EXE_stablerep")).with_file_name("deps").join("libfaulty_libc.so");
        assert!(library.exists(), "{} is missing: cargo builds it with the tests", library.display());
        let [library, under, log] = [&library, &self.work, &self.log].map(|path| text(path));
        let at = at.to_string();
        let repeat = Repeat::ALL.iter().find(|(repeat, _)| *repeat == failure.repeat).unwrap().1;
        let faults = [
            ("LD_PRELOAD", library.as_str()),
            ("FAULT_UNDER", &under),
            ("FAULT_LOG", &log),
            ("FAULT_CALL", call.name()),
            ("FAULT_AT", &at),
            ("FAULT_ERROR", failure.error),
            ("FAULT_REPEAT", repeat),
        ];
        let output = self.run(scenario, &faults);
        let failed = fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect();
        (output, failed)
    }

    /// The content of the files that are compared, and the names of the others without their numbers, such as times.
    fn files(&self, scenario: &Scenario) -> BTreeMap<String, Vec<u8>> {
        let known = |(name, bytes): (String, Vec<u8>)| match (scenario.compared)(&name) {
            true => (name, bytes),
            false => (name.replace(|c: char| c.is_ascii_digit(), ""), Vec::new()),
        };
        files(&self.work).into_iter().map(known).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn differing(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    a.keys().chain(b.keys()).filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

/// Makes calls of every kind fail on every file, one run each.
pub fn every_call_fails(scenario: &Scenario) {
    let bench = Bench::new(scenario);
    let output = bench.run(scenario, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let want = bench.files(scenario);
    let (mut complaints, mut counts) = (Vec::new(), Vec::new());
    for (call, name) in Call::ALL {
        let (numbers, of) = first_and_last(&bench, scenario, call);
        // Whatever the command reads, it makes files: were there none, the library would not be there.
        let writes = matches!(call, Call::Create | Call::Write | Call::Sync | Call::Lock | Call::Rename);
        assert!(!writes || !numbers.is_empty(), "{name}: no such call was seen");
        counts.push(format!("{name} {} of {of}", numbers.len()));
        let mut met = 0;
        for (&failure, &at) in Failure::of(call).iter().flat_map(|failure| numbers.iter().map(move |at| (failure, at)))
        {
            let Some(wrong) = one(&bench, scenario, &want, call, at, failure) else { continue };
            met += 1;
            complaints.extend(wrong.iter().map(|wrong| format!("{name} {at} {failure:?}: {wrong}")));
        }
        assert!(numbers.is_empty() || met > 0, "{name}: none of {numbers:?} was met again");
    }
    println!("calls that failed: {}", counts.join(", "));
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// The numbers of the first and the last call of this kind on every file, and how many calls there are: what lies
/// between them is the same code again.
fn first_and_last(bench: &Bench, scenario: &Scenario, call: Call) -> (Vec<u64>, usize) {
    const LOGGED: Failure = Failure { error: "none", repeat: Repeat::All };
    bench.prepare();
    let (output, calls) = bench.run_with(scenario, call, 1, LOGGED);
    assert!(output.status.success(), "{}", said(&output));
    let at = |number: usize| number as u64 + 1;
    let mut ends: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (number, path) in calls.iter().enumerate() {
        ends.entry(path).and_modify(|ends| ends[1] = at(number)).or_insert([at(number); 2]);
    }
    let numbers: BTreeSet<u64> = ends.into_values().flatten().collect();
    (numbers.into_iter().collect(), calls.len())
}

/// What is wrong with the run in which call `at` of this kind fails; `None` when it has no such call, as threads may
/// take turns otherwise than before.
fn one(
    bench: &Bench,
    scenario: &Scenario,
    want: &BTreeMap<String, Vec<u8>>,
    call: Call,
    at: u64,
    failure: Failure,
) -> Option<Vec<String>> {
    bench.prepare();
    let (output, failed) = bench.run_with(scenario, call, at, failure);
    let path = failed.first()?.split_once(' ').unwrap().1;
    let (text, mut wrong) = (said(&output), Vec::new());
    let mut complain =
        |what: String| wrong.push(format!("{what}\n  at {path}\n  {}", text.trim_end().replace('\n', "\n  ")));
    match output.status.code() {
        Some(0) => {
            let differ = differing(&bench.files(scenario), want);
            if !differ.is_empty() {
                complain(format!("ended well with other files: {differ:?}"));
            }
        }
        Some(1 | 3 | 4) => {
            if text.matches("error:").count() != 1 {
                complain("not one error".into());
            }
            if !names(&text, Path::new(path)) {
                complain("the error does not name the file".into());
            }
        }
        _ => complain(format!("ended with {}", output.status)),
    }
    let again = bench.run(scenario, &[]);
    if !again.status.success() {
        complain(format!("could not be run again: {}", said(&again)));
    }
    let differ = differing(&bench.files(scenario), want);
    if !differ.is_empty() {
        complain(format!("other files after the second run: {differ:?}"));
    }
    Some(wrong)
}

/// Whether the text names the file, by the name it is to have, or the folder that is to hold it.
fn names(text: &str, path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial")).unwrap_or(name);
    text.lines().any(|line| line.contains("error:") && line.contains(name))
}

/// Every read and write moves half of what it was asked for, and in another run every second one is interrupted:
/// neither is an error.
pub fn parts_and_interruptions_are_no_errors(scenario: &Scenario) {
    let bench = Bench::new(scenario);
    assert!(bench.run(scenario, &[]).status.success());
    let want = bench.files(scenario);
    for call in [Call::Read, Call::Write] {
        for failure in [Failure { error: "short", repeat: Repeat::All }, Failure { error: EINTR, repeat: Repeat::Odd }]
        {
            bench.prepare();
            let (output, failed) = bench.run_with(scenario, call, 1, failure);
            // Every command writes; some have all that they read mapped.
            assert!(call == Call::Read || !failed.is_empty(), "{call:?} {failure:?}: no such call");
            assert!(output.status.success(), "{call:?} {failure:?}: {}", said(&output));
            assert_eq!(differing(&bench.files(scenario), &want), Vec::<String>::new(), "{call:?} {failure:?}");
        }
    }
}
