//! A Debian system on a disk, made without root rights and without mounting anything.
//!
//! ```text
//!   kernel package ──┬─► vmlinuz
//!                    └─► modules ─────────┐
//!   host's list of archives ─► mmdebstrap ┴─► root.tar ─► fakeroot: tar, mke2fs -d ─► disk.raw
//!   busybox, system/init, drivers ─► initrd
//! ```
//!
//! mmdebstrap installs the packages as dpkg does, so that apt and dpkg work in the guest; not being root, it
//! does so in a user namespace. It leaves an archive, since the tree's owners exist only in there; fakeroot
//! makes them up again while mke2fs copies the tree into a new file system. The kernel's package is not
//! installed: its scripts would make an initial RAM disk of 15 MB, of which a guest needs eight drivers.

use super::packages::{self, Package};
use super::recipe::System;
use super::{take_kernel, write_initrd};
use crate::{Outcome, place, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Documentation and translations: half of the disk.
const LEFT_OUT: [&str; 4] = ["doc", "info", "locale", "man"];

/// Makes `vmlinuz`, `initrd` and `disk.raw` in `folder`. The first of `all` is the kernel, the second busybox.
pub(super) fn build(system: &System, all: &[Package], folder: &Path, root: &Path) -> Outcome {
    let [kernel, busybox, ..] = all else { return Err("a system has a kernel and busybox".into()) };
    packages::unpack(kernel, root, None)?;
    take_kernel(folder, root)?;
    let archive = install(system, folder, root)?;
    write_disk(system, folder, &archive)?;
    write_start(system, busybox, folder, root, &archive)?;
    fs::remove_file(archive)?;
    fs::remove_dir_all(root)?;
    Ok(())
}

/// The archive of the installed system.
fn install(system: &System, folder: &Path, root: &Path) -> Outcome<PathBuf> {
    let modules = folder.join("modules.tar");
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-cf"]).arg(&modules).arg("-C").arg(root.join("lib"));
    program::output(tar.arg("modules"))?;
    let (sources, options) = (folder.join("sources.list"), folder.join("apt.conf"));
    fs::write(&sources, archives(&system.suite)?)?;
    fs::write(&options, program::text(Command::new("apt-config").args(["dump", "Acquire"]))?)?;

    let archive = folder.join("root.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={}", system.packages.join(",")));
    mmdebstrap.arg(format!("--aptopt={}", options.display()));
    mmdebstrap.arg("--aptopt=Apt::Install-Recommends \"false\"");
    for folder in LEFT_OUT {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    let customize = fs::read_to_string(place::root().join("guests/system/customize"))?;
    mmdebstrap.arg(format!("--customize-hook=tar-in {} /usr/lib", modules.display()));
    mmdebstrap.arg(format!("--customize-hook={customize}"));
    program::output(mmdebstrap.arg(&system.suite).arg(&archive).arg(&sources))?;
    for done in [modules, sources, options] {
        fs::remove_file(done)?;
    }
    Ok(archive)
}

/// Debian's archives that this host's apt knows, as a sources.list.
fn archives(suite: &str) -> Outcome<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "deb $(REPO_URI) $(CODENAME) $(COMPONENT)"]);
    let text = program::text(apt.args(["Created-By: Packages", "Origin: Debian"]))?;
    let of_suite = |line: &&str| {
        line.split(' ')
            .nth(2)
            .is_some_and(|name| name == suite || name.starts_with(&format!("{suite}-")))
    };
    let mut lines: Vec<&str> = text.lines().filter(of_suite).collect();
    lines.sort_unstable();
    lines.dedup();
    if lines.is_empty() {
        return Err(format!(
            "{suite}: apt knows no archive of this release; see /etc/apt/sources.list"
        )
        .into());
    }
    Ok(lines.join("\n") + "\n")
}

/// `disk.raw`: a file system with what the archive holds.
fn write_disk(system: &System, folder: &Path, archive: &Path) -> Outcome {
    let tree = folder.join("tree");
    fs::create_dir(&tree)?;
    let script = r#"tar -xf "$1" -C "$2" && mke2fs -q -t ext4 -L root -d "$2" "$3" "$4""#;
    let mut fakeroot = Command::new("fakeroot");
    fakeroot.args(["sh", "-c", script, "sh"]).arg(archive).arg(&tree);
    program::output(fakeroot.arg(folder.join("disk.raw")).arg(&system.size))?;
    fs::remove_dir_all(tree)?;
    Ok(())
}

/// `initrd`: loads the drivers and goes over to the disk.
fn write_start(
    system: &System,
    busybox: &Package,
    folder: &Path,
    root: &Path,
    archive: &Path,
) -> Outcome {
    let start = folder.join("start");
    for name in ["bin", "dev", "proc", "root", "drivers"] {
        fs::create_dir_all(start.join(name))?;
    }
    packages::unpack(busybox, &start, Some("./bin"))?;
    fs::copy(place::root().join("guests/system/init"), start.join("init"))?;
    fs::set_permissions(start.join("init"), fs::Permissions::from_mode(0o755))?;
    let mut order = String::new();
    let list = program::text(
        Command::new("tar").arg("-xOf").arg(archive).arg("--wildcards").arg("*/modules.dep"),
    )?;
    let modules = only_entry(&root.join("lib/modules"))?;
    for path in in_order(&list, &system.drivers)? {
        let name = Path::new(path).file_name().ok_or("modules.dep: a driver without a name")?;
        fs::copy(modules.join(path), start.join("drivers").join(name))?;
        order += &format!("{}\n", name.display());
    }
    fs::write(start.join("drivers/order"), order)?;
    write_initrd(folder, &start, true)?;
    fs::remove_dir_all(start)?;
    Ok(())
}

fn only_entry(folder: &Path) -> Outcome<PathBuf> {
    let entry = fs::read_dir(folder)?.next();
    Ok(entry.ok_or_else(|| format!("{}: is empty", folder.display()))??.path())
}

/// The files of `drivers` in the order in which they can be loaded, each once (modules.dep(5): a driver, a
/// colon, and what it depends on, to be loaded from right to left).
fn in_order<'a>(list: &'a str, drivers: &[String]) -> Outcome<Vec<&'a str>> {
    let mut order: Vec<&str> = Vec::new();
    for driver in drivers {
        let file = format!("/{driver}.ko");
        let of_driver =
            |line: &&str| line.split(':').next().is_some_and(|path| path.ends_with(&file));
        let line = list.lines().find(of_driver);
        let line = line.ok_or_else(|| format!("{driver}: the kernel has no such driver"))?;
        let (path, needs) = line.split_once(':').unwrap_or((line, ""));
        for path in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_come_after_what_they_need_and_once() {
        let list =
            "a/ring.ko: a/core.ko\na/blk.ko: a/ring.ko a/core.ko\na/pci.ko: a/ring.ko a/core.ko\n";
        let order = in_order(list, &["blk".to_owned(), "pci".to_owned()]).unwrap();
        assert_eq!(order, ["a/core.ko", "a/ring.ko", "a/blk.ko", "a/pci.ko"]);
        assert!(in_order(list, &["net".to_owned()]).unwrap_err().to_string().starts_with("net: "));
    }
}
