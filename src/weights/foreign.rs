//! Files that are met where weights or configs are expected, and are neither.

use std::path::Path;

/// Whether `bytes` are what git leaves in place of a large file that was not downloaded.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs")
}

/// What to do about such a file.
pub fn lfs_pointer(path: &Path) -> String {
    format!(
        "{}: is a Git LFS pointer, a note of where the file lies, not the file; run `git lfs install && git lfs pull` in the repository, or \
         download it with `hf download`",
        path.display()
    )
}

/// What `bytes` are, if their beginning shows that they are no safetensors file.
pub(super) fn known_as(path: &Path, bytes: &[u8]) -> Option<String> {
    if is_lfs_pointer(bytes) {
        return Some(lfs_pointer(path));
    }
    let kinds: [(&[u8], &str); 6] = [
        (&[0x1f, 0x8b], "is gzip-compressed; unpack it first"),
        (b"PK\x03\x04", "is a zip archive, as PyTorch's own files are; only safetensors are read"),
        (b"GGUF", "is a GGUF file; only safetensors are read"),
        (b"\x89HDF\r\n", "is an HDF5 file; only safetensors are read"),
        (b"<!DOCTYPE", "is a web page, not the file behind it; download the file itself"),
        (b"<html", "is a web page, not the file behind it; download the file itself"),
    ];
    let (_, what) = kinds.into_iter().find(|(start, _)| bytes.starts_with(start))?;
    Some(format!("{}: {what}", path.display()))
}
