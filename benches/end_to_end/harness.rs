//! What the command line says, and how a job is measured.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::{Value, json};
use stablerep::bail;
use stablerep::error::{Error, Result};
use stablerep::generate::Precision;

/// What the command line says.
pub struct Options {
    /// What is measured; or `calls` and a network.
    pub names: Vec<String>,
    /// Seconds of a job's rounds.
    pub seconds: f64,
    pub threads: usize,
    /// Of `calls` alone: the network's weights, its inputs, and in which type it computes.
    pub model: Option<PathBuf>,
    pub inputs: Option<PathBuf>,
    pub precision: Precision,
}

impl Options {
    /// # Errors
    /// `Usage` naming a flag that has no value, a wrong one, or that is not known.
    pub fn read() -> Result<Self> {
        let mut this =
            Self { names: Vec::new(), seconds: 10.0, threads: 2, model: None, inputs: None, precision: Precision::F32 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => this.seconds = value(&word, words.next())?,
                "--threads" => this.threads = value(&word, words.next())?,
                "--model" => this.model = Some(value(&word, words.next())?),
                "--inputs" => this.inputs = Some(value(&word, words.next())?),
                "--precision" => {
                    let word: String = value(&word, words.next())?;
                    this.precision = Precision::from_str(&word, false)
                        .map_err(|_| Error::Usage(format!("--precision {word}: expected f32, f16 or bf16")))?;
                }
                // Cargo adds this one.
                "--bench" => {}
                flag if flag.starts_with('-') => bail!(Usage, "{flag}: not known; the head of main.rs lists the flags"),
                name => this.names.push(name.to_owned()),
            }
        }
        Ok(this)
    }
}

fn value<T: FromStr>(flag: &str, word: Option<String>) -> Result<T> {
    let value = word.and_then(|word| word.parse().ok());
    value.ok_or_else(|| Error::Usage(format!("{flag}: expected a value behind it, e.g. {flag} 2")))
}

/// One warm-up, then rounds until the time is spent; the median round counts.
pub fn measure(options: &Options, bench: &str, images: usize, details: Value, mut work: impl FnMut()) {
    work();
    let (mut rounds, start) = (Vec::new(), Instant::now());
    while start.elapsed().as_secs_f64() < options.seconds || rounds.len() < 3 {
        let begin = Instant::now();
        work();
        rounds.push(begin.elapsed().as_secs_f64());
    }
    rounds.sort_by(f64::total_cmp);
    let middle = rounds.len() / 2;
    let median = if rounds.len() % 2 == 1 { rounds[middle] } else { (rounds[middle - 1] + rounds[middle]) / 2.0 };
    let mut line = json!({
        "bench": bench,
        "engine": "stablerep",
        "images_per_s": images as f64 / median,
        "best_images_per_s": images as f64 / rounds[0],
        "seconds_per_round": median,
        "rounds": rounds.len(),
        "threads": options.threads,
    });
    line.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
    println!("{line}");
}
