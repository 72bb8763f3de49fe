//! A storage that can lose power.
//!
//! It keeps what is durable apart from what was written since the last flush. Each change since then is
//! kept in order; [`CrashStorage::after_crash`] makes a disk as power loss could leave it:
//!
//! ```text
//!   durable ── write ── write ── flush ── write ── write ── ✗
//!   \______________ certain ___________/ \__ any sectors of any of these, in any order __/
//! ```
//!
//! Each sector of 512 bytes of each unflushed write is, at random, there or lost; one sector may be torn
//! into its first 8·n bytes new and the rest old. Sector 0 is never torn: every disk keeps a sector whole,
//! and headers rely on it where tables do not need to.

use super::Random;
use crate::storage::{Extent, MemoryStorage, Storage};
use crate::units::HostOffset;
use crate::{BlockError, Result};
use std::io::{Error, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;

#[derive(Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Size(usize),
}

#[derive(Debug, Default)]
struct Disk {
    durable: Vec<u8>,
    now: Vec<u8>,
    pending: Vec<Change>,
    changes: u64,
    dies_at: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct CrashStorage(Mutex<Disk>);

impl CrashStorage {
    /// A disk with durable content.
    pub fn new(bytes: Vec<u8>) -> CrashStorage {
        CrashStorage(Mutex::new(Disk { durable: bytes.clone(), now: bytes, ..Disk::default() }))
    }

    /// How many changes and flushes it has seen.
    pub fn changes(&self) -> u64 {
        self.disk().changes
    }

    /// Lets every change from number `change` on fail: the power is off.
    pub fn die_at(&self, change: u64) {
        self.disk().dies_at = Some(change);
    }

    /// A disk as power loss at this moment could leave it; `random` decides.
    pub fn after_crash(&self, random: &mut Random) -> MemoryStorage {
        let disk = self.disk();
        let mut bytes = disk.durable.clone();
        // Some crashes lose nearly everything, some nearly nothing, some half.
        let keep_of_16 = [1, 4, 8, 12, 15][random.below(5) as usize];
        for change in &disk.pending {
            match change {
                Change::Size(size) => {
                    if random.below(16) < keep_of_16 {
                        bytes.resize(*size, 0);
                    }
                }
                Change::Write { offset, data } => {
                    keep_some(&mut bytes, *offset, data, keep_of_16, random);
                }
            }
        }
        MemoryStorage::new("crashed", bytes)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: Option<Change>) -> Result<()> {
        let mut disk = self.disk();
        if disk.dies_at.is_some_and(|at| disk.changes >= at) {
            let off = Error::from(ErrorKind::NotConnected);
            return Err(BlockError::io("crash", "write")(off));
        }
        disk.changes += 1;
        match change {
            None => {
                let Disk { durable, now, pending, .. } = &mut *disk;
                for change in pending.drain(..) {
                    apply(durable, &change);
                }
                debug_assert_eq!(durable.len(), now.len());
            }
            Some(change) => {
                apply(&mut disk.now, &change);
                disk.pending.push(change);
            }
        }
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Size(size) => bytes.resize(*size, 0),
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
    }
}

fn keep_some(bytes: &mut Vec<u8>, offset: usize, data: &[u8], of_16: u64, random: &mut Random) {
    let mut done = 0;
    while done < data.len() {
        let at = offset + done;
        let in_sector = (SECTOR - at % SECTOR).min(data.len() - done);
        let kept = if random.below(16) < of_16 { in_sector } else { 0 };
        let torn = at >= SECTOR && random.one_in(64);
        let kept = if torn { random.below(in_sector as u64 / 8 + 1) as usize * 8 } else { kept };
        let kept = kept.min(in_sector);
        if kept > 0 {
            if bytes.len() < at + kept {
                bytes.resize(at + kept, 0);
            }
            bytes[at..at + kept].copy_from_slice(&data[done..done + kept]);
        }
        done += in_sector;
    }
}

impl Storage for CrashStorage {
    fn name(&self) -> &str {
        "crash"
    }

    fn size(&self) -> Result<u64> {
        Ok(self.disk().now.len() as u64)
    }

    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()> {
        let disk = self.disk();
        let start = offset.get().min(disk.now.len() as u64) as usize;
        let have = data.len().min(disk.now.len() - start);
        data[..have].copy_from_slice(&disk.now[start..start + have]);
        data[have..].fill(0);
        Ok(())
    }

    fn write_at(&self, offset: HostOffset, data: &[u8]) -> Result<()> {
        let offset = offset.get() as usize;
        self.change(Some(Change::Write { offset, data: data.to_vec() }))
    }

    fn write_zeroes(&self, offset: HostOffset, length: u64, _unmap: bool) -> Result<()> {
        self.write_at(offset, &vec![0; length as usize])
    }

    fn flush(&self) -> Result<()> {
        self.change(None)
    }

    fn set_size(&self, size: u64) -> Result<()> {
        self.change(Some(Change::Size(size as usize)))
    }

    fn extent(&self, _offset: HostOffset, length: u64) -> Result<Extent> {
        Ok(Extent { hole: false, length })
    }
}
