//! Cells of the Markdown tables.

/// A number with three digits, `–` for none.
pub fn three(value: f64) -> String {
    match value {
        v if !v.is_finite() || v == 0.0 => "–".into(),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// A row.
pub fn cells(cells: impl AsRef<[String]>) -> String {
    format!("| {} |", cells.as_ref().join(" | "))
}

/// Thousands and millions.
pub fn large(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
        _ => format!("{:.1} M", count as f64 / 1e6),
    }
}

/// FLOPs with their unit.
pub fn flop(count: f64) -> String {
    match count {
        c if c >= 1e12 => format!("{} TFLOP", three(c / 1e12)),
        c if c >= 1e9 => format!("{} GFLOP", three(c / 1e9)),
        c => format!("{} MFLOP", three(c / 1e6)),
    }
}
