//! A driver's request, read and checked (virtio 1.2 §5.2.6).

use super::REQUEST_LIMIT;
use super::buffers::Buffers;
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
    /// By the disk.
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
    pub(super) fn parse(
        chain: &Chain,
        memory: &GuestMemory,
        info: &DiskInfo,
        buffers: &mut Buffers,
    ) -> Request {
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
        let operation = match kind {
            IN => read(chain, sector, info, buffers),
            OUT => place(sector, chain.readable_length() - HEADER, info)
                .and_then(|offset| write(chain, memory, offset, buffers)),
            FLUSH_REQUEST => Some(DiskOperation::Flush),
            GET_ID => return Request::Serial,
            DISCARD_REQUEST | WRITE_ZEROES_REQUEST => return range(chain, memory, kind, info),
            _ => return Request::Refused(UNSUPPORTED),
        };
        operation.map_or(Request::Refused(IO_ERROR), Request::Disk)
    }
}

/// First byte of a range of whole blocks inside the disk.
fn place(sector: u64, length: u64, info: &DiskInfo) -> Option<u64> {
    let block = u64::from(info.logical_block.max(1));
    let offset = sector.checked_mul(SECTOR)?;
    let whole = offset.is_multiple_of(block) && length.is_multiple_of(block);
    (whole && offset.checked_add(length)? <= info.capacity).then_some(offset)
}

fn read(
    chain: &Chain,
    sector: u64,
    info: &DiskInfo,
    buffers: &mut Buffers,
) -> Option<DiskOperation> {
    let length = chain.writable_length() - 1;
    let offset = place(sector, length, info).filter(|_| length <= REQUEST_LIMIT)?;
    Some(DiskOperation::Read { offset, data: buffers.take(length as usize) })
}

fn write(
    chain: &Chain,
    memory: &GuestMemory,
    offset: u64,
    buffers: &mut Buffers,
) -> Option<DiskOperation> {
    let length = chain.readable_length() - HEADER;
    if length > REQUEST_LIMIT {
        return None;
    }
    let mut data = buffers.take(length as usize);
    chain.read_at(memory, HEADER, &mut data).ok()?;
    Some(DiskOperation::Write { offset, data })
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
