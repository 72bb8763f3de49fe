//! Where things are.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// What is made once for a machine and kept.
pub(crate) fn cache() -> PathBuf {
    root().join(".cache")
}

/// The release build of `kezhan`, or what the variable `KEZHAN` names.
pub(crate) fn kezhan() -> PathBuf {
    std::env::var_os("KEZHAN").map_or_else(|| root().join("target/release/kezhan"), PathBuf::from)
}
