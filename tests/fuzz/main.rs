//! Valid files made wrong, for everything that reads one: no reader panics, takes memory out of proportion, or refuses
//! without naming the file. `FUZZ_INPUTS` says how many inputs each reader gets, `FUZZ_FROM` the number of the first,
//! `FUZZ_FOLDER` where they lie meanwhile; an input is its reader and its number, so what one run found another finds
//! again.

mod memory;
mod mutate;
mod readers;
#[path = "../common/recipe.rs"]
mod recipe;
mod valid;

use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Instant;

use stablerep::console;
use stablerep::error::{Error, Result};

use memory::most_held;
use mutate::{Dice, Structure, mutated};

/// Inputs for each reader where nobody says otherwise.
const INPUTS: u32 = 2000;
/// What a reader may hold however small its input is, bytes: buffers, compiled patterns, the table of all flags, a
/// noise schedule of 2^20 steps.
const ALLOWANCE: usize = 20 << 20;

/// Something that reads a file.
pub struct Reader {
    pub name: &'static str,
    /// Distinguishes its inputs from those of others.
    pub number: u32,
    /// What the file is called, below the reader's folder.
    pub file: &'static str,
    pub structure: Structure,
    /// Valid contents of the file.
    pub valid: fn(&Path) -> Vec<Vec<u8>>,
    /// Makes the other files of the folder.
    pub beside: fn(&Path),
    /// Reads the folder, or the file in it.
    pub read: fn(&Path) -> Result<()>,
    /// It leaves out what is damaged and takes the rest.
    pub forgives: bool,
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

/// Where an input lies while it is read: a process that aborts leaves it there.
fn folder(reader: &Reader) -> PathBuf {
    let root = std::env::var_os("FUZZ_FOLDER").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let folder = root.join("fuzz").join(reader.number.to_string());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join(reader.file).parent().unwrap()).unwrap();
    folder
}

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Of what readers say, and of panics while they read, only what is found of it is printed.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        console::mute();
        let printed = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !READING.get() {
                printed(info);
            }
        }));
    });
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

/// How a reader took an input.
struct Outcome {
    refused: bool,
    /// Bytes of memory, at most.
    held: usize,
    /// What is wrong with how it went.
    wrong: Option<String>,
}

fn outcome(reader: &Reader, folder: &Path, length: usize) -> Outcome {
    READING.set(true);
    let (outcome, held) = most_held(|| catch_unwind(AssertUnwindSafe(|| (reader.read)(folder))));
    READING.set(false);
    let most = ALLOWANCE + reader.structure.unfolds() * length;
    let wrong = match &outcome {
        Err(panic) => Some(format!("panicked: {}", text_of(&**panic))),
        Ok(Err(error @ (Error::Failed(_) | Error::Io { .. }))) => Some(format!("exit code 1: {error}")),
        Ok(Err(error)) if !names(&error.to_string(), reader, folder) => Some(format!("no file is named: {error}")),
        Ok(_) => (held > most).then(|| format!("held {held} bytes for {length}")),
    };
    Outcome { refused: !matches!(outcome, Ok(Ok(()))), held, wrong }
}

/// Whether a refusal names the file, or one beside it that does not go with it.
fn names(text: &str, reader: &Reader, folder: &Path) -> bool {
    text.contains(reader.file) || text.contains(&folder.display().to_string())
}

/// Feeds a reader.
pub fn fuzz(reader: &Reader) {
    quiet();
    // What is shared among threads elsewhere is done by this one, whose memory is counted.
    let _here = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    let folder = folder(reader);
    (reader.beside)(&folder);
    let valid = (reader.valid)(&folder);
    assert!(!valid.is_empty());
    let path = folder.join(reader.file);
    for bytes in &valid {
        fs::write(&path, bytes).unwrap();
        (reader.read)(&folder).unwrap_or_else(|error| panic!("a valid file is refused: {error}"));
    }
    let (from, inputs) = (number("FUZZ_FROM", 0), number("FUZZ_INPUTS", INPUTS));
    let (mut wrong, mut refused, mut most) = (Vec::new(), 0, (0, 0));
    let begin = Instant::now();
    for input in from..from + inputs {
        let bytes = mutated(&valid, reader.structure, &mut Dice::new(reader.number, input));
        fs::write(&path, &bytes).unwrap();
        let outcome = outcome(reader, &folder, bytes.len());
        refused += u32::from(outcome.refused);
        most = most.max((outcome.held, bytes.len()));
        wrong.extend(outcome.wrong.map(|text| format!("input {input}: {text}")));
    }
    println!(
        "{} {}: {inputs} inputs, {refused} refused, {} complaints; held at most {} KiB (for {} bytes); {:.0} inputs/s",
        reader.name,
        reader.file,
        wrong.len(),
        most.0 >> 10,
        most.1,
        f64::from(inputs) / begin.elapsed().as_secs_f64()
    );
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}:\n{}", reader.file, wrong.join("\n"));
    // Neither were all inputs valid nor none.
    assert!(inputs < 100 || reader.forgives || refused > 0, "{refused} of {inputs} refused");
    assert!(inputs < 100 || refused < inputs, "{refused} of {inputs} refused");
    let _ = fs::remove_dir_all(folder);
}
