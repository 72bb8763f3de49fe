//! Debian packages: which version apt would take, and their files.

use super::recipe::{Kind, Recipe};
use crate::{Outcome, place, program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A package at the version that apt would install.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Package {
    name: String,
    version: String,
}

impl Package {
    /// The package's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The packages of a recipe; of a userland, those named, then the kernels of its drivers; of a system, its
/// kernel, busybox for its initial RAM disk, then those named.
///
/// # Errors
/// A package that apt does not know.
pub(crate) fn resolve(recipe: &Recipe) -> Outcome<Vec<Package>> {
    match &recipe.kind {
        Kind::Kernel(meta) => of_names(&[&kernel(meta)?]),
        Kind::Userland(userland) => {
            let mut names = userland.packages.clone();
            for meta in userland.drivers.keys() {
                names.push(kernel(meta)?);
            }
            of_names(&names.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Kind::Mirror(names) => of_names(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        Kind::System(system) => {
            let kernel = kernel(&system.kernel)?;
            let mut names = vec![&*kernel, "busybox-static"];
            names.extend(system.packages.iter().map(String::as_str));
            of_names(&names)
        }
    }
}

/// The package of the kernel that `meta` depends on.
fn kernel(meta: &str) -> Outcome<String> {
    let named = dependency(&show(&[meta])?, "linux-image-");
    named.ok_or_else(|| format!("{meta}: depends on no linux-image-*; name such a package").into())
}

/// The packages of these names.
///
/// # Errors
/// One that apt does not know.
pub(super) fn of_names(names: &[&str]) -> Outcome<Vec<Package>> {
    versions(&show(names)?, names)
}

fn show(names: &[&str]) -> Outcome<String> {
    let mut command = Command::new("apt-cache");
    command.args(["show", "--no-all-versions"]).args(names).env("LC_ALL", "C");
    program::text(&mut command).map_err(|e| format!("{e}; `apt-get update` may be needed").into())
}

/// The first dependency in apt's record whose name starts with `prefix`.
fn dependency(record: &str, prefix: &str) -> Option<String> {
    let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let names = depends.split(',').filter_map(|item| item.split_whitespace().next());
    names.filter(|name| name.starts_with(prefix)).map(str::to_owned).next()
}

/// The version of each of `names` in apt's records.
fn versions(records: &str, names: &[&str]) -> Outcome<Vec<Package>> {
    let mut found = Vec::new();
    for record in records.split("\n\n") {
        let field = |key: &str| record.lines().find_map(|line| line.strip_prefix(key));
        if let (Some(name), Some(version)) = (field("Package: "), field("Version: ")) {
            found.push(Package { name: name.to_owned(), version: version.to_owned() });
        }
    }
    let of = |name: &&str| {
        let package = found.iter().find(|package| package.name == *name).cloned();
        package.ok_or_else(|| {
            format!("{name}: no such package; `apt-get update` may be needed").into()
        })
    };
    names.iter().map(of).collect()
}

/// Unpacks a package into `root`, or only what is below `under`.
///
/// # Errors
/// It cannot be downloaded or unpacked.
pub(crate) fn unpack(package: &Package, root: &Path, under: Option<&str>) -> Outcome {
    let file = download(package)?;
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("dpkg-deb: cannot be started: {e}; Kezhan's guests need Debian"))?;
    let mut tar = Command::new("tar");
    tar.arg("-x").arg("--no-same-owner").arg("-C").arg(root).args(under);
    let from = contents.stdout.take().ok_or("dpkg-deb: no output")?;
    let unpacked = program::succeeds(tar.stdin(from))?;
    if !(contents.wait()?.success() && unpacked) {
        return Err(
            format!("{}: cannot be unpacked; remove it and try again", file.display()).into()
        );
    }
    Ok(())
}

/// The package's file in the cache.
///
/// # Errors
/// It cannot be downloaded.
pub(crate) fn download(package: &Package) -> Outcome<PathBuf> {
    let folder = place::cache().join("packages");
    // apt writes an epoch's colon as %3a.
    let stem = format!("{}_{}_", package.name, package.version.replace(':', "%3a"));
    let find = || -> Option<PathBuf> {
        let entries = fs::read_dir(&folder).ok()?.filter_map(Result::ok);
        let fits = |name: &str| name.starts_with(&stem) && name.ends_with(".deb");
        entries
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| fits(&name.to_string_lossy())))
    };
    if let Some(file) = find() {
        return Ok(file);
    }
    fs::create_dir_all(&folder)?;
    let mut apt = Command::new("apt-get");
    apt.arg("download").arg(format!("{}={}", package.name, package.version)).current_dir(&folder);
    program::output(&mut apt)?;
    find().ok_or_else(|| format!("{}: apt-get download left no {stem}*.deb", package.name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "Package: a\nVersion: 1:2.0-1\nDepends: libc6 (>= 2.36), linux-image-6.1 (= 6)\n\n\
                           Package: b\nVersion: 3\n";

    #[test]
    fn a_meta_package_leads_to_its_kernel() {
        assert_eq!(dependency(RECORDS, "linux-image-").as_deref(), Some("linux-image-6.1"));
        assert_eq!(dependency(RECORDS, "nothing"), None);
    }

    #[test]
    fn versions_come_in_the_order_asked_and_a_missing_one_is_named() {
        let found = versions(RECORDS, &["b", "a"]).unwrap();
        assert_eq!((&*found[0].version, &*found[1].version), ("3", "1:2.0-1"));
        assert!(
            versions(RECORDS, &["c"]).unwrap_err().to_string().starts_with("c: no such package")
        );
    }
}
