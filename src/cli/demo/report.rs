//! What the demo leaves to look at: one table, loss curves, and a page that says what is in the folder.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::stages::Stage;
use crate::answer;
use crate::error::{Error, Result};
use crate::image::{self, plot};
use crate::store;

/// Rows of the table: name, folder of the training run, folder of the probe.
const ENCODERS: [(&str, Option<&str>, &str); 3] = [
    ("random-init ViT", None, "probe-random"),
    ("SimCLR", Some("simclr"), "probe-simclr"),
    ("StableRep", Some("stablerep"), "probe-stablerep"),
];

/// Prints the table and writes `table.md`, `loss-curves.png` and `README.md` into the demo's folder.
pub fn write(folder: &Path, stages: &[Stage], seconds: &[f64], total: f64) -> Result<()> {
    let table = table(folder)?;
    write_curves(folder)?;
    store::write_atomic(folder.join("table.md"), table.as_bytes())?;
    let clock = clock(stages, seconds, total);
    store::write_atomic(folder.join("README.md"), page(&table, &clock).as_bytes())?;
    answer!("\n{table}\n{clock}");
    answer!(
        "Look at {0}/shards/contact-sheet.png and {0}/loss-curves.png; {0}/commands.sh has the commands.",
        folder.display()
    );
    Ok(())
}

fn table(folder: &Path) -> Result<String> {
    let mut text = "| encoder | linear probe | with batch norm | k-NN |\n|---|---:|---:|---:|\n".to_owned();
    let mut photos = (0, 0);
    for (name, _, probe) in ENCODERS {
        let path = folder.join(probe).join("report.json");
        let report = read_json(&path)?;
        let linear = |batch_norm: bool| {
            report["linear"].as_array()?.iter().find(|row| row["batch_norm"] == batch_norm)?["best"]["test"].as_f64()
        };
        let (Some(plain), Some(normed), Some(knn)) = (linear(false), linear(true), report["knn"]["test"].as_f64())
        else {
            return Err(Error::Data(format!(
                "{}: a figure is missing; delete the file and run the demo again",
                path.display()
            )));
        };
        photos = (report["train"]["images"].as_u64().unwrap_or(0), report["test"]["images"].as_u64().unwrap_or(0));
        let percent = |value: f64| format!("{value:.1} %");
        text.push_str(&format!("| {name} | {} | {} | {} |\n", percent(plain), percent(normed), percent(knn)));
    }
    text.push_str(&format!(
        "\nTop-1 accuracy on {} real photographs of ten garments; the probes learn on {} others, and choose their learning rate on a tenth of those.\n",
        photos.1, photos.0
    ));
    Ok(text)
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Data(format!("{}: {e}", path.display())))
}

/// Loss per step of both runs.
fn write_curves(folder: &Path) -> Result<()> {
    let mut series = Vec::new();
    for (name, run, _) in ENCODERS {
        let Some(run) = run else { continue };
        let path = folder.join(run).join("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let mut points = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let row: Value = serde_json::from_str(line)
                .map_err(|e| Error::Data(format!("{}:{}: {e}", path.display(), number + 1)))?;
            if let (Some(step), Some(loss)) = (row["step"].as_f64(), row["loss"].as_f64()) {
                points.push((step, loss));
            }
        }
        series.push(plot::Series { name: name.to_owned(), points });
    }
    let picture = plot::lines(&series, "Contrastive loss", plot::Axes { x: "step", y: "loss" });
    store::write_atomic(folder.join("loss-curves.png"), &image::encode_png(&picture)?)
}

fn clock(stages: &[Stage], seconds: &[f64], total: f64) -> String {
    let parts: Vec<String> =
        stages.iter().zip(seconds).map(|(stage, seconds)| format!("{} {seconds:.0} s", stage.name)).collect();
    format!("{total:.0} s in all: {}.", parts.join(", "))
}

fn page(table: &str, clock: &str) -> String {
    format!(
        "# stablerep demo\n\n{table}\n{clock}\n\n\
        ![captions and their images](shards/contact-sheet.png)\n\n![loss curves](loss-curves.png)\n\n\
        | file | what it is |\n|---|---|\n\
        | `commands.sh` | the exact commands; each can be rerun, or changed, by itself |\n\
        | `captions.txt`, `tiny-sd/`, `fashion-mnist/` | what travelled in the binary: captions, the tiny Stable Diffusion, photographs |\n\
        | `shards/` | the images drawn, as webdataset shards, with contact sheet and statistics |\n\
        | `simclr/`, `stablerep/` | the two training runs: checkpoint, metrics.jsonl, TensorBoard events |\n\
        | `probe-*/report.json` | every head of every probe |\n\
        | `table.md`, `loss-curves.png` | the result |\n"
    )
}
