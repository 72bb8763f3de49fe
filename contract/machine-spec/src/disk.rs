//! Disks: `--disk FILE[,key=value]…`.

use crate::{Size, SpecError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How the host's page cache is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskCache {
    /// The page cache, durable when the guest flushes.
    #[default]
    WriteBack,
    /// The page cache, durable at every write.
    WriteThrough,
    /// No page cache, durable when the guest flushes.
    None,
    /// No page cache, durable at every write.
    DirectSync,
    /// The page cache, flushes ignored: for disks that are thrown away.
    Unsafe,
}

const CACHES: [(&str, DiskCache); 5] = [
    ("writeback", DiskCache::WriteBack),
    ("writethrough", DiskCache::WriteThrough),
    ("none", DiskCache::None),
    ("directsync", DiskCache::DirectSync),
    ("unsafe", DiskCache::Unsafe),
];

/// What happens when the host cannot read or write a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskOnError {
    /// The guest sees the error.
    #[default]
    Report,
    /// The machine waits until it goes.
    Pause,
}

/// Where a guest finds a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// On PCI.
    #[default]
    Pci,
    /// At registers in memory that ACPI tells of, for a guest without PCI.
    Mmio,
}

/// How much may be done in a second, and how much at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskRate {
    /// A second; not 0.
    pub per_second: u64,
    /// At once.
    pub burst: u64,
}

/// What is right, where a rate is not.
const RATE: &str = "iops is REQUESTS or REQUESTS/BURST, bps is SIZE or SIZE/BURST, none of them 0";

impl DiskRate {
    /// `RATE` or `RATE/BURST`; a burst that is not given is what a second has.
    fn read(text: &str, number: fn(&str) -> Option<u64>) -> Result<DiskRate, &'static str> {
        let (rate, burst) = text.split_once('/').unwrap_or((text, text));
        let read = |text| number(text).filter(|number| *number != 0).ok_or(RATE);
        Ok(DiskRate { per_second: read(rate)?, burst: read(burst)? })
    }
}

impl fmt::Display for DiskRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.per_second)?;
        if self.burst == self.per_second { Ok(()) } else { write!(f, "/{}", self.burst) }
    }
}

/// A disk of the machine, on virtio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// The image or block device, or the address of an NBD server's export.
    pub file: PathBuf,
    /// Its format. Never guessed: a guest could write the header of another format to a raw disk.
    #[serde(default = "raw")]
    pub format: String,
    /// The guest cannot write.
    #[serde(default)]
    pub readonly: bool,
    /// Serial number, at most 20 bytes.
    #[serde(default)]
    pub serial: String,
    /// Use of the host's page cache.
    #[serde(default)]
    pub cache: DiskCache,
    /// Files that the image names as its backing files may be opened.
    #[serde(default)]
    pub backing: bool,
    /// What happens when the host fails.
    #[serde(default)]
    pub on_error: DiskOnError,
    /// Where the guest finds it.
    #[serde(default)]
    pub bus: DiskBus,
    /// Discards of the guest's do not reach the image.
    #[serde(default)]
    pub keep_discarded: bool,
    /// Zeroes that the guest writes take no room.
    #[serde(default)]
    pub detect_zeroes: bool,
    /// Requests.
    #[serde(default)]
    pub iops: Option<DiskRate>,
    /// Bytes.
    #[serde(default)]
    pub bps: Option<DiskRate>,
}

fn raw() -> String {
    "raw".to_owned()
}

impl DiskSpec {
    /// A raw disk that a guest may write.
    pub fn new(file: impl Into<PathBuf>) -> DiskSpec {
        DiskSpec {
            file: file.into(),
            format: raw(),
            readonly: false,
            serial: String::new(),
            cache: DiskCache::default(),
            backing: false,
            on_error: DiskOnError::default(),
            bus: DiskBus::default(),
            keep_discarded: false,
            detect_zeroes: false,
            iops: None,
            bps: None,
        }
    }

    /// Whether it is an export of an NBD server: `nbd://HOST[:PORT]/EXPORT`, `nbd+unix:///EXPORT?socket=PATH`, or
    /// their older forms, which begin with `nbd:`.
    pub fn is_remote(&self) -> bool {
        let name = self.file.as_os_str().as_encoded_bytes();
        name.starts_with(b"nbd:") || name.starts_with(b"nbd+unix:")
    }

    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        if self.serial.len() > 20 {
            return Err(wrong(&self.to_string(), "a serial number has at most 20 bytes"));
        }
        Ok(())
    }

    fn set(&mut self, setting: &str) -> Result<(), &'static str> {
        match setting.split_once('=').unwrap_or((setting, "")) {
            ("readonly", "" | "on") => self.readonly = true,
            ("readonly", "off") => self.readonly = false,
            ("format", value) if !value.is_empty() => self.format = value.to_owned(),
            ("serial", value) => self.serial = value.to_owned(),
            ("backing", "follow") => self.backing = true,
            ("backing", "deny") => self.backing = false,
            ("on-error", "report") => self.on_error = DiskOnError::Report,
            ("on-error", "pause") => self.on_error = DiskOnError::Pause,
            ("discard", "on") => self.keep_discarded = false,
            ("discard", "off") => self.keep_discarded = true,
            ("detect-zeroes", "on") => self.detect_zeroes = true,
            ("detect-zeroes", "off") => self.detect_zeroes = false,
            ("iops", value) => {
                self.iops = Some(DiskRate::read(value, |text| text.parse().ok())?);
            }
            ("bps", value) => {
                let bytes = |text: &str| text.parse::<Size>().ok().map(Size::bytes);
                self.bps = Some(DiskRate::read(value, bytes)?);
            }
            ("bus", "pci") => self.bus = DiskBus::Pci,
            ("bus", "mmio") => self.bus = DiskBus::Mmio,
            ("cache", value) => {
                let found = CACHES.iter().find(|(name, _)| *name == value);
                self.cache = found
                    .map(|(_, cache)| *cache)
                    .ok_or("cache is writeback, writethrough, none, directsync or unsafe")?;
            }
            _ => {
                return Err("write FILE and of format=NAME, readonly, serial=S, cache=MODE, \
                            backing=follow, on-error=report|pause, discard=on|off, detect-zeroes=on|off, \
                            iops=N, bps=SIZE and bus=pci|mmio what you need");
            }
        }
        Ok(())
    }
}

fn wrong(text: &str, rule: &'static str) -> SpecError {
    SpecError::Disk { text: text.to_owned(), rule }
}

impl FromStr for DiskSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<DiskSpec, SpecError> {
        let mut parts = text.split(',');
        let file = parts.next().filter(|file| !file.is_empty());
        let mut disk = DiskSpec::new(file.ok_or_else(|| wrong(text, "name a file first"))?);
        parts.try_for_each(|part| disk.set(part)).map_err(|rule| wrong(text, rule))?;
        disk.validate().map(|()| disk)
    }
}

impl fmt::Display for DiskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},format={}", self.file.display(), self.format)?;
        if self.readonly {
            f.write_str(",readonly")?;
        }
        if !self.serial.is_empty() {
            write!(f, ",serial={}", self.serial)?;
        }
        if let Some((name, _)) = CACHES.iter().skip(1).find(|(_, cache)| *cache == self.cache) {
            write!(f, ",cache={name}")?;
        }
        if self.backing {
            f.write_str(",backing=follow")?;
        }
        if self.on_error == DiskOnError::Pause {
            f.write_str(",on-error=pause")?;
        }
        if self.bus == DiskBus::Mmio {
            f.write_str(",bus=mmio")?;
        }
        if self.keep_discarded {
            f.write_str(",discard=off")?;
        }
        if self.detect_zeroes {
            f.write_str(",detect-zeroes=on")?;
        }
        self.iops.map_or(Ok(()), |iops| write!(f, ",iops={iops}"))?;
        self.bps.map_or(Ok(()), |bps| write!(f, ",bps={bps}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_reads_as_it_is_written() {
        for text in [
            "a.img,format=raw",
            "b,format=qcow2,readonly,serial=S,cache=none,backing=follow,on-error=pause",
            "c,format=raw,bus=mmio",
            "d,format=raw,discard=off,detect-zeroes=on,iops=100/500,bps=1048576",
        ] {
            assert_eq!(text.parse::<DiskSpec>().unwrap().to_string(), text);
        }
        assert_eq!("a.img".parse::<DiskSpec>().unwrap(), DiskSpec::new("a.img"));
    }

    #[test]
    fn a_wrong_disk_is_named() {
        for text in [
            "",
            ",readonly",
            "f,format=",
            "f,cache=maybe",
            "f,bus=9",
            "f,iops=0",
            "f,iops=10/0",
            "f,bps=much",
            "f,serial=123456789012345678901",
        ] {
            let error = text.parse::<DiskSpec>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("--disk '{text}")) || text.contains("serial"),
                "{error}"
            );
        }
    }
}
