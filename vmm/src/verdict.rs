//! The probe guest's verdict on this host's KVM, remembered until the host starts anew.
//!
//! The probe takes some tens of milliseconds, a machine should start in two. So the verdict is kept in
//! a file, together with everything that could change it: the host's boot, its kernel, the KVM modules
//! that are loaded, and this program. A file that does not fit, cannot be read or is not ours is as
//! good as none; one that cannot be written costs the next start a probe.
//!
//! The file lies in `$XDG_CACHE_HOME/kezhan`, else `$HOME/.cache/kezhan`, else `/tmp/kezhan-UID`. Since
//! anybody may write to `/tmp`, a file that does not belong to this user is not believed.

use crate::HostRoot;
use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const FILE: &str = "kvm-verdict.json";

/// More than a verdict ever has: a file is not read beyond.
const LONGEST: u64 = 64 * 1024;

/// Modules that decide how this host's KVM works.
const MODULES: [&str; 4] = ["kvm", "kvm_intel", "kvm_amd", "kvm_pvm"];

/// What a verdict holds for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Circumstances {
    boot: String,
    kernel: String,
    modules: Vec<String>,
    program: String,
}

/// A remembered verdict with its circumstances.
#[derive(Serialize, Deserialize)]
struct Remembered<T> {
    circumstances: Circumstances,
    verdict: T,
}

/// The file.
#[derive(Debug)]
pub(crate) struct VerdictCache {
    folder: PathBuf,
    now: Circumstances,
}

impl Circumstances {
    /// Those of now; `None` when the host does not say which boot this is.
    pub(crate) fn read(host: &HostRoot) -> Option<Circumstances> {
        let program = std::fs::metadata("/proc/self/exe").ok()?;
        Some(Circumstances {
            boot: host.read("/proc/sys/kernel/random/boot_id")?,
            kernel: host.read("/proc/sys/kernel/osrelease")?,
            modules: MODULES
                .iter()
                .filter(|module| host.has(&format!("/sys/module/{module}")))
                .map(|module| (*module).to_owned())
                .collect(),
            program: format!(
                "{} {} {}.{}",
                env!("CARGO_PKG_VERSION"),
                program.size(),
                program.mtime(),
                program.mtime_nsec()
            ),
        })
    }
}

impl VerdictCache {
    /// The cache in `folder`.
    pub(crate) fn new(folder: &Path, now: Circumstances) -> VerdictCache {
        VerdictCache { folder: folder.to_owned(), now }
    }

    /// The verdict, if there is one that holds now.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Option<T> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(self.folder.join(FILE), flags, Mode::empty()).ok()?;
        let file = File::from(file);
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return None;
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        let remembered: Remembered<T> = serde_json::from_str(&text).ok()?;
        (remembered.circumstances == self.now).then_some(remembered.verdict)
    }

    /// Remembers a verdict, if the folder can be written.
    pub(crate) fn store<T: Serialize>(&self, verdict: &T) {
        self.try_store(verdict).ok();
    }

    fn try_store<T: Serialize>(&self, verdict: &T) -> std::io::Result<()> {
        let remembered = Remembered { circumstances: self.now.clone(), verdict };
        let text = serde_json::to_string(&remembered)?;
        std::fs::create_dir_all(&self.folder)?;
        // Two machines may start at once: each writes its own file and moves it into place.
        let own = self.folder.join(format!("{FILE}.{}", std::process::id()));
        std::fs::write(&own, text)?;
        std::fs::rename(&own, self.folder.join(FILE)).inspect_err(|_| {
            std::fs::remove_file(&own).ok();
        })
    }
}

/// The folder for this user's caches.
pub(crate) fn folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(cache) = variable("XDG_CACHE_HOME") {
        return cache.join("kezhan");
    }
    match variable("HOME") {
        Some(home) => home.join(".cache/kezhan"),
        None => PathBuf::from(format!("/tmp/kezhan-{}", rustix::process::geteuid().as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circumstances(boot: &str) -> Circumstances {
        Circumstances {
            boot: boot.to_owned(),
            kernel: "6.1.0".to_owned(),
            modules: vec!["kvm".to_owned()],
            program: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_verdict_holds_until_the_next_boot() {
        let folder = tempfile::tempdir().unwrap();
        let cache = VerdictCache::new(&folder.path().join("new/kezhan"), circumstances("a"));
        assert_eq!(cache.load::<u32>(), None);
        cache.store(&42);
        assert_eq!(cache.load::<u32>(), Some(42));
        let later = VerdictCache::new(&folder.path().join("new/kezhan"), circumstances("b"));
        assert_eq!(later.load::<u32>(), None);
    }

    #[test]
    fn a_damaged_file_a_link_and_a_folder_are_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = VerdictCache::new(folder.path(), circumstances("a"));
        let file = folder.path().join(FILE);
        std::fs::write(&file, "{\"circumstances\": 7").unwrap();
        assert_eq!(cache.load::<u32>(), None);
        cache.store(&1);
        let elsewhere = folder.path().join("elsewhere");
        std::fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert_eq!(cache.load::<u32>(), None);
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(cache.load::<u32>(), None);
        cache.store(&1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let cache = VerdictCache::new(Path::new("/proc/nowhere/kezhan"), circumstances("a"));
        cache.store(&1);
        assert_eq!(cache.load::<u32>(), None);
    }

    #[test]
    fn this_host_has_circumstances() {
        let now = Circumstances::read(&HostRoot::default()).unwrap();
        assert_eq!(Some(now), Circumstances::read(&HostRoot::default()));
    }
}
