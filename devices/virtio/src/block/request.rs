//! A driver's request, read and checked (virtio 1.2 §5.2.6).

use crate::chain::{Chain, OutsideMemory};
use crate::device::Rings;
use crate::spec::block::{
    DISCARD_REQUEST, FLUSH_REQUEST, GET_ID, HEADER, IN, IO_ERROR, OK, OUT, RANGE_BYTES, SECTOR,
    UNMAP, UNSUPPORTED, WRITE_ZEROES_REQUEST,
};
use kezhan_device::GuestMemory;
use kezhan_ports::{DiskInfo, DiskOperation};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Bytes of the disk into the writable part of the buffer.
    Read { offset: u64, length: u64 },
    /// The readable part of the buffer, after the header, to the disk.
    Write { offset: u64, length: u64 },
    /// By the disk, without a byte of the buffer.
    Disk(DiskOperation),
    /// The serial number is asked for.
    Serial,
    /// Nothing: the status says why.
    Refused(u8),
}

/// What a driver is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u8,
    /// Bytes of data written before the status.
    pub written: u32,
}

impl Answer {
    /// After writing `written` bytes into the buffer.
    pub(super) fn of(result: Result<(), OutsideMemory>, written: u32) -> Answer {
        match result {
            Ok(()) => Answer { status: OK, written },
            Err(OutsideMemory) => Answer { status: IO_ERROR, written: 0 },
        }
    }

    /// Puts the status into the last byte of the buffer and gives the buffer back. The length counts from
    /// the start of the writable part without a gap (§2.7.8.2), so the status counts only next to the data.
    pub(super) fn give(self, queue: usize, chain: &Chain, rings: &mut Rings<'_>) {
        let mut written = self.written;
        if let Some(last) = chain.writable_length().checked_sub(1) {
            let stored = chain.write_at(rings.memory(), last, &[self.status]);
            written += u32::from(stored.is_ok() && last == u64::from(written));
        }
        rings.complete(queue, chain, written);
    }
}

impl Request {
    pub(super) fn parse(chain: &Chain, memory: &GuestMemory, info: &DiskInfo) -> Request {
        let mut header = [0; HEADER as usize];
        if chain.writable_length() == 0 || chain.read_at(memory, 0, &mut header).is_err() {
            return Request::Refused(IO_ERROR);
        }
        let value = u128::from_le_bytes(header);
        let (kind, sector) = (value as u32, (value >> 64) as u64);
        let writes = matches!(kind, OUT | DISCARD_REQUEST | WRITE_ZEROES_REQUEST);
        if writes && info.read_only {
            return Request::Refused(IO_ERROR);
        }
        let (readable, writable) = (chain.readable_length(), chain.writable_length());
        match kind {
            IN => match place(sector, writable - 1, info) {
                Some(offset) => Request::Read { offset, length: writable - 1 },
                None => Request::Refused(IO_ERROR),
            },
            OUT => match place(sector, readable - HEADER, info) {
                Some(offset) => Request::Write { offset, length: readable - HEADER },
                None => Request::Refused(IO_ERROR),
            },
            FLUSH_REQUEST => Request::Disk(DiskOperation::Flush),
            GET_ID => Request::Serial,
            DISCARD_REQUEST | WRITE_ZEROES_REQUEST => range(chain, memory, kind, info),
            _ => Request::Refused(UNSUPPORTED),
        }
    }
}

/// First byte of a range of whole blocks inside the disk.
fn place(sector: u64, length: u64, info: &DiskInfo) -> Option<u64> {
    let block = u64::from(info.logical_block.max(1));
    let offset = sector.checked_mul(SECTOR)?;
    let whole = offset.is_multiple_of(block) && length.is_multiple_of(block);
    (whole && offset.checked_add(length)? <= info.capacity).then_some(offset)
}

/// One range (the configuration allows no more): sector, count of sectors, flags.
fn range(chain: &Chain, memory: &GuestMemory, kind: u32, info: &DiskInfo) -> Request {
    let mut bytes = [0; RANGE_BYTES as usize];
    let alone = chain.readable_length() == HEADER + RANGE_BYTES;
    if !alone || chain.read_at(memory, HEADER, &mut bytes).is_err() {
        return Request::Refused(IO_ERROR);
    }
    let value = u128::from_le_bytes(bytes);
    let (sector, count, flags) = (value as u64, (value >> 64) as u32, (value >> 96) as u32);
    // Unknown flags, and any with a discard, are not supported (§5.2.6.2).
    if flags & !UNMAP != 0 || kind == DISCARD_REQUEST && flags != 0 {
        return Request::Refused(UNSUPPORTED);
    }
    let length = u64::from(count) * SECTOR;
    match place(sector, length, info).filter(|_| count <= super::RANGE_SECTORS) {
        None => Request::Refused(IO_ERROR),
        Some(offset) if kind == DISCARD_REQUEST => {
            Request::Disk(DiskOperation::Discard { offset, length })
        }
        Some(offset) => {
            let may_unmap = flags & UNMAP != 0;
            Request::Disk(DiskOperation::WriteZeroes { offset, length, may_unmap })
        }
    }
}
