//! Steps on files of the scenario's folder.

use kezhan_steps::{DocString, Failure, StepDefinition, World, check, step, steps};
use std::io::Read;
use std::path::Path;

/// The family's steps.
pub fn steps() -> Vec<StepDefinition> {
    steps![file_with, remove, exists, contains, file_is, file_size]
}

/// The most of a file that is looked at, in bytes.
const MAX_READ: u64 = 64 << 20;

fn read(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::mismatch(format!("file {}", path.display()), "no such file"))
        }
        Err(error) => Err(Failure::broken(format!("file {}", path.display()), error)),
    }
}

/// Writes a file in the scenario's folder.
#[step(en = "a file {path} with:", zh = "一个文件 {path},内容如下:")]
fn file_with(world: &mut World, name: &str, text: DocString) -> Result<(), Failure> {
    let path = world.folder.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| Failure::broken(format!("folder {}", parent.display()), error))?;
    }
    std::fs::write(&path, text.content + "\n")
        .map_err(|error| Failure::broken(format!("file {}", path.display()), error))
}

/// Removes a file of the scenario's folder.
#[step(en = "I remove the file {path}", zh = "我删除文件 {path}")]
fn remove(world: &mut World, name: &str) -> Result<(), Failure> {
    let path = world.folder.join(name);
    std::fs::remove_file(&path)
        .map_err(|error| Failure::broken(format!("file {}", path.display()), error))
}

/// Whether a file is there.
#[check(en = "the file {path} exists", zh = "文件 {path} 存在")]
fn exists(world: &mut World, name: &str) -> Result<(), Failure> {
    let path = world.path(name);
    if path.exists() {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("file {}", path.display()), "no such file"))
    }
}

/// Looks for a text in a file.
#[check(en = "the file {path} contains {string}", zh = "文件 {path} 包含 {string}")]
fn contains(world: &mut World, name: &str, expected: &str) -> Result<(), Failure> {
    let text = read(&world.path(name))?;
    if text.contains(expected) {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("{expected:?} in {name}"), tail(&text)))
    }
}

/// Compares a file with a text.
#[check(en = "the file {path} is:", zh = "文件 {path} 的内容是:")]
fn file_is(world: &mut World, name: &str, expected: DocString) -> Result<(), Failure> {
    let text = read(&world.path(name))?;
    if text.trim_end() == expected.content.trim_end() {
        Ok(())
    } else {
        Err(Failure::mismatch(expected.content, tail(&text)))
    }
}

/// Compares a file's size.
#[check(en = "the file {path} has {size}", zh = "文件 {path} 的大小为 {size}")]
fn file_size(world: &mut World, name: &str, expected: u64) -> Result<(), Failure> {
    let path = world.path(name);
    let length = std::fs::metadata(&path)
        .map_err(|error| Failure::broken(format!("file {}", path.display()), error))?
        .len();
    if length == expected {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("{expected} bytes"), format!("{length} bytes")))
    }
}

/// The end of a text, for messages: at most 20 lines.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(20);
    let shown = lines.get(skipped..).unwrap_or_default().join("\n         ");
    match (skipped, shown.is_empty()) {
        (0, true) => "nothing".to_owned(),
        (0, false) => shown,
        _ => format!("… {skipped} lines, then:\n         {shown}"),
    }
}
