//! One error type; its variant is the process exit code, its text names the file, key or line, what was expected, and
//! the fix.

use std::io;
use std::path::{Path, PathBuf};

/// Result of everything that can fail for a reason the user can see.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it. `exit_code` maps each variant to the process exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Flags or configuration that cannot be run (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// Input data that cannot be used: captions, images, shards, weights (exit code 3).
    #[error("{0}")]
    Data(String),
    /// Device missing, too old, or out of memory (exit code 4).
    #[error("{0}")]
    Device(String),
    /// A loss or gradient left the finite numbers (exit code 5).
    #[error("{0}")]
    Diverged(String),
    /// Stopped by a signal with the state saved (exit code 75, `EX_TEMPFAIL`: run the same command again).
    #[error("{0}")]
    Interrupted(String),
    /// The operating system refused a file operation (exit code 1).
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Anything else (exit code 1).
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Process exit code: 1 failed, 2 usage, 3 bad data, 4 device, 5 diverged, 75 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Data(_) => 3,
            Self::Device(_) => 4,
            Self::Diverged(_) => 5,
            Self::Interrupted(_) => 75,
        }
    }

    /// For `map_err`: wraps an `io::Error` with the file and the verb, e.g. `Error::io("open", path)`. Where the system
    /// gave the bytes and they are not what they should be, such as UTF-8 text, it is the data that is bad.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::InvalidData => Self::Data(format!("cannot {action} {}: {source}", path.display())),
            _ => Self::Io { action, path, source },
        }
    }
}

/// `Err(Error::Usage(format!(…)))`, likewise for any variant that holds a text: `bail!(Data, "…", …)`.
#[macro_export]
macro_rules! bail {
    ($kind:ident, $($arg:tt)+) => {
        return Err($crate::error::Error::$kind(format!($($arg)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_bad_data_and_a_missing_file_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"caf\xE9").unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::io("read", path)).unwrap_err();
        let bad = read(file.path());
        assert!(bad.exit_code() == 3 && bad.to_string().contains(&file.path().display().to_string()), "{bad}");
        assert_eq!(read(&file.path().with_extension("absent")).exit_code(), 1);
    }
}
