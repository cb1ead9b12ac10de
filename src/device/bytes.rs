//! Bytes as people read and write them.

/// `1234567` → `1.2 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `80GB` → 80·10⁹, `79.5GiB` → 79.5·2³⁰; MB and MiB likewise.
///
/// # Errors
/// What was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("GiB", 2f64.powi(30)), ("MiB", 2f64.powi(20)), ("GB", 1e9), ("MB", 1e6)];
    let value = units.iter().find_map(|(unit, bytes)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * bytes));
    match value.filter(|bytes| (1.0..1e18).contains(bytes)) {
        Some(bytes) => Ok(bytes as u64),
        None => Err(format!("expected a size in GB, GiB, MB or MiB, such as 80GB; got `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("141GB", 141_000_000_000), ("1.5GiB", 3 << 29), ("24MiB", 24 << 20)] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for text in ["80", "80 gb", "GB", "-1GB", "1e99GB", "NaNGB"] {
            assert!(parse_bytes(text).unwrap_err().contains(&format!("`{text}`")));
        }
    }
}
