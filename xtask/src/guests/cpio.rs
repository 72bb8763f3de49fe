//! Initial RAM disks: the "newc" archive of Linux (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Everything belongs to root and has no time, so the same tree gives the same bytes. `/dev/console` is
//! added: it needs no right to write a device node into an archive.

use crate::Outcome;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Major and minor number of `/dev/console` (Linux, Documentation/admin-guide/devices.txt).
const CONSOLE: (u32, u32) = (5, 1);

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &[u8], mode: u32, device: (u32, u32), contents: &[u8]) -> Outcome {
        self.entries += 1;
        let size = u32::try_from(contents.len())?;
        let name_size = u32::try_from(name.len() + 1)?;
        // inode, mode, uid, gid, links, mtime, size, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn add_tree(&mut self, root: &Path, folder: &Path) -> Outcome {
        let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = path.strip_prefix(root)?.as_os_str().as_bytes().to_vec();
            let about = fs::symlink_metadata(&path)?;
            let mode = about.permissions().mode() & 0o7777;
            if about.is_symlink() {
                let target = fs::read_link(&path)?;
                self.add(&name, LINK | 0o777, (0, 0), target.as_os_str().as_bytes())?;
            } else if about.is_dir() {
                self.add(&name, FOLDER | mode, (0, 0), &[])?;
                self.add_tree(root, &path)?;
            } else if about.is_file() {
                self.add(&name, REGULAR | mode, (0, 0), &fs::read(&path)?)?;
            }
        }
        Ok(())
    }
}

/// The archive of the tree below `root`.
///
/// # Errors
/// A file that cannot be read, or one of 4 GiB.
pub(crate) fn archive(root: &Path) -> Outcome<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add_tree(root, root)?;
    archive.add(b"dev/console", CHARACTER | 0o600, CONSOLE, &[])?;
    archive.add(b"TRAILER!!!", 0, (0, 0), &[])?;
    Ok(archive.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("dev")).unwrap();
        fs::write(tree.path().join("init"), "#!").unwrap();
        symlink("init", tree.path().join("link")).unwrap();
        tree
    }

    fn names(archive: &[u8]) -> Vec<String> {
        let number = |at: usize| {
            let text = std::str::from_utf8(&archive[at..at + 8]).unwrap();
            usize::from_str_radix(text, 16).unwrap()
        };
        let (mut names, mut at) = (Vec::new(), 0);
        while at < archive.len() {
            let (size, name) = (number(at + 54), number(at + 94));
            let text = &archive[at + 110..at + 110 + name - 1];
            names.push(String::from_utf8(text.to_vec()).unwrap());
            at = ((at + 110 + name).next_multiple_of(4) + size).next_multiple_of(4);
        }
        names
    }

    #[test]
    fn the_archive_holds_the_tree_the_console_and_the_trailer() {
        let archive = archive(tree().path()).unwrap();
        assert_eq!(names(&archive), ["dev", "init", "link", "dev/console", "TRAILER!!!"]);
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        assert_eq!(archive(tree().path()).unwrap(), archive(tree().path()).unwrap());
    }
}
