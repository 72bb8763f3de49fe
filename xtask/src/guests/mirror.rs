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
        // Versions have characters that mean something in a URL.
        let name = format!("{}.deb", package.name());
        let size = fs::copy(&file, folder.join(&name))?;
        let control = program::text(Command::new("dpkg-deb").arg("--field").arg(&file))?;
        let sum = program::text(Command::new("sha256sum").arg(&file))?;
        let (control, sum) = (control.trim_end(), sum.split(' ').next().unwrap_or_default());
        list += &format!("{control}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n\n");
    }
    fs::write(folder.join("Packages"), list)?;
    Ok(())
}
