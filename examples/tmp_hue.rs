fn main() {
    let mut out = Vec::new();
    for f in [0.0999f32, -0.07, 0.5] {
        let mut px: Vec<u8> = (0..1u32 << 24).flat_map(|v| [(v >> 16) as u8, (v >> 8) as u8, v as u8]).collect();
        stablerep::ops::jitter::hue(&mut px, f);
        out.extend(px);
    }
    std::fs::write("/tmp/data_out/hue.bin", out).unwrap();
}
