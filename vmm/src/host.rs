//! What this host says of itself in `/proc` and `/sys`, under a root that a test may choose.

use std::path::{Path, PathBuf};

/// The root of the host's file system, or of a tree that looks like one.
#[derive(Clone, Debug)]
pub struct HostRoot(PathBuf);

/// The host's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// All of it.
    pub total: u64,
    /// What a new process can have without swapping.
    pub available: u64,
    /// Free swap.
    pub swap: u64,
}

impl Default for HostRoot {
    fn default() -> HostRoot {
        HostRoot::new(Path::new("/"))
    }
}

impl HostRoot {
    /// The tree at `root`.
    pub fn new(root: &Path) -> HostRoot {
        HostRoot(root.to_owned())
    }

    /// Where `path`, as the host names it (`/proc/cpuinfo`), is to be found.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Whether it is the host that this process runs on.
    pub(crate) fn is_this_one(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The text of a file, without white space at its ends; `None` when it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// Whether it is there.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// `/proc/meminfo` (proc_meminfo(5)); `None` when it is not there, and then nothing is known.
    pub fn memory(&self) -> Option<HostMemory> {
        let text = self.read("/proc/meminfo")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
                .map(|kib| kib.saturating_mul(1024))
        };
        Some(HostMemory {
            total: field("MemTotal")?,
            available: field("MemAvailable")?,
            swap: field("SwapFree").unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_a_tree_of_the_tests_own() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("proc")).unwrap();
        let text = "MemTotal:       1024 kB\nMemFree: 1 kB\nMemAvailable: 512 kB\nSwapFree: 8 kB\n";
        std::fs::write(tree.path().join("proc/meminfo"), text).unwrap();
        let memory = HostRoot::new(tree.path()).memory();
        let expected = HostMemory { total: 1 << 20, available: 512 << 10, swap: 8 << 10 };
        assert_eq!(memory, Some(expected));
    }

    #[test]
    fn a_host_that_tells_nothing_is_not_guessed_at() {
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(HostRoot::new(tree.path()).memory(), None);
    }
}
