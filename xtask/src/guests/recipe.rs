//! `guests/NAME.toml`: what a guest is made of.

use crate::{Outcome, place};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;

/// A recipe.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// What it is, in one line.
    pub(crate) summary: String,
    /// Kernel or userland.
    pub(crate) kind: Kind,
    /// The file as it stands: part of the key.
    pub(crate) text: String,
}

/// The kinds of guest, and what goes with them.
#[derive(Debug)]
pub(crate) enum Kind {
    /// `vmlinuz` of the kernel that this package depends on.
    Kernel(String),
    /// An initial RAM disk.
    Userland(Userland),
    /// A whole system: kernel, initial RAM disk and a disk.
    System(System),
    /// Packages for guests to install: an archive that apt takes.
    Mirror(Vec<String>),
}

/// A Debian system on a disk, installed by mmdebstrap.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct System {
    summary: String,
    /// Package that depends on the kernel's.
    pub(crate) kernel: String,
    /// Debian's release.
    pub(crate) suite: String,
    /// Size of the disk, as mke2fs takes it.
    pub(crate) size: String,
    /// Packages; what they depend on is installed with them.
    pub(crate) packages: Vec<String>,
    /// Drivers that the initial RAM disk loads; what they depend on is loaded before them.
    pub(crate) drivers: Vec<String>,
}

/// An initial RAM disk of unpacked packages, with `init` and the scripts of `guests/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Userland {
    summary: String,
    /// Packages; what they depend on is not followed.
    pub(crate) packages: Vec<String>,
    /// A link for each applet of busybox.
    #[serde(default)]
    pub(crate) applets: bool,
    /// Programs of `guests/`: `NAME.c` or all of `NAME/*.c` becomes `/bin/NAME`.
    #[serde(default = "usual_programs")]
    pub(crate) programs: Vec<String>,
    /// Links, path to target.
    #[serde(default)]
    pub(crate) links: BTreeMap<String, String>,
    /// Folders that are not needed.
    #[serde(default)]
    pub(crate) leave_out: Vec<String>,
    /// Drivers in `/drivers/RELEASE`, by the package that depends on the kernel's.
    #[serde(default)]
    pub(crate) drivers: BTreeMap<String, Vec<String>>,
    /// Compressed, as the initial RAM disks of distributions are. Starts later under emulation.
    pub(crate) gzip: bool,
}

fn usual_programs() -> Vec<String> {
    vec!["exercise".to_owned()]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kernel {
    summary: String,
    kernel: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mirror {
    summary: String,
    mirror: Vec<String>,
}

impl Recipe {
    /// Reads `guests/NAME.toml`.
    ///
    /// # Errors
    /// There is none, or what is wrong in it.
    pub(crate) fn read(name: &str) -> Outcome<Recipe> {
        let path = place::root().join("guests").join(format!("{name}.toml"));
        let text = fs::read_to_string(&path)
            .map_err(|e| format!("{}: {e}; `ls guests/*.toml` shows the guests", path.display()))?;
        Recipe::parse(&text).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    fn parse(text: &str) -> Result<Recipe, toml::de::Error> {
        let table: toml::Table = text.parse()?;
        let text = text.to_owned();
        if table.contains_key("mirror") {
            let Mirror { summary, mirror } = table.try_into()?;
            return Ok(Recipe { summary, kind: Kind::Mirror(mirror), text });
        }
        if table.contains_key("suite") {
            let system: System = table.try_into()?;
            return Ok(Recipe {
                summary: system.summary.clone(),
                kind: Kind::System(system),
                text,
            });
        }
        if table.contains_key("kernel") {
            let Kernel { summary, kernel } = table.try_into()?;
            return Ok(Recipe { summary, kind: Kind::Kernel(kernel), text });
        }
        let userland: Userland = table.try_into()?;
        Ok(Recipe { summary: userland.summary.clone(), kind: Kind::Userland(userland), text })
    }
}

/// The names of all recipes, sorted.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn all() -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(place::root().join("guests"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_in_the_tree_is_understood() {
        for name in all().unwrap() {
            let recipe = Recipe::read(&name).unwrap();
            assert!(!recipe.summary.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_misspelt_field_is_an_error() {
        let error = Recipe::parse("summary = 'a'\npackages = []\ngzip = true\naplets = true");
        assert!(error.unwrap_err().to_string().contains("aplets"));
    }
}
