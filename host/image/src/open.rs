//! Opens images by file name, as every command does.

use crate::error::{ImageError, Result};
use kezhan_block::storage::{CacheMode, FileOptions, NbdAddress, NbdStorage};
use kezhan_block::{
    BlockError, FileStorage, FollowFiles, FormatDriver, Image, OpenOptions, Storage, open_chain,
};
use kezhan_disk_formats::DRIVERS;
use kezhan_qcow2::Qcow2;
use std::path::Path;
use std::sync::Arc;

/// How to open an image.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The format; looked for when not given.
    pub format: Option<&'a str>,
    /// Open for writing.
    pub writable: bool,
    /// Open the chain below too.
    pub backing: bool,
    /// Take no locks: another process may be writing.
    pub force_share: bool,
    /// Use of the page cache.
    pub cache: CacheMode,
    /// For commands that look at metadata alone: an encrypted image needs no passphrase.
    pub for_check: bool,
    /// The passphrase of encrypted images.
    pub passphrase: Option<&'a [u8]>,
}

/// Secrets on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SecretArgs {
    /// The passphrase of encrypted images: secret,id=NAME,file=FILE or secret,id=NAME,data=TEXT
    #[arg(long, value_name = "OBJECT")]
    object: Vec<String>,
}

impl SecretArgs {
    /// The passphrase, if one was given.
    ///
    /// # Errors
    /// An object that is not a secret; a file that cannot be read.
    pub fn passphrase(&self) -> Result<Option<Vec<u8>>> {
        let Some(object) = self.object.first() else { return Ok(None) };
        let settings = object.strip_prefix("secret,").unwrap_or("");
        for (key, value) in options(&[settings.to_owned()])? {
            match key.as_str() {
                "data" => return Ok(Some(value.into_bytes())),
                "file" => {
                    let read = std::fs::read(&value);
                    return read.map(Some).map_err(|source| ImageError::Io { name: value, source });
                }
                _ => {}
            }
        }
        Err(ImageError::usage(format!("--object {object}: write secret,id=NAME,file=FILE")))
    }
}

impl<'a> Open<'a> {
    /// For reading, with its chain.
    pub fn read(format: Option<&'a str>, force_share: bool) -> Open<'a> {
        Open {
            format,
            writable: false,
            backing: true,
            force_share,
            cache: CacheMode::WriteBack,
            for_check: false,
            passphrase: None,
        }
    }

    /// For reading and writing, with its chain.
    pub fn write(format: Option<&'a str>) -> Open<'a> {
        Open { writable: true, ..Open::read(format, false) }
    }

    /// The same without the chain below.
    pub fn alone(self) -> Open<'a> {
        Open { backing: false, ..self }
    }

    /// Opens the image at `path`.
    ///
    /// # Errors
    /// Whatever the host or one of the images says.
    pub fn open(self, path: &str) -> Result<Image> {
        if let Some(address) = NbdAddress::parse(path) {
            let storage = NbdStorage::connect(path, address, self.writable)?;
            return self.open_storage(Arc::new(storage));
        }
        let file = FileStorage::open(
            Path::new(path),
            FileOptions {
                writable: self.writable,
                create: false,
                lock: !self.force_share,
                cache: self.cache,
            },
        )?;
        self.open_storage(Arc::new(file))
    }

    /// Opens the image in a storage.
    ///
    /// # Errors
    /// As [`Open::open`].
    pub fn open_storage(self, file: Arc<dyn Storage>) -> Result<Image> {
        let gate = FollowFiles { lock: !self.force_share };
        let options = OpenOptions {
            drivers: DRIVERS,
            format: self.format,
            writable: self.writable,
            backing: self.backing,
            gate: &gate,
            probe_backing: true,
            passphrase: self.passphrase,
            for_check: self.for_check,
        };
        Ok(open_chain(file, &options)?)
    }
}

/// The driver of a format named on the command line.
///
/// # Errors
/// A name that is not known.
pub fn driver(name: &str) -> Result<&'static dyn FormatDriver> {
    DRIVERS.iter().copied().find(|driver| driver.name() == name).ok_or_else(|| {
        let all: Vec<&str> = DRIVERS.iter().map(|driver| driver.name()).collect();
        ImageError::usage(format!("format '{name}': not known; formats are {}", all.join(", ")))
    })
}

/// The qcow2 side of an image, for what only qcow2 has.
///
/// # Errors
/// An image of another format.
pub fn qcow2<'a>(image: &'a Image, what: &str) -> Result<&'a Qcow2> {
    image.format().as_any().downcast_ref().ok_or_else(|| {
        let format = image.format().format_name();
        BlockError::unsupported(image.name(), format!("{format} images have no {what}; use qcow2"))
            .into()
    })
}

/// Everything is on the disk, and what was freed is free.
///
/// # Errors
/// The storage's.
pub fn close(image: Image) -> Result<()> {
    image.close()?;
    Ok(())
}

/// `-o name=value,name=value`; a comma within a value is written twice.
///
/// # Errors
/// A part without `=`.
pub fn options(arguments: &[String]) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for argument in arguments {
        let protected = argument.replace(",,", "\0");
        for part in protected.split(',').filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(ImageError::usage(format!("-o {part}: write name=value")));
            };
            all.push((name.to_owned(), value.replace('\0', ",")));
        }
    }
    Ok(all)
}

/// A cache mode by qemu-img's name.
///
/// # Errors
/// Another name.
pub fn cache_mode(name: Option<&str>, default: CacheMode) -> Result<CacheMode> {
    match name {
        None => Ok(default),
        Some("writeback") => Ok(CacheMode::WriteBack),
        Some("writethrough") => Ok(CacheMode::WriteThrough),
        Some("none" | "off") => Ok(CacheMode::None),
        Some("directsync") => Ok(CacheMode::DirectSync),
        Some("unsafe") => Ok(CacheMode::Unsafe),
        Some(other) => Err(ImageError::usage(format!(
            "cache '{other}': modes are none, writeback, unsafe, directsync and writethrough"
        ))),
    }
}
