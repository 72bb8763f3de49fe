//! A file that takes what the guest writes.

use crate::outlet::{Outlet, OutletEnd};
use crate::{ChardevError, Waker};
use kezhan_ports::CharDevice;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

/// Appends to a file (or a named pipe); reads nothing.
#[derive(Debug)]
pub struct FileDevice {
    outlet: Outlet,
    end: OutletEnd,
}

impl FileDevice {
    /// Opens `path` for appending, and creates it when it is not there. `gone` is told when it takes no
    /// more (disk full, pipe closed); the message starts with the path.
    ///
    /// # Errors
    /// [`ChardevError::File`].
    pub fn open(
        path: &Path,
        gone: impl FnOnce(String) + Send + 'static,
    ) -> Result<FileDevice, ChardevError> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|error| ChardevError::File { path: path.to_owned(), error })?;
        let named = path.display().to_string();
        let outlet = Outlet::new(
            file.into(),
            Box::new(move |error| gone(format!("{named}: {error}; the guest's output is lost"))),
        );
        let end = outlet.end();
        Ok(FileDevice { outlet, end })
    }

    /// Something that waits until the file has everything; call it when the device is at rest.
    pub fn finisher(&self) -> impl Fn(Duration) + Send + use<> {
        let end = self.end.clone();
        move |patience| {
            end.finish(patience);
        }
    }
}

impl CharDevice for FileDevice {
    fn read(&mut self, _data: &mut [u8]) -> usize {
        0
    }

    fn write(&mut self, data: &[u8]) -> usize {
        self.outlet.write(data)
    }

    fn set_waker(&mut self, wake: Waker) {
        self.outlet.set_waker(wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_appended_to_what_the_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial.log");
        std::fs::write(&path, "before\n").unwrap();
        let mut device = FileDevice::open(&path, |_| {}).unwrap();
        device.write(b"after\n");
        device.finisher()(Duration::from_secs(10));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = FileDevice::open(Path::new("/nowhere/at/all"), |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("--serial file=/nowhere/at/all: "), "{error}");
    }
}
