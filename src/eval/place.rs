//! Where an evaluation reports: a folder that holds no report of another one, lies apart from the folders that are
//! read, and has one writer.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::{Error, Result};
use crate::eval::dataset::webdataset;
use crate::store::{self, Occupied};

/// The file of every evaluation's report.
pub const REPORT: &str = "report.json";

/// The folder of one evaluation, if it is to have one. What was made for it and stays empty goes with it.
#[derive(Debug)]
pub struct Place {
    evaluation: &'static str,
    folder: Option<PathBuf>,
    /// Whether there was nothing before.
    new: bool,
    occupied: Option<Occupied>,
}

/// What a report says of itself, whatever else is in it.
#[derive(Deserialize)]
struct Held {
    evaluation: String,
}

/// A report with the evaluation that it is of.
#[derive(Serialize)]
struct Told<'a, T> {
    evaluation: &'static str,
    #[serde(flatten)]
    report: &'a T,
}

impl Place {
    /// The place of `evaluation` in `output`, before there is any work: nothing is made yet. Features are kept in
    /// `features`; `read` are the paths that pictures are read from.
    ///
    /// # Errors
    /// `Usage` when `output` holds what another evaluation found, or when it or `features` lies in a folder that is
    /// read, whose contents would be others the next time; `Io` when the system refuses.
    pub fn of(
        evaluation: &'static str,
        output: Option<&Path>,
        features: Option<&Path>,
        read: &[&Path],
    ) -> Result<Self> {
        for (flag, folder) in [("--output", output), ("--features", features)] {
            folder.map_or(Ok(()), |folder| refuse_within(flag, folder, read))?;
        }
        output.map_or(Ok(()), |folder| refuse_other(evaluation, folder))?;
        let new = output.is_some_and(|folder| !folder.exists());
        Ok(Self { evaluation, folder: output.map(Path::to_owned), new, occupied: None })
    }

    /// Makes the folder and takes it, before the work, to know whether it can be.
    ///
    /// # Errors
    /// `Usage` when another process writes there; `Io` when it cannot be made.
    pub fn take(&mut self) -> Result<()> {
        if let Some(folder) = &self.folder {
            self.occupied = Some(store::occupy_folder(folder, 0, 1)?);
            // Whoever had it until now may have reported meanwhile.
            refuse_other(self.evaluation, folder)?;
        }
        Ok(())
    }

    /// Writes `report` under the name of its evaluation, where there is a folder.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn write(&self, report: &impl Serialize) -> Result<()> {
        match &self.folder {
            Some(folder) => store::write_record(folder, REPORT, &Told { evaluation: self.evaluation, report }),
            None => Ok(()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.occupied = None;
        if let (true, Some(folder)) = (self.new, &self.folder) {
            // What cannot be removed is not empty: something came of it.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Refuses a folder whose report is another evaluation's, or nothing that an evaluation wrote.
fn refuse_other(evaluation: &str, folder: &Path) -> Result<()> {
    let path = folder.join(REPORT);
    if path.is_dir() {
        bail!(Usage, "{}: is a folder, where the report goes; choose another --output", path.display());
    }
    let bytes = match store::read(&path, store::RECORD) {
        Ok(bytes) => bytes,
        // That `folder` is a file is said when it is taken.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Held { evaluation: held }) if held == evaluation => Ok(()),
        Ok(Held { evaluation: held }) => bail!(
            Usage,
            "{}: holds what the evaluation `{held}` found, which that of `{evaluation}` would replace; choose another \
             --output",
            path.display()
        ),
        Err(_) => bail!(
            Usage,
            "{}: does not say of which evaluation it is, and would be replaced; move it away, or choose another --output",
            path.display()
        ),
    }
}

/// Refuses a folder that is, or lies in, one of those that pictures are looked for in. Of a folder of shards only those
/// are read, whatever lies beside them.
fn refuse_within(flag: &str, folder: &Path, read: &[&Path]) -> Result<()> {
    let Some(written) = resolved(folder) else { return Ok(()) };
    for path in read.iter().filter(|path| path.is_dir()) {
        if webdataset::find_in_folder(path)?.is_none()
            && path.canonicalize().is_ok_and(|path| written.starts_with(path))
        {
            bail!(
                Usage,
                "{flag} {}: lies in {}, which pictures are read from, and would change what is read the next time; \
                 choose a folder outside of it",
                folder.display(),
                path.display()
            );
        }
    }
    Ok(())
}

/// Where `path` is, or will be when it is made, links followed.
fn resolved(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|above| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_of_one_evaluation() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("scores");
        let place = |evaluation| Place::of(evaluation, Some(&folder), None, &[]);
        drop(place("fid").unwrap());
        assert!(!folder.exists());
        let mut first = place("fid").unwrap();
        first.take().unwrap();
        assert_eq!(place("fid").unwrap().take().unwrap_err().exit_code(), 2, "two writers");
        first.write(&serde_json::json!({"frechet": 1.5})).unwrap();
        drop(first);
        let text = fs::read_to_string(folder.join(REPORT)).unwrap();
        assert_eq!(text, "{\n  \"evaluation\": \"fid\",\n  \"frechet\": 1.5\n}\n");
        assert!(place("fid").is_ok());
        // One that looked before the first had reported.
        let mut late = Place { evaluation: "knn", folder: Some(folder.clone()), new: false, occupied: None };
        assert_eq!(late.take().unwrap_err().exit_code(), 2);
        let refused = |evaluation, needles: [&str; 2]| {
            let error = place(evaluation).unwrap_err();
            assert!(error.exit_code() == 2 && needles.iter().all(|part| error.to_string().contains(part)), "{error}");
        };
        refused("linear", ["scores/report.json: holds what the evaluation `fid` found", "another --output"]);
        for other in ["{\"miou\": 3}", "[", "{\"evaluation\": 3}"] {
            fs::write(folder.join(REPORT), other).unwrap();
            refused("fid", ["scores/report.json: does not say of which", "another --output"]);
        }
        fs::remove_file(folder.join(REPORT)).unwrap();
        fs::create_dir(folder.join(REPORT)).unwrap();
        refused("fid", ["scores/report.json: is a folder", "another --output"]);
        drop(Place::of("fid", None, None, &[root.path()]).unwrap());
    }

    #[test]
    fn what_is_read_is_not_written_into() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in ["data/images", "data-scores", "scores"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("list"), "").unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        let data = at("data");
        let read: [&Path; 3] = [&at("list"), Path::new("{0..1}.tar"), &data];
        for (output, inside) in [
            ("data", true),
            ("data/new/deep", true),
            ("link/images", true),
            ("scores/../data", true),
            ("data/../scores", false),
            ("data-scores", false),
            ("scores/new", false),
            ("list", false),
        ] {
            let said = |place: Result<Place>, flag: &str| {
                let error = place.err().map_or(String::new(), |error| error.to_string());
                let wanted = format!("{flag} {}: lies in {}", at(output).display(), data.display());
                assert!(if inside { error.starts_with(&wanted) } else { error.is_empty() }, "{output}: {error}");
            };
            said(Place::of("knn", Some(&at(output)), None, &read), "--output");
            said(Place::of("knn", None, Some(&at(output)), &read), "--features");
        }
        fs::write(at("data/00000.tar"), "").unwrap();
        assert!(Place::of("knn", Some(&at("data/new")), None, &read).is_ok(), "beside shards");
    }
}
