//! An archive of a few packages for guests to install: the files, and the list `Packages` that apt reads
//! (Debian Policy §5.3, and "deb [trusted=yes] URL ./" in sources.list(5)).

use super::packages::{self, Package};
use crate::{Outcome, program};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Copies the packages into `folder` and lists them.
pub(super) fn build(all: &[Package], folder: &Path) -> Outcome {
    let mut list = String::new();
    for package in all {
        let file = packages::download(package)?;
        let name = file.file_name().ok_or("a package without a file name")?;
        let (size, name) = (fs::copy(&file, folder.join(name))?, name.to_string_lossy());
        let control = program::text(Command::new("dpkg-deb").arg("--field").arg(&file))?;
        let sum = program::text(Command::new("sha256sum").arg(&file))?;
        let sum = sum.split(' ').next().unwrap_or_default();
        let control = control.trim_end();
        // Nothing in the name has a meaning in a URL but the epoch's %3a, whose sign is written out.
        let address = name.replace('%', "%25");
        list += &format!("{control}\nFilename: ./{address}\nSize: {size}\nSHA256: {sum}\n\n");
    }
    fs::write(folder.join("Packages"), list)?;
    Ok(())
}
