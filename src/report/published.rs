//! What the paper reports, to stand beside what was measured here.

/// Top-1 of linear probes on ImageNet, ViT-B/16 (Tian et al. 2023, arXiv 2306.00984, table 1): data, method, pictures,
/// %.
const LINEAR: [(&str, &str, &str, &str); 10] = [
    ("CC12M", "SimCLR", "real", "61.5"),
    ("CC12M", "CLIP", "real", "70.3"),
    ("CC12M", "SimCLR", "drawn", "63.7"),
    ("CC12M", "CLIP", "drawn", "67.8"),
    ("CC12M", "StableRep", "drawn", "73.5"),
    ("RedCaps", "SimCLR", "real", "61.8"),
    ("RedCaps", "CLIP", "real", "71.9"),
    ("RedCaps", "SimCLR", "drawn", "62.8"),
    ("RedCaps", "CLIP", "drawn", "69.2"),
    ("RedCaps", "StableRep", "drawn", "74.5"),
];

/// Header and rows of it.
pub fn linear() -> (Vec<String>, Vec<Vec<String>>) {
    let header = ["published: ImageNet, ViT-B/16, 35 epochs", "method", "pictures", "linear %"];
    let row = |(data, method, pictures, top1): &(&str, &str, &str, &str)| {
        [*data, *method, *pictures, *top1].map(str::to_owned).to_vec()
    };
    (header.map(str::to_owned).to_vec(), LINEAR.iter().map(row).collect())
}
