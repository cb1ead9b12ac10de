//! The table of `bench generate`: Markdown as it goes, JSON at the end.

use serde_json::{Value, json};

use super::options::Options;
use super::trial::{Lone, Steady, Trial};
use crate::bench::counts::Counts;
use crate::bench::machine::{Age, Machine};
use crate::bench::table::{cells, flop, large, three};
use crate::config::json;
use crate::device::{Queued, human_bytes};
use crate::generate::{Flops, Trace};

/// When the first things were done, seconds of `age`.
#[derive(Clone, Copy, Debug)]
pub struct StartUp {
    pub age: Age,
    pub opened: f64,
    /// The first call of the UNet, its captions' encoding included.
    pub first_call: f64,
    pub first_batch: f64,
}

/// Bytes that were planned for weights and batch, and by which a card's free memory fell.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub planned: u64,
    pub used: Option<u64>,
}

/// What the simulated driver counts of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub text: Counts,
    /// All calls of the UNet.
    pub calls: Counts,
    pub decoder: Counts,
    /// What we queued for the calls.
    pub queued: Queued,
    /// Kernels that we queued for all of it, and for the calls once more.
    pub launches: u64,
}

/// Collects the batch sizes of a run and prints each as a row.
pub struct Report<'a> {
    print: &'a mut dyn FnMut(String),
    head: Value,
    rows: Vec<Value>,
    flops: Flops,
    gpu: bool,
    /// FLOP/s of an 8192³ product.
    peak: Option<f64>,
    /// Seconds of a lone batch of one image.
    latency: Option<f64>,
    best: Option<(usize, f64)>,
}

/// Milliseconds of the device for one image, but for the calls: of a batch, each.
#[derive(Clone, Copy, Debug, Default)]
struct Stages {
    text: f64,
    sent: f64,
    call: f64,
    painted: f64,
    received: f64,
    /// Share of the time between first and last mark.
    idle: f64,
}

impl Stages {
    fn of(traces: &[Trace], batch: usize) -> Self {
        let images = (traces.len() * batch) as f64;
        let sum = |of: fn(&Trace) -> f64| traces.iter().map(of).sum::<f64>();
        let calls: usize = traces.iter().map(|trace| trace.calls.len()).sum();
        let (text, sent, painted) = (sum(|t| t.text), sum(|t| t.sent), sum(|t| t.painted));
        let (received, called, idle) =
            (sum(|t| t.received), sum(|t| t.calls.iter().sum()), sum(|t| t.idle.unwrap_or(0.0)));
        let all = text + sent + called + painted + received + idle;
        Self {
            text: text / images,
            sent: sent / images,
            call: called / calls as f64,
            painted: painted / images,
            received: received / images,
            idle: idle / all,
        }
    }
}

/// What is said of calls that do less than the others.
fn fewer(options: &Options, flops: Flops) -> String {
    let mut said = String::new();
    if options.drawing.guidance_interval.is_some() {
        said += &format!(", guided in {} of them", flops.guided);
    }
    if flops.reusing > 0 {
        said += &format!(", {} reusing what lies deep", flops.reusing);
    }
    said
}

/// Names of the table's columns, and how they are aligned.
fn columns(simulated: bool, gpu: bool) -> (&'static str, &'static str) {
    if simulated {
        ("batch | stage | launches | warp instr. | read | written | bulk copies", "--:|---|--:|--:|--:|--:|--:")
    } else if gpu {
        (
            "batch | images/s | s per image | latency s | text ms | UNet call ms | decode ms | copies ms | idle | TFLOP/s | MFU | \
             prepare ms | encode ms | write ms | memory: plan | used",
            "--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:",
        )
    } else {
        (
            "batch | images/s | s per image | latency s | UNet call ms | decode ms | GFLOP/s | prepare ms | encode ms | write ms | \
             memory plan",
            "--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:",
        )
    }
}

impl<'a> Report<'a> {
    pub fn new(print: &'a mut dyn FnMut(String)) -> Self {
        let (head, flops) = (Value::Null, Flops::default());
        Self { print, head, rows: Vec::new(), flops, gpu: false, peak: None, latency: None, best: None }
    }

    fn say(&mut self, line: impl Into<String>) {
        (self.print)(line.into());
    }

    pub fn begin(
        &mut self,
        options: &Options,
        machine: &Machine,
        drawing: &Trial<'_>,
        start: StartUp,
        peak: Option<f64>,
    ) {
        let (pipeline, simulated) = (drawing.pipeline(), machine.counts().is_some());
        let (width, height) = pipeline.size();
        let narrow = if options.fp8.is_some() { " and e4m3" } else { "" };
        let precision = format!("{}{narrow}", format!("{:?}", pipeline.precision()).to_lowercase());
        (self.flops, self.gpu, self.peak) = (pipeline.flops(), machine.is_gpu(), peak);
        let flops = self.flops;
        if simulated {
            self.say(format!("{}: counts of one batch, no times", machine.name()));
        } else {
            self.say(format!(
                "{}. Start-up, from {}: {:.2} s to the opened model, {:.2} s to the end of the first UNet call, {:.2} s to the first \
                 batch. (Again for weights from the page cache and packed before.)",
                machine.name(),
                start.age.since,
                start.opened,
                start.first_call,
                start.first_batch,
            ));
        }
        self.say(format!(
            "{}: {precision}, {width}×{height}, {} in {} steps, {} UNet calls, w = {}{}",
            options.model.display(),
            options.drawing.sampler,
            options.drawing.steps,
            flops.calls,
            options.drawing.guidance_scale,
            fewer(options, flops)
        ));
        self.say(format!(
            "An image: {} (text {}, each call {} a branch, decoder {}); {} computed, as both guidance branches are one up to the \
             first cross-attention.{}",
            flop(flops.image()),
            flop(flops.text),
            flop(flops.call),
            flop(flops.decoder),
            flop(flops.computed()),
            peak.map_or(String::new(), |peak| format!(" MFU is of {:.0} TFLOP/s, a product 8192³ in bf16.", peak / 1e12)),
        ));
        self.say("");
        let (names, align) = columns(simulated, self.gpu);
        self.say(format!("| {names} |"));
        self.say(format!("|{align}|"));
        self.head = json!({
            "device": machine.name(),
            "simulated": simulated,
            "model": options.model,
            "model_sha256": pipeline.model_sha256(),
            "precision": precision,
            "width": width,
            "height": height,
            "sampler": options.drawing.sampler,
            "steps": options.drawing.steps,
            "unet_calls": flops.calls,
            "guided_calls": flops.guided,
            "reusing_calls": flops.reusing,
            "guidance_scale": json::shortest(options.drawing.guidance_scale),
            "flops_per_image": {
                "model": flops.image(),
                "computed": flops.computed(),
                "text": flops.text,
                "unet_call": flops.unet / flops.calls as f64,
                "unet_call_of_a_branch": flops.call,
                "decoder": flops.decoder,
            },
        });
        if !simulated {
            self.head["start_up"] = json!({
                "since": start.age.since,
                "opened_s": start.opened,
                "first_unet_call_s": start.first_call,
                "first_batch_s": start.first_batch,
            });
            self.head["peak_flops_per_s"] = json!(peak);
        }
    }

    /// Returns images per second.
    pub fn timed(&mut self, batch: usize, lone: Lone, steady: &Steady, memory: Memory) -> f64 {
        let (flops, rate) = (self.flops, steady.images as f64 / steady.seconds);
        let done = rate * flops.image();
        let [prepare, encode, write] = [steady.host.prepare, steady.host.encode, steady.host.write]
            .map(|seconds| 1e3 * seconds / steady.images as f64);
        let mut row = vec![batch.to_string(), three(rate), three(1.0 / rate), three(lone.seconds)];
        let mut all = json!({
            "batch": batch,
            "images": steady.images,
            "seconds": steady.seconds,
            "images_per_s": rate,
            "latency_s": lone.seconds,
            "flops_per_s": done,
            "computed_flops_per_s": rate * flops.computed(),
            "host_ms_per_image": { "prepare": prepare, "encode": encode, "write": write },
            "planned_bytes": memory.planned,
        });
        if self.gpu {
            let stages = Stages::of(&steady.traces, batch);
            let mfu = self.peak.map(|peak| done / peak);
            row.extend([stages.text, stages.call, stages.painted, stages.sent + stages.received].map(three));
            row.push(format!("{:.1} %", 100.0 * stages.idle));
            row.extend([three(done / 1e12), mfu.map_or("–".into(), |mfu| format!("{:.1} %", 100.0 * mfu))]);
            row.extend([prepare, encode, write].map(three));
            row.extend([human_bytes(memory.planned), memory.used.map_or("–".into(), human_bytes)]);
            all["device_ms"] = json!({
                "text_per_image": stages.text,
                "sent_per_image": stages.sent,
                "unet_call": stages.call,
                "decode_per_image": stages.painted,
                "received_per_image": stages.received,
            });
            all["idle_share"] = json!(stages.idle);
            all["mfu"] = json!(mfu);
            all["used_bytes"] = json!(memory.used);
        } else {
            row.extend([1e3 * lone.call, 1e3 * lone.rest / batch as f64, done / 1e9].map(three));
            row.extend([prepare, encode, write].map(three));
            row.push(human_bytes(memory.planned));
            all["unet_call_ms"] = json!(1e3 * lone.call);
            all["decode_ms_per_image"] = json!(1e3 * lone.rest / batch as f64);
        }
        self.say(cells(row));
        self.rows.push(all);
        if batch == 1 {
            self.latency = Some(lone.seconds);
        }
        if self.best.is_none_or(|(_, best)| rate > best) {
            self.best = Some((batch, rate));
        }
        rate
    }

    /// `traces` of batches with marks around their stages: how many marks there were, not when.
    pub fn counted(&mut self, batch: usize, counted: &Counted, traces: &[Trace]) {
        let Counted { text, calls, decoder, queued, launches } = counted;
        let stages = [("text", text), ("UNet calls", calls), ("decode", decoder)];
        for (stage, counts) in stages {
            let numbers =
                [counts.warp_instructions, counts.global_read_bytes, counts.global_write_bytes, counts.bulk_bytes];
            let mut row = vec![batch.to_string(), stage.into(), counts.launches.to_string()];
            row.extend(numbers.map(large));
            self.say(cells(row));
        }
        let kernels = queued.replayed / queued.replays.max(1);
        self.say(format!(
            "| {batch} | {} replays of {kernels} kernels for {} calls | | | | | |",
            queued.replays, self.flops.calls
        ));
        self.rows.push(json!({
            "batch": batch,
            "replays": queued.replays,
            "kernels_per_call": kernels,
            "kernels_beside_replays": queued.kernels,
            "kernels": launches,
            "traced_calls": traces.iter().map(|trace| trace.calls.len()).collect::<Vec<_>>(),
            "counts": { "text": text, "unet_calls": calls, "decode": decoder },
        }));
    }

    pub fn does_not_fit(&mut self, batch: usize, why: &str) {
        let why = why.lines().next().unwrap_or_default();
        self.say(format!("| {batch} | {why} |"));
        self.rows.push(json!({ "batch": batch, "error": why }));
    }

    /// Everything, for a file.
    pub fn finish(mut self) -> Value {
        let mut all = std::mem::take(&mut self.head);
        if let Some((batch, rate)) = self.best {
            self.say("");
            if self.gpu {
                self.say(
                    "Milliseconds per image of the device's clock between marks in its stream (UNet: a call of the whole batch, with the \
                     sampler's step) and of the host's leading thread, which works meanwhile. Idle: from the last copy of a batch to the \
                     first mark of the next, as a share of all; waits between the kernels of a batch are in its stages.",
                );
            }
            let latency = self.latency.map_or(String::new(), |s| format!("; latency at batch 1: {} s", three(s)));
            self.say(format!("Best: {} images/s at batch {batch}{latency}", three(rate)));
            all["best"] = json!({ "batch": batch, "images_per_s": rate });
            all["latency_at_batch_1_s"] = json!(self.latency);
        }
        all["batches"] = Value::Array(std::mem::take(&mut self.rows));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::generate::trial::Host;

    /// Two batches of four images: 2 calls of 100 ms, 40 ms of decoding, 10 ms idle of 260.
    #[test]
    fn a_row_of_a_card() {
        let mut lines = Vec::new();
        let mut print = |line| lines.push(line);
        let mut report = Report::new(&mut print);
        report.gpu = true;
        report.peak = Some(8e14);
        report.flops =
            Flops { call: 2e12, unet: 8e12, saved: 2e12, decoder: 2e12, calls: 2, guided: 2, ..Flops::default() };
        let trace =
            Trace { idle: Some(10.0), text: 4.0, sent: 2.0, calls: vec![100.0, 100.0], painted: 40.0, received: 4.0 };
        let host = Host { prepare: 0.008, encode: 0.08, write: 0.0 };
        let steady = Steady { images: 8, seconds: 0.5, host, traces: vec![trace.clone(), trace] };
        let lone = Lone { seconds: 0.3, first_call: 0.11, call: 0.1, rest: 0.05 };
        let rate = report.timed(4, lone, &steady, Memory { planned: 1 << 30, used: Some(3 << 29) });
        let all = report.finish();
        assert_eq!(rate, 16.0);
        assert_eq!(
            lines[0],
            "| 4 | 16.0 | 0.062 | 0.300 | 1.00 | 100 | 10.0 | 1.50 | 3.8 % | 160 | 20.0 % | 1.00 | 10.0 | – | 1.0 GiB | 1.5 GiB |"
        );
        let row = &all["batches"][0];
        assert_eq!((row["mfu"].as_f64(), row["computed_flops_per_s"].as_f64()), (Some(0.2), Some(128e12)));
        assert_eq!(all["best"]["batch"], 4);
        assert!(all["latency_at_batch_1_s"].is_null());
    }
}
