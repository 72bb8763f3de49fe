//! Files of output: written, kept, or compared.

use std::path::{Path, PathBuf};

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Its name, relative to the folder of output.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// A person goes on with it: an existing one is never touched.
    pub once: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Created,
    /// Its text changed.
    Updated,
    /// It was as it should be.
    Unchanged,
    /// It belongs to a person.
    Kept,
    /// It should exist, or be other than it is. (Only [`check`])
    Stale,
}

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; check that the folder exists and may be written", .path.display())]
pub struct OutputError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

fn current(path: &Path) -> Result<Option<String>, OutputError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OutputError { path: path.to_owned(), source }),
    }
}

/// Writes files below a folder; files whose text is right already keep their time of change.
///
/// # Errors
/// The first file that could not be written.
pub fn write(folder: &Path, files: &[OutputFile]) -> Result<Vec<(PathBuf, Action)>, OutputError> {
    let mut actions = Vec::new();
    for file in files {
        let path = folder.join(&file.path);
        let action = match current(&path)? {
            Some(_) if file.once => Action::Kept,
            Some(text) if text == file.text => Action::Unchanged,
            Some(_) => Action::Updated,
            None => Action::Created,
        };
        if matches!(action, Action::Created | Action::Updated) {
            save(&path, &file.text).map_err(|source| OutputError { path: path.clone(), source })?;
        }
        actions.push((path, action));
    }
    Ok(actions)
}

fn save(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}

/// Compares files with those below a folder, writing nothing.
///
/// # Errors
/// The first file that could not be read.
pub fn check(folder: &Path, files: &[OutputFile]) -> Result<Vec<(PathBuf, Action)>, OutputError> {
    let mut actions = Vec::new();
    for file in files {
        let path = folder.join(&file.path);
        let action = match current(&path)? {
            Some(_) if file.once => Action::Kept,
            Some(text) if text == file.text => Action::Unchanged,
            _ => Action::Stale,
        };
        actions.push((path, action));
    }
    Ok(actions)
}
