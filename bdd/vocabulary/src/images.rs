//! Steps on disk images of the host: files that `kezhan image` makes, examines and changes.
//!
//! ```text
//! "a 64 MiB disk "data", in qcow2 format" ----> kezhan image create -f qcow2 data 64M     (in the scenario's folder)
//!                                     \---> the world's list of images: name, format
//! "the machine has the disk "data"" <-------/   (family of machines)
//! ```
//!
//! An image is spoken of by its name, which is also its file's; its format is remembered, never guessed. All work
//! is done by the program's public command line, and what it wrote stands in every failure.

use crate::commands::LastCommand;
use crate::files::tail;
use crate::process::Process;
use kezhan_steps::{DocString, Failure, StepDefinition, Table, World, check, step, steps};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

/// The family's steps.
pub fn steps() -> Vec<StepDefinition> {
    steps![
        disk,
        disk_in_format,
        disk_with_options,
        disk_copy,
        disk_with_files,
        convert,
        take_snapshot,
        apply_snapshot,
        delete_snapshot,
        write_text,
        is_consistent,
        peer_accepts,
        has_size,
        has_format,
        has_snapshot,
        are_equal,
        disk_shows,
        uses_at_most
    ]
}

/// The images of a scenario: names and formats.
#[derive(Debug, Default)]
struct Images(BTreeMap<String, String>);

/// The format of an image that a sentence made.
///
/// # Errors
/// When no sentence made it.
pub(crate) fn format_of(world: &mut World, name: &str) -> Result<String, Failure> {
    let format = world.state::<Images>().0.get(name).cloned();
    format.ok_or_else(|| {
        Failure::Broken(format!(
            "there is no disk \"{name}\"; make it first: `a 64 MiB disk \"{name}\"`"
        ))
    })
}

/// Notes that the scenario's folder has an image.
pub(crate) fn made(world: &mut World, name: &str, format: &str) {
    world.state::<Images>().0.insert(name.to_owned(), format.to_owned());
}

/// Runs a program in the scenario's folder; it must succeed.
fn run(world: &mut World, program: PathBuf, arguments: &[&str]) -> Result<String, Failure> {
    let line = format!("{} {}", program.display(), arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments);
    let mut process = Process::start(world, command, &line)?;
    let status = process.wait(world.deadline)?;
    let last = LastCommand { line, status: status.code(), output: process.output() };
    *world.state::<LastCommand>() = last.clone();
    crate::commands::must_succeed(&last)?;
    Ok(last.output)
}

/// Runs `kezhan image …`.
fn image(world: &mut World, arguments: &[&str]) -> Result<String, Failure> {
    let program = world.settings.kezhan.clone();
    run(world, program, &[&["image"], arguments].concat())
}

fn create(world: &mut World, name: &str, format: &str, more: &[&str]) -> Result<(), Failure> {
    image(world, &[&["create", "-q", "-f", format], more].concat())?;
    made(world, name, format);
    Ok(())
}

/// Makes an empty disk: a raw file.
#[step(en = "a {size} disk {string}", zh = "一个 {size} 的磁盘 {string}")]
fn disk(world: &mut World, size: u64, name: &str) -> Result<(), Failure> {
    create(world, name, "raw", &[name, &size.to_string()])
}

/// Makes an empty disk in a format: raw, qcow2, vdi, vpc, vhdx, vmdk.
#[step(
    en = "a {size} disk {string} in {word} format",
    zh = "一个 {size} 的磁盘 {string},格式为 {word}"
)]
fn disk_in_format(world: &mut World, size: u64, name: &str, format: &str) -> Result<(), Failure> {
    create(world, name, format, &[name, &size.to_string()])
}

/// Makes an empty disk in a format with options of the format, as a table of names and values.
#[step(
    en = "a {size} disk {string} in {word} format with:",
    zh = "一个 {size} 的磁盘 {string},按以下选项,格式为 {word}:"
)]
fn disk_with_options(
    world: &mut World,
    size: u64,
    name: &str,
    format: &str,
    options: Table,
) -> Result<(), Failure> {
    let pairs: Vec<String> =
        options.pairs()?.iter().map(|(name, value)| format!("{name}={value}")).collect();
    create(world, name, format, &["-o", &pairs.join(","), name, &size.to_string()])
}

/// Makes a disk that is a change of an image: the image is not written to.
#[step(en = "a copy of {path} as disk {string}", zh = "以 {path} 的副本作为磁盘 {string}")]
pub(crate) fn disk_copy(world: &mut World, original: &str, name: &str) -> Result<(), Failure> {
    let known = world.state::<Images>().0.get(original).cloned();
    let format = known.unwrap_or_else(|| by_ending(original).to_owned());
    let path = world.path(original).display().to_string();
    create(world, name, "qcow2", &["-b", &path, "-F", &format, name])
}

fn by_ending(name: &str) -> &'static str {
    if name.ends_with(".qcow2") { "qcow2" } else { "raw" }
}

/// Makes a disk with an ext4 file system that holds files, named and filled by a table.
#[step(en = "a disk {string} with files:", zh = "一个磁盘 {string},包含文件:")]
fn disk_with_files(world: &mut World, name: &str, files: Table) -> Result<(), Failure> {
    let root = world.folder.join(format!("{name}.root"));
    for (path, content) in files.pairs()? {
        let file = root.join(path.trim_start_matches('/'));
        let folder = file.parent().unwrap_or(&root);
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&file, format!("{content}\n")));
        written.map_err(|error| Failure::broken(format!("file {path} of disk {name}"), error))?;
    }
    let root = root.display().to_string();
    run(world, "mke2fs".into(), &["-q", "-t", "ext4", "-d", &root, name, "16M"])?;
    world.state::<Images>().0.insert(name.to_owned(), "raw".to_owned());
    Ok(())
}

/// Changes the size of a disk that no machine uses.
pub(crate) fn resize(world: &mut World, name: &str, size: u64) -> Result<(), Failure> {
    let format = format_of(world, name)?;
    image(world, &["resize", "-q", "-f", &format, name, &size.to_string()]).map(drop)
}

/// Copies an image into another of a format.
#[step(
    en = "I convert the image {string} to {word} format as {string}",
    zh = "我把镜像 {string} 转换为 {word} 格式,存为 {string}"
)]
fn convert(world: &mut World, from: &str, format: &str, to: &str) -> Result<(), Failure> {
    let old = format_of(world, from)?;
    image(world, &["convert", "-q", "-f", &old, "-O", format, from, to])?;
    world.state::<Images>().0.insert(to.to_owned(), format.to_owned());
    Ok(())
}

fn snapshot(world: &mut World, verb: &str, (snapshot, name): (&str, &str)) -> Result<(), Failure> {
    let format = format_of(world, name)?;
    image(world, &["snapshot", "-q", "-f", &format, verb, snapshot, name]).map(drop)
}

/// Makes a snapshot within an image; no machine may use it.
#[step(
    en = "I take the snapshot {string} in the image {string}",
    zh = "我创建快照 {string},位于镜像 {string}"
)]
fn take_snapshot(world: &mut World, what: &str, name: &str) -> Result<(), Failure> {
    snapshot(world, "-c", (what, name))
}

/// Makes an image what it was at a snapshot.
#[step(
    en = "I go back to the snapshot {string} in the image {string}",
    zh = "我回到快照 {string},位于镜像 {string}"
)]
fn apply_snapshot(world: &mut World, what: &str, name: &str) -> Result<(), Failure> {
    snapshot(world, "-a", (what, name))
}

/// Deletes a snapshot of an image.
#[step(
    en = "I delete the snapshot {string} in the image {string}",
    zh = "我删除快照 {string},位于镜像 {string}"
)]
fn delete_snapshot(world: &mut World, what: &str, name: &str) -> Result<(), Failure> {
    snapshot(world, "-d", (what, name))
}

/// Writes a text at the start of a disk, through a raw copy of it.
#[step(en = "the disk {string} begins with:", zh = "磁盘 {string} 的开头为:")]
fn write_text(world: &mut World, name: &str, text: DocString) -> Result<(), Failure> {
    let format = format_of(world, name)?;
    let raw = format!("{name}.plain");
    image(world, &["convert", "-q", "-f", &format, "-O", "raw", name, &raw])?;
    let path = world.folder.join(&raw);
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    let written = file.and_then(|file| {
        std::os::unix::fs::FileExt::write_all_at(&file, text.content.as_bytes(), 0)
    });
    written.map_err(|error| Failure::broken(format!("disk \"{name}\""), error))?;
    image(world, &["convert", "-q", "-f", "raw", "-O", &format, &raw, name])?;
    std::fs::remove_file(path).map_err(|error| Failure::broken(raw, error))
}

/// Has `kezhan image check` look an image over.
#[check(en = "the image {string} is consistent", zh = "镜像 {string} 完好")]
fn is_consistent(world: &mut World, name: &str) -> Result<(), Failure> {
    let format = format_of(world, name)?;
    match image(world, &["check", "-f", &format, name]) {
        Ok(_) => Ok(()),
        Err(failure) => {
            Err(Failure::mismatch(format!("image {name} consistent"), failure.to_string()))
        }
    }
}

/// Has `qemu-img check` look an image over; needs QEMU's tool.
#[check(en = "qemu-img accepts the image {string}", zh = "qemu-img 接受镜像 {string}")]
fn peer_accepts(world: &mut World, name: &str) -> Result<(), Failure> {
    let format = format_of(world, name)?;
    let verb = if format == "raw" { "info" } else { "check" };
    match run(world, "qemu-img".into(), &[verb, "-f", &format, name]) {
        Ok(_) => Ok(()),
        Err(failure) => {
            Err(Failure::mismatch(format!("qemu-img to accept {name}"), failure.to_string()))
        }
    }
}

/// What `kezhan image info` says of an image.
fn info(world: &mut World, name: &str) -> Result<serde_json::Value, Failure> {
    let format = format_of(world, name)?;
    let text = image(world, &["info", "-f", &format, "--output", "json", name])?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::broken(format!("image info of \"{name}\": {text}"), error))
}

/// Compares the size of the disk that an image holds.
#[check(en = "the disk {string} has {size}", zh = "磁盘 {string} 的大小为 {size}")]
fn has_size(world: &mut World, name: &str, expected: u64) -> Result<(), Failure> {
    let seen = info(world, name)?;
    match seen.get("virtual-size").and_then(serde_json::Value::as_u64) {
        Some(size) if size == expected => Ok(()),
        size => Err(Failure::mismatch(
            format!("{expected} bytes"),
            size.map_or_else(|| seen.to_string(), |size| format!("{size} bytes")),
        )),
    }
}

/// Compares the format of an image.
#[check(en = "the image {string} is in {word} format", zh = "镜像 {string} 的格式为 {word}")]
fn has_format(world: &mut World, name: &str, expected: &str) -> Result<(), Failure> {
    let seen = info(world, name)?;
    match seen.get("format").and_then(serde_json::Value::as_str) {
        Some(format) if format == expected => Ok(()),
        _ => Err(Failure::mismatch(format!("format {expected}"), seen.to_string())),
    }
}

/// Looks for a snapshot in an image.
#[check(
    en = "the image {string} has the snapshot {string}",
    zh = "镜像 {string} 含有快照 {string}"
)]
fn has_snapshot(world: &mut World, name: &str, snapshot: &str) -> Result<(), Failure> {
    let seen = info(world, name)?;
    let list = seen.get("snapshots").and_then(serde_json::Value::as_array);
    let found = list.into_iter().flatten().filter_map(|entry| entry.get("name")?.as_str());
    if found.into_iter().any(|name| name == snapshot) {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("snapshot {snapshot} in {name}"), seen.to_string()))
    }
}

/// Compares the contents of two images, whatever their formats.
#[check(
    en = "the images {string} and {string} have the same content",
    zh = "镜像 {string} 与 {string} 内容相同"
)]
fn are_equal(world: &mut World, one: &str, other: &str) -> Result<(), Failure> {
    let formats = (format_of(world, one)?, format_of(world, other)?);
    match image(world, &["compare", "-q", "-f", &formats.0, "-F", &formats.1, one, other]) {
        Ok(_) => Ok(()),
        Err(failure) => {
            Err(Failure::mismatch(format!("{one} and {other} equal"), failure.to_string()))
        }
    }
}

/// The most of a disk that is looked through for a text, in bytes.
const MAX_LOOK: u64 = 256 << 20;

/// Looks for a text anywhere on a disk, whatever its format.
#[check(en = "the disk {string} holds {string}", zh = "磁盘 {string} 上有 {string}")]
fn disk_shows(world: &mut World, name: &str, text: &str) -> Result<(), Failure> {
    let format = format_of(world, name)?;
    let raw = format!("{name}.plain");
    image(world, &["convert", "-q", "-f", &format, "-O", "raw", name, &raw])?;
    let path = world.folder.join(&raw);
    let size = std::fs::metadata(&path).map_or(0, |data| data.len());
    if size > MAX_LOOK {
        return Err(Failure::Broken(format!("disk \"{name}\" is too large to look through")));
    }
    let bytes = std::fs::read(&path).map_err(|error| Failure::broken(&raw, error))?;
    let _ = std::fs::remove_file(path);
    if bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes()) {
        Ok(())
    } else {
        let begin = String::from_utf8_lossy(bytes.get(..64).unwrap_or(&bytes)).into_owned();
        Err(Failure::mismatch(format!("{text:?} on disk {name}"), tail(&begin)))
    }
}

/// Compares what an image's file takes on the host, holes left out.
#[check(
    en = "the disk {string} uses at most {size} on the host",
    zh = "磁盘 {string} 在宿主机上最多占用 {size}"
)]
fn uses_at_most(world: &mut World, name: &str, most: u64) -> Result<(), Failure> {
    let path = world.folder.join(name);
    let data = std::fs::metadata(&path).map_err(|error| Failure::broken(name, error))?;
    // st_blocks counts 512 bytes, whatever the file system's blocks are. (stat(3type))
    let used = data.blocks().saturating_mul(512);
    if used <= most {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("at most {most} bytes on the host"), format!("{used} bytes")))
    }
}
