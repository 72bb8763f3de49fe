//! Guests made of Debian packages, once for a machine.
//!
//! ```text
//!   guests/NAME.toml ──► packages' versions ──► key ──► .cache/guests/NAME-KEY/{vmlinuz, initrd, disk.raw}
//!   guests/init, scripts/, the recipe's programs, system/ ┘      ▲
//!                                              .cache/guests/NAME (link to the newest)
//! ```
//!
//! Packages are downloaded with `apt-get download` and unpacked with `dpkg-deb`: neither needs root, and
//! nothing is installed. A system on a disk is the business of [`system`]. The key covers all that goes in, so that a second run only asks apt for versions.

mod cpio;
mod drivers;
mod mirror;
mod packages;
mod recipe;
mod system;

use crate::{Outcome, place, program};
use clap::Args;
use packages::Package;
pub(crate) use recipe::all;
use recipe::{Kind, Recipe, Userland};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// To be raised when the same recipe gives another result.
const FORMAT: u32 = 1;

/// Files that go into every userland, below `guests/`.
const SHARED: &[&str] = &["init", "scripts"];

/// Files that go into every system on a disk.
const OF_SYSTEMS: &[&str] = &["system"];

/// `cargo xtask guests`
#[derive(Debug, Args)]
pub(crate) struct Guests {
    /// Those to make; all when none is named
    names: Vec<String>,
}

impl Guests {
    pub(crate) fn execute(self) -> Outcome {
        let names = if self.names.is_empty() { all()? } else { self.names };
        for name in names {
            println!("{}", ensure(&name)?.display());
        }
        Ok(())
    }
}

/// The folder of guest `name`, made when it is not there.
///
/// # Errors
/// What the recipe, apt or the compiler had to say.
pub(crate) fn ensure(name: &str) -> Outcome<PathBuf> {
    let recipe = Recipe::read(name)?;
    let all = packages::resolve(&recipe)?;
    let folder = place::cache().join("guests").join(format!("{name}-{:016x}", key(&recipe, &all)?));
    if !folder.exists() {
        eprintln!("Making guest {name}: {}", recipe.summary);
        let half = folder.with_extension("half");
        if half.exists() {
            fs::remove_dir_all(&half)?;
        }
        fs::create_dir_all(&half)?;
        build(&recipe, &all, &half)?;
        fs::rename(&half, &folder)?;
    }
    link(name, &folder)
}

/// Unpacks these packages of Debian's, at the versions that apt would install, into a folder.
///
/// # Errors
/// One that apt does not know, or that cannot be downloaded or unpacked.
pub(crate) fn unpack_packages(names: &[&str], root: &Path) -> Outcome {
    for package in packages::of_names(names)? {
        packages::unpack(&package, root, None)?;
    }
    Ok(())
}

/// Points `.cache/guests/NAME` at `folder`.
fn link(name: &str, folder: &Path) -> Outcome<PathBuf> {
    let link = folder.with_file_name(name);
    let target = folder.file_name().unwrap_or_default();
    if fs::read_link(&link).ok().as_deref() != Some(Path::new(target)) {
        let new = folder.with_file_name(format!("{name}.new"));
        let _ = fs::remove_file(&new);
        symlink(target, &new)?;
        fs::rename(&new, &link)?;
    }
    Ok(link)
}

fn key(recipe: &Recipe, all: &[Package]) -> Outcome<u64> {
    let mut hasher = DefaultHasher::new();
    (FORMAT, &recipe.text, all).hash(&mut hasher);
    for file in files_of_recipe(&recipe.kind)? {
        (file.as_os_str(), fs::read(&file)?).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// The files below `guests/` of which a guest is made beside its recipe.
fn files_of_recipe(kind: &Kind) -> Outcome<Vec<PathBuf>> {
    let mut names: Vec<&str> = Vec::new();
    match kind {
        Kind::Kernel(_) | Kind::Mirror(_) => {}
        Kind::Userland(userland) => {
            names.extend(SHARED);
            names.extend(userland.programs.iter().map(String::as_str));
        }
        Kind::System(_) => names.extend(OF_SYSTEMS),
    }
    let mut files = Vec::new();
    for name in names {
        files.extend(files_of(&place::root().join("guests").join(name))?);
    }
    Ok(files)
}

/// The files in a folder, sorted; else the file itself, or the C file of that name.
fn files_of(path: &Path) -> Outcome<Vec<PathBuf>> {
    if path.is_dir() {
        let entries: Result<Vec<_>, _> = fs::read_dir(path)?.collect();
        let mut files: Vec<PathBuf> = entries?.into_iter().map(|entry| entry.path()).collect();
        files.sort();
        return Ok(files);
    }
    let source = path.with_extension("c");
    Ok(vec![if source.exists() { source } else { path.to_path_buf() }])
}

fn build(recipe: &Recipe, all: &[Package], folder: &Path) -> Outcome {
    let root = folder.join("root");
    fs::create_dir(&root)?;
    match &recipe.kind {
        Kind::Kernel(_) => build_kernel(all, folder, &root),
        Kind::Userland(userland) => build_userland(userland, all, folder, &root),
        Kind::System(system) => system::build(system, all, folder, &root),
        Kind::Mirror(_) => {
            fs::remove_dir(&root)?;
            mirror::build(all, folder)
        }
    }
}

fn build_kernel(all: &[Package], folder: &Path, root: &Path) -> Outcome {
    for package in all {
        packages::unpack(package, root, Some("./boot"))?;
    }
    take_kernel(folder, root)?;
    fs::remove_dir_all(root)?;
    Ok(())
}

/// Moves the kernel out of an unpacked package.
fn take_kernel(folder: &Path, root: &Path) -> Outcome {
    let kernel = fs::read_dir(root.join("boot"))?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
        .ok_or("no boot/vmlinuz-* in the kernel package; see its contents with dpkg-deb -c")?;
    fs::rename(kernel.path(), folder.join("vmlinuz"))?;
    Ok(())
}

fn build_userland(userland: &Userland, all: &[Package], folder: &Path, root: &Path) -> Outcome {
    let (packages, kernels) = all.split_at(userland.packages.len());
    for package in packages {
        packages::unpack(package, root, None)?;
    }
    for (kernel, drivers) in kernels.iter().zip(userland.drivers.values()) {
        drivers::add(kernel, drivers, root, &folder.join("kernel"))?;
    }
    for path in &userland.leave_out {
        fs::remove_dir_all(root.join(path))?;
    }
    for (path, target) in &userland.links {
        let _ = fs::remove_file(root.join(path));
        symlink(target, root.join(path))?;
    }
    if userland.applets {
        link_applets(root)?;
    }
    add_shared(root)?;
    for program in &userland.programs {
        compile(program, root)?;
    }
    write_initrd(folder, root, userland.gzip)
}

/// The initial RAM disk of the tree `root`.
fn write_initrd(folder: &Path, root: &Path, gzip: bool) -> Outcome {
    let path = folder.join("initrd");
    fs::write(&path, cpio::archive(root)?)?;
    if gzip {
        program::output(Command::new("gzip").arg("-9n").arg(&path))?;
        fs::rename(folder.join("initrd.gz"), &path)?;
    }
    Ok(())
}

/// One relative link for each applet of busybox.
fn link_applets(root: &Path) -> Outcome {
    let list = program::text(Command::new(root.join("bin/busybox")).arg("--list-full"))?;
    for applet in list.lines().filter(|applet| *applet != "bin/busybox") {
        let path = root.join(applet);
        let ups = "../".repeat(applet.matches('/').count());
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        if !path.exists() {
            symlink(format!("{ups}bin/busybox"), path)?;
        }
    }
    Ok(())
}

/// `/init`, `/scripts` and the folders that init mounts on.
fn add_shared(root: &Path) -> Outcome {
    let guests = place::root().join("guests");
    for folder in ["dev", "proc", "sys", "root", "tmp", "run", "scripts", "bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(guests.join("init"), root.join("init"))?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    for script in fs::read_dir(guests.join("scripts"))? {
        let script = script?;
        fs::copy(script.path(), root.join("scripts").join(script.file_name()))?;
    }
    Ok(())
}

/// `/bin/NAME` of its C files. Contraction to fused multiplications would make a result depend on the CPU.
fn compile(name: &str, root: &Path) -> Outcome {
    let files = files_of(&place::root().join("guests").join(name))?;
    let mut compiler = Command::new("gcc");
    compiler.args("-O2 -Wall -Wextra -ffp-contract=off -static -pthread -s -o".split(' '));
    compiler.arg(root.join("bin").join(name));
    compiler.args(files.iter().filter(|file| file.extension().is_some_and(|e| e == "c")));
    program::output(compiler.arg("-lm"))?;
    Ok(())
}
