//! The table of a run: Markdown as it goes, JSON at the end.

use serde_json::{Value, json};

use super::ceilings::Ceilings;
use super::measure::Timing;
use crate::bench::counts::Counts;
use crate::bench::table::{cells, large, three};
use crate::device::cuda::Gpu;
use crate::ops::bench::{Case, Work};

/// Collects the cases of a run and prints each as a row.
pub struct Report {
    print: Box<dyn FnMut(String)>,
    head: Value,
    rows: Vec<Value>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

/// Which ceiling is the lowest, and the microseconds it allows.
fn roofline(case: &Case, ceilings: &Ceilings) -> (&'static str, f64) {
    let work = case.work;
    let matrix = if case.e4m3 { 2.0 * ceilings.matrix } else { ceilings.matrix };
    let limits =
        [("matrix", work.flops / matrix), ("memory", work.bytes / ceilings.memory), ("exp", work.exps / ceilings.exps)];
    let (bound, seconds) =
        limits.into_iter().fold(("memory", 0.0), |most, limit| if limit.1 > most.1 { limit } else { most });
    (bound, seconds * 1e6)
}

impl Report {
    /// `print` gets each line.
    pub fn new(print: impl FnMut(String) + 'static) -> Self {
        Self { print: Box::new(print), head: Value::Null, rows: Vec::new() }
    }

    fn say(&mut self, line: impl Into<String>) {
        (self.print)(line.into());
    }

    pub(super) fn begin_times(&mut self, gpu: &Gpu, ceilings: &Ceilings, rival: bool) {
        let (major, minor) = gpu.capability();
        let cublaslt =
            ceilings.cublaslt.map_or("cuBLASLt not installed".into(), |f| format!("cuBLASLt {:.0}", f / 1e12));
        self.say(format!("{}, compute capability {major}.{minor}, {} multiprocessors", gpu.name(), gpu.sms()));
        self.say(format!(
            "Ceilings: product 8192³ {:.0} TFLOP/s (ours {:.0}, {cublaslt}), copy {:.0} GB/s, {:.2} T special functions/s \
             (16 per clock and multiprocessor). L2 cold; marks {:.1} µs, part of every time.",
            ceilings.matrix / 1e12,
            ceilings.ours / 1e12,
            ceilings.memory / 1e9,
            ceilings.exps / 1e12,
            ceilings.empty_us,
        ));
        self.say("");
        self.say("| op | kernel | shape | µs | min | noise | TFLOP/s | GB/s | of roofline | bound | cuBLASLt µs | ours faster |");
        self.say("|---|---|---|--:|--:|--:|--:|--:|--:|---|--:|--:|");
        self.head = json!({
            "device": gpu.name(),
            "simulated": false,
            "capability": format!("{major}.{minor}"),
            "cublaslt": rival,
            "ceilings": {
                "matrix_flops_per_s": ceilings.matrix,
                "ours_8192_flops_per_s": ceilings.ours,
                "cublaslt_8192_flops_per_s": ceilings.cublaslt,
                "memory_bytes_per_s": ceilings.memory,
                "special_functions_per_s": ceilings.exps,
                "empty_us": ceilings.empty_us,
            },
        });
    }

    pub(super) fn timed(&mut self, case: &Case, ours: Timing, theirs: Option<Timing>, ceilings: &Ceilings) {
        let seconds = ours.median_us * 1e-6;
        let (bound, limit_us) = roofline(case, ceilings);
        let of_roofline = limit_us / ours.median_us;
        let ratio = theirs.map(|theirs| theirs.median_us / ours.median_us);
        self.say(cells([
            case.op.into(),
            case.kernel.clone(),
            case.shape.clone(),
            three(ours.median_us),
            three(ours.min_us),
            format!("{:.1} %", 100.0 * ours.noise),
            three(case.work.flops / seconds / 1e12),
            three(case.work.bytes / seconds / 1e9),
            format!("{:.0} %", 100.0 * of_roofline),
            bound.into(),
            theirs.map_or("–".into(), |theirs| three(theirs.median_us)),
            ratio.map_or("–".into(), |ratio| format!("{ratio:.2}×")),
        ]));
        let mut row = self.row(case);
        row["median_us"] = json!(ours.median_us);
        row["min_us"] = json!(ours.min_us);
        row["noise"] = json!(ours.noise);
        row["repetitions"] = json!(ours.repetitions);
        row["bound"] = json!(bound);
        row["roofline_us"] = json!(limit_us);
        row["of_roofline"] = json!(of_roofline);
        row["cublaslt_us"] = json!(theirs.map(|theirs| theirs.median_us));
        row["speedup_over_cublaslt"] = json!(ratio);
        self.rows.push(row);
    }

    pub(super) fn begin_predictions(&mut self, ceilings: &Ceilings) {
        self.say(format!(
            "Predicted, not measured: {:.0} TFLOP/s (twice that over e4m3), {:.1} TB/s, {:.2} T special functions/s.",
            ceilings.matrix / 1e12,
            ceilings.memory / 1e12,
            ceilings.exps / 1e12
        ));
        self.say("");
        self.say("| op | kernel | shape | GFLOP | MB | M special functions | bound | least µs |");
        self.say("|---|---|---|--:|--:|--:|---|--:|");
        self.head = json!({ "device": "H200", "predicted": true });
    }

    pub(super) fn predicted(&mut self, case: &Case, ceilings: &Ceilings) {
        let (bound, limit_us) = roofline(case, ceilings);
        let Work { flops, bytes, exps } = case.work;
        self.say(cells([
            case.op.into(),
            case.kernel.clone(),
            case.shape.clone(),
            three(flops / 1e9),
            three(bytes / 1e6),
            three(exps / 1e6),
            bound.into(),
            three(limit_us),
        ]));
        let mut row = self.row(case);
        row["bound"] = json!(bound);
        row["roofline_us"] = json!(limit_us);
        self.rows.push(row);
    }

    pub(super) fn begin_counts(&mut self, gpu: &Gpu) {
        self.say(format!("{}: counts at reduced shapes, no times", gpu.name()));
        self.say("");
        self.say(
            "| op | kernel | shape | launches | warp instr. | lanes busy | read | written | of the least | bytes per sector | shared | \
             bank conflicts | mma | wgmma |",
        );
        self.say("|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
        self.head = json!({ "device": gpu.name(), "simulated": true });
    }

    pub(super) fn counted(&mut self, case: &Case, counts: Counts) {
        let lanes = counts.lane_instructions as f64 / (32.0 * counts.warp_instructions.max(1) as f64);
        // Bulk copies are counted apart from what lanes load, store and copy.
        let through_lanes = counts.global_read_bytes + counts.global_write_bytes;
        let moved = (through_lanes + counts.bulk_bytes) as f64;
        // 32 when all of every sector is used; more when lanes share values.
        let sectors = through_lanes as f64 / counts.global_sectors.max(1) as f64;
        self.say(cells([
            case.op.into(),
            case.kernel.clone(),
            case.shape.clone(),
            counts.launches.to_string(),
            large(counts.warp_instructions),
            format!("{:.0} %", 100.0 * lanes),
            large(counts.global_read_bytes),
            large(counts.global_write_bytes),
            format!("{:.2}×", moved / case.work.bytes),
            if counts.global_sectors == 0 { "–".into() } else { format!("{sectors:.0}") },
            large(counts.shared_read_bytes + counts.shared_write_bytes),
            large(counts.bank_conflicts),
            large(counts.mma),
            large(counts.wgmma),
        ]));
        let mut row = self.row(case);
        row["counts"] = json!(counts);
        self.rows.push(row);
    }

    fn row(&self, case: &Case) -> Value {
        json!({
            "op": case.op,
            "kernel": case.kernel,
            "shape": case.shape,
            "flops": case.work.flops,
            "bytes": case.work.bytes,
            "special_functions": case.work.exps,
        })
    }

    /// Everything, for a file.
    pub fn json(&self) -> Value {
        let mut all = self.head.clone();
        all["cases"] = Value::Array(self.rows.clone());
        all
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::ops::bench::Work;

    fn case(work: Work) -> Case {
        Case::new(("op", "kernel", "[1]".into()), work, |_| Ok(|_: &Gpu| Ok(())))
    }

    const CEILINGS: Ceilings =
        Ceilings { matrix: 8e14, memory: 4e12, exps: 4e12, ours: 7e14, cublaslt: Some(8e14), empty_us: 1.0 };

    #[test]
    fn the_lowest_roof_binds() {
        let bound = |flops, bytes, exps| roofline(&case(Work { flops, bytes, exps }), &CEILINGS);
        assert_eq!(bound(8e8, 4e5, 0.0), ("matrix", 1.0));
        assert_eq!(bound(8e8, 8e6, 0.0), ("memory", 2.0));
        assert_eq!(bound(8e8, 4e6, 1.2e7), ("exp", 3.0));
    }

    #[test]
    fn rows_hold_what_was_measured() {
        let lines = Rc::new(RefCell::new(Vec::new()));
        let sink = lines.clone();
        let mut report = Report::new(move |line| sink.borrow_mut().push(line));
        let timing = |median_us| Timing { median_us, min_us: median_us - 1.0, noise: 0.01, repetitions: 9 };
        let case = case(Work { flops: 8e8, bytes: 4e6, exps: 0.0 });
        report.timed(&case, timing(2.0), Some(timing(3.0)), &CEILINGS);
        assert_eq!(
            lines.borrow()[0],
            "| op | kernel | [1] | 2.00 | 1.00 | 1.0 % | 400 | 2000 | 50 % | matrix | 3.00 | 1.50× |"
        );
        let row = &report.json()["cases"][0];
        assert_eq!((row["median_us"].as_f64(), row["speedup_over_cublaslt"].as_f64()), (Some(2.0), Some(1.5)));
        assert_eq!(row["of_roofline"].as_f64(), Some(0.5));
    }

    #[test]
    fn counts_are_no_times() {
        let lines = Rc::new(RefCell::new(Vec::new()));
        let sink = lines.clone();
        let mut report = Report::new(move |line| sink.borrow_mut().push(line));
        let counts = Counts {
            launches: 1,
            warp_instructions: 100,
            lane_instructions: 1600,
            global_read_bytes: 3000,
            global_write_bytes: 1000,
            global_sectors: 250,
            ..Counts::default()
        };
        report.counted(&case(Work { flops: 0.0, bytes: 4000.0, exps: 0.0 }), counts);
        assert_eq!(
            lines.borrow()[0],
            "| op | kernel | [1] | 1 | 100 | 50 % | 3000 | 1000 | 1.00× | 16 | 0 | 0 | 0 | 0 |"
        );
        assert!(report.json()["cases"][0].get("median_us").is_none());
    }
}
