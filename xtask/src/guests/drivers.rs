//! Drivers of a kernel package for an initial RAM disk.
//!
//! A driver tells in its file what it depends on (the kernel's `.modinfo` section: `depends=a,b`), so that
//! nothing but the package is needed to find the order in which they can be loaded.

use super::packages::{self, Package};
use crate::Outcome;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What precedes the names of the drivers that one depends on.
const DEPENDS: &[u8] = b"depends=";

/// Puts the drivers of `kernel`, and what they depend on, into `root/drivers/RELEASE`, with a list of the files
/// in the order in which they can be loaded. What the kernel has built in is not there and left out.
pub(super) fn add(kernel: &Package, drivers: &[String], root: &Path, scratch: &Path) -> Outcome {
    fs::create_dir(scratch)?;
    packages::unpack(kernel, scratch, Some("./lib"))?;
    for release in fs::read_dir(scratch.join("lib/modules"))? {
        let release = release?;
        let mut files = BTreeMap::new();
        find(&release.path(), &mut files)?;
        let target = root.join("drivers").join(release.file_name());
        fs::create_dir_all(&target)?;
        let mut order = Vec::new();
        for driver in drivers {
            if !files.contains_key(driver) {
                return Err(format!("{driver}: the kernel has no such driver").into());
            }
            visit(driver, &files, &mut order)?;
        }
        let mut list = String::new();
        for driver in order {
            let name = format!("{driver}.ko");
            fs::copy(&files[&driver], target.join(&name))?;
            list += &format!("{name}\n");
        }
        fs::write(target.join("order"), list)?;
    }
    fs::remove_dir_all(scratch)?;
    Ok(())
}

/// Every driver's file below a folder, by the name that others know it by.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "ko") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            files.insert(stem.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// Appends a driver after all that it depends on, each once.
fn visit(driver: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<String>) -> Outcome {
    let Some(path) = files.get(driver).filter(|_| !order.iter().any(|done| done == driver)) else {
        return Ok(());
    };
    for needed in depends(&fs::read(path)?) {
        visit(&needed, files, order)?;
    }
    order.push(driver.to_owned());
    Ok(())
}

/// What a driver's file says that it depends on.
fn depends(file: &[u8]) -> Vec<String> {
    let at = file.windows(DEPENDS.len()).position(|window| window == DEPENDS);
    let list = at.and_then(|at| file.get(at + DEPENDS.len()..)).unwrap_or_default();
    let list = list.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(list).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_comes_after_what_it_depends_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = BTreeMap::new();
        for (name, needs) in [("net", "ring,fail-over"), ("ring", ""), ("fail_over", "ring")] {
            let path = folder.path().join(name);
            fs::write(&path, format!("ELF\0license=GPL\0depends={needs}\0name={name}\0")).unwrap();
            files.insert(name.to_owned(), path);
        }
        let mut order = Vec::new();
        visit("net", &files, &mut order).unwrap();
        visit("ring", &files, &mut order).unwrap();
        assert_eq!(order, ["ring", "fail_over", "net"]);
    }
}
