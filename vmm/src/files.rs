//! The files that a machine starts from, opened once: a reset reads them again without their names.

use crate::VmmError;
use kezhan_board::{Board, Entry, GuestFiles, Image};
use kezhan_machine_spec::MachineSpec;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Kernel, initial RAM disk, command line.
#[derive(Debug)]
pub(crate) struct BootFiles {
    path: PathBuf,
    kernel: File,
    initrd: Option<File>,
    cmdline: String,
}

impl BootFiles {
    /// Opens what the description names.
    ///
    /// # Errors
    /// [`VmmError::File`], and [`VmmError::NothingToStart`] when it names no kernel.
    pub(crate) fn open(spec: &MachineSpec) -> Result<BootFiles, VmmError> {
        let path = spec.kernel.as_deref().ok_or(VmmError::NothingToStart)?;
        let initrd = spec.initrd.as_deref().map(|path| open("--initrd", path)).transpose()?;
        Ok(BootFiles {
            path: path.to_owned(),
            kernel: open("--kernel", path)?,
            initrd,
            cmdline: spec.append.clone(),
        })
    }

    /// The version of the operating system that the kernel is a release of, if it says so.
    pub(crate) fn system_version(&self) -> Option<String> {
        kezhan_board::system_version(&self.kernel)
    }

    /// Loads them into the board's memory.
    ///
    /// # Errors
    /// [`VmmError::Kernel`] with the kernel's name.
    pub(crate) fn load(&self, board: &Board) -> Result<Entry, VmmError> {
        let files = GuestFiles {
            kernel: &self.kernel,
            initrd: self.initrd.as_ref().map(|file| file as &dyn Image),
            cmdline: &self.cmdline,
        };
        board.load(&files).map_err(|error| VmmError::Kernel { path: self.path.clone(), error })
    }
}

fn open(option: &'static str, path: &Path) -> Result<File, VmmError> {
    let failed = |error| VmmError::File { option, path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    // A pipe or a device has no length and cannot be read again at the next reset.
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("not an ordinary file")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kernel: &str) -> String {
        let spec = MachineSpec { kernel: Some(kernel.into()), ..MachineSpec::default() };
        BootFiles::open(&spec).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_kernel_is_named_with_its_option() {
        assert!(error("/no/vmlinuz").starts_with("--kernel /no/vmlinuz: No such file"));
    }

    #[test]
    fn a_folder_or_a_device_is_no_kernel() {
        assert!(error("/tmp").contains("not an ordinary file"));
        assert!(error("/dev/zero").contains("not an ordinary file"));
    }

    #[test]
    fn no_kernel_at_all_asks_for_one() {
        let error = BootFiles::open(&MachineSpec::default()).unwrap_err();
        assert!(error.to_string().contains("--kernel FILE"));
    }
}
