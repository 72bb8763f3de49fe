//! The map by which Linux `perf` names translated code.
//!
//! ```text
//!   /tmp/perf-PID.map:   7f51a8000040 5c guest 0xffffffff81a01230 (supervisor)
//!                        7f51aa000310 91 guest 0xffffffff81a01230 (supervisor), cold
//! ```
//! One line for each part of a superblock: address and length in the process, hexadecimal, and a name, here the
//! linear address in the guest. When code memory has filled up it is used again, and later lines tell of the same
//! addresses; perf takes either. (Linux, `tools/perf/Documentation/jit-interface.txt`)

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The map of this process.
#[derive(Debug)]
pub struct PerfMap(Mutex<File>);

impl PerfMap {
    /// Where perf looks for the map of this process.
    pub fn path() -> PathBuf {
        format!("/tmp/perf-{}.map", std::process::id()).into()
    }

    /// A new map. What an earlier process of this number left is removed; nobody's file is written to.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create() -> io::Result<PerfMap> {
        let path = PerfMap::path();
        match remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().append(true).create_new(true).mode(0o644).open(path)?;
        Ok(PerfMap(Mutex::new(file)))
    }

    /// Tells of a superblock at a linear address. A full disk costs lines of the map, and nothing else.
    pub(crate) fn tell(&self, rip: u64, is_user: bool, parts: [(u64, usize); 2]) {
        let who = if is_user { "user" } else { "supervisor" };
        let [(hot, length), (cold, rest)] = parts;
        let mut lines = format!("{hot:x} {length:x} guest {rip:#x} ({who})\n");
        if rest > 0 {
            lines.push_str(&format!("{cold:x} {rest:x} guest {rip:#x} ({who}), cold\n"));
        }
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(lines.as_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_superblock_has_its_line() {
        PerfMap::create().unwrap();
        let map = PerfMap::create().unwrap();
        map.tell(0x40_1000, true, [(0x7f00_0040, 0x5c), (0x7f10_0000, 0)]);
        map.tell(0xffff_ffff_8100_0000, false, [(0x7f00_00c0, 16), (0x7f10_0000, 9)]);
        let written = std::fs::read_to_string(PerfMap::path()).unwrap();
        remove_file(PerfMap::path()).unwrap();
        let lines = [
            "7f000040 5c guest 0x401000 (user)",
            "7f0000c0 10 guest 0xffffffff81000000 (supervisor)",
            "7f100000 9 guest 0xffffffff81000000 (supervisor), cold",
        ];
        assert_eq!(written.lines().collect::<Vec<_>>(), lines);
    }
}
