//! How files are opened and how the page cache is used.

/// How the host's page cache is used; the words are those of `--disk …,cache=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The page cache, durable at flush.
    #[default]
    WriteBack,
    /// The page cache, durable at every write.
    WriteThrough,
    /// No page cache, durable at flush.
    None,
    /// No page cache, durable at every write.
    DirectSync,
    /// The page cache, flushes ignored: for images that are thrown away.
    Unsafe,
}

impl CacheMode {
    pub(super) fn direct(self) -> bool {
        matches!(self, CacheMode::None | CacheMode::DirectSync)
    }

    pub(super) fn through(self) -> bool {
        matches!(self, CacheMode::WriteThrough | CacheMode::DirectSync)
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug)]
pub struct FileOptions {
    /// Open for writing too.
    pub writable: bool,
    /// Make a new, empty file, or empty an old one.
    pub create: bool,
    /// Refuse when another process uses the file in a way that excludes ours.
    pub lock: bool,
    /// Use of the page cache.
    pub cache: CacheMode,
}

impl FileOptions {
    /// For reading, locked.
    pub const READ: FileOptions =
        FileOptions { writable: false, create: false, lock: true, cache: CacheMode::WriteBack };
    /// For reading and writing, locked.
    pub const WRITE: FileOptions = FileOptions { writable: true, ..FileOptions::READ };
    /// A new file, locked.
    pub const CREATE: FileOptions = FileOptions { create: true, ..FileOptions::WRITE };
}
