//! The 8-bit storage type against PyTorch's.

use std::path::Path;

use stablerep::device::cuda::E4m3;
use stablerep::weights::SafeTensors;

/// Every pattern means what it means there, and values (ties, their neighbours, what saturates, what vanishes) round to
/// the same patterns.
#[test]
fn e4m3_is_pytorchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/e4m3.safetensors");
    let file = SafeTensors::open(path).unwrap();
    // Two of the patterns are no numbers, which `f32` refuses.
    let wide = |name: &str| -> Vec<f32> {
        file.f64(name, file.shape(name).unwrap()).unwrap().into_iter().map(|value| value as f32).collect()
    };
    let decoded = wide("decoded");
    assert_eq!(decoded.len(), 256);
    for (bits, want) in (0..=255).zip(&decoded) {
        let got = E4m3::from_bits(bits).widen();
        assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{bits:#04x}: {got}, not {want}");
    }
    assert_eq!(decoded.iter().filter(|v| v.is_nan()).count(), 2);
    let values = wide("values");
    let encoded = file.i64("encoded", file.shape("encoded").unwrap()).unwrap();
    assert!(values.len() > 2000);
    for (value, want) in values.iter().zip(encoded) {
        let got = E4m3::round(*value);
        assert_eq!(i64::from(got.to_bits()), want, "{value:e} is {}", got.widen());
    }
}
