//! What a file or folder is that was taken for shards and is none, with what to do about it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Formats by their first bytes.
const KINDS: &[(&[u8], &str)] = &[
    (&[0x1F, 0x8B], "it is gzip-compressed; unpack it once with `gunzip`"),
    (&[0x28, 0xB5, 0x2F, 0xFD], "it is zstd-compressed; unpack it once with `unzstd`"),
    (b"BZh", "it is bzip2-compressed; unpack it once with `bunzip2`"),
    (&[0xFD, b'7', b'z', b'X', b'Z', 0], "it is xz-compressed; unpack it once with `unxz`"),
    (&[0x04, 0x22, 0x4D, 0x18], "it is lz4-compressed; unpack it once with `unlz4`"),
    (b"PK\x03\x04", "it is a zip; unpack it and pack its files as a tar"),
    (b"PAR1", "it is a parquet table; shards are tars of pictures and captions"),
    (b"version https://git-lfs", "it is the pointer of a Git LFS file; fetch the file with `git lfs pull`"),
    (b"<!DOCTYPE", "it is a web page; the download failed, fetch it again"),
    (b"<html", "it is a web page; the download failed, fetch it again"),
    (&[0xFF, 0xD8, 0xFF], "it is a JPEG picture"),
    (b"\x89PNG", "it is a PNG picture"),
];

/// Ends of the names of compressed shards.
const COMPRESSED: &[&str] = &[".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz", ".tar.lz4", ".tbz2", ".txz"];

/// What a file that begins with `bytes` is, and what to do with it.
pub(super) fn of_bytes(bytes: &[u8]) -> Option<&'static str> {
    KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what)
}

/// Whether the name says that a shard is compressed.
pub fn is_compressed_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    COMPRESSED.iter().any(|end| name.ends_with(end))
}

/// What `folder`, which holds no `.tar`, holds instead, and what to type: a clause for the end of an error.
pub fn of_folder(folder: &Path) -> String {
    let (mut folders, mut compressed, mut pictures, mut partial) = (Vec::new(), 0, 0, 0);
    for path in entries(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match () {
            () if path.is_dir() => folders.push(path),
            () if is_compressed_name(&path) => compressed += 1,
            () if name.starts_with('.') => partial += usize::from(name.ends_with(".tar.partial")),
            () => pictures += usize::from(is_picture(&path)),
        }
    }
    folders.sort();
    let holds = |wanted: fn(&Path) -> bool| -> Vec<&PathBuf> {
        folders.iter().filter(|folder| entries(folder).any(|path| wanted(&path))).collect()
    };
    let tars = holds(|path| path.extension() == Some(OsStr::new("tar")));
    if !tars.is_empty() {
        let few: Vec<String> = tars.iter().take(3).map(|folder| folder.display().to_string()).collect();
        let dots = if tars.len() > few.len() { " …" } else { "" };
        return format!("{} folder(s) in it hold shards: name them, {}{dots}", tars.len(), few.join(" "));
    }
    if compressed > 0 {
        return format!("it holds {compressed} compressed shard(s) such as *.tar.gz; unpack them once (`gunzip`)");
    }
    if partial > 0 {
        return "`stablerep generate` began there and has finished no shard yet".into();
    }
    let classes = holds(is_picture);
    if pictures > 0 || !classes.is_empty() {
        let found = match classes.first() {
            Some(first) => format!("{} folder(s) of pictures such as {}", classes.len(), first.display()),
            None => format!("{pictures} picture(s)"),
        };
        return format!(
            "it holds {found}; shards are tars in which the caption stands beside its pictures: \
             tar --sort=name -cf 00000.tar a.jpg a.txt b.jpg b.txt … (or webdataset's ShardWriter)"
        );
    }
    "expected shards, as `stablerep generate` or webdataset's ShardWriter write them".into()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    // Only to say what is there: what cannot be listed is not described.
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    matches!(extension.as_str(), "jpg" | "jpeg" | "png" | "webp")
}
