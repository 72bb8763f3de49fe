//! Records of networks: a file for each, `NAME.json` in `networks/` of the runtime folder.
//!
//! ```text
//!   (no record) ── create ──► making ──► ready ── delete ──► removing ──► (no record)
//!                                │ its maker is gone            │
//!                                └──── the next command undoes what is there ────┘
//! ```
//! The folder is locked by whoever changes anything, so that a record in the making belongs to nobody else who
//! lives.

use crate::process::Process;
use crate::{NetworkError, Subnet};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How far a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Making,
    Ready,
    Removing,
}

/// What is known of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) bridge: String,
    pub(crate) subnet: Subnet,
    pub(crate) nat: bool,
    /// We have turned the host's forwarding on.
    pub(crate) forwarding: bool,
    pub(crate) stage: Stage,
    /// DHCP and names are served.
    pub(crate) dhcp: bool,
    /// By this process.
    pub(crate) serving: Option<Process>,
}

/// Where the records are.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

/// Holds the folder's lock.
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// The runtime folder of the person: `KEZHAN_RUNTIME_DIR`, `/run/kezhan` for root, `kezhan` under
    /// `XDG_RUNTIME_DIR`, or a folder of the user's own in `/tmp`.
    pub fn usual() -> Store {
        let user = rustix::process::getuid();
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = match (variable("KEZHAN_RUNTIME_DIR"), variable("XDG_RUNTIME_DIR")) {
            (Some(given), _) => PathBuf::from(given),
            _ if user.is_root() => PathBuf::from("/run/kezhan"),
            (None, Some(runtime)) => Path::new(&runtime).join("kezhan"),
            (None, None) => std::env::temp_dir().join(format!("kezhan-{}", user.as_raw())),
        };
        Store::at(folder)
    }

    /// This runtime folder, made when something is recorded.
    pub fn at(folder: impl Into<PathBuf>) -> Store {
        Store(folder.into().join("networks"))
    }

    /// A folder of the runtime folder, made when it is not there, which nobody else may write to.
    ///
    /// # Errors
    /// It cannot be made, or is another person's.
    pub fn own_folder(&self, name: &str) -> Result<PathBuf, NetworkError> {
        for path in [self.folder().to_owned(), self.folder().join(name)] {
            make_own(&path).map_err(|error| NetworkError::File { path, error })?;
        }
        Ok(self.folder().join(name))
    }

    /// The runtime folder.
    pub fn folder(&self) -> &Path {
        self.0.parent().unwrap_or(&self.0)
    }

    /// Waits until nobody else changes anything.
    pub(crate) fn lock(&self) -> Result<Lock, NetworkError> {
        let path = self.0.join(".lock");
        let open = || {
            make_own(self.folder())?;
            make_own(&self.0)?;
            let file = File::create(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(Lock { _file: file })
        };
        open().map_err(|error| NetworkError::File { path: path.clone(), error })
    }

    /// Every record, by name.
    pub(crate) fn all(&self) -> Result<Vec<Record>, NetworkError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(NetworkError::File { path: self.0.clone(), error }),
        };
        let mut all = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                all.extend(read(&path)?);
            }
        }
        all.sort_by(|a: &Record, b| a.name.cmp(&b.name));
        Ok(all)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Option<Record>, NetworkError> {
        Ok(self.all()?.into_iter().find(|record| record.name == name))
    }

    /// Writes a record, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<(), NetworkError> {
        let path = self.path(&record.name);
        let new = path.with_extension("new");
        let written = serde_json::to_vec_pretty(record)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| NetworkError::File { path, error })
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), NetworkError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::File { path, error })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }
}

/// Makes a folder for ourselves; one that is there already has to be ours, and closed to the writes of others.
fn make_own(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let ours = found.is_dir() && found.uid() == rustix::process::getuid().as_raw();
    if ours && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "others own it or may write to it"))
}

/// A record; `None` when it is gone by now.
fn read(path: &Path) -> Result<Option<Record>, NetworkError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(NetworkError::File { path: path.to_owned(), error }),
    };
    let record = serde_json::from_slice(&text);
    record.map(Some).map_err(|error| NetworkError::Record { path: path.to_owned(), error })
}
