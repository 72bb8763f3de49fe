//! Finding and reading feature files.

use kezhan_gherkin::ast::{Document, Location};
use kezhan_gherkin::{Ids, Pickle, parse_bytes, pickles, renumber, spec};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A feature file that parsed.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Its name, as the caller gave it or found below a folder.
    pub path: PathBuf,
    /// Its text, without byte order mark.
    pub text: String,
    /// Its syntax tree.
    pub document: Document,
    /// Its scenarios, ready to run.
    pub pickles: Vec<Pickle>,
}

/// Something wrong with a file. `Display` gives `FILE:LINE:COLUMN: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where in it; absent when it could not be read.
    pub location: Option<Location>,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location {
            Some(location) => write!(f, "{}:{location}: {}", self.path.display(), self.message),
            None => write!(f, "{}: {}", self.path.display(), self.message),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The files that parsed, in order of their names.
    pub features: Vec<Feature>,
    /// Every fault of the others.
    pub problems: Vec<Problem>,
}

/// Reads files, and every `*.feature` below folders. Identifiers are unique over all of them.
pub fn load(paths: &[PathBuf], language: &str) -> Loaded {
    let mut loaded = Loaded::default();
    let mut ids = Ids::default();
    for path in paths {
        match find(path) {
            Ok(files) => files.iter().for_each(|file| read(file, language, &mut ids, &mut loaded)),
            Err(problem) => loaded.problems.push(problem),
        }
    }
    loaded
}

fn problem(path: &Path, error: &std::io::Error) -> Problem {
    Problem { path: path.to_owned(), location: None, message: format!("cannot be read: {error}") }
}

fn find(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let kind = std::fs::metadata(path).map_err(|error| problem(path, &error))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let entries = std::fs::read_dir(path).map_err(|error| problem(path, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| problem(path, &error))?;
        // A link to a folder is not followed: it could lead back.
        let kind = entry.file_type().map_err(|error| problem(path, &error))?;
        let below = entry.path();
        if kind.is_dir() {
            files.extend(find(&below)?);
        } else if below.extension().is_some_and(|extension| extension == "feature") {
            files.push(below);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path, language: &str, ids: &mut Ids, loaded: &mut Loaded) {
    match read_one(path, language, ids) {
        Ok(feature) => loaded.features.push(feature),
        Err(problems) => loaded.problems.extend(problems),
    }
}

fn read_one(path: &Path, language: &str, ids: &mut Ids) -> Result<Feature, Vec<Problem>> {
    let at = |error: kezhan_gherkin::ParseError| Problem {
        path: path.to_owned(),
        location: Some(error.location),
        message: error.fault.to_string(),
    };
    let bytes = read_bytes(path).map_err(|error| vec![problem(path, &error)])?;
    let mut document = parse_bytes(&bytes, language)
        .map_err(|errors| errors.into_iter().map(at).collect::<Vec<_>>())?;
    document.uri = Some(path.display().to_string());
    renumber(&mut document, ids);
    let pickles = pickles(&document, ids).map_err(|error| vec![at(error)])?;
    let text = String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned();
    Ok(Feature { path: path.to_owned(), text, document, pickles })
}

/// The file up to one byte above the limit, which is enough to refuse it.
fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(spec::MAX_SOURCE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_does_not_keep_the_others_from_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("a.feature", b"Feature: a\n  Scenario: s\n    Given x\n");
        write("b.feature", b"\xff\xfe");
        write("c.feature", b"Feature: c\n  Scenario: t\n    Given y\n");
        write("d.txt", b"no feature");
        let loaded = load(&[folder.path().to_owned(), folder.path().join("absent")], "en");
        assert_eq!(loaded.features.len(), 2);
        assert_ne!(loaded.features[0].pickles[0].id, loaded.features[1].pickles[0].id);
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        assert!(
            problems[0].ends_with("b.feature:1:1: byte 0xff is not UTF-8; save the file as UTF-8")
        );
        assert!(problems[1].contains("absent: cannot be read"));
    }
}
