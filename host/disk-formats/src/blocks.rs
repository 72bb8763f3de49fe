//! What VDI, VHD, VHDX and VMDK share: a table that gives each block of the disk a place.
//!
//! The formats differ in how a table entry is written and what else a new block needs; everything else is
//! here once. The table is in memory as a whole. A new block goes to the end of the file.
//!
//! # Power loss
//! A flush makes data durable first, then writes the changed table entries (and what the format adds), then
//! flushes again: an entry never refers to a block that is not there.
//!
//! ```text
//!   data … data │ entries, footers │
//! ```

use kezhan_block::{
    BlockError, CompressedCluster, Format, FormatInfo, GuestOffset, HostOffset, Mapping,
    MappingKind, Result, Span, Storage, Ticket, WritePlan,
};
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: the backing file has it, or it is zeroes.
    None,
    /// Zeroes.
    Zero,
    /// In the file, as it is.
    At(u64),
    /// In the file, compressed; the format reads it.
    Compressed(u64),
}

/// Places of a chunk.
const CHUNK: usize = 512;

/// Places by block number, a word each: places are multiples of 512, so the low bits say what they are. Where there is
/// nothing for a whole chunk, no memory is taken: an image that says it is large need not have cost its maker a file.
#[derive(Clone, Debug, Default)]
pub struct Places {
    chunks: Vec<Option<Box<[u64; CHUNK]>>>,
    count: usize,
}

impl Places {
    /// Adds the next block's place.
    pub fn push(&mut self, place: Place) {
        self.push_none(1);
        self.set(self.count - 1, place);
    }

    /// Adds so many blocks that are nowhere.
    pub fn push_none(&mut self, count: u64) {
        self.count += count as usize;
        self.chunks.resize(self.count.div_ceil(CHUNK), None);
    }

    fn get(&self, index: usize) -> Place {
        let chunk = self.chunks.get(index / CHUNK).and_then(Option::as_ref);
        match chunk.map_or(0, |chunk| chunk[index % CHUNK]) {
            0 => Place::None,
            1 => Place::Zero,
            word if word & 1 == 0 => Place::At(word & !511),
            word => Place::Compressed(word & !511),
        }
    }

    fn set(&mut self, index: usize, place: Place) {
        let word = Places::pack(place);
        if let Some(chunk) = self.chunks.get_mut(index / CHUNK)
            && (word != 0 || chunk.is_some())
        {
            chunk.get_or_insert_with(|| Box::new([0; CHUNK]))[index % CHUNK] = word;
        }
    }

    /// How many blocks from `index` on are nowhere because their whole chunks are.
    fn none_from(&self, index: usize) -> usize {
        let first = index / CHUNK;
        let empty = self.chunks.iter().skip(first).take_while(|chunk| chunk.is_none()).count();
        ((first + empty) * CHUNK).saturating_sub(index)
    }

    fn pack(place: Place) -> u64 {
        match place {
            Place::None => 0,
            Place::Zero => 1,
            Place::At(host) => host & !511 | 2,
            Place::Compressed(host) => host & !511 | 3,
        }
    }

    fn allocated(&self) -> usize {
        let words = self.chunks.iter().flatten().flat_map(|chunk| chunk.iter());
        words.filter(|word| **word > 1).count()
    }
}

/// Pieces of a file to write.
pub type Writes = Vec<(HostOffset, Vec<u8>)>;

/// What one format adds.
pub trait Table: Send + Sync + std::fmt::Debug {
    /// The format's name.
    fn format_name(&self) -> &'static str;

    /// What to write so that the file says that block `index` is at `place`.
    fn entry(&self, index: usize, place: Place) -> Writes;

    /// What to write after blocks were added and the file's data ends at `end`.
    fn after_growth(&self, end: u64, allocated: usize) -> Writes;

    /// Bytes between the end of the data and the content of a new block.
    fn gap(&self) -> u64 {
        0
    }

    /// New blocks start at multiples of this.
    fn alignment(&self) -> u64 {
        512
    }

    /// Whether blocks may be written compressed.
    fn compresses(&self) -> bool {
        false
    }

    /// A compressed block of the disk's offset `at`, as it is written.
    fn pack(&self, at: u64, packed: &[u8]) -> Vec<u8> {
        let _ = at;
        packed.to_vec()
    }

    /// Reads a whole compressed block.
    ///
    /// # Errors
    /// The storage's; data that does not give one block.
    fn unpack(&self, file: &dyn Storage, at: u64, block: &mut [u8]) -> Result<()> {
        let _ = (at, block);
        Err(BlockError::unsupported(file.name(), "has no compressed blocks"))
    }

    /// Why the image cannot be written, if it cannot.
    fn read_only(&self) -> Option<&'static str> {
        None
    }
}

#[derive(Debug)]
struct State {
    places: Places,
    dirty: BTreeSet<usize>,
    /// Blocks that somebody is filling.
    in_flight: Vec<(usize, u64)>,
    /// The end of the data.
    end: u64,
}

/// An image that is a table of blocks.
#[derive(Debug)]
pub struct Blocks<T> {
    file: Arc<dyn Storage>,
    table: T,
    block: u64,
    size: u64,
    writable: bool,
    state: Mutex<State>,
    settled: Condvar,
    flush_order: Mutex<()>,
}

impl<T: Table> Blocks<T> {
    /// An image of `size` bytes in blocks of `block`, whose data ends at `end` in the file.
    pub fn new(
        file: Arc<dyn Storage>,
        table: T,
        (size, block): (u64, u64),
        (places, end): (Places, u64),
        writable: bool,
    ) -> Blocks<T> {
        let state = State { places, dirty: BTreeSet::new(), in_flight: Vec::new(), end };
        Blocks {
            file,
            table,
            block,
            size,
            writable,
            state: Mutex::new(state),
            settled: Condvar::new(),
            flush_order: Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_writable(&self) -> Result<()> {
        match self.table.read_only() {
            _ if !self.writable => Err(BlockError::ReadOnly { name: self.file.name().to_owned() }),
            Some(why) => Err(BlockError::unsupported(self.file.name(), why)),
            None => Ok(()),
        }
    }

    fn place(&self, state: &State, offset: u64) -> Place {
        state.places.get((offset / self.block) as usize)
    }

    fn write_all(&self, writes: &Writes) -> Result<()> {
        writes.iter().try_for_each(|(at, bytes)| self.file.write_at(*at, bytes))
    }
}

impl<T: Table + 'static> Format for Blocks<T> {
    fn format_name(&self) -> &'static str {
        self.table.format_name()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn info(&self) -> FormatInfo {
        let compresses = self.table.compresses();
        FormatInfo { cluster_size: Some(self.block), compresses, ..FormatInfo::default() }
    }

    fn locate(&self, offset: GuestOffset, length: u64) -> Result<Mapping<'_>> {
        let within = offset.within(self.block);
        let place = self.place(&self.state(), offset.get());
        let kind = match place {
            Place::None => MappingKind::Unallocated { reserved: None },
            Place::Zero => MappingKind::Zero { reserved: None },
            Place::Compressed(_) => MappingKind::Special,
            Place::At(host) => {
                MappingKind::Data { storage: &*self.file, offset: HostOffset(host + within) }
            }
        };
        let mut end = self.block - within;
        if matches!(place, Place::None | Place::Zero) {
            // Long empty runs in one answer.
            let state = self.state();
            while end < length && self.place(&state, offset.get() + end) == place {
                let index = ((offset.get() + end) / self.block) as usize;
                end += state.places.none_from(index).max(1) as u64 * self.block;
            }
        }
        Ok(Mapping { kind, length: length.min(end) })
    }

    fn prepare_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>> {
        self.check_writable()?;
        let index = (offset.get() / self.block) as usize;
        let within = offset.within(self.block);
        let length = length.min(self.block - within);
        let mut state = self.state();
        while state.in_flight.iter().any(|(block, _)| *block == index) {
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Place::At(host) = self.place(&state, offset.get()) {
            let offset = HostOffset(host + within);
            return Ok(WritePlan::InPlace { storage: &*self.file, offset, length });
        }
        let host = (state.end + self.table.gap()).next_multiple_of(self.table.alignment());
        let fresh = host >= self.file.size()? && self.file.grows_with_zeroes();
        state.end = host + self.block;
        state.in_flight.push((index, host));
        let region = Span { start: offset.align_down(self.block), length: self.block };
        let parts =
            [Span::between(region.start, offset), Span::between(offset.plus(length), region.end())];
        Ok(WritePlan::Allocate {
            storage: &*self.file,
            offset: HostOffset(host),
            fill: parts.into_iter().filter(|part| part.length > 0).collect(),
            fresh,
            ticket: Ticket { region, token: host },
        })
    }

    fn commit_write(&self, ticket: Ticket) -> Result<()> {
        let index = (ticket.region.start.get() / self.block) as usize;
        let mut state = self.state();
        state.in_flight.retain(|(block, _)| *block != index);
        state.places.set(index, Place::At(ticket.token));
        state.dirty.insert(index);
        drop(state);
        self.settled.notify_all();
        Ok(())
    }

    fn abort_write(&self, ticket: Ticket) {
        let index = (ticket.region.start.get() / self.block) as usize;
        // Its place in the file stays unused.
        self.state().in_flight.retain(|(block, _)| *block != index);
        self.settled.notify_all();
    }

    fn discard(&self, _range: Span) -> Result<()> {
        self.check_writable()
    }

    fn flush(&self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        let _order = self.flush_order.lock().unwrap_or_else(PoisonError::into_inner);
        let (dirty, writes) = {
            let mut state = self.state();
            // The last block may be written in part; others take a file that ends within it for a lost one. Nobody
            // writes behind the end while it is held still here.
            if !state.dirty.is_empty() && self.file.size()? < state.end {
                self.file.set_size(state.end)?;
            }
            let dirty = std::mem::take(&mut state.dirty);
            let mut writes = Writes::new();
            for index in &dirty {
                writes.extend(self.table.entry(*index, state.places.get(*index)));
            }
            if !dirty.is_empty() {
                writes.extend(self.table.after_growth(state.end, state.places.allocated()));
            }
            (dirty, writes)
        };
        let barrier = |needed: bool| if needed { self.file.flush() } else { Ok(()) };
        let done = self
            .file
            .flush()
            .and_then(|()| self.write_all(&writes))
            .and_then(|()| barrier(!writes.is_empty()));
        if done.is_err() {
            self.state().dirty.extend(dirty);
        }
        done
    }

    fn read_special(&self, mut offset: GuestOffset, mut data: &mut [u8]) -> Result<()> {
        while !data.is_empty() {
            let Place::Compressed(at) = self.place(&self.state(), offset.get()) else {
                let what = format!("block at {offset} is not compressed any more");
                return Err(BlockError::corrupt(self.file.name(), what));
            };
            let mut block = vec![0; self.block as usize];
            self.table.unpack(&*self.file, at, &mut block)?;
            let within = offset.within(self.block) as usize;
            let (now, later) = data.split_at_mut(data.len().min(block.len() - within));
            now.copy_from_slice(&block[within..within + now.len()]);
            offset = offset.plus(now.len() as u64);
            data = later;
        }
        Ok(())
    }

    /// Always: where blocks can be compressed, they are.
    fn compress(&self, cluster: &[u8]) -> Option<CompressedCluster> {
        self.table.compresses().then(|| CompressedCluster { bytes: deflate(cluster) })
    }

    fn write_compressed(&self, offset: GuestOffset, cluster: CompressedCluster) -> Result<()> {
        if !self.writable {
            return Err(BlockError::ReadOnly { name: self.file.name().to_owned() });
        }
        let index = (offset.get() / self.block) as usize;
        let bytes = self.table.pack(index as u64 * self.block, &cluster.bytes);
        let host = {
            let mut state = self.state();
            if !self.table.compresses() || self.place(&state, offset.get()) != Place::None {
                let what = format!("takes no compressed block at {offset}");
                return Err(BlockError::unsupported(self.file.name(), what));
            }
            let host = state.end.next_multiple_of(self.table.alignment());
            state.end = host + bytes.len() as u64;
            host
        };
        self.file.write_at(HostOffset(host), &bytes)?;
        let mut state = self.state();
        state.places.set(index, Place::Compressed(host));
        state.dirty.insert(index);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A zlib stream (RFC 1950).
fn deflate(data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(data.len() + data.len() / 1000 + 64);
    let mut deflate = flate2::Compress::new(flate2::Compression::default(), true);
    // There is room for whatever comes out.
    let _whole = deflate.compress_vec(data, &mut packed, flate2::FlushCompress::Finish);
    packed
}

/// Reads a table of `length` bytes that must lie within the file.
///
/// # Errors
/// The storage's; a table outside the file.
pub fn read_table(file: &dyn Storage, at: u64, length: u64, what: &str) -> Result<Vec<u8>> {
    let size = file.size()?;
    if at.checked_add(length).is_none_or(|end| end > size.next_multiple_of(512)) {
        let text = format!("{what} of {length} bytes at {at:#x} lies outside the file of {size}");
        return Err(BlockError::corrupt(file.name(), text));
    }
    let mut table = vec![0; length as usize];
    file.read_at(HostOffset(at), &mut table)?;
    Ok(table)
}
