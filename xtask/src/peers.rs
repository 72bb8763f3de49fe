//! The programs that ours is compared with, from their registries by the ordinary clients: `pip`, `npm` and `apt-get`.
//!
//! ```text
//!   tests/peers/requirements.txt ──► .cache/peers/venv           (python3 -m venv, pip install)
//!   tests/peers/package.json     ──► .cache/peers/node_modules   (npm install)
//!   tests/peers/packages.txt     ──► .cache/peers/debian         (apt-get download, dpkg-deb)
//!   all as they were installed ──► .cache/peers/installed
//! ```
//! Debian's packages are unpacked, not installed: some are servers, and installing them would start them.
//!
//! The last file makes a second run quick: when it holds what the lists hold, nothing is asked of anybody.

use crate::{Outcome, guests, place, program};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The list of Debian's packages.
const PACKAGES: &str = "packages.txt";

/// `cargo xtask peers`
#[derive(Debug, Args)]
pub(crate) struct Peers {}

impl Peers {
    pub(crate) fn execute(self) -> Outcome {
        println!("{}", ensure()?.display());
        Ok(())
    }
}

/// The folder of the peers, filled when it is not.
///
/// # Errors
/// What `python3`, `pip` or `npm` had to say.
pub(crate) fn ensure() -> Outcome<PathBuf> {
    let lists = place::root().join("tests/peers");
    let folder = place::cache().join("peers");
    let mark = folder.join("installed");
    let mut wanted = String::new();
    for list in ["requirements.txt", "package.json", PACKAGES] {
        wanted += &fs::read_to_string(lists.join(list))?;
    }
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    eprintln!("Installing the peers of tests/peers");
    fs::create_dir_all(&folder)?;
    python(&lists, &folder)?;
    node(&lists, &folder)?;
    debian(&lists, &folder)?;
    fs::write(mark, wanted)?;
    Ok(folder)
}

/// The Python of the peers.
pub(crate) fn interpreter() -> PathBuf {
    place::cache().join("peers/venv/bin/python")
}

fn python(lists: &Path, folder: &Path) -> Outcome {
    if !interpreter().exists() {
        program::output(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
    }
    let mut pip = Command::new(interpreter());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    program::output(pip.arg(lists.join("requirements.txt")))?;
    Ok(())
}

fn debian(lists: &Path, folder: &Path) -> Outcome {
    let root = folder.join("debian");
    fs::create_dir_all(&root)?;
    let list = fs::read_to_string(lists.join(PACKAGES))?;
    guests::unpack_packages(&list.lines().collect::<Vec<_>>(), &root)
}

fn node(lists: &Path, folder: &Path) -> Outcome {
    fs::copy(lists.join("package.json"), folder.join("package.json"))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
    program::output(npm.current_dir(folder))?;
    Ok(())
}
