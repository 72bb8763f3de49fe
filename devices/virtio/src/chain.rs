//! A buffer that a driver has made available: what the device may read, then what it may write.

use kezhan_device::{GuestMemory, PageLogSlice};
use kezhan_ports::LentMemory;
use vm_memory::bitmap::Bitmap;
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress,
    VolatileSlice,
};

/// A part of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub address: u64,
    pub length: u32,
}

/// Part of a buffer lies outside guest memory, or the buffer is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideMemory;

/// A buffer (virtio 1.2 §2.6), its descriptors read once and kept here; to be given back to the queue that it
/// is from.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    pub(crate) id: u16,
    /// Descriptors that it takes in a packed ring.
    pub(crate) taken: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

impl Chain {
    pub(crate) fn new(id: u16) -> Chain {
        Chain { id, taken: 1, readable: Vec::new(), writable: Vec::new() }
    }

    /// Appends a segment; false when the driver breaks the order (virtio 1.2 §2.7.4.2: readable ones
    /// first) or the whole is longer than 4 GiB (§2.7.5).
    pub(crate) fn push(&mut self, segment: Segment, writable: bool) -> bool {
        if !writable && !self.writable.is_empty() {
            return false;
        }
        let list = if writable { &mut self.writable } else { &mut self.readable };
        list.push(segment);
        self.readable_length() + self.writable_length() <= u64::from(u32::MAX)
    }

    /// Descriptors in all.
    pub(crate) fn segments(&self) -> usize {
        self.readable.len() + self.writable.len()
    }

    /// Bytes that the device may read.
    pub fn readable_length(&self) -> u64 {
        length(&self.readable)
    }

    /// Bytes that the device may write.
    pub fn writable_length(&self) -> u64 {
        length(&self.writable)
    }

    /// Address and length of each part that the device may write; not checked against guest memory.
    pub fn writable_ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.writable.iter().map(|segment| (segment.address, segment.length.into()))
    }

    /// Lends `length` bytes of the readable part, from `offset` on; `None` when they are not all in guest memory.
    pub(crate) fn lend_readable<'a>(
        &self,
        memory: &'a GuestMemory,
        offset: u64,
        length: u64,
    ) -> Option<Loan<'a>> {
        Loan::of(&self.readable, memory, offset, length)
    }

    /// The same of the writable part.
    pub(crate) fn lend_writable<'a>(
        &self,
        memory: &'a GuestMemory,
        offset: u64,
        length: u64,
    ) -> Option<Loan<'a>> {
        Loan::of(&self.writable, memory, offset, length)
    }

    /// Fills `data` from the readable part.
    ///
    /// # Errors
    /// [`OutsideMemory`].
    pub fn read_at(
        &self,
        memory: &GuestMemory,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), OutsideMemory> {
        let mut rest = data;
        for (address, count) in pieces(&self.readable, offset, rest.len() as u64) {
            let (now, later) = rest.split_at_mut_checked(count).ok_or(OutsideMemory)?;
            memory.read_slice(now, GuestAddress(address)).map_err(|_outside| OutsideMemory)?;
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { Err(OutsideMemory) }
    }

    /// Writes `data` into the writable part.
    ///
    /// # Errors
    /// [`OutsideMemory`]; some of the data may be written.
    pub fn write_at(
        &self,
        memory: &GuestMemory,
        offset: u64,
        data: &[u8],
    ) -> Result<(), OutsideMemory> {
        let mut rest = data;
        for (address, count) in pieces(&self.writable, offset, rest.len() as u64) {
            let (now, later) = rest.split_at_checked(count).ok_or(OutsideMemory)?;
            memory.write_slice(now, GuestAddress(address)).map_err(|_outside| OutsideMemory)?;
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { Err(OutsideMemory) }
    }
}

/// Memory that a chain lends, and what has to be told when it was written to.
#[derive(Debug, Default)]
pub(crate) struct Loan<'a> {
    pub memory: LentMemory<'a>,
    slices: Vec<VolatileSlice<'a, PageLogSlice>>,
}

impl<'a> Loan<'a> {
    /// The bytes of `segments` from `offset` on.
    fn of(
        segments: &[Segment],
        memory: &'a GuestMemory,
        offset: u64,
        length: u64,
    ) -> Option<Loan<'a>> {
        let mut loan = Loan::default();
        loan.slices.reserve(segments.len());
        let mut near: Option<&Region> = None;
        for (address, count) in pieces(segments, offset, length) {
            let at = GuestAddress(address);
            // Nearly all lie in the region of the one before.
            if near.is_none_or(|region| !within(region, at)) {
                near = memory.find_region(at);
            }
            if let Some(slice) = near.and_then(|region| slice_of(region, at, count)) {
                loan.push(slice);
                continue;
            }
            for slice in memory.get_slices(at, count) {
                loan.push(slice.ok()?);
            }
        }
        (loan.memory.len() as u64 == length).then_some(loan)
    }

    fn push(&mut self, slice: VolatileSlice<'a, PageLogSlice>) {
        self.memory.push(&slice);
        self.slices.push(slice);
    }

    /// All of it was written to.
    pub(crate) fn written(&self) {
        for slice in &self.slices {
            slice.bitmap().mark_dirty(0, slice.len());
        }
    }
}

/// A region of guest memory.
type Region = <GuestMemory as GuestMemoryBackend>::R;

fn within(region: &Region, at: GuestAddress) -> bool {
    at >= region.start_addr() && at <= region.last_addr()
}

/// The bytes at an address, when all of them lie in the region.
fn slice_of(
    region: &Region,
    at: GuestAddress,
    count: usize,
) -> Option<VolatileSlice<'_, PageLogSlice>> {
    let offset = at.checked_offset_from(region.start_addr())?;
    region.get_slice(MemoryRegionAddress(offset), count).ok()
}

fn length(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.length)).sum()
}

/// The addresses and lengths that make up `offset .. offset + length`.
fn pieces(
    segments: &[Segment],
    offset: u64,
    length: u64,
) -> impl Iterator<Item = (u64, usize)> + '_ {
    let (mut skip, mut left) = (offset, length);
    segments.iter().filter_map(move |segment| {
        let inside = u64::from(segment.length).saturating_sub(skip);
        let start = segment.address.wrapping_add(skip.min(segment.length.into()));
        skip = skip.saturating_sub(segment.length.into());
        let count = inside.min(left);
        left -= count;
        (count > 0).then_some((start, count as usize))
    })
}
