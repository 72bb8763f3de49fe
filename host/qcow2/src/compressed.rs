//! Compressed clusters (qcow2 specification, "Compressed Clusters Descriptor").
//!
//! Compressed data is packed byte after byte into host clusters, so one host cluster may hold several of
//! them; its refcount counts each. Whatever the data claims, no more than one cluster comes out of it.

use crate::entry::{Cluster, Entry};
use crate::image::Qcow2;
use crate::layout::{Compression, Layout};
use crate::state::State;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use kezhan_block::{BlockError, CompressedCluster, GuestOffset, HostOffset, Result, Span};
use std::cell::RefCell;
use std::sync::{Arc, PoisonError};
use zstd::stream::raw::{Decoder, Operation};
use zstd::zstd_safe::{InBuffer, OutBuffer};

/// Window of the deflate stream: readers need not keep more than 4 KiB.
const WINDOW_BITS: u8 = 12;

/// Zstandard's own default level.
const ZSTD_LEVEL: i32 = 3;

thread_local! {
    /// Compressors are large and slow to make: one a thread.
    static DEFLATE: RefCell<Compress> =
        RefCell::new(Compress::new_with_window_bits(flate2::Compression::default(), false, WINDOW_BITS));
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        RefCell::new(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok());
}

/// Compresses a cluster; `None` when it does not get smaller.
pub fn compress(layout: &Layout, cluster: &[u8]) -> Option<CompressedCluster> {
    let room = cluster.len().checked_sub(1)?;
    let bytes = match layout.compression {
        Compression::Zlib => deflate(cluster, room)?,
        Compression::Zstd => ZSTD.with_borrow_mut(|zstd| {
            let mut bytes = vec![0; room];
            let length = zstd.as_mut()?.compress_to_buffer(cluster, &mut bytes[..]).ok()?;
            bytes.truncate(length);
            Some(bytes)
        })?,
    };
    Some(CompressedCluster { bytes })
}

fn deflate(cluster: &[u8], room: usize) -> Option<Vec<u8>> {
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        let mut bytes = vec![0; room];
        let status = deflate.compress(cluster, &mut bytes, FlushCompress::Finish).ok()?;
        bytes.truncate(deflate.total_out() as usize);
        (status == Status::StreamEnd).then_some(bytes)
    })
}

/// Decompresses into exactly `cluster`; the reason when that is not possible.
fn decompress(compression: Compression, bytes: &[u8], cluster: &mut [u8]) -> Option<()> {
    match compression {
        Compression::Zlib => {
            let mut inflate = Decompress::new(false);
            let status = inflate.decompress(bytes, cluster, FlushDecompress::Finish);
            let filled = inflate.total_out() == cluster.len() as u64;
            (filled && status.is_ok()).then_some(())
        }
        Compression::Zstd => {
            let mut decoder = Decoder::new().ok()?;
            let mut input = InBuffer::around(bytes);
            let length = cluster.len();
            let mut output = OutBuffer::around(cluster);
            while output.pos() < length {
                let before = (input.pos(), output.pos());
                decoder.run(&mut input, &mut output).ok()?;
                if before == (input.pos(), output.pos()) {
                    return None;
                }
            }
            Some(())
        }
    }
}

impl Qcow2 {
    /// [`kezhan_block::Format::read_special`].
    pub(crate) fn read_compressed(&self, mut at: GuestOffset, mut data: &mut [u8]) -> Result<()> {
        let size = self.layout.cluster();
        while !data.is_empty() {
            let slot = self.state().slot(&*self.file, &self.layout, at.get())?;
            let Cluster::Compressed { host, length } = slot.entry.cluster(&self.layout) else {
                let what = format!("guest offset {at} is not compressed any more");
                return Err(BlockError::corrupt(self.name(), what));
            };
            let cluster = self.unpack(host, length)?;
            let within = at.within(size) as usize;
            let (now, later) = data.split_at_mut(data.len().min(size as usize - within));
            now.copy_from_slice(&cluster[within..within + now.len()]);
            at = at.plus(now.len() as u64);
            data = later;
        }
        Ok(())
    }

    fn unpack(&self, host: u64, length: u64) -> Result<Arc<Vec<u8>>> {
        let cached = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, cluster)) = cached
            && at == host
        {
            return Ok(cluster);
        }
        let mut bytes = vec![0; length.min(2 * self.layout.cluster()) as usize];
        self.file.read_at(HostOffset(host), &mut bytes)?;
        let mut cluster = vec![0; self.layout.cluster() as usize];
        if decompress(self.layout.compression, &bytes, &mut cluster).is_none() {
            let what = format!("compressed data at {host:#x} does not give one cluster");
            return Err(BlockError::corrupt(self.name(), what));
        }
        let cluster = Arc::new(cluster);
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        *unpacked = Some((host, cluster.clone()));
        Ok(cluster)
    }

    /// Forgets decompressed data: its place may come to hold other data.
    pub(crate) fn forget_unpacked(&self) {
        *self.unpacked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// [`kezhan_block::Format::write_compressed`].
    pub(crate) fn store_compressed(&self, offset: GuestOffset, bytes: &[u8]) -> Result<()> {
        let size = self.layout.cluster();
        if offset.within(size) != 0 || bytes.is_empty() || bytes.len() as u64 >= size {
            let what = format!("a compressed cluster at {offset} is not aligned or too long");
            return Err(BlockError::unsupported(self.name(), what));
        }
        let host = self.room_for_compressed(&mut self.state(), bytes.len() as u64)?;
        self.file.write_at(HostOffset(host), bytes)?;
        let mut state = self.state();
        let table = state.own_l2(&*self.file, &self.layout, offset.get())?;
        let slot = state.slot(&*self.file, &self.layout, offset.get())?;
        let cluster = Span { start: offset, length: size };
        let taken =
            !matches!(slot.entry.cluster(&self.layout), Cluster::Unallocated | Cluster::Zero);
        if taken || state.is_in_flight(cluster) {
            let what = format!("cluster at {offset} is allocated already; write it uncompressed");
            return Err(BlockError::unsupported(self.name(), what));
        }
        let entry = Entry::compressed(&self.layout, host, bytes.len() as u64);
        state.set_entry(&*self.file, &self.layout, (table, slot.index), entry)
    }

    /// Takes `length` bytes: in the cluster that was packed last, in it and its neighbour, or in a new one.
    fn room_for_compressed(&self, state: &mut State, length: u64) -> Result<u64> {
        let size = self.layout.cluster();
        let (end, last) = (state.compressed_end, state.compressed_end / size);
        let left = if end.is_multiple_of(size) { 0 } else { size - end % size };
        let shares =
            left > 0 && state.refcounts.get(&*self.file, last)? < self.layout.refcount_max();
        let fits = length <= left;
        let host = if shares && (fits || state.refcounts.take_if_free(&*self.file, last + 1)?) {
            state.refcounts.increment(&*self.file, last)?;
            end
        } else {
            state.refcounts.allocate(&*self.file, 1)?.0.first * size
        };
        state.compressed_end = host + length;
        Ok(host)
    }
}
